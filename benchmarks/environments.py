"""Python environments of a runtime's own, as pip installs it: they do not go together, nor with TensorFlow."""

import subprocess
import sys
from pathlib import Path

import click


def environment(folder: Path, *requirements: str) -> Path:
    """The Python of a new environment in ``folder`` with these packages; this one itself where there are none.

    Raises:
        ClickException: pip cannot install them.
    """
    if not requirements:
        return Path(sys.executable)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    python = folder / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "--quiet", "--disable-pip-version-check"]
    done = subprocess.run([*pip, "install", "--no-compile", *requirements], capture_output=True, text=True, check=False)
    if done.returncode:
        raise click.ClickException(f"pip cannot install {' '.join(requirements)}: {done.stderr[-500:]}")
    return python
