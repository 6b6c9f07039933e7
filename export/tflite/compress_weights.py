"""Compress the weights of a float32 TFLite file: as float16 (variant ``float16``) or as int8 (variant ``dynamic``).

Both change constants only, so that one conversion serves all variants, and give the same numbers as TensorFlow's
converter. There is one difference: ``dynamic`` keeps depthwise convolutions in float32. They have few weights, and with
int8 kernels a MobileNet takes twice as long as its float32 file instead of two thirds.
Source: https://ai.google.dev/edge/litert/conversion/tensorflow/quantization/post_training_quantization
"""

from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from export.tflite.tflite_file import constant, operator_code, set_constant

MIN_WEIGHTS = 1024
"""Smaller tensors stay in float32: compressing them saves nothing. The converter has the same limit for int8."""

_INT8_KERNELS = {"CONV_2D": (5, 0), "FULLY_CONNECTED": (9, None)}
"""Operator version that takes int8 weights, and the dimension whose slices have a scale each.

A dense layer has a single scale: a scale per row needs version 12, which tflite-runtime 2.14 does not have.
"""


def store_weights_as_float16(model: Any) -> None:
    """Store the weights of a float32 model as float16; runtimes usually convert them to float32 when loading."""
    (graph,) = model.subgraphs
    model.operatorCodes.append(operator_code("DEQUANTIZE", 3))
    code, float32_tensors = len(model.operatorCodes) - 1, {}
    for index, tensor in enumerate(list(graph.tensors)):
        values = constant(model, tensor)
        if values is None or values.size < MIN_WEIGHTS or np.abs(values).max() > np.finfo(np.float16).max:
            continue
        wide = schema.TensorT(shape=tensor.shape, type=schema.TensorType.FLOAT32, buffer=0, name=tensor.name)
        wide.quantization = schema.QuantizationParametersT()
        graph.tensors.append(wide)
        float32_tensors[index] = len(graph.tensors) - 1
        set_constant(model, tensor, values.astype(np.float16), schema.TensorType.FLOAT16)
    for operator in graph.operators:
        operator.inputs = [float32_tensors.get(int(index), int(index)) for index in operator.inputs]
    graph.operators[:0] = [
        schema.OperatorT(opcodeIndex=code, inputs=[half], outputs=[full]) for half, full in float32_tensors.items()
    ]


def store_weights_as_int8(model: Any) -> None:
    """Store the weights of convolutions and dense layers as int8 (dynamic range quantisation).

    Everything else stays float32; the runtime quantises the inputs of these layers while it runs.
    """
    (graph,) = model.subgraphs
    kernels = {getattr(schema.BuiltinOperator, name): name for name in _INT8_KERNELS}
    names = {index: kernels.get(code.builtinCode) for index, code in enumerate(model.operatorCodes)}
    codes: dict[str, int] = {}
    for operator in graph.operators:
        name = names.get(operator.opcodeIndex)
        if name is None:
            continue
        weights = graph.tensors[operator.inputs[1]]
        values = constant(model, weights)
        if values is None or values.size < MIN_WEIGHTS:
            continue
        version, dimension = _INT8_KERNELS[name]
        scale, quantised = _quantise(values, dimension)
        set_constant(model, weights, quantised, schema.TensorType.INT8)
        zero = np.zeros(len(scale), np.int64)
        weights.quantization = schema.QuantizationParametersT(scale=scale, zeroPoint=zero)
        weights.quantization.quantizedDimension = dimension or 0
        if name not in codes:
            model.operatorCodes.append(operator_code(name, version))
            codes[name] = len(model.operatorCodes) - 1
        operator.opcodeIndex = codes[name]
        if name == "FULLY_CONNECTED":
            operator.builtinOptions.asymmetricQuantizeInputs = True


def _quantise(values: NDArray[np.float32], dimension: int | None) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
    """Quantise to -127 to 127, with a scale per slice along ``dimension`` or a single scale; returns both."""
    others = None if dimension is None else tuple(axis for axis in range(values.ndim) if axis != dimension)
    largest = np.abs(values).max(axis=others, keepdims=True)
    scale = np.where(largest > 0, largest, np.float32(1)) / np.float32(127)
    quantised = np.clip(np.rint(values / scale), -127, 127).astype(np.int8)
    return np.asarray(scale.reshape(-1), np.float32), quantised
