"""Smaller weights in a float32 file: ``float16`` halves them, ``dynamic`` makes int8 of them.

Both change nothing but constants, so that one conversion serves all variants, and come to the numbers that TensorFlow's
converter does. Unlike it, ``dynamic`` leaves depthwise convolutions in float32: they have few weights, and the kernels
for int8 ones are so slow that a MobileNet takes twice as long as its float32 file, not two thirds.
Source: https://ai.google.dev/edge/litert/conversion/tensorflow/quantization/post_training_quantization
"""

from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from export.tflite.tflite_file import constant, operator_code, set_constant

FEWEST_WEIGHTS = 1024
"""A tensor of fewer stays as it is, for it would save nothing: the converter's own limit for int8."""

_INT8_KERNELS = {"CONV_2D": (5, 0), "FULLY_CONNECTED": (9, None)}
"""The version of an operation that takes int8 weights, and the dimension along which each slice has its own scale.

A dense layer's weights have one scale together: one for each row is version 12, which tflite-runtime 2.14 has not.
"""


def halve_weights(model: Any) -> None:
    """Keep the weights of a float32 model as float16; the runtime widens them, most often once as it loads them."""
    (graph,) = model.subgraphs
    model.operatorCodes.append(operator_code("DEQUANTIZE", 3))
    code, widened = len(model.operatorCodes) - 1, {}
    for number, tensor in enumerate(list(graph.tensors)):
        values = constant(model, tensor)
        if values is None or values.size < FEWEST_WEIGHTS or np.abs(values).max() > np.finfo(np.float16).max:
            continue
        wide = schema.TensorT(shape=tensor.shape, type=schema.TensorType.FLOAT32, buffer=0, name=tensor.name)
        wide.quantization = schema.QuantizationParametersT()
        graph.tensors.append(wide)
        widened[number] = len(graph.tensors) - 1
        set_constant(model, tensor, values.astype(np.float16), schema.TensorType.FLOAT16)
    for operator in graph.operators:
        operator.inputs = [widened.get(int(number), int(number)) for number in operator.inputs]
    steps = [schema.OperatorT(opcodeIndex=code, inputs=[narrow], outputs=[wide]) for narrow, wide in widened.items()]
    graph.operators[:0] = steps


def quantise_weights(model: Any) -> None:
    """Make int8 of the weights of convolutions and dense layers of a float32 model, which stays float32 otherwise.

    The runtime quantises what meets them as it runs (dynamic range).
    """
    (graph,) = model.subgraphs
    kinds = {getattr(schema.BuiltinOperator, name): name for name in _INT8_KERNELS}
    names = {number: kinds.get(code.builtinCode) for number, code in enumerate(model.operatorCodes)}
    codes: dict[str, int] = {}
    for operator in graph.operators:
        name = names.get(operator.opcodeIndex)
        if name is None:
            continue
        weights = graph.tensors[operator.inputs[1]]
        values = constant(model, weights)
        if values is None or values.size < FEWEST_WEIGHTS:
            continue
        version, dimension = _INT8_KERNELS[name]
        scale, whole = _whole_numbers(values, dimension)
        set_constant(model, weights, whole, schema.TensorType.INT8)
        zero = np.zeros(len(scale), np.int64)
        weights.quantization = schema.QuantizationParametersT(scale=scale, zeroPoint=zero)
        weights.quantization.quantizedDimension = dimension or 0
        if name not in codes:
            model.operatorCodes.append(operator_code(name, version))
            codes[name] = len(model.operatorCodes) - 1
        operator.opcodeIndex = codes[name]
        if name == "FULLY_CONNECTED":
            operator.builtinOptions.asymmetricQuantizeInputs = True


def _whole_numbers(values: NDArray[np.float32], dimension: int | None) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
    """Scales, one for each slice along ``dimension`` (or for all), and the values in them, -127 to 127."""
    others = None if dimension is None else tuple(axis for axis in range(values.ndim) if axis != dimension)
    most = np.abs(values).max(axis=others, keepdims=True)
    scale = np.where(most > 0, most, np.float32(1)) / np.float32(127)
    whole = np.clip(np.rint(values / scale), -127, 127).astype(np.int8)
    return np.asarray(scale.reshape(-1), np.float32), whole
