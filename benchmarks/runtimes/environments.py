"""Make a Python environment per runtime: the runtimes cannot be installed together, nor beside TensorFlow."""

import shutil
import subprocess
import sys
from pathlib import Path

import click


def environment(folder: Path, *requirements: str, version: str | None = None) -> Path:
    """Make an environment in ``folder`` with these packages; returns its Python, or this one without packages.

    Args:
        folder: new folder for the environment.
        requirements: packages for pip.
        version: version of a Python on PATH, such as ``3.12``; None for this Python.

    Raises:
        ClickException: the Python does not exist, or pip cannot install the packages.
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
