"""TransferLite as users have it: installed from its wheel, where the checkout cannot be imported."""

import os
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = Path(sysconfig.get_path("purelib"))
REQUIRED = ("click", "numpy", "numpy.libs", "PIL", "pillow.libs")
"""What the wheel requires without an extra, as folders of site-packages."""


def pip(*words: object) -> int:
    """Run pip; its exit status."""
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *map(str, words)]
    return subprocess.run(command, check=False).returncode


@dataclass(frozen=True)
class Install:
    """A virtual environment with the wheel, and the folder that its commands run in."""

    venv: Path
    folder: Path

    @property
    def python(self) -> Path:
        """The interpreter of the environment."""
        return self.venv / "bin" / "python"

    @property
    def packages(self) -> Path:
        """The site-packages of the environment."""
        return next((self.venv / "lib").glob("python*/site-packages"))

    def run(self, *words: object, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run ``transferlite`` with words."""
        return self._run([self.venv / "bin" / "transferlite", *words], environment)

    def execute(self, code: str, *words: object, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a program."""
        return self._run([self.python, "-c", code, *words], environment)

    def _run(self, command: list[object], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
        inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        return subprocess.run(
            [str(word) for word in command],
            capture_output=True,
            text=True,
            check=False,
            cwd=self.folder,
            env=inherited | environment,
        )


def install(wheel: Path, folder: Path, with_all_packages: bool) -> Install:
    """Install the wheel alone.

    Its requirements are those that run the tests: all of them, or only what the wheel requires without an extra. The
    path of an editable install is not among them, as ``.pth`` files of a folder that a ``.pth`` file adds are not read.
    """
    made = Install(folder / "venv", folder / "empty")
    made.folder.mkdir(parents=True)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(made.venv)], check=True)
    assert pip("--python", made.python, "install", "--no-compile", "--no-deps", wheel) == 0
    if with_all_packages:
        (made.packages / "all.pth").write_text(str(PACKAGES))
    else:
        for name in REQUIRED:
            (made.packages / name).symlink_to(PACKAGES / name)
    return made
