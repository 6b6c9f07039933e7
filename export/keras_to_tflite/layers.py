"""Translate each Keras layer that backbones use into TFLite operations; :data:`LAYERS` maps layer class to function.

A function takes the writer, the layer, its inputs (tensors of the file, numbers, or a list of them), the activation to
fuse, and the scale and shift of a BatchNormalization to fold in. It returns the output tensor.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from ai_edge_litert.schema_py_generated import ActivationFunctionType

from export.keras_to_tflite.operations import (
    Array,
    binary,
    convolve,
    dense,
    global_average,
    layer_norm,
    multiply_add,
    reshape,
    window,
)
from export.tflite.tflite_writer import TFLiteWriter

_FUSED = {"relu": int(ActivationFunctionType.RELU), "relu6": int(ActivationFunctionType.RELU6)}
"""Activations that an operation applies to its own output, by their name in Keras."""


class UnsupportedLayerError(Exception):
    """A layer, or the way the graph uses it, has no translation."""


def with_batch_of_one(shape: Sequence[int | None]) -> list[int]:
    """A Keras shape with its batch dimension set to 1."""
    if any(side is None for side in shape[1:]):
        raise UnsupportedLayerError(f"a shape of {list(shape)}")
    return [1, *(int(side) for side in shape[1:] if side is not None)]


def fusible_activation(layer: Any) -> int | None:
    """The code of a ReLU layer that an operation can apply to its own output; None for any other layer."""
    kind = type(layer).__name__
    if kind == "Activation" and layer.activation.__name__ == "relu":
        return int(ActivationFunctionType.RELU)
    if kind == "ReLU" and not layer.negative_slope and not layer.threshold:
        return {None: ActivationFunctionType.RELU, 6.0: ActivationFunctionType.RELU6}.get(layer.max_value)
    return None


def layer_scale_shift(layer: Any) -> tuple[Array, Array]:
    """Scale and shift per channel, each ``[C]``, that a BatchNormalization layer applies in inference mode."""
    gamma = np.array(layer.gamma) if layer.scale else None
    beta = np.array(layer.beta) if layer.center else None
    mean, variance = np.array(layer.moving_mean), np.array(layer.moving_variance)
    return batch_norm_scale_shift(mean, variance, layer.epsilon, gamma, beta)


def batch_norm_scale_shift(
    mean: Array, variance: Array, epsilon: float, gamma: Array | None, beta: Array | None
) -> tuple[Array, Array]:
    """Scale and shift per channel of a BatchNormalization with these statistics, all ``[C]``."""
    scale = 1 / np.sqrt(variance + epsilon)
    if gamma is not None:
        scale = scale * gamma
    shift = -mean * scale
    return scale, shift + beta if beta is not None else shift


def _conv(writer: TFLiteWriter, layer: Any, inputs: list[int], activation: int, fold: Any) -> int:
    kernel = np.array(layer.kernel)
    if layer.groups > 1 and kernel.shape[2] == 1:  # a group per channel: [kh, kw, 1, C * M] -> [1, kh, kw, C * M]
        multiplier = layer.filters // layer.groups
        return _convolution(
            writer, layer, inputs, activation, fold, kernel.transpose(2, 0, 1, 3), channel_axis=3, multiplier=multiplier
        )
    if layer.groups > 1:
        raise UnsupportedLayerError(f"{layer.name}: {layer.groups} groups of several channels")
    kernel = kernel.transpose(3, 0, 1, 2)  # [kh, kw, I, O] -> [O, kh, kw, I]
    return _convolution(writer, layer, inputs, activation, fold, kernel, channel_axis=0)


def _depthwise(writer: TFLiteWriter, layer: Any, inputs: list[int], activation: int, fold: Any) -> int:
    kernel = np.array(layer.kernel)
    kernel = kernel.reshape(1, *kernel.shape[:2], -1)  # [kh, kw, C, M] -> [1, kh, kw, C * M]
    return _convolution(
        writer, layer, inputs, activation, fold, kernel, channel_axis=3, multiplier=layer.depth_multiplier
    )


def _convolution(
    writer: TFLiteWriter,
    layer: Any,
    inputs: list[int],
    activation: int,
    fold: tuple[Array, Array] | None,
    kernel: Array,
    channel_axis: int,
    multiplier: int = 0,
) -> int:
    """Append a convolution layer; output channels lie along ``channel_axis`` of ``kernel``.

    With ``multiplier`` it is a depthwise convolution with that many outputs per channel.
    """
    own_activation = layer.activation.__name__
    if own_activation != "linear" and (fold or activation):
        raise UnsupportedLayerError(f"{layer.name}: an activation before the next layer")
    if own_activation in _FUSED:
        activation, own_activation = _FUSED[own_activation], "linear"
    bias = np.array(layer.bias) if layer.use_bias else np.zeros(kernel.shape[channel_axis], np.float32)
    if fold is not None:
        scale, shift = fold
        by_channel = [-1 if axis == channel_axis else 1 for axis in range(4)]
        kernel, bias = kernel * scale.reshape(by_channel), bias * scale + shift
    shape = with_batch_of_one(layer.output.shape)
    output = convolve(
        writer,
        inputs[0],
        kernel,
        bias,
        shape,
        activation,
        layer.strides,
        layer.padding,
        layer.dilation_rate,
        multiplier,
    )
    return _activate(writer, output, own_activation)


def _dense(writer: TFLiteWriter, layer: Any, inputs: list[int], _activation: int, _fold: Any) -> int:
    """Append a Dense layer: a 1x1 convolution on a map ``[1, h, w, I]``, a dense operation on a row ``[1, I]``."""
    kernel = np.array(layer.kernel).T  # [I, O] -> [O, I]
    bias = np.array(layer.bias) if layer.use_bias else np.zeros(len(kernel), np.float32)
    shape, activation = with_batch_of_one(layer.output.shape), layer.activation.__name__
    if len(shape) == 2:
        output = dense(writer, inputs[0], kernel, bias, _FUSED.get(activation, int(ActivationFunctionType.NONE)))
        return output if activation in _FUSED else _activate(writer, output, activation)
    if len(shape) != 4:
        raise UnsupportedLayerError(f"{layer.name}: Dense on a shape of {shape}")
    output = convolve(writer, inputs[0], kernel[:, None, None], bias, shape, ActivationFunctionType.NONE, (1, 1))
    return _activate(writer, output, activation)


def _batch_norm(writer: TFLiteWriter, layer: Any, inputs: list[int], activation: int, _fold: Any) -> int:
    scale, shift = layer_scale_shift(layer)
    return multiply_add(writer, inputs[0], scale, shift, activation)


def _elementwise(code: str) -> Callable[..., int]:
    """A function for ``Add`` or ``Multiply``, on a list of two tensors or on a tensor and a number."""

    def append(writer: TFLiteWriter, _layer: Any, inputs: list[Any], activation: int, _fold: Any) -> int:
        values = inputs[0] if isinstance(inputs[0], list) else inputs
        if len(values) != 2:
            raise UnsupportedLayerError(f"{code} of {len(values)} tensors")
        tensors = [
            value if isinstance(value, int) else writer.constant(np.array([value], np.float32)) for value in values
        ]
        return binary(writer, code, tensors, activation)

    return append


def _activation(writer: TFLiteWriter, layer: Any, inputs: list[int], _activation: int, _fold: Any) -> int:
    relu = fusible_activation(layer)
    if relu is not None:
        code = "RELU" if relu == ActivationFunctionType.RELU else "RELU6"
        return writer.operation(code, inputs, writer.shape(inputs[0]))
    name = getattr(getattr(layer, "activation", None), "__name__", type(layer).__name__)
    return _activate(writer, inputs[0], name)


def _activate(writer: TFLiteWriter, tensor: int, name: str) -> int:
    """Append an activation, by its name in Keras, as an operation of its own."""
    shape = writer.shape(tensor)
    if name == "linear":
        return tensor
    if name == "softmax":
        return writer.operation("SOFTMAX", [tensor], shape, "SoftmaxOptions", beta=1.0)
    if name == "gelu":
        return writer.operation("GELU", [tensor], shape, "GeluOptions", approximate=False)
    if name == "hard_silu":
        return writer.operation("HARD_SWISH", [tensor], shape, "HardSwishOptions")
    if name in {"silu", "sigmoid"}:
        gate = writer.operation("LOGISTIC", [tensor], shape)
        return gate if name == "sigmoid" else binary(writer, "MUL", [tensor, gate])
    raise UnsupportedLayerError(f"activation {name}")


def _pool(code: str) -> Callable[..., int]:
    def append(writer: TFLiteWriter, layer: Any, inputs: list[int], _activation: int, _fold: Any) -> int:
        height, width = layer.pool_size
        shape = with_batch_of_one(layer.output.shape)
        return writer.operation(
            code,
            inputs,
            shape,
            "Pool2DOptions",
            filterHeight=height,
            filterWidth=width,
            **window(layer.padding, layer.strides),
        )

    return append


def _global_average(writer: TFLiteWriter, layer: Any, inputs: list[int], _activation: int, _fold: Any) -> int:
    return global_average(writer, inputs[0], layer.keepdims)


def _concatenate(writer: TFLiteWriter, layer: Any, inputs: list[Any], _activation: int, _fold: Any) -> int:
    shape = with_batch_of_one(layer.output.shape)
    axis = layer.axis % len(shape)
    return writer.operation("CONCATENATION", inputs[0], shape, "ConcatenationOptions", axis=axis)


def _zero_padding(writer: TFLiteWriter, layer: Any, inputs: list[int], _activation: int, _fold: Any) -> int:
    paddings = writer.constant(np.array([(0, 0), *layer.padding, (0, 0)], np.int32))
    return writer.operation("PAD", [inputs[0], paddings], with_batch_of_one(layer.output.shape), "PadOptions")


def _rescaling(writer: TFLiteWriter, layer: Any, inputs: list[int], _activation: int, _fold: Any) -> int:
    scale, offset = np.array([layer.scale], np.float32), np.array([layer.offset], np.float32)
    return multiply_add(writer, inputs[0], scale.reshape(-1), offset.reshape(-1))


def _normalization(writer: TFLiteWriter, layer: Any, inputs: list[int], _activation: int, _fold: Any) -> int:
    mean, variance = np.array(layer.mean).reshape(-1), np.array(layer.variance).reshape(-1)
    scale = 1 / np.maximum(np.sqrt(variance), 1e-7)
    return multiply_add(writer, inputs[0], scale, -mean * scale)


def _layer_norm(writer: TFLiteWriter, layer: Any, inputs: list[int], _activation: int, _fold: Any) -> int:
    axes = [layer.axis] if isinstance(layer.axis, int) else list(layer.axis)
    if axes not in ([-1], [len(layer.output.shape) - 1]):
        raise UnsupportedLayerError(f"{layer.name}: LayerNormalization over axes {axes}")
    channels = layer.output.shape[-1]
    scale = np.array(layer.gamma) if layer.scale else np.ones(channels, np.float32)
    shift = np.array(layer.beta) if layer.center else np.zeros(channels, np.float32)
    return layer_norm(writer, inputs[0], scale, shift, layer.epsilon)


def _layer_scale(writer: TFLiteWriter, layer: Any, inputs: list[int], _activation: int, _fold: Any) -> int:
    return binary(writer, "MUL", [inputs[0], writer.constant(np.array(layer.gamma))])


def _reshape_layer(writer: TFLiteWriter, layer: Any, inputs: list[int], _activation: int, _fold: Any) -> int:
    return reshape(writer, inputs[0], with_batch_of_one(layer.output.shape))


def _identity(_flat: TFLiteWriter, _layer: Any, inputs: list[int], _activation: int, _fold: Any) -> int:
    return inputs[0]


LAYERS: dict[str, Callable[..., int]] = {
    "Activation": _activation,
    "Add": _elementwise("ADD"),
    "AveragePooling2D": _pool("AVERAGE_POOL_2D"),
    "BatchNormalization": _batch_norm,
    "Concatenate": _concatenate,
    "Conv2D": _conv,
    "Dense": _dense,
    "DepthwiseConv2D": _depthwise,
    "Dropout": _identity,
    "Flatten": _reshape_layer,
    "GlobalAveragePooling2D": _global_average,
    "LayerNormalization": _layer_norm,
    "LayerScale": _layer_scale,
    "MaxPooling2D": _pool("MAX_POOL_2D"),
    "Multiply": _elementwise("MUL"),
    "Normalization": _normalization,
    "ReLU": _activation,
    "Rescaling": _rescaling,
    "Reshape": _reshape_layer,
    "StochasticDepth": _identity,
    "ZeroPadding2D": _zero_padding,
}
