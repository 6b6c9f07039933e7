"""Each Keras layer that bases are made of, as operations of a TFLite file: a table from layer to function.

A function takes the file under construction, the layer, its inputs (tensors of the file, numbers, or a list), the
activation to fuse, and what BatchNormalization to fold in; it returns the output tensor.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from ai_edge_litert.schema_py_generated import ActivationFunctionType, Padding
from numpy.typing import NDArray

from train_job.backbones.litert.tflite_writer import TFLiteWriter

Array = NDArray[np.float32]


class UnknownLayerError(Exception):
    """The graph has a layer, or a use of one, that is not translated."""


def with_batch_of_one(shape: Sequence[int | None]) -> list[int]:
    """A Keras shape with a batch of one."""
    if any(side is None for side in shape[1:]):
        raise UnknownLayerError(f"a shape of {list(shape)}")
    return [1, *(int(side) for side in shape[1:] if side is not None)]


def reshape(flat: TFLiteWriter, tensor: int, shape: list[int]) -> int:
    """The tensor in another shape of as many values."""
    to = flat.constant(np.array(shape, np.int32))
    return flat.operation("RESHAPE", [tensor, to], shape, "ReshapeOptions", newShape=shape)


def fused(layer: Any) -> int | None:
    """The activation of a ReLU layer as operations take it in; None for any other layer."""
    kind = type(layer).__name__
    if kind == "Activation" and layer.activation.__name__ == "relu":
        return int(ActivationFunctionType.RELU)
    if kind == "ReLU" and not layer.negative_slope and not layer.threshold:
        return {None: ActivationFunctionType.RELU, 6.0: ActivationFunctionType.RELU6}.get(layer.max_value)
    return None


def scale_and_shift(layer: Any) -> tuple[Array, Array]:
    """What BatchNormalization in inference mode does to its input: a factor and an addend by channel ``[C]``."""
    gamma = np.array(layer.gamma) if layer.scale else None
    beta = np.array(layer.beta) if layer.center else None
    return folded(np.array(layer.moving_mean), np.array(layer.moving_variance), layer.epsilon, gamma, beta)


def folded(
    mean: Array, variance: Array, epsilon: float, gamma: Array | None, beta: Array | None
) -> tuple[Array, Array]:
    """The same of BatchNormalization's numbers, each ``[C]``."""
    scale = 1 / np.sqrt(variance + epsilon)
    if gamma is not None:
        scale = scale * gamma
    shift = -mean * scale
    return scale, shift + beta if beta is not None else shift


def _conv(flat: TFLiteWriter, layer: Any, inputs: list[int], activation: int, fold: Any) -> int:
    kernel = np.transpose(np.array(layer.kernel), (3, 0, 1, 2))  # [kh, kw, I, O] -> [O, kh, kw, I]
    return _convolved(flat, layer, inputs, activation, fold, kernel, (-1, 1, 1, 1))


def _depthwise(flat: TFLiteWriter, layer: Any, inputs: list[int], activation: int, fold: Any) -> int:
    kernel = np.array(layer.kernel)
    kernel = kernel.reshape(1, *kernel.shape[:2], -1)  # [kh, kw, C, M] -> [1, kh, kw, C * M]
    return _convolved(flat, layer, inputs, activation, fold, kernel, (1, 1, 1, -1), layer.depth_multiplier)


def _convolved(
    flat: TFLiteWriter,
    layer: Any,
    inputs: list[int],
    activation: int,
    fold: tuple[Array, Array] | None,
    kernel: Array,
    by_channel: tuple[int, ...],
    multiplier: int = 0,
) -> int:
    inside = layer.activation.__name__
    if getattr(layer, "groups", 1) != 1 or (inside != "linear" and (fold or activation)):
        raise UnknownLayerError(f"{layer.name}: groups, or an activation before the next layer")
    channels = int(np.prod(kernel.shape)) // kernel[..., :1].size if multiplier else kernel.shape[0]
    bias = np.array(layer.bias) if layer.use_bias else np.zeros(channels, np.float32)
    if fold is not None:
        scale, shift = fold
        kernel, bias = kernel * scale.reshape(by_channel), bias * scale + shift
    shape = with_batch_of_one(layer.output.shape)
    output = convolve(
        flat, inputs[0], kernel, bias, shape, activation, layer.strides, layer.padding, layer.dilation_rate, multiplier
    )
    return output if inside == "linear" else _activated(flat, output, inside)


