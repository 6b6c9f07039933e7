"""Run a TFLite image classifier with the installed TFLite runtime."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from transferlite.errors import EDGE_LEGACY_HINT, BundleError, InputError, MissingExtraError
from transferlite.inference.classifier_file import Details, check_classifier, check_is_tflite, damaged_file_error
from transferlite.inference.thread_count import usable_cores

if TYPE_CHECKING:  # saves import time on a cold start
    from numpy.typing import NDArray

    from transferlite.inference.mean_and_std import Normalisation


def runtime_name() -> str:
    """Return the installed TFLite runtime: ``ai-edge-litert``, or ``tflite-runtime`` on older devices.

    Raises:
        MissingExtraError: neither is installed.
    """
    return "ai-edge-litert" if interpreter_class().__module__.startswith("ai_edge_litert") else "tflite-runtime"


def runtime_version() -> str:
    """Return the runtime with its version, such as ``ai-edge-litert 2.3.0``. Raises MissingExtraError."""
    return name_and_version(runtime_name())


def name_and_version(package: str) -> str:
    """Return a package's name and, if its metadata are installed, its version."""
    from importlib import metadata  # lazy: a cold start does not need it

    try:
        return f"{package} {metadata.version(package)}"
    except metadata.PackageNotFoundError:
        return package


def interpreter_class() -> Any:
    """Import and return the ``Interpreter`` class of the installed runtime. Raises MissingExtraError."""
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        try:
            from tflite_runtime.interpreter import Interpreter
        except ImportError:
            note = EDGE_LEGACY_HINT if sys.version_info >= (3, 12) else ""
            raise MissingExtraError("ai-edge-litert (or tflite-runtime)", "edge", note) from None
    return Interpreter


def load_interpreter(path: Path, threads: int | None = None, interpreter: Any = None) -> Any:
    """Load a TFLite file into an interpreter with allocated tensors; arguments as in :class:`TFLiteClassifier`.

    Raises:
        NotClassifierError: the file is not a TFLite file, or damaged.
        BundleError: the runtime cannot load it, for example because it lacks an operation.
    """
    check_is_tflite(path)
    try:
        loaded = (interpreter or interpreter_class())(model_path=str(path), num_threads=threads or usable_cores())
        loaded.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        if any(word in str(error).lower() for word in ("flatbuffer", "schema version")):
            raise damaged_file_error(path) from error
        reason = " ".join(str(error).split())
        raise BundleError(f"the runtime cannot load it ({reason})", where=str(path)) from error
    return loaded


def _input_transform(
    details: Any, normalisation: Normalisation | None, where: str
) -> Callable[[NDArray[np.uint8]], NDArray[Any]] | None:
    """Return the function that turns an image ``[H, W, 3]`` into the model's input; None if the input is the image.

    A float input takes normalised pixels. An integer input takes the pixels themselves (int8: minus 128), or normalised
    and quantised pixels if ``normalisation`` changes them.
    Source: https://www.tensorflow.org/lite/models/convert/metadata, "Normalization and quantization parameters"

    Raises:
        BundleError: the input is neither float32, uint8 nor int8.
        InputError: the input is float32 and there is no normalisation.
    """
    dtype = np.dtype(details["dtype"])
    if dtype == np.float32:
        if normalisation is None:
            raise InputError(
                "takes float pixels, and its metadata do not give their normalisation",
                where=where,
                hint="give --mean and --std: 0 and 255 for 0 to 1, 127.5 and 127.5 for -1 to 1, 0 and 1 for 0 to 255",
            )
        return normalisation
    if dtype not in (np.uint8, np.int8):
        raise BundleError(f"takes {dtype} pixels", where=where, hint="only float32, uint8 and int8 are supported")
    scale, zero = details["quantization"]
    if scale and normalisation is not None and {*normalisation.mean, *normalisation.std} != {0.0, 1.0}:
        return _quantiser(normalisation, scale, zero, np.iinfo(dtype))
    if dtype == np.int8:
        return lambda image: (image ^ 0x80).view(np.int8)  # 0 to 255 becomes -128 to 127
    return None


def _quantiser(
    normalisation: Normalisation, scale: float, zero: int, limits: Any
) -> Callable[[NDArray[np.uint8]], NDArray[Any]]:
    def normalise_and_quantise(image: NDArray[np.uint8]) -> NDArray[Any]:
        steps = np.rint(normalisation(image) / scale) + zero
        return np.asarray(np.clip(steps, limits.min, limits.max), limits.dtype)

    return normalise_and_quantise


