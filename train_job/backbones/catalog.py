"""Table of the backbones one can choose, without Keras; :mod:`train_job.backbones.build` builds them."""

from dataclasses import dataclass
from enum import Enum


class InputScaling(Enum):
    """How a backbone expects pixels from 0 to 255 to be scaled."""

    INSIDE = "the network scales them itself"
    LITE = "(x - 127) / 128"
    TF = "x / 127.5 - 1"
    CAFFE = "BGR order, minus ImageNet's means"


@dataclass(frozen=True)
class Backbone:
    """A backbone's entry in the table.

    Attributes:
        name: value of ``--backbone``.
        application: class in ``keras.applications``; None for an EfficientNet-Lite of this package.
        size: default side of the input in pixels.
        width: length of a feature row.
        normalisation: scaling of the input.
        alpha: factor on the channels of a MobileNet; None for other networks.
        licence: SPDX identifier of the licence of the ImageNet weights, as their authors state it.
    """

    name: str
    application: str | None
    size: int
    width: int
    normalisation: InputScaling
    alpha: float | None = None
    licence: str = "Apache-2.0"

    @property
    def arguments(self) -> dict[str, float]:
        """Arguments of ``application`` besides the usual ones."""
        return {} if self.alpha is None else {"alpha": self.alpha}


BACKBONES = {
    backbone.name: backbone
    for backbone in (
        Backbone("efficientnet_lite0", None, 224, 1280, InputScaling.LITE),
        Backbone("efficientnet_lite1", None, 240, 1280, InputScaling.LITE),
        Backbone("efficientnet_lite2", None, 260, 1280, InputScaling.LITE),
        Backbone("mobilenet_v1_025", "MobileNet", 128, 256, InputScaling.TF, alpha=0.25),
        Backbone("mobilenet_v2_035", "MobileNetV2", 128, 1280, InputScaling.TF, alpha=0.35),
        Backbone("inception_v3", "InceptionV3", 299, 2048, InputScaling.TF, licence="MIT"),
        Backbone("mobilenet_v2", "MobileNetV2", 224, 1280, InputScaling.TF),
        Backbone("mobilenet_v3_small", "MobileNetV3Small", 224, 576, InputScaling.INSIDE),
        Backbone("mobilenet_v3_large", "MobileNetV3Large", 224, 960, InputScaling.INSIDE),
        Backbone("efficientnet_v2_b0", "EfficientNetV2B0", 224, 1280, InputScaling.INSIDE),
        Backbone("efficientnet_v2_s", "EfficientNetV2S", 384, 1280, InputScaling.INSIDE),
        Backbone("convnext_tiny", "ConvNeXtTiny", 224, 768, InputScaling.INSIDE, licence="MIT"),
        Backbone("resnet50", "ResNet50", 224, 2048, InputScaling.CAFFE, licence="MIT"),
    )
}


def has_packaged_weights(backbone: Backbone, weights: str) -> bool:
    """Whether ``--weights`` selects weights from an installed package, which are read without Keras."""
    return backbone.application is None and weights in {"default", "imagenet"}
