"""A TFLite file as a function of one image, on whichever TFLite runtime is installed."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.errors import BundleError, InputError, MissingExtraError


def runtime_name() -> str:
    """The package that runs TFLite files here: ``ai-edge-litert``, or ``tflite-runtime`` on older devices.

    Raises:
        MissingExtraError: neither is installed.
    """
    return "ai-edge-litert" if _interpreter_class().__module__.startswith("ai_edge_litert") else "tflite-runtime"


def usable_cores() -> int:
    """The cores this process may run on, at most 8: a photo's forward pass gains nothing from more."""
    return min(len(os.sched_getaffinity(0)), 8)


def _interpreter_class() -> Any:
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        try:
            from tflite_runtime.interpreter import Interpreter
        except ImportError:
            raise MissingExtraError("ai-edge-litert (or tflite-runtime)", "edge") from None
    return Interpreter


@dataclass(frozen=True)
class Normalisation:
    """What a model wants done to pixels of 0 to 255: ``(pixel - mean) / std``; one number each, or one a channel.

    Raises:
        InputError: they are neither one nor three numbers, or a ``std`` is not above 0.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        if {len(self.mean), len(self.std)} - {1, 3} or not all(0 < value < np.inf for value in self.std):
            raise InputError(
                f"the mean {list(self.mean)} and std {list(self.std)} are no normalisation of RGB",
                hint="give one number or three each, std above 0",
            )

    def __call__(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Pixels ``[H, W, 3]`` as the model was trained on them."""
        return np.asarray((image - np.array(self.mean)) / np.array(self.std), np.float32)


class TFLiteClassifier:
    """One loaded classifier with a fixed batch of one. Not for several threads at once: give each its own.

    A float input gets normalised pixels. An integer one gets them as they are, or, where there is a normalisation that
    changes them, normalised and quantised.

    Raises:
        BundleError: the file is not a TFLite image classifier with one ``[1, H, W, 3]`` input and one output.
        InputError: its input is float, and there is no normalisation.
    """

    def __init__(self, path: Path, threads: int | None = None, normalisation: Normalisation | None = None) -> None:
        interpreter = _interpreter_class()
        try:
            self._interpreter = interpreter(model_path=str(path), num_threads=threads or usable_cores())
            self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise BundleError(f"the runtime cannot load it ({error})", where=str(path)) from error
        inputs, outputs = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        shape = [int(n) for n in inputs[0]["shape"]]
        if len(inputs) != 1 or len(outputs) != 1 or len(shape) != 4 or (shape[0], shape[3]) != (1, 3):
            raise BundleError(
                f"not an image classifier with one [1, H, W, 3] input (it takes {shape})", where=str(path)
            )
        self.height, self.width = shape[1], shape[2]
        self._prepare = _preparation(inputs[0], normalisation, str(path))
        self.classes = int(outputs[0]["shape"][-1])
        self._input, self._output = inputs[0]["index"], outputs[0]["index"]
        quantised = outputs[0]["dtype"] != np.float32
        self._scale: float = outputs[0]["quantization"][0] if quantised else 0.0
        self.zero: int = outputs[0]["quantization"][1]
        """What a quantised output has for the probability 0."""
        self.resolution = self._scale
        """The step from one probability to the next of a quantised output; 0 for floats."""

    def __call__(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Probabilities ``[N]`` for one image ``[H, W, 3]`` of the model's own size."""
        pixels = image if self._prepare is None else self._prepare(image)
        self._interpreter.set_tensor(self._input, pixels[None])
        self._interpreter.invoke()
        raw = self._interpreter.get_tensor(self._output).reshape(-1)
        values = np.asarray(raw, np.float32)
        return (values - self.zero) * np.float32(self._scale) if self._scale else values


def _preparation(
    details: Any, normalisation: Normalisation | None, where: str
) -> Callable[[NDArray[np.uint8]], NDArray[Any]] | None:
    """What makes an input of pixels ``[H, W, 3]``; None where it takes them as they are.

    Source: https://www.tensorflow.org/lite/models/convert/metadata, "Normalization and quantization parameters"
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
