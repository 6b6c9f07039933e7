"""A head's steps as one compiled program with no Python between them, and its answers as another."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from train_job.recipe import Recipe
from train_job.rows import Table


def on_device(rows: Table) -> Any:
    """The rows ``[N, D]`` of :meth:`RowSet.take` as a tensor, on a CPU in the same memory: tf.constant copies twice."""
    if tf.config.list_logical_devices("GPU"):
        return tf.constant(rows)
    return tf.experimental.dlpack.from_dlpack(rows.__dlpack__())


def compiled_steps(
    head: Any, optimizer: Any, recipe: Recipe, weights: NDArray[np.float32], compiled: bool
) -> Callable[[Any, Any, Any], tuple[Any, Any]]:
    """A function of a row order int32 ``[steps, batch]``, rows float16 ``[W, D]`` and labels ``[W]``.

    It takes the steps and returns the sum of their mean losses, and of their right answers.
    """
    variables = head.trainable_variables
    classes = head.output_shape[-1]
    smoothed = keras.losses.CategoricalCrossentropy(label_smoothing=recipe.label_smoothing)
    sparse = keras.losses.SparseCategoricalCrossentropy()
    weighted = None if recipe.class_weights == "none" else tf.constant(weights)

    def loss_of(labels: Any, probabilities: Any) -> Any:
        counts = None if weighted is None else tf.gather(weighted, labels)
        if recipe.label_smoothing:
            return smoothed(tf.one_hot(labels, classes), probabilities, sample_weight=counts)
        return sparse(labels, probabilities, sample_weight=counts)

    def run(order: Any, rows: Any, labels: Any) -> tuple[Any, Any]:
        loss_sum, right = tf.constant(0.0), tf.constant(0.0)
        for step in tf.range(tf.shape(order)[0]):
            x, y = tf.cast(tf.gather(rows, order[step]), tf.float32), tf.gather(labels, order[step])
            with tf.GradientTape() as tape:
                probabilities = head(x, training=False)  # dropout off, BatchNormalization as it is
                loss = loss_of(y, probabilities)
            optimizer.apply(tape.gradient(loss, variables), variables)
            loss_sum += loss
            hits = tf.equal(tf.argmax(probabilities, 1, tf.int32), y)
            right += tf.reduce_sum(tf.cast(hits, tf.float32))
        return loss_sum, right

    return tf.function(run, jit_compile=compiled)  # type: ignore[no-any-return]


def predictor(head: Any) -> Callable[[Any], Any]:
    """A function of rows float16 ``[N, D]``, of any number, that gives the head's probabilities ``[N, classes]``."""

    def run(rows: Any) -> Any:
        return head(tf.cast(rows, tf.float32), training=False)

    signature = [tf.TensorSpec((None, head.input_shape[-1]), tf.float16)]
    return tf.function(run, input_signature=signature)  # type: ignore[no-any-return]
