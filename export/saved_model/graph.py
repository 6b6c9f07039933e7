"""Trace a classifier with a frozen backbone into one graph, from which the SavedModel is made."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from export.tflite.tflite_file import FEATURES, IMAGE, PROBABILITIES
from transferlite.images.input_spec import InputSpec


def head_constant(index: int) -> str:
    """Name of the constant that holds the head's weight of this index in ``head.weights``."""
    return f"head_weight_{index}"


class Graph(tf.Module):  # type: ignore[misc]
    """The classifier as one traced graph in which every weight is a constant; the head's weights are all 0.

    Keras's own ``export`` saves each layer as an object and each weight as a variable, which takes many times as long
    to write and load.

    Args:
        feature_model: Keras model from float RGB 0 to 255 ``[N, H, W, 3]`` to features ``[N, D]``; run in inference
            mode.
        head: Keras model from features to probabilities ``[N, C]``.
        spec: input size.
    """

    def __init__(self, feature_model: Any, head: Any, spec: InputSpec) -> None:
        super().__init__()
        self.spec = spec
        values: list[tuple[Any, Any, str | None]]
        values = [(variable, np.asarray(variable.value), None) for variable in feature_model.variables]
        values += [
            (variable, np.zeros(variable.shape, np.float32), head_constant(index))
            for index, variable in enumerate(head.weights)
        ]

        def run(image: Any) -> Any:
            with keras.StatelessScope([(variable, tf.constant(value, name=name)) for variable, value, name in values]):
                features = feature_model(image, training=False)
                return features, head(features, training=False)

        self._run = tf.function(run, autograph=False).get_concrete_function(self.image_spec(None, tf.float32))
        values.clear()

    def image_spec(self, batch: int | None, dtype: Any) -> Any:
        """Tensor specification of the input, ``[batch, H, W, 3]``."""
        return tf.TensorSpec((batch, self.spec.height, self.spec.width, 3), dtype, name=IMAGE)

    def predict(self, image: Any) -> Mapping[str, Any]:
        """Run the graph on photos ``[N, H, W, 3]`` of any type; returns ``features`` and ``probabilities``."""
        features, probabilities = self._run(tf.cast(image, tf.float32))
        return {FEATURES: features, PROBABILITIES: probabilities}
