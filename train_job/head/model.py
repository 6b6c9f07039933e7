"""The classifier: normalisation, frozen backbone, GlobalAveragePooling2D, Dense relu, Dense softmax.

It is kept as a feature model and a head that meet in one feature row per photo: the backbone runs once per photo, and
the head trains on feature rows.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import keras
import numpy as np
from keras import layers
from numpy.typing import NDArray

from transferlite.images.input_spec import InputSpec


@dataclass(frozen=True)
class Classifier:
    """A feature model and a head.

    Attributes:
        labels: class names in the order of the outputs.
        input: size of the input.
        build_feature_model: returns :attr:`feature_model`; called only if the Keras backbone is needed.
        head: a Keras model from feature rows ``[N, D]`` to probabilities ``[N, len(labels)]``.
    """

    labels: tuple[str, ...]
    input: InputSpec
    build_feature_model: Callable[[], Any]
    head: Any

    @cached_property
    def feature_model(self) -> Any:
        """A Keras model from float RGB 0 to 255 ``[N, H, W, 3]`` to feature rows ``[N, D]``."""
        return self.build_feature_model()

    def predict(self, photos: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Photos ``[N, H, W, 3]`` -> probabilities ``[N, len(labels)]``, computed by the Keras layers one by one."""
        rows = self.feature_model(photos.astype(np.float32), training=False)
        return np.asarray(self.head(rows, training=False))

    @cached_property
    def model(self) -> Any:
        """The classifier as a Keras model from uint8 RGB ``[N, H, W, 3]`` to probabilities ``[N, len(labels)]``."""
        image = keras.Input((self.input.height, self.input.width, 3), dtype="uint8", name="image")
        rows = self.feature_model(keras.ops.cast(image, "float32"), training=False)
        return keras.Model(image, self.head(rows), name="classifier")

    @cached_property
    def activation_maps(self) -> Any:
        """A Keras model from float RGB ``[N, H, W, 3]`` to the last activation maps before pooling ``[N, h, w, D]``."""
        return keras.Model(self.feature_model.input, self.feature_model.get_layer("pool").input, name="maps")


def head_model(width: int, hidden_units: int, classes: int) -> Any:
    """Build a head with random weights for feature rows ``[N, width]``: Dense relu, then Dense softmax."""
    return keras.Sequential(
        [
            keras.Input((width,), name="row"),
            layers.Dense(hidden_units, activation="relu", name="hidden"),
            layers.Dense(classes, activation="softmax", name="probabilities"),
        ],
        name="head",
    )
