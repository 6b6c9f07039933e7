"""The trained classifier as one traced graph: what the SavedModel and the TFLite files are made of."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from transferlite.images.input_spec import InputSpec

IMAGE, PROBABILITIES, FEATURES = "image", "probabilities", "features"


class Graph(tf.Module):  # type: ignore[misc]
    """The classifier as one traced graph in which every weight is a constant.

    Keras's own ``export`` saves each layer as an object and each weight as a variable: many times as long to write, to
    convert and to load.

    Args:
        base: the Keras model from float RGB 0 to 255 ``[N, H, W, 3]`` to rows ``[N, D]``; run in inference mode.
        head: the Keras model from rows to probabilities ``[N, C]``.
        spec: the photo's size.
    """

    def __init__(self, base: Any, head: Any, spec: InputSpec) -> None:
        super().__init__()
        self.spec = spec
        values = [(variable, np.asarray(variable.value)) for model in (base, head) for variable in model.variables]

        def run(image: Any) -> Any:
            with keras.StatelessScope([(variable, tf.constant(value)) for variable, value in values]):
                rows = base(image, training=False)
                return rows, head(rows, training=False)

        self._run = tf.function(run, autograph=False).get_concrete_function(self.image(None, tf.float32))
        values.clear()

    def image(self, batch: int | None, dtype: Any) -> Any:
        """What the graph takes, ``[batch, H, W, 3]``."""
        return tf.TensorSpec((batch, self.spec.height, self.spec.width, 3), dtype, name=IMAGE)

    def answers(self, image: Any) -> Mapping[str, Any]:
        """The graph on photos ``[N, H, W, 3]`` of any type: their ``features`` and ``probabilities``."""
        rows, probabilities = self._run(tf.cast(image, tf.float32))
        return {FEATURES: rows, PROBABILITIES: probabilities}

    def definition(self) -> tuple[Any, tuple[str, list[int]], str]:
        """The ``GraphDef`` on float pixels, its input's name with a batch of one as its shape, and its output's name.

        Tensors that the graph takes from outside, as the statistics of Normalization are, become constants.
        """
        definition = self._run.graph.as_graph_def()
        outside = {placeholder.op.name: tensor for tensor, placeholder in self._run.graph.captures}
        for node in definition.node:
            if node.name in outside:
                with tf.Graph().as_default():
                    constant = tf.constant(outside[node.name].numpy(), name=node.name).op.node_def
                node.CopyFrom(constant)
        image, answer = self._run.inputs[0].op.name, self._run.outputs[-1].op.name
        return definition, (image, [1, self.spec.height, self.spec.width, 3]), answer
