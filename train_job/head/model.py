"""The classifier: a frozen base, GlobalAveragePooling2D, Dense relu, Dense softmax, normalisation inside.

It is kept as two halves that meet in one row of numbers a photo, so that the base runs once a photo and the head trains
on rows; :attr:`Classifier.model` is both as one Keras model on uint8 photos.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import keras
from keras import layers

from transferlite.images.input_spec import InputSpec


@dataclass(frozen=True)
class Classifier:
    """
    Attributes:
        labels: the class names, in the order of the outputs.
        input: the photo's size.
        features: a Keras model from float RGB 0 to 255 ``[N, H, W, 3]`` to rows ``[N, D]``.
        head: a Keras model from rows ``[N, D]`` to probabilities ``[N, len(labels)]``.
    """

    labels: tuple[str, ...]
    input: InputSpec
    features: Any
    head: Any

    @cached_property
    def model(self) -> Any:
        """The whole as a Keras model: uint8 RGB ``[N, H, W, 3]`` -> probabilities ``[N, len(labels)]``."""
        image = keras.Input((self.input.height, self.input.width, 3), dtype="uint8", name="image")
        rows = self.features(keras.ops.cast(image, "float32"), training=False)
        return keras.Model(image, self.head(rows), name="classifier")

    @cached_property
    def maps(self) -> Any:
        """The base's last activation maps, before the pool: float RGB ``[N, H, W, 3]`` -> ``[N, h, w, D]``."""
        return keras.Model(self.features.input, self.features.get_layer("pool").input, name="maps")


def head_model(width: int, hidden_units: int, classes: int) -> Any:
    """The head on rows ``[N, width]``: Dense ``hidden_units`` relu, Dense ``classes`` softmax; random weights."""
    return keras.Sequential(
        [
            keras.Input((width,), name="row"),
            layers.Dense(hidden_units, activation="relu", name="hidden"),
            layers.Dense(classes, activation="softmax", name="probabilities"),
        ],
        name="head",
    )
