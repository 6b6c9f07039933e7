"""Which operations lose most as integers: those that a selective int8 file keeps in float32.

TensorFlow's quantiser puts a check behind each quantised operation, which computes it from the same inputs in float32
too and gives the difference. It counts in steps of the operation's output: rounding alone makes 0.29 of a step (the
standard deviation of a uniform error), and what is far above has lost something.
Source: https://ai.google.dev/edge/litert/conversion/tensorflow/quantization/quantization_debugger
"""

import re
import warnings
from collections.abc import Iterable
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow.lite.python.convert import mlir_quantize

from export.flat_file import read, write
from export.quiet import quiet_native_logs
from runtime.imaging import RGB

_CHECK = "NumericVerify"
_NUMBERED = re.compile(r"operation(\d+)_")


def by_loss(ranged: bytes, photos: Iterable[RGB]) -> list[str]:
    """The operations of a float32 file with ranges, named by their output, the one that loses most first.

    ``photos`` are uint8 ``[H, W, 3]``; the loss is the root mean square over all of them.
    """
    model = read(ranged)
    (graph,) = model.subgraphs
    outputs = [graph.tensors[operator.outputs[0]] for operator in graph.operators]
    names = [output.name.decode() for output in outputs]
    for number, output in enumerate(outputs):
        output.name = f"operation{number}_"  # names that are found again, whatever is added to them
    with quiet_native_logs(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TensorFlow's own interpreter has the check; it is said to go some day
        checked = tf.lite.Interpreter(model_content=mlir_quantize(write(model), enable_numeric_verify=True))
        checked.allocate_tensors()
        squares = np.stack([_squares(checked, photo) for photo in photos]).mean(axis=0)
    losses: dict[int, float] = {}
    for (number, _, _), square in zip(_checks(checked), squares, strict=True):
        losses[number] = max(losses.get(number, 0.0), float(square))
    return [names[number] for number in sorted(losses, key=lambda one: -losses[one])]


def _checks(checked: Any) -> list[tuple[int, int, float]]:
    """Of each check, the number of the operation behind which it stands, its output, and the operation's step."""
    tensors = {one["index"]: one for one in checked.get_tensor_details()}
    found = []
    for operator in checked._get_ops_details():
        if operator["op_name"] == _CHECK:
            quantised = tensors[operator["inputs"][0]]
            if numbered := _NUMBERED.search(quantised["name"]):
                found.append((int(numbered[1]), int(operator["outputs"][0]), float(quantised["quantization"][0])))
    return found


def _squares(checked: Any, photo: RGB) -> NDArray[np.float64]:
    """The mean square of each check's differences on one photo, in steps."""
    checked.set_tensor(checked.get_input_details()[0]["index"], photo[None].astype(np.float32))
    checked.invoke()
    differences = [(checked.get_tensor(output).astype(np.float64), step) for _, output, step in _checks(checked)]
    return np.array([((values / step) ** 2).mean() for values, step in differences])
