"""Python environments of a runtime's own, as pip installs it: they do not go together, nor with TensorFlow."""

import shutil
import subprocess
import sys
from pathlib import Path

import click


def environment(folder: Path, *requirements: str, version: str | None = None) -> Path:
    """The Python of a new environment in ``folder`` with these packages; this one itself where there are none.

    Args:
        version: of a Python on PATH, ``3.12``; that of this one if None.

    Raises:
        ClickException: there is no such Python, or pip cannot install them.
    """
    if not requirements:
        return Path(sys.executable)
    base = shutil.which(f"python{version}") if version else sys.executable
    if base is None:
        raise click.ClickException(f"no python{version} on PATH")
    subprocess.run([base, "-m", "venv", "--without-pip", str(folder)], check=True)
    python = folder / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "--quiet", "--disable-pip-version-check"]
    done = subprocess.run([*pip, "install", "--no-compile", *requirements], capture_output=True, text=True, check=False)
    if done.returncode:
        raise click.ClickException(f"pip cannot install {' '.join(requirements)}: {done.stderr[-500:]}")
    return python