class TFLiteClassifier:
    """A loaded TFLite image classifier with a fixed batch size, usually 1. Thread-safe: calls run one at a time.

    Args:
        path: the TFLite file.
        threads: interpreter threads; all usable cores if None.
        normalisation: for a float input, or an integer input that quantises normalised pixels.
        interpreter: interpreter class; :func:`interpreter_class` if None.

    Attributes:
        takes_raw_pixels: whether the input is integer pixels without quantisation: no normalisation applies.
        zero: quantised output that means probability 0.
        features_scale: ``scale`` (0 if it is float) and ``zero`` of the feature row; None without that output.
        resolution: step between adjacent probabilities of a quantised output; 0 for a float output.

    Raises:
        NotClassifierError: the file is not a TFLite file, is damaged, or is not an image classifier with one
            ``[B, H, W, 3]`` input and one ``[B, N]`` output, or a second output ``features``.
        BundleError: the runtime cannot load it, or its input is neither float32, uint8 nor int8.
        InputError: its input is float and there is no normalisation.
    """

    def __init__(
        self,
        path: Path,
        threads: int | None = None,
        normalisation: Normalisation | None = None,
        interpreter: Any = None,
    ) -> None:
        self._interpreter = load_interpreter(path, threads, interpreter)
        source, target, features = check_classifier(self._interpreter, str(path))
        self.batch, self.height, self.width = (int(side) for side in source["shape"][:3])
        self._transform = _input_transform(source, normalisation, str(path))
        self.takes_raw_pixels = source["dtype"] != np.float32 and not source["quantization"][0]
        self.classes = int(target["shape"][-1])
        self._input = source["index"]
        self._output, self._features = _Output(target), _Output(features) if features else None
        self.zero, self.resolution = self._output.zero, self._output.scale
        self.features_scale = {"scale": self._features.scale, "zero": self._features.zero} if self._features else None
        self._lock = threading.Lock()

    def __call__(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the probabilities ``[N]`` for an image ``[H, W, 3]`` of the model's input size."""
        probabilities: NDArray[np.float32] = self._run(self._batch_of(image))[0]
        return probabilities

    def with_features(self, image: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """Return the probabilities ``[N]`` and the feature row ``[D]`` of an image; None without that output."""
        pixels = self._pixels(self._batch_of(image))
        with self._lock:
            self._invoke(pixels)
            probabilities = self._output.read(self._interpreter, self.batch)[0]
            if self._features is None:
                return probabilities, None
            return probabilities, self._features.read(self._interpreter, self.batch)[0]

    def predict_batch(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the probabilities ``[M, N]`` for images ``[M, H, W, 3]``.

        The last batch is padded with copies of its last image.
        """
        probabilities = np.zeros((len(images), self.classes), np.float32)
        for start in range(0, len(images), self.batch):
            batch = images[start : start + self.batch]
            missing = self.batch - len(batch)
            padded = np.concatenate([batch, np.repeat(batch[-1:], missing, axis=0)]) if missing else batch
            probabilities[start : start + self.batch] = self._run(padded)[: len(batch)]
        return probabilities

    def _run(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Run the interpreter: images ``[B, H, W, 3]`` -> probabilities ``[B, N]``."""
        pixels = self._pixels(batch)
        with self._lock:
            self._invoke(pixels)
            return self._output.read(self._interpreter, self.batch)

    def _batch_of(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Repeat an image as often as the batch is large: ``[B, H, W, 3]``."""
        return image[None] if self.batch == 1 else np.repeat(image[None], self.batch, axis=0)

    def _pixels(self, batch: NDArray[np.uint8]) -> NDArray[Any]:
        return batch if self._transform is None else np.stack([self._transform(image) for image in batch])

    def _invoke(self, pixels: NDArray[Any]) -> None:
        self._interpreter.set_tensor(self._input, pixels)
        self._interpreter.invoke()


class _Output:
    """An output of a model, which is read as float32 also if it is quantised; ``scale`` is 0 if it is not."""

    def __init__(self, details: Details) -> None:
        self._index = details["index"]
        is_quantised = details["dtype"] != np.float32
        self.scale: float = details["quantization"][0] if is_quantised else 0.0
        self.zero: int = details["quantization"][1]

    def read(self, interpreter: Any, batch: int) -> NDArray[np.float32]:
        """Copy the output's values ``[batch, N]`` after a run."""
        raw = interpreter.get_tensor(self._index).reshape(batch, -1)
        values: NDArray[np.float32] = np.asarray(raw, np.float32)
        if self.scale:
            values = (values - self.zero) * np.float32(self.scale)
        return values
