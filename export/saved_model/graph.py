"""Trace the trained classifier into one graph, from which the SavedModel and the TFLite files are made."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from transferlite.images.input_spec import InputSpec

IMAGE, PROBABILITIES, FEATURES = "image", "probabilities", "features"


class Graph(tf.Module):  # type: ignore[misc]
    """The classifier as one traced graph in which every weight is a constant.

    Keras's own ``export`` saves each layer as an object and each weight as a variable, which takes many times as long
    to write, convert and load.

    Args:
        feature_model: Keras model from float RGB 0 to 255 ``[N, H, W, 3]`` to features ``[N, D]``; run in inference
            mode.
        head: Keras model from features to probabilities ``[N, C]``.
        spec: input size.
    """

    def __init__(self, feature_model: Any, head: Any, spec: InputSpec) -> None:
        super().__init__()
        self.spec = spec
        models = (feature_model, head)
        values = [(variable, np.asarray(variable.value)) for model in models for variable in model.variables]

        def run(image: Any) -> Any:
            with keras.StatelessScope([(variable, tf.constant(value)) for variable, value in values]):
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

    def graph_def(self) -> tuple[Any, tuple[str, list[int]], list[str]]:
        """The ``GraphDef`` on float pixels, its input's name with shape ``[1, H, W, 3]``, and its outputs' names.

        The outputs are the probabilities and the features.

        Captured tensors, such as the statistics of Normalization, become constants.
        """
        definition = self._run.graph.as_graph_def()
        captured = {placeholder.op.name: tensor for tensor, placeholder in self._run.graph.captures}
        for node in definition.node:
            if node.name in captured:
                with tf.Graph().as_default():
                    constant = tf.constant(captured[node.name].numpy(), name=node.name).op.node_def
                node.CopyFrom(constant)
        features, probabilities = (tensor.op.name for tensor in self._run.outputs)
        image = (self._run.inputs[0].op.name, [1, self.spec.height, self.spec.width, 3])
        return definition, image, [probabilities, features]