def convolve(
    flat: TFLiteWriter,
    tensor: int,
    kernel: Array,
    bias: Array,
    shape: Sequence[int],
    activation: int,
    strides: tuple[int, int],
    padding: str = "same",
    dilation: tuple[int, int] = (1, 1),
    multiplier: int = 0,
) -> int:
    """A convolution of ``kernel`` ``[O, kh, kw, I]``, or of ``[1, kh, kw, C * multiplier]`` where it is depthwise."""
    extra = {"depthMultiplier": multiplier} if multiplier else {}
    return flat.operation(
        "DEPTHWISE_CONV_2D" if multiplier else "CONV_2D",
        [tensor, flat.constant(kernel), flat.constant(bias)],
        shape,
        "DepthwiseConv2DOptions" if multiplier else "Conv2DOptions",
        fusedActivationFunction=activation,
        **_window(padding, strides),
        dilationHFactor=dilation[0],
        dilationWFactor=dilation[1],
        **extra,
    )


def _window(padding: str, strides: tuple[int, int]) -> dict[str, int]:
    number = {"same": Padding.SAME, "valid": Padding.VALID}[padding]
    return {"padding": number, "strideH": strides[0], "strideW": strides[1]}


def _batch_norm(flat: TFLiteWriter, layer: Any, inputs: list[int], activation: int, _fold: Any) -> int:
    scale, shift = scale_and_shift(layer)
    return scaled(flat, inputs[0], scale, shift, activation)


def scaled(flat: TFLiteWriter, tensor: int, scale: Array, shift: Array, activation: int = 0) -> int:
    """The tensor times ``scale``, plus ``shift``, each a number or one a channel."""
    product = _binary(flat, "MUL", [tensor, flat.constant(scale)])
    return _binary(flat, "ADD", [product, flat.constant(shift)], activation)


def _binary(flat: TFLiteWriter, code: str, inputs: Sequence[int], activation: int = 0) -> int:
    """An addition or product with broadcasting."""
    shape = np.broadcast_shapes(*(tuple(flat.shape(tensor)) for tensor in inputs))
    return flat.operation(code, inputs, shape, f"{code.title()}Options", fusedActivationFunction=activation)


def add(flat: TFLiteWriter, tensors: Sequence[int]) -> int:
    """The sum of two tensors."""
    return _binary(flat, "ADD", tensors)


def _combined(code: str) -> Callable[..., int]:
    """``Add`` and ``Multiply``: the layers on a list of tensors, and the operations on a tensor and a number."""

    def append(flat: TFLiteWriter, _layer: Any, inputs: list[Any], activation: int, _fold: Any) -> int:
        values = inputs[0] if isinstance(inputs[0], list) else inputs
        if len(values) != 2:
            raise UnknownLayerError(f"{code} of {len(values)} tensors")
        numbers = [one if isinstance(one, int) else flat.constant(np.array([one], np.float32)) for one in values]
        return _binary(flat, code, numbers, activation)

    return append


def _activation(flat: TFLiteWriter, layer: Any, inputs: list[int], _activation: int, _fold: Any) -> int:
    relu = fused(layer)
    if relu is not None:
        code = "RELU" if relu == ActivationFunctionType.RELU else "RELU6"
        return flat.operation(code, inputs, flat.shape(inputs[0]))
    name = getattr(getattr(layer, "activation", None), "__name__", type(layer).__name__)
    return _activated(flat, inputs[0], name)


