"""A TFLite file as a function of one image, on whichever TFLite runtime is installed."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from transferlite.errors import LEGACY_NEEDS, BundleError, InputError, MissingExtraError

if TYPE_CHECKING:  # a start need not wait for it
    from numpy.typing import NDArray

    from transferlite.inference.normalisation import Normalisation

MEGABYTES_OF_A_CORE = 1769
"""Of a Lambda function's memory. Source: https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html"""


def runtime_name() -> str:
    """The package that runs TFLite files here: ``ai-edge-litert``, or ``tflite-runtime`` on older devices.

    Raises:
        MissingExtraError: neither is installed.
    """
    return "ai-edge-litert" if interpreter_class().__module__.startswith("ai_edge_litert") else "tflite-runtime"


def runtime_version() -> str:
    """The same with its version: ``ai-edge-litert 2.3.0``. Raises MissingExtraError."""
    return with_version(runtime_name())


def with_version(package: str) -> str:
    """A package's name and, where the installation tells it, its version."""
    from importlib import metadata  # which a cold start need not wait for

    try:
        return f"{package} {metadata.version(package)}"
    except metadata.PackageNotFoundError:
        return package


def usable_cores(environment: Mapping[str, str] = os.environ) -> int:
    """The cores this process may run on, at most 8: a photo's forward pass gains nothing from more.

    A Lambda function sees all cores and has a share of them by its memory: threads beyond that share only wait.
    """
    share = environment.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "")
    cores = max(1, round(int(share) / MEGABYTES_OF_A_CORE)) if share.isdigit() else 8
    return min(len(os.sched_getaffinity(0)), cores, 8)


def interpreter_class() -> Any:
    """The ``Interpreter`` of the installed runtime, which the first call imports. Raises MissingExtraError."""
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        try:
            from tflite_runtime.interpreter import Interpreter
        except ImportError:
            note = LEGACY_NEEDS if sys.version_info >= (3, 12) else ""
            raise MissingExtraError("ai-edge-litert (or tflite-runtime)", "edge", note) from None
    return Interpreter


def _preparation(
    details: Any, normalisation: Normalisation | None, where: str
) -> Callable[[NDArray[np.uint8]], NDArray[Any]] | None:
    """What makes of pixels ``[H, W, 3]`` an input of these ``details``; None where it takes them as they are.

    A float input takes normalised pixels. An integer one takes them as they are (int8: less 128), or, where there is a
    normalisation that changes them, normalised and quantised.
    Source: https://www.tensorflow.org/lite/models/convert/metadata, "Normalization and quantization parameters"

    Raises:
        BundleError: it is of another type.
        InputError: it is float, and there is no normalisation.
    """
    kind = np.dtype(details["dtype"])
    if kind == np.float32:
        if normalisation is None:
            raise InputError(
                "takes float pixels, and neither it nor you say how they are normalised",
                where=where,
                hint="give --mean and --std: 0 and 255 for 0 to 1, 127.5 and 127.5 for -1 to 1, 0 and 1 for 0 to 255",
            )
        return normalisation
    if kind not in (np.uint8, np.int8):
        raise BundleError(f"takes {kind} pixels", where=where, hint="float32, uint8 and int8 are known")
    scale, zero = details["quantization"]
    limits = np.iinfo(kind)
    if scale and normalisation is not None and {*normalisation.mean, *normalisation.std} != {0.0, 1.0}:

        def quantised(image: NDArray[np.uint8]) -> NDArray[Any]:
            steps = np.rint(normalisation(image) / scale) + zero
            return np.asarray(np.clip(steps, limits.min, limits.max), kind)

        return quantised
    if kind == np.int8:
        return lambda image: (image ^ 0x80).view(np.int8)  # 0 to 255 as -128 to 127
    return None


class TFLiteClassifier:
    """One loaded classifier with a fixed batch, most often of one. Threads may share it: they take turns.

    Args:
        path: the file.
        threads: for the interpreter; all cores if None.
        interpreter: the class that runs it; that of :func:`runtime_name` if None.

    A float input gets normalised pixels. An integer one gets them as they are, or, where there is a normalisation that
    changes them, normalised and quantised.

    Raises:
        BundleError: the file is not a TFLite image classifier with one ``[B, H, W, 3]`` input and one output.
        InputError: its input is float, and there is no normalisation.
    """

    def __init__(
        self,
        path: Path,
        threads: int | None = None,
        normalisation: Normalisation | None = None,
        interpreter: Any = None,
    ) -> None:
        interpreter = interpreter or interpreter_class()
        try:
            self._interpreter = interpreter(model_path=str(path), num_threads=threads or usable_cores())
            self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise BundleError(f"the runtime cannot load it ({error})", where=str(path)) from error
        inputs, outputs = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        shape = [int(n) for n in inputs[0]["shape"]]
        if len(inputs) != 1 or len(outputs) != 1 or len(shape) != 4 or shape[0] < 1 or shape[3] != 3:
            raise BundleError(
                f"not an image classifier with one [1, H, W, 3] input (it takes {shape})", where=str(path)
            )
        self.batch, self.height, self.width = shape[:3]
        self._prepare = _preparation(inputs[0], normalisation, str(path))
        self.classes = int(outputs[0]["shape"][-1])
        self._input, self._output = inputs[0]["index"], outputs[0]["index"]
        quantised = outputs[0]["dtype"] != np.float32
        self._scale: float = outputs[0]["quantization"][0] if quantised else 0.0
        self.zero: int = outputs[0]["quantization"][1]
        """What a quantised output has for the probability 0."""
        self.resolution = self._scale
        """The step from one probability to the next of a quantised output; 0 for floats."""
        self._turn = threading.Lock()

    def __call__(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Probabilities ``[N]`` for one image ``[H, W, 3]`` of the model's own size."""
        batch = image[None] if self.batch == 1 else np.repeat(image[None], self.batch, axis=0)
        answer: NDArray[np.float32] = self._run(batch)[0]
        return answer

    def predict_batch(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Probabilities ``[M, N]`` for images ``[M, H, W, 3]``, a batch at a time, the last filled up with its last."""
        answers = np.zeros((len(images), self.classes), np.float32)
        for start in range(0, len(images), self.batch):
            batch = images[start : start + self.batch]
            missing = self.batch - len(batch)
            full = np.concatenate([batch, np.repeat(batch[-1:], missing, axis=0)]) if missing else batch
            answers[start : start + self.batch] = self._run(full)[: len(batch)]
        return answers

    def _run(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        """``[B, H, W, 3]`` -> ``[B, N]``."""
        pixels = batch if self._prepare is None else np.stack([self._prepare(image) for image in batch])
        with self._turn:
            self._interpreter.set_tensor(self._input, pixels)
            self._interpreter.invoke()
            raw = self._interpreter.get_tensor(self._output).reshape(self.batch, -1)  # of a copy
        values: NDArray[np.float32] = np.asarray(raw, np.float32)
        if self._scale:
            values = (values - self.zero) * np.float32(self._scale)
        return values
