"""The frozen bases one can choose: a table, without Keras. ``bases.py`` builds them."""

from dataclasses import dataclass
from enum import Enum


class Normalisation(Enum):
    """What a base expects of pixels from 0 to 255."""

    INSIDE = "the network has its own"
    LITE = "(x - 127) / 128"
    TF = "x / 127.5 - 1"
    CAFFE = "BGR order, minus ImageNet's means"


@dataclass(frozen=True)
class Backbone:
    """A base: the class in ``keras.applications`` (None for our own), its input's side in pixels, its normalisation."""

    name: str
    application: str | None
    size: int
    normalisation: Normalisation


BACKBONES = {
    backbone.name: backbone
    for backbone in (
        Backbone("efficientnet_lite0", None, 224, Normalisation.LITE),
        Backbone("inception_v3", "InceptionV3", 299, Normalisation.TF),
        Backbone("mobilenet_v2", "MobileNetV2", 224, Normalisation.TF),
        Backbone("mobilenet_v3_small", "MobileNetV3Small", 224, Normalisation.INSIDE),
        Backbone("mobilenet_v3_large", "MobileNetV3Large", 224, Normalisation.INSIDE),
        Backbone("efficientnet_v2_b0", "EfficientNetV2B0", 224, Normalisation.INSIDE),
        Backbone("resnet50", "ResNet50", 224, Normalisation.CAFFE),
    )
}