def _activated(flat: TFLiteWriter, tensor: int, name: str) -> int:
    """The activation that Keras calls ``name``, where it is an operation of its own."""
    shape = flat.shape(tensor)
    if name == "hard_silu":
        return flat.operation("HARD_SWISH", [tensor], shape, "HardSwishOptions")
    if name in {"silu", "sigmoid"}:
        gate = flat.operation("LOGISTIC", [tensor], shape)
        return gate if name == "sigmoid" else _binary(flat, "MUL", [tensor, gate])
    raise UnknownLayerError(f"activation {name}")


def _pool(code: str) -> Callable[..., int]:
    def append(flat: TFLiteWriter, layer: Any, inputs: list[int], _activation: int, _fold: Any) -> int:
        height, width = layer.pool_size
        shape = with_batch_of_one(layer.output.shape)
        window = _window(layer.padding, layer.strides)
        return flat.operation(code, inputs, shape, "Pool2DOptions", filterHeight=height, filterWidth=width, **window)

    return append


def _global_average(flat: TFLiteWriter, layer: Any, inputs: list[int], _activation: int, _fold: Any) -> int:
    return global_average(flat, inputs[0], layer.keepdims)


def global_average(flat: TFLiteWriter, tensor: int, keepdims: bool = False) -> int:
    """The mean of each channel of ``[1, h, w, C]``: ``[1, C]``, or ``[1, 1, 1, C]``."""
    axes = flat.constant(np.array([1, 2], np.int32))
    channels = flat.shape(tensor)[-1]
    shape = [1, 1, 1, channels] if keepdims else [1, channels]
    return flat.operation("MEAN", [tensor, axes], shape, "ReducerOptions", keepDims=keepdims)


def _concatenate(flat: TFLiteWriter, layer: Any, inputs: list[Any], _activation: int, _fold: Any) -> int:
    shape = with_batch_of_one(layer.output.shape)
    axis = layer.axis % len(shape)
    return flat.operation("CONCATENATION", inputs[0], shape, "ConcatenationOptions", axis=axis)


def _zero_padding(flat: TFLiteWriter, layer: Any, inputs: list[int], _activation: int, _fold: Any) -> int:
    pads = flat.constant(np.array([(0, 0), *layer.padding, (0, 0)], np.int32))
    return flat.operation("PAD", [inputs[0], pads], with_batch_of_one(layer.output.shape), "PadOptions")


def _rescaling(flat: TFLiteWriter, layer: Any, inputs: list[int], _activation: int, _fold: Any) -> int:
    scale, offset = np.array([layer.scale], np.float32), np.array([layer.offset], np.float32)
    return scaled(flat, inputs[0], scale.reshape(-1), offset.reshape(-1))


def _normalization(flat: TFLiteWriter, layer: Any, inputs: list[int], _activation: int, _fold: Any) -> int:
    mean, variance = np.array(layer.mean).reshape(-1), np.array(layer.variance).reshape(-1)
    scale = 1 / np.maximum(np.sqrt(variance), 1e-7)
    return scaled(flat, inputs[0], scale, -mean * scale)


def _reshaped(flat: TFLiteWriter, layer: Any, inputs: list[int], _activation: int, _fold: Any) -> int:
    return reshape(flat, inputs[0], with_batch_of_one(layer.output.shape))


def _unchanged(_flat: TFLiteWriter, _layer: Any, inputs: list[int], _activation: int, _fold: Any) -> int:
    return inputs[0]


LAYERS: dict[str, Callable[..., int]] = {
    "Activation": _activation,
    "Add": _combined("ADD"),
    "AveragePooling2D": _pool("AVERAGE_POOL_2D"),
    "BatchNormalization": _batch_norm,
    "Concatenate": _concatenate,
    "Conv2D": _conv,
    "DepthwiseConv2D": _depthwise,
    "Dropout": _unchanged,
    "GlobalAveragePooling2D": _global_average,
    "MaxPooling2D": _pool("MAX_POOL_2D"),
    "Multiply": _combined("MUL"),
    "Normalization": _normalization,
    "ReLU": _activation,
    "Rescaling": _rescaling,
    "Reshape": _reshaped,
    "ZeroPadding2D": _zero_padding,
}
