"""The runtimes that the gate asks: TensorFlow, LiteRT, and another Python's, each as a function from photos to answers."""

import json
import os
import subprocess
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

import runtime
from export.quiet import quiet_native_logs
from runtime.errors import BundleError, InputError
from runtime.interpreter import TFLiteClassifier

Answers = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""Photos uint8 ``[N, H, W, 3]`` -> probabilities ``[N, C]``."""

_LAST_WORDS = 300


def keras_answers(model: Any) -> Answers:
    """The trained Keras model itself."""
    return lambda photos: np.asarray(model.predict_on_batch(photos))


def saved_model_answers(base_path: Path) -> Answers:
    """The SavedModel as TensorFlow Serving would load it: its version 1, by its ``serving_default`` signature."""
    loaded = tf.saved_model.load(str(base_path / "1"))
    serve = loaded.signatures["serving_default"]

    def answers(photos: NDArray[np.uint8]) -> NDArray[np.float32]:
        _keep_alive = loaded
        (output,) = serve(image=tf.constant(photos)).values()
        return np.asarray(output)

    return answers


def tflite_answers(path: Path, threads: int | None = None) -> Answers:
    """A TFLite file as the predictor runs it. Raises BundleError."""
    with quiet_native_logs():
        return TFLiteClassifier(path, threads).many


def tensorflow_answers(path: Path, threads: int | None = None) -> Answers:
    """A TFLite file in the interpreter that comes with TensorFlow. Raises BundleError."""
    with quiet_native_logs(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # which says that it will be removed some day
        return TFLiteClassifier(path, threads, tf.lite.Interpreter).many


class OtherPython:
    """A TFLite file in the runtime of another Python, on one thread: a process of its own until it is closed.

    Of this installation it sees the package ``runtime`` and nothing else: what it imports beside is its own.

    Args:
        python: the other Python's executable; it has NumPy and tflite-runtime (or ai-edge-litert).
        path: the file.

    Raises:
        BundleError: its runtime cannot load the file.
        InputError: it is no Python that has a runtime.
    """

    def __init__(self, python: str, path: Path) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="transferlite-")
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        Path(self._folder.name, "runtime").symlink_to(Path(runtime.__file__).parent)
        alone = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        try:
            self._process = subprocess.Popen(
                [python, "-B", "-m", "runtime.worker", str(path.resolve())],
                cwd=self._folder.name,
                env=alone,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
            )
        except OSError as error:
            self._put_away()
            raise InputError(f"cannot be run ({error.strerror})", where=python) from None
        self.runtime, self._classes = self._introduced(python)

    def _introduced(self, python: str) -> tuple[str, int]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        told = json.loads(line) if line else {}
        if "runtime" in told:
            return told["runtime"], told["classes"]
        words = self._last_words()
        self.close()
        if "error" in told:
            raise BundleError(told["error"])
        raise InputError(f"is no Python with a TFLite runtime ({words})", where=python)

    def __call__(self, photos: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Its answers. Raises BundleError if the process ended instead."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(b"%d\n" % len(photos))
            self._process.stdin.write(np.ascontiguousarray(photos).data)
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # what it has not answered is told below
        wanted = 4 * len(photos) * self._classes
        answer = self._process.stdout.read(wanted)
        if len(answer) < wanted:
            raise BundleError(f"{self.runtime} ended while it ran ({self._last_words()})")
        return np.frombuffer(answer, np.float32).reshape(len(photos), self._classes)

    def _last_words(self) -> str:
        """What the process, which is ending, wrote last; or how it ended."""
        status = self._process.wait()
        self._errors.seek(0)
        words = self._errors.read().decode(errors="replace").strip().splitlines()
        return words[-1][-_LAST_WORDS:] if words and status > 0 else f"status {status}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process."""
        self._process.kill()  # it holds nothing that has to be put away
        self._process.communicate()
        self._put_away()

    def _put_away(self) -> None:
        self._errors.close()
        self._folder.cleanup()
