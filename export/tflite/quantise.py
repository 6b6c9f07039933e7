"""Quantise all weights and activations to int8: measure activation ranges, then call TensorFlow's quantiser.

The ranges are measured here because the converter's own calibration has two faults. It runs the photos on one core,
without XNNPACK. It also reads an operation's inputs only after the operation ran: if the output was written over the
input in memory, the input gets the output's range, such as a residual branch the range of the sum. Here LiteRT runs on
several cores, and no activation shares its memory.
Source: https://ai.google.dev/edge/litert/conversion/tensorflow/quantization/post_training_quantization
"""

import queue
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray
from tensorflow.lite.python.convert import mlir_quantize

from export.tflite.tflite_file import activation_tensors, read_tflite, set_range, write_tflite
from transferlite.errors import GateError
from transferlite.images.decoder import RGB
from transferlite.inference.thread_count import usable_cores
from transferlite.storage.prefetch import prefetch_map

_MAX_INTERPRETERS = 4  # each holds all activations of a photo in memory, 30 to 150 MB

Ranges = NDArray[np.float32]
"""Minimum and maximum of each of ``A`` activations, ``[A, 2]``."""


def add_ranges(content: bytes, photos: Iterable[RGB]) -> bytes:
    """Store the range of every activation in a float32 file, for :func:`quantise`.

    Args:
        content: a file with float RGB input 0 to 255 ``[1, H, W, 3]``.
        photos: uint8 ``[H, W, 3]``, at least one.

    Raises:
        GateError: an activation is not a finite number.
    """
    model = read_tflite(content)
    (pixels,) = model.subgraphs[0].inputs
    tensors = [tensor for tensor in activation_tensors(model) if tensor != pixels]
    ranges = observe_ranges(content, tensors, photos)
    if not np.isfinite(ranges).all():
        raise GateError(
            "the model's activations are not finite numbers", where="int8", hint="try a lower --learning-rate"
        )
    for tensor, (low, high) in zip(tensors, ranges, strict=True):
        set_range(model, tensor, low, high)
    set_range(model, pixels, 0, 255)
    return write_tflite(model)


def quantise(content_with_ranges: bytes, in_float: Sequence[str] = ()) -> bytes:
    """Quantise a float32 file with ranges to int8, with uint8 output and uint8 input of scale 1 and zero point 0.

    The operations that ``in_float`` names, by their output, stay in float32, between conversions from and to integers.
    """
    kept = list(in_float) or None
    return bytes(
        mlir_quantize(content_with_ranges, input_data_type=tf.uint8, output_data_type=tf.uint8, denylisted_nodes=kept)
    )


def observe_ranges(content: bytes, tensors: Sequence[int], photos: Iterable[RGB]) -> Ranges:
    """Measure the ranges of ``tensors`` (indices) over all photos; the file's input is float RGB ``[1, H, W, 3]``."""
    idle: queue.SimpleQueue[Any] = queue.SimpleQueue()
    count = min(usable_cores(), _MAX_INTERPRETERS)
    observable = _with_outputs(content, tensors)
    for _ in range(count):
        interpreter = Interpreter(model_content=observable, num_threads=usable_cores() // count)
        interpreter.allocate_tensors()
        idle.put(interpreter)

    def ranges_of(photo: RGB) -> Ranges:
        interpreter = idle.get()
        try:
            interpreter.set_tensor(interpreter.get_input_details()[0]["index"], photo[None].astype(np.float32))
            interpreter.invoke()
            return np.array([_range(interpreter.tensor(tensor)()) for tensor in tensors], np.float32)
        finally:
            idle.put(interpreter)

    return _merge(list(prefetch_map(ranges_of, photos, count)))


def _with_outputs(content: bytes, tensors: Sequence[int]) -> bytes:
    """Make the tensors outputs of the file, so that the interpreter keeps them all until the run has ended."""
    model = read_tflite(content)
    model.subgraphs[0].outputs = list(tensors)
    model.signatureDefs = []
    return write_tflite(model)


def _range(values: NDArray[np.float32]) -> tuple[np.float32, np.float32]:
    return values.min(), values.max()


def _merge(ranges: list[Ranges]) -> Ranges:
    """Merge the ranges of N photos, ``[A, 2]`` each; NaN in any photo stays NaN."""
    stacked = np.stack(ranges)
    return np.stack([stacked[..., 0].min(axis=0), stacked[..., 1].max(axis=0)], axis=-1)
