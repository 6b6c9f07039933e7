"""A head's steps as one compiled program with no Python between them, and its answers as another."""

import threading
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import keras
import tensorflow as tf

from train_job.recipe import Recipe
from train_job.rows import Table

_compiling = threading.Lock()


def on_device(rows: Table) -> Any:
    """The rows ``[N, D]`` of :meth:`RowSet.take` as a tensor, on a CPU in the same memory: tf.constant copies twice."""
    if tf.config.list_logical_devices("GPU"):
        return tf.constant(rows)
    return tf.experimental.dlpack.from_dlpack(rows.__dlpack__())


class Program:
    """Up to ``most`` steps in one call. It does not depend on the rows, and so can be compiled before they are known.

    Args:
        head: a Keras model from rows ``[N, D]`` to probabilities ``[N, C]``.
        recipe: how to learn.
        total: the steps of the whole training, which a schedule depends on.
        most: steps in one call.
        compiled: whether XLA compiles it.
    """

    def __init__(self, head: Any, recipe: Recipe, total: int, most: int, compiled: bool) -> None:
        self.recipe, self.total, self.most = recipe, total, most
        self.optimizer = recipe.new_optimizer(total)
        self.optimizer.build(head.trainable_variables)
        self._width, self._classes, self._is_compiled = head.input_shape[-1], head.output_shape[-1], False
        self._run = tf.function(_steps(head, self.optimizer, recipe), jit_compile=compiled, autograph=False)

    def suits(self, total: int, most: int) -> bool:
        """Whether it can do a training of ``total`` steps, ``most`` of them in a call."""
        return most <= self.most and (self.recipe.schedule == "constant" or total == self.total)

    def compile(self) -> None:
        """Compile it now: take no step. Programs wait for each other: XLA has crashed compiling two at once."""
        rows = self.most * self.recipe.batch_size
        nothing = tf.zeros((rows, self._width), tf.float16), tf.zeros(rows, tf.int32), tf.ones(self._classes)
        with _compiling:
            self._run(tf.constant(0), *nothing)
        self._is_compiled = True

    def __call__(self, steps: int, rows: Any, labels: Any, weights: Any) -> tuple[float, float]:
        """Take ``steps`` steps on the first rows of float16 ``[most * batch, D]`` and their labels int32, in order.

        ``weights`` ``[C]`` are what a row of each class counts. Returns the sum of the steps' mean losses, and how many
        answers were right.
        """
        if not self._is_compiled:
            self.compile()
        loss, right = self._run(tf.constant(steps), rows, labels, weights)
        return float(loss), float(right)


def _steps(head: Any, optimizer: Any, recipe: Recipe) -> Callable[..., tuple[Any, Any]]:
    variables, batch = head.trainable_variables, recipe.batch_size
    smoothed = keras.losses.CategoricalCrossentropy(label_smoothing=recipe.label_smoothing)
    sparse = keras.losses.SparseCategoricalCrossentropy()

    def loss_of(labels: Any, probabilities: Any, weights: Any) -> Any:
        counts = None if recipe.class_weights == "none" else tf.gather(weights, labels)
        if recipe.label_smoothing:
            return smoothed(tf.one_hot(labels, probabilities.shape[-1]), probabilities, sample_weight=counts)
        return sparse(labels, probabilities, sample_weight=counts)

    def step(x: Any, y: Any, weights: Any) -> tuple[Any, Any]:
        with tf.GradientTape() as tape:
            probabilities = head(x, training=False)  # dropout off, BatchNormalization as it is
            loss = loss_of(y, probabilities, weights)
        optimizer.apply(tape.gradient(loss, variables), variables)
        return loss, tf.reduce_sum(tf.cast(tf.equal(tf.argmax(probabilities, 1, tf.int32), y), tf.float32))

    def run(steps: Any, rows: Any, labels: Any, weights: Any) -> tuple[Any, Any]:
        def one(number: Any, loss_sum: Any, right: Any) -> tuple[Any, Any, Any]:
            x = tf.slice(rows, (number * batch, 0), (batch, rows.shape[1]))
            y = tf.slice(labels, (number * batch,), (batch,))
            loss, hits = step(tf.cast(x, tf.float32), y, weights)
            return number + 1, loss_sum + loss, right + hits

        start = (tf.constant(0), tf.constant(0.0), tf.constant(0.0))
        _, loss_sum, right = tf.while_loop(lambda number, *_: number < steps, one, start)
        return loss_sum, right

    return run


@lru_cache(maxsize=2)
def predictor(head: Any) -> Any:
    """A ``tf.function`` from any number of rows, float16 ``[N, D]``, to the head's probabilities ``[N, classes]``.

    One is traced for each head, however often it is asked for.
    """

    def run(rows: Any) -> Any:
        return head(tf.cast(rows, tf.float32), training=False)

    signature = [tf.TensorSpec((None, head.input_shape[-1]), tf.float16)]
    return tf.function(run, input_signature=signature, autograph=False)
