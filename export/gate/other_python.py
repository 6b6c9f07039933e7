"""Run a TFLite file in another Python's runtime, which cannot be installed beside TensorFlow: tflite-runtime 2.14.

The other Python needs NumPy and the runtime. It sees the package ``transferlite`` of this installation, nothing else.
"""

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import transferlite
from transferlite.errors import BundleError, InputError

_MAX_ERROR_LENGTH = 300
_PRINT_RUNTIME = "from transferlite.inference.interpreter import runtime_version; print(runtime_version())"


def runtime_of(python: str) -> str:
    """Name and version of another Python's TFLite runtime. Raises InputError if it has none."""
    with _started(python, "-c", _PRINT_RUNTIME) as process:
        version = process.stdout.read().decode().strip()
        if process.wait():
            raise InputError(f"is not a Python with a TFLite runtime ({_last_error(process)})", where=python)
    return str(version)


class OtherPython:
    """A TFLite file loaded by another Python on one thread; made by :func:`other_python`."""

    def __init__(self, process: Any) -> None:
        self._process = process
        line = process.stdout.readline()
        reply: Any = (
            json.loads(line)
            if line
            else {"error": f"the runtime ended while it loaded the file ({_last_error(process)})"}
        )
        if "error" in reply:
            raise BundleError(reply["error"])
        self._classes: int = reply["classes"]

    def __call__(self, photos: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Photos ``[N, H, W, 3]`` -> probabilities ``[N, C]``. Raises BundleError if the process ends instead."""
        size = 4 * len(photos) * self._classes
        try:
            self._process.stdin.write(b"%d\n" % len(photos))
            self._process.stdin.write(np.ascontiguousarray(photos).data)
            self._process.stdin.flush()
            data = self._process.stdout.read(size)
        except BrokenPipeError:
            data = b""
        if len(data) < size:
            raise BundleError(f"the runtime ended while it ran the file ({_last_error(self._process)})")
        return np.frombuffer(data, np.float32).reshape(len(photos), self._classes)


@contextmanager
def other_python(python: str, path: Path) -> Iterator[OtherPython]:
    """Load the file at ``path`` in the executable ``python``'s runtime. Raises BundleError if that fails."""
    with _started(python, "-m", "transferlite.predict.stdin_worker", str(path.resolve())) as process:
        yield OtherPython(process)


@contextmanager
def _started(python: str, *arguments: str) -> Iterator[Any]:
    """Start the other Python in a folder that holds only a link to the package ``transferlite``."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    with tempfile.TemporaryDirectory(prefix="transferlite-") as folder, tempfile.TemporaryFile() as errors:
        Path(folder, "transferlite").symlink_to(Path(transferlite.__file__).parent)
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": errors}
        try:
            process = subprocess.Popen([python, "-B", *arguments], cwd=folder, env=environment, **pipes)  # type: ignore[call-overload]
        except OSError as error:
            raise InputError(f"cannot be run ({error.strerror})", where=python) from None
        process.errors = errors
        try:
            yield process
        finally:
            process.kill()  # safe: it has no state to save
            process.communicate()


def _last_error(process: Any) -> str:
    """Last line that an ending process wrote to standard error, or its exit status."""
    status = process.wait()
    process.errors.seek(0)
    lines = process.errors.read().decode(errors="replace").strip().splitlines()
    return lines[-1][-_MAX_ERROR_LENGTH:] if lines and status > 0 else f"status {status}"
