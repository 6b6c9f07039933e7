"""Which operations lose most as integers: those that a selective int8 file keeps in float32.

It is found by trying: a window of operations stays in float32, all others are quantised, and what counts is how near
the logits come to those of the float32 file. TensorFlow's quantisation debugger looks at each operation alone instead,
and so does not see where a few large activations leave the others no room: that shows in what comes after.
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
from export.tflite.tflite_file import read_tflite, take_uint8, write_tflite
from transferlite.images.decoder import RGB
from transferlite.inference.interpreter import TFLiteClassifier

STEPS = 16
"""Windows begin at so many places. Each reaches over two steps, so that neighbours are together in one of them."""


def rank_by_gain(ranged: bytes, photos: Sequence[RGB]) -> list[list[str]]:
    """Windows of operations, named by their output, of a float32 file with ranges: the one that helps most first.

    ``photos`` are uint8 ``[H, W, 3]``.
    """
    model = read_tflite(ranged)
    _end_before_softmax(model)
    (graph,) = model.subgraphs
    names = [graph.tensors[operator.outputs[0]].name.decode() for operator in graph.operators]
    logits, images = write_tflite(model), np.stack(photos)
    take_uint8(model)
    exact = _answers(write_tflite(model), images)
    starts = np.linspace(0, len(names), min(STEPS, len(names)) + 1).astype(int)
    windows = [names[start:end] for start, end in zip(starts, [*starts[2:], len(names)], strict=False)]
    with quiet_native_logs():
        errors = [float(((_answers(quantise(logits, one), images) - exact) ** 2).mean()) for one in windows]
    return [windows[place] for place in np.argsort(errors, kind="stable")]


def _end_before_softmax(model: Any) -> None:
    """Make the logits the output: where the model is sure, as of photos that it learnt from, probabilities hide all."""
    (graph,) = model.subgraphs
    last = graph.operators[-1]
    if model.operatorCodes[last.opcodeIndex].builtinCode == BuiltinOperator.SOFTMAX:
        graph.operators.pop()
        graph.outputs = [last.inputs[0]]
    model.signatureDefs = []


def _answers(content: bytes, photos: NDArray[np.uint8]) -> NDArray[np.float32]:
    with tempfile.NamedTemporaryFile(suffix=".tflite") as file:
        file.write(content)
        file.flush()
        return TFLiteClassifier(Path(file.name)).predict_batch(photos)
