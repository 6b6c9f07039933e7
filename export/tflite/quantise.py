"""Quantise all weights and activations to int8: measure activation ranges, then call TensorFlow's quantiser.

The ranges are measured here because the converter's own calibration has two faults. It runs the photos on one core,
without XNNPACK. It also reads an operation's inputs only after the operation ran: if the output was written over the
input in memory, the input gets the output's range, such as a residual branch the range of the sum. Here LiteRT runs on
several cores, and no activation shares its memory.
Source: https://ai.google.dev/edge/litert/conversion/tensorflow/quantization/post_training_quantization
"""

import queue
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray
from tensorflow.lite.python.convert import mlir_quantize

from export.native_logs import quiet_native_logs
from export.tflite.tflite_file import activation_tensors, read_tflite, set_range, write_tflite
from transferlite.errors import GateError
from transferlite.images.decoder import RGB
from transferlite.images.input_spec import InputSpec
from transferlite.inference.thread_count import usable_cores
from transferlite.storage.prefetch import prefetch_map

_MAX_INTERPRETERS = 4  # each holds all activations of a photo in memory, 30 to 150 MB

Ranges = NDArray[np.float32]
"""Minimum and maximum of each of ``A`` activations, ``[A, 2]``."""


@dataclass(frozen=True)
class Calibration:
    """What int8 knows of the activations.

    Attributes:
        ranges: range of each activation of the backbone, in the order of :func:`observed_tensors`, ``[A, 2]``.
        rows: feature rows of training photos, ``[N, D]``, which give the ranges of the head's activations.
    """

    ranges: Ranges
    rows: NDArray[np.float32]

    def with_head(self, head: bytes) -> Ranges:
        """The ranges of the activations of the backbone, then of those of the head.

        ``head`` is a float32 file from feature rows ``[1, D]``.

        Raises:
            GateError: an activation is not a finite number.
        """
        ranges = np.concatenate([self.ranges, merge_ranges([ranges for ranges, _ in observe(head, self.rows)])])
        if not np.isfinite(ranges).all():
            raise GateError(
                "the model's activations are not finite numbers", where="int8", hint="try a lower --learning-rate"
            )
        return ranges


def observed_tensors(model: Any) -> list[int]:
    """Tensors of a parsed float32 file whose ranges the quantiser needs: all activations but the input."""
    (pixels,) = model.subgraphs[0].inputs
    return [tensor for tensor in activation_tensors(model) if tensor != pixels]


def set_ranges(content: bytes, ranges: Ranges) -> bytes:
    """Store the range of every activation in a float32 file with float RGB input 0 to 255, for :func:`quantise`.

    ``ranges`` ``[A, 2]`` are in the order of :func:`observed_tensors`.
    """
    model = read_tflite(content)
    for tensor, (low, high) in zip(observed_tensors(model), ranges, strict=True):
        set_range(model, tensor, low, high)
    (pixels,) = model.subgraphs[0].inputs
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


def observe(content: bytes, inputs: Iterable[NDArray[Any]]) -> Iterator[tuple[Ranges, NDArray[np.float32]]]:
    """Measure the range of every activation for each input, in order, on all cores.

    Args:
        content: a float32 file with one input and one output.
        inputs: photos ``[H, W, 3]`` or feature rows ``[D]``.

    Yields:
        Ranges ``[A, 2]`` in the order of :func:`observed_tensors`, not finite if the input's activations are not; and
        the output, without its batch dimension.
    """
    idle: queue.SimpleQueue[Any] = queue.SimpleQueue()
    count = min(usable_cores(), _MAX_INTERPRETERS)
    model = read_tflite(content)
    tensors, (output,) = observed_tensors(model), model.subgraphs[0].outputs
    observable = _with_outputs(content, tensors)
    with quiet_native_logs():
        for _ in range(count):
            interpreter = Interpreter(model_content=observable, num_threads=usable_cores() // count)
            interpreter.allocate_tensors()
            idle.put(interpreter)

    def run(values: NDArray[Any]) -> tuple[Ranges, NDArray[np.float32]]:
        interpreter = idle.get()
        try:
            interpreter.set_tensor(interpreter.get_input_details()[0]["index"], values[None].astype(np.float32))
            interpreter.invoke()
            ranges = np.array([_range(interpreter.tensor(tensor)()) for tensor in tensors], np.float32)
            return ranges, np.array(interpreter.get_tensor(output)[0])
        finally:
            idle.put(interpreter)

    yield from prefetch_map(run, inputs, count)


def merge_ranges(ranges: Sequence[Ranges]) -> Ranges:
    """Merge the ranges of at least one photo, ``[A, 2]`` each; NaN in any photo stays NaN."""
    stacked = np.stack(ranges)
    return np.stack([stacked[..., 0].min(axis=0), stacked[..., 1].max(axis=0)], axis=-1)


def full_range_picture(spec: InputSpec) -> RGB:
    """A gradient from 0 to 255, so that the calibrated ranges cover every pixel value however dark the photos are."""
    ramp = np.linspace(0, 255, spec.width).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(ramp[None, :, None], (spec.height, spec.width, 3)))


def _with_outputs(content: bytes, tensors: Sequence[int]) -> bytes:
    """Make the tensors outputs of the file, so that the interpreter keeps them all until the run has ended."""
    model = read_tflite(content)
    model.subgraphs[0].outputs = list(tensors)
    model.signatureDefs = []
    return write_tflite(model)


def _range(values: NDArray[np.float32]) -> tuple[np.float32, np.float32]:
    return values.min(), values.max()
