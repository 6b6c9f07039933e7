"""A TFLite runtime that cannot be installed beside TensorFlow, in a Python of its own: tflite-runtime 2.14, say.

That Python needs NumPy and the runtime. Of this installation it sees the package ``transferlite`` and nothing else.
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

_LAST_WORDS = 300
_ASK = "from transferlite.inference.interpreter import runtime_version; print(runtime_version())"


def runtime_of(python: str) -> str:
    """The name and version of another Python's TFLite runtime. Raises InputError if it has none."""
    with _started(python, "-c", _ASK) as process:
        told = process.stdout.read().decode().strip()
        if process.wait():
            raise InputError(f"is no Python with a TFLite runtime ({_last_words(process)})", where=python)
    return str(told)


class OtherPython:
    """A TFLite file in another Python's runtime, on one thread; :func:`other_python` starts it and ends it."""

    def __init__(self, process: Any) -> None:
        self._process = process
        line = process.stdout.readline()
        told: Any = (
            json.loads(line) if line else {"error": f"the runtime ended as it loaded it ({_last_words(process)})"}
        )
        if "error" in told:
            raise BundleError(told["error"])
        self._classes: int = told["classes"]

    def __call__(self, photos: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Photos ``[N, H, W, 3]`` -> probabilities ``[N, C]``. Raises BundleError if the process ended instead."""
        wanted = 4 * len(photos) * self._classes
        try:
            self._process.stdin.write(b"%d\n" % len(photos))
            self._process.stdin.write(np.ascontiguousarray(photos).data)
            self._process.stdin.flush()
            answer = self._process.stdout.read(wanted)
        except BrokenPipeError:
            answer = b""
        if len(answer) < wanted:
            raise BundleError(f"the runtime ended while it ran it ({_last_words(self._process)})")
        return np.frombuffer(answer, np.float32).reshape(len(photos), self._classes)


@contextmanager
def other_python(python: str, path: Path) -> Iterator[OtherPython]:
    """The file at ``path`` in the runtime of the executable ``python``. Raises BundleError if it cannot be loaded."""
    with _started(python, "-m", "transferlite.predict.stdin_worker", str(path.resolve())) as process:
        yield OtherPython(process)


@contextmanager
def _started(python: str, *words: str) -> Iterator[Any]:
    """The other Python as a process, in a folder where it finds the package ``transferlite``."""
    alone = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    with tempfile.TemporaryDirectory(prefix="transferlite-") as folder, tempfile.TemporaryFile() as errors:
        Path(folder, "transferlite").symlink_to(Path(transferlite.__file__).parent)
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": errors}
        try:
            process = subprocess.Popen([python, "-B", *words], cwd=folder, env=alone, **pipes)  # type: ignore[call-overload]
        except OSError as error:
            raise InputError(f"cannot be run ({error.strerror})", where=python) from None
        process.errors = errors
        try:
            yield process
        finally:
            process.kill()  # it holds nothing that has to be put away
            process.communicate()


def _last_words(process: Any) -> str:
    """What a process that is ending wrote last, or how it ended."""
    status = process.wait()
    process.errors.seek(0)
    words = process.errors.read().decode(errors="replace").strip().splitlines()
    return words[-1][-_LAST_WORDS:] if words and status > 0 else f"status {status}"
