"""Full-integer quantisation: the range of every activation over some photos, then TensorFlow's own quantiser.

The converter's own calibration runs the photos on one core, without XNNPACK, and looks at an operation's inputs when it
is done: where its output has been written over its input, the input is given the output's range as well, a residual
branch that of the sum. Here LiteRT runs them on several cores, and no activation shares its memory.
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

from export.tflite.tflite_file import activations, read_tflite, set_range, write_tflite
from transferlite.errors import GateError
from transferlite.images.decoder import RGB
from transferlite.inference.interpreter import usable_cores
from transferlite.storage.prefetch import prefetch_map

_MOST_INTERPRETERS = 4  # each has every activation of a photo in memory at once, 30 to 150 MB

Ranges = NDArray[np.float32]
"""The lowest and the highest value of each of ``A`` activations, ``[A, 2]``."""


def note_ranges(content: bytes, photos: Iterable[RGB]) -> bytes:
    """A float32 file with the range of every activation noted in it, for :func:`quantise`.

    Args:
        content: a file from float RGB 0 to 255 ``[1, H, W, 3]``.
        photos: uint8 ``[H, W, 3]``, at least one; their activations set the ranges.

    Raises:
        GateError: an activation is not a finite number.
    """
    model = read_tflite(content)
    (pixels,) = model.subgraphs[0].inputs
    inside = [tensor for tensor in activations(model) if tensor != pixels]
    ranges = observe(content, inside, photos)
    if not np.isfinite(ranges).all():
        raise GateError(
            "the model's activations are not finite numbers", where="int8", hint="try a lower --learning-rate"
        )
    for tensor, (low, high) in zip(inside, ranges, strict=True):
        set_range(model, tensor, low, high)
    set_range(model, pixels, 0, 255)
    return write_tflite(model)


def quantise(ranged: bytes, in_float: Sequence[str] = ()) -> bytes:
    """An int8 file of a float32 one with ranges: uint8 in with scale 1 and zero point 0 (raw pixels), uint8 out.

    The operations that ``in_float`` names, by their output, stay in float32, between conversions to and from integers.
    """
    kept = list(in_float) or None
    return bytes(mlir_quantize(ranged, input_data_type=tf.uint8, output_data_type=tf.uint8, denylisted_nodes=kept))


def observe(content: bytes, tensors: Sequence[int], photos: Iterable[RGB]) -> Ranges:
    """The ranges of some tensors, by their number, of a file from float RGB ``[1, H, W, 3]`` over all photos."""
    idle: queue.SimpleQueue[Any] = queue.SimpleQueue()
    count = min(usable_cores(), _MOST_INTERPRETERS)
    observable = _with_outputs(content, tensors)
    for _ in range(count):
        interpreter = Interpreter(model_content=observable, num_threads=usable_cores() // count)
        interpreter.allocate_tensors()
        idle.put(interpreter)

    def one(photo: RGB) -> Ranges:
        interpreter = idle.get()
        try:
            interpreter.set_tensor(interpreter.get_input_details()[0]["index"], photo[None].astype(np.float32))
            interpreter.invoke()
            return np.array([_range(interpreter.tensor(tensor)()) for tensor in tensors], np.float32)
        finally:
            idle.put(interpreter)

    return _joined(list(prefetch_map(one, photos, count)))


def _with_outputs(content: bytes, tensors: Sequence[int]) -> bytes:
    """The file with those tensors as its outputs, so that they are all there when it has run."""
    model = read_tflite(content)
    model.subgraphs[0].outputs = list(tensors)
    model.signatureDefs = []
    return write_tflite(model)


def _range(values: NDArray[np.float32]) -> tuple[np.float32, np.float32]:
    return values.min(), values.max()


def _joined(ranges: list[Ranges]) -> Ranges:
    """Of photos ``[N, A, 2]`` -> of all of them; what is not a number in one is not a number in all."""
    every = np.stack(ranges)
    return np.stack([every[..., 0].min(axis=0), every[..., 1].max(axis=0)], axis=-1)
