"""Append operations to a TFLite file: the building blocks of translated layers and of directly written networks."""

from collections.abc import Sequence

import numpy as np
from ai_edge_litert.schema_py_generated import Padding
from numpy.typing import NDArray

from export.tflite.tflite_writer import TFLiteWriter

Array = NDArray[np.float32]


def reshape(writer: TFLiteWriter, tensor: int, shape: list[int]) -> int:
    """Append a reshape of the tensor."""
    target = writer.constant(np.array(shape, np.int32))
    return writer.operation("RESHAPE", [tensor, target], shape, "ReshapeOptions", newShape=shape)


def convolve(
    writer: TFLiteWriter,
    tensor: int,
    kernel: Array,
    bias: Array,
    shape: Sequence[int],
    activation: int,
    strides: tuple[int, int],
    padding: str = "same",
    dilation: tuple[int, int] = (1, 1),
    depth_multiplier: int = 0,
) -> int:
    """Append a convolution with ``kernel`` ``[O, kh, kw, I]``.

    With ``depth_multiplier`` it is a depthwise convolution with ``kernel`` ``[1, kh, kw, C * depth_multiplier]``.
    """
    extra = {"depthMultiplier": depth_multiplier} if depth_multiplier else {}
    return writer.operation(
        "DEPTHWISE_CONV_2D" if depth_multiplier else "CONV_2D",
        [tensor, writer.constant(kernel), writer.constant(bias)],
        shape,
        "DepthwiseConv2DOptions" if depth_multiplier else "Conv2DOptions",
        fusedActivationFunction=activation,
        **window(padding, strides),
        dilationHFactor=dilation[0],
        dilationWFactor=dilation[1],
        **extra,
    )


def dense(writer: TFLiteWriter, tensor: int, kernel: Array, bias: Array, activation: int) -> int:
    """Append a dense layer with ``kernel`` ``[O, I]`` on a row ``[1, I]``."""
    inputs = [tensor, writer.constant(kernel), writer.constant(bias)]
    shape = [*writer.shape(tensor)[:-1], len(bias)]
    options = "FullyConnectedOptions"
    return writer.operation("FULLY_CONNECTED", inputs, shape, options, fusedActivationFunction=activation)


def window(padding: str, strides: tuple[int, int]) -> dict[str, int]:
    """Fields for padding and strides that convolutions and pools share."""
    code = {"same": Padding.SAME, "valid": Padding.VALID}[padding]
    return {"padding": code, "strideH": strides[0], "strideW": strides[1]}


def multiply_add(writer: TFLiteWriter, tensor: int, scale: Array, shift: Array, activation: int = 0) -> int:
    """Append ``tensor * scale + shift``; both are a scalar ``[1]`` or per channel ``[C]``."""
    product = binary(writer, "MUL", [tensor, writer.constant(scale)])
    return binary(writer, "ADD", [product, writer.constant(shift)], activation)


def binary(writer: TFLiteWriter, code: str, inputs: Sequence[int], activation: int = 0) -> int:
    """Append ``ADD``, ``SUB`` or ``MUL`` of two tensors with broadcasting."""
    shape = np.broadcast_shapes(*(tuple(writer.shape(tensor)) for tensor in inputs))
    return writer.operation(code, inputs, shape, f"{code.title()}Options", fusedActivationFunction=activation)


def add(writer: TFLiteWriter, tensors: Sequence[int]) -> int:
    """Append the sum of two tensors."""
    return binary(writer, "ADD", tensors)


def global_average(writer: TFLiteWriter, tensor: int, keepdims: bool = False) -> int:
    """Append the mean of each channel of ``[1, h, w, C]``, as ``[1, C]`` or with ``keepdims`` as ``[1, 1, 1, C]``."""
    channels = writer.shape(tensor)[-1]
    return _mean(writer, tensor, [1, 2], [1, 1, 1, channels] if keepdims else [1, channels])


def _mean(writer: TFLiteWriter, tensor: int, axes: list[int], shape: list[int]) -> int:
    """Append the mean over ``axes``; they stay, with length 1, if ``shape`` has as many axes as the tensor."""
    keepdims = len(shape) == len(writer.shape(tensor))
    return writer.operation(
        "MEAN", [tensor, writer.constant(np.array(axes, np.int32))], shape, "ReducerOptions", keepDims=keepdims
    )


def layer_norm(writer: TFLiteWriter, tensor: int, scale: Array, shift: Array, epsilon: float) -> int:
    """Append LayerNormalization over the last axis; ``scale`` and ``shift`` are ``[C]``."""
    shape = writer.shape(tensor)
    centred = binary(writer, "SUB", [tensor, _mean(writer, tensor, [len(shape) - 1], [*shape[:-1], 1])])
    squares = binary(writer, "MUL", [centred, centred])
    variance = _mean(writer, squares, [len(shape) - 1], [*shape[:-1], 1])
    shifted = binary(writer, "ADD", [variance, writer.constant(np.array([epsilon], np.float32))])
    factor = writer.operation("RSQRT", [shifted], writer.shape(shifted))
    return multiply_add(writer, binary(writer, "MUL", [centred, factor]), scale, shift)
