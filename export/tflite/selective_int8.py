"""Find the operations that lose most accuracy in int8, to keep them in float32 (selective quantisation).

Tries windows of neighbouring operations: one window stays in float32, all others are quantised, and the logits are
compared with the float32 file's. TensorFlow's quantisation debugger measures each operation alone instead. It misses
cases in which a few large activations leave no resolution for the others, because the loss shows in later operations.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.schema_py_generated import BuiltinOperator
from numpy.typing import NDArray

from export.native_logs import quiet_native_logs
from export.tflite.quantise import quantise
from export.tflite.tflite_file import add_uint8_input, read_tflite, write_tflite
from transferlite.images.decoder import RGB
from transferlite.inference.interpreter import TFLiteClassifier

WINDOWS = 16
"""Number of windows. Each overlaps the next by half, so that any two neighbouring operations share a window."""


def rank_by_gain(content_with_ranges: bytes, photos: Sequence[RGB]) -> list[list[str]]:
    """Rank windows of operations (named by their output) by how much keeping them in float32 helps, the best first.

    Args:
        content_with_ranges: a float32 file with ranges.
        photos: uint8 ``[H, W, 3]``.
    """
    model = read_tflite(content_with_ranges)
    _remove_softmax(model)
    (graph,) = model.subgraphs
    names = [graph.tensors[operator.outputs[0]].name.decode() for operator in graph.operators]
    logits_file, images = write_tflite(model), np.stack(photos)
    add_uint8_input(model)
    expected = _predict(write_tflite(model), images)
    starts = np.linspace(0, len(names), min(WINDOWS, len(names)) + 1).astype(int)
    windows = [names[start:end] for start, end in zip(starts, [*starts[2:], len(names)], strict=False)]
    with quiet_native_logs():
        errors = [float(((_predict(quantise(logits_file, kept), images) - expected) ** 2).mean()) for kept in windows]
    return [windows[i] for i in np.argsort(errors, kind="stable")]


def _remove_softmax(model: Any) -> None:
    """Make the logits the output: probabilities near 0 and 1, as for training photos, would hide differences."""
    (graph,) = model.subgraphs
    last = graph.operators[-1]
    if model.operatorCodes[last.opcodeIndex].builtinCode == BuiltinOperator.SOFTMAX:
        graph.operators.pop()
        graph.outputs = [last.inputs[0]]
    model.signatureDefs = []


def _predict(content: bytes, photos: NDArray[np.uint8]) -> NDArray[np.float32]:
    with tempfile.NamedTemporaryFile(suffix=".tflite") as file:
        file.write(content)
        file.flush()
        return TFLiteClassifier(Path(file.name)).predict_batch(photos)
