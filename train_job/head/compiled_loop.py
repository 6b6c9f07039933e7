"""A head's epochs as one compiled program with no Python between their steps, and its answers as another."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from train_job.head.recipe import Recipe
from train_job.head.row_sets import Table
from train_job.scores import SMALLEST_PROBABILITY

Labelled = tuple[Any, Any]
"""Rows on the device, float16 ``[N, D]``, and their labels, int32 ``[N]``."""
HeldOut = tuple[int, Any, Any]
"""How many of the labelled rows that follow count; the others only fill up."""
HELD_OUT_BYTES = 2**23

_compiling = threading.Lock()


def on_device(rows: Table) -> Any:
    """The rows ``[N, D]`` of :meth:`RowSet.take` as a tensor, on a CPU in the same memory: tf.constant copies twice."""
    if tf.config.list_logical_devices("GPU"):
        return tf.constant(rows)
    return tf.experimental.dlpack.from_dlpack(rows.__dlpack__())


class Program:
    """Whole epochs, or a part of one, in one call, and what held-out rows say of the head after each.

    It does not depend on the rows, and so can be compiled before they are known.

    Args:
        head: a Keras model from rows ``[N, D]`` to probabilities ``[N, C]``.
        recipe: how to learn.
        total: the steps of the whole training, which a schedule depends on.
        most: steps in one call, those of all its epochs together.
        compiled: whether XLA compiles it.
    """

    def __init__(self, head: Any, recipe: Recipe, total: int, most: int, compiled: bool) -> None:
        self.recipe, self.total, self.most = recipe, total, most
        self.optimizer = recipe.new_optimizer(total)
        self.optimizer.build(head.trainable_variables)
        self._width, self._classes, self._is_compiled = head.input_shape[-1], head.output_shape[-1], False
        self.held_out = recipe.batch_size * max(1, HELD_OUT_BYTES // (2 * self._width * recipe.batch_size))
        """Held-out rows that one call measures."""
        self._run = tf.function(_epochs(head, self.optimizer, recipe, most), jit_compile=compiled, autograph=False)

    def suits(self, total: int, least: int) -> bool:
        """Whether it can do a training of ``total`` steps, ``least`` of them or more in a call."""
        return least <= self.most and (self.recipe.schedule == "constant" or total == self.total)

    def compile(self) -> None:
        """Compile it now: take no step. Programs wait for each other: XLA has crashed compiling two at once."""
        rows, zero = self.most * self.recipe.batch_size, tf.constant(0)
        with _compiling:
            self._run(zero, zero, *self._no(rows), tf.ones(self._classes), zero, *self._no(self.held_out))
        self._is_compiled = True

    def __call__(self, epochs: int, steps: int, rows: Labelled, weights: Any, held_out: HeldOut) -> NDArray[np.float32]:
        """Take ``steps`` steps, measure the held-out rows, and that ``epochs`` times.

        Args:
            epochs: how often.
            steps: of each.
            rows: float16 ``[most * batch, D]`` and their labels int32, of which the first are used, in order.
            weights: ``[C]``, what a row of each class counts.
            held_out: how many, float16 ``[held_out, D]``, and their labels int32.

        Returns ``[epochs, 4]``: the sum of the steps' mean losses, and how many answers were right; of the held-out
        rows the summed log loss, and how many answers were right.
        """
        if not self._is_compiled:
            self.compile()
        numbers = tf.constant(epochs), tf.constant(steps)
        count, *held = held_out
        found: NDArray[np.float32] = self._run(*numbers, *rows, weights, tf.constant(count), *held).numpy()
        return found[:epochs]

    def _no(self, rows: int) -> Labelled:
        return tf.zeros((rows, self._width), tf.float16), tf.zeros(rows, tf.int32)


def _epochs(head: Any, optimizer: Any, recipe: Recipe, most: int) -> Callable[..., Any]:
    learn, measure = _learning(head, optimizer, recipe), _measuring(head, recipe.batch_size)

    def run(
        epochs: Any, steps: Any, rows: Any, labels: Any, weights: Any, count: Any, held: Any, held_labels: Any
    ) -> Any:
        def one(number: Any, found: Any) -> tuple[Any, Any]:
            learnt = learn(number * steps, steps, rows, labels, weights)
            measured = measure(count, held, held_labels)
            return number + 1, tf.tensor_scatter_nd_update(found, [[number]], [tf.stack([*learnt, *measured])])

        return tf.while_loop(lambda number, _: number < epochs, one, (tf.constant(0), tf.zeros((most, 4))))[1]

    return run


def _learning(head: Any, optimizer: Any, recipe: Recipe) -> Callable[..., tuple[Any, Any]]:
    """A function that takes ``steps`` steps from the step ``first`` of the rows."""
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
        return loss, _right(probabilities, y)

    def learn(first: Any, steps: Any, rows: Any, labels: Any, weights: Any) -> tuple[Any, Any]:
        def one(number: Any, loss_sum: Any, right: Any) -> tuple[Any, Any, Any]:
            x, y = _batch(number, batch, rows, labels)
            loss, hits = step(x, y, weights)
            return number + 1, loss_sum + loss, right + hits

        start = (first, tf.constant(0.0), tf.constant(0.0))
        _, loss_sum, right = tf.while_loop(lambda number, *_: number < first + steps, one, start)
        return loss_sum, right

    return learn


def _measuring(head: Any, batch: int) -> Callable[..., tuple[Any, Any]]:
    """A function that measures the head on the first ``count`` rows."""

    def measure(count: Any, rows: Any, labels: Any) -> tuple[Any, Any]:
        def one(number: Any, nats: Any, right: Any) -> tuple[Any, Any, Any]:
            x, y = _batch(number, batch, rows, labels)
            counted = tf.cast(number * batch + tf.range(batch) < count, tf.float32)
            probabilities = head(x, training=False)
            chosen = tf.gather(probabilities, y, batch_dims=1)
            lost = -tf.math.log(tf.clip_by_value(chosen, SMALLEST_PROBABILITY, 1.0))
            return number + 1, nats + tf.reduce_sum(counted * lost), right + _right(probabilities, y, counted)

        start = (tf.constant(0), tf.constant(0.0), tf.constant(0.0))
        _, nats, right = tf.while_loop(lambda number, *_: number * batch < count, one, start)
        return nats, right

    return measure


def _batch(number: Any, batch: int, rows: Any, labels: Any) -> tuple[Any, Any]:
    x = tf.slice(rows, (number * batch, 0), (batch, rows.shape[1]))
    return tf.cast(x, tf.float32), tf.slice(labels, (number * batch,), (batch,))


def _right(probabilities: Any, labels: Any, counted: Any = 1.0) -> Any:
    return tf.reduce_sum(counted * tf.cast(tf.equal(tf.argmax(probabilities, 1, tf.int32), labels), tf.float32))


@lru_cache(maxsize=2)
def predictor(head: Any) -> Any:
    """A ``tf.function`` from any number of rows, float16 ``[N, D]``, to the head's probabilities ``[N, classes]``.

    One is traced for each head, however often it is asked for.
    """

    def run(rows: Any) -> Any:
        return head(tf.cast(rows, tf.float32), training=False)

    signature = [tf.TensorSpec((None, head.input_shape[-1]), tf.float16)]
    return tf.function(run, input_signature=signature, autograph=False)


CHUNK_ROWS, CHUNK_STEPS = 10_000, 1_000
"""What a compiled program does at most: a second on a small CPU, so that a job told to stop can do so in time.

Its rows are copied together first: 26 MB of them for EfficientNet-Lite0.
"""
_TOGETHER_BYTES = 2**25
"""The rows of several epochs that are copied together for one call."""


@dataclass(frozen=True)
class ResourceLimits:
    """What a training may take: bytes of rows in memory, and rows in one compiled program.

    ``compiled`` is whether XLA compiles the steps: best for dense layers, and far worse for convolutions on a CPU.
    """

    memory: int = 2**30
    chunk_rows: int = CHUNK_ROWS
    compiled: bool = True


DEFAULT_LIMITS = ResourceLimits()


@dataclass(frozen=True)
class StepPlan:
    """A training in numbers: steps an epoch, and how they are parted among the calls of a compiled program.

    Attributes:
        steps: of an epoch.
        chunk: steps of one epoch in a call.
        most: steps in a call: those of several epochs, where they are so short, and none is chosen among them.
        window: what rows are shuffled in where they stream from their table: they are more than the memory allows.
    """

    steps: int
    chunk: int
    most: int
    window: int | None

    @classmethod
    def of(cls, count: int, width: int, recipe: Recipe, limits: ResourceLimits) -> "StepPlan":
        """For ``count`` float16 rows of ``width`` numbers.

        Where rows stream, a chunk is so small that it, the next one and what else they need stay within the limit.
        """
        steps, streams = recipe.steps(count), 2 * count * width > limits.memory
        rows = min(limits.chunk_rows, limits.memory // (6 * width)) if streams else limits.chunk_rows
        limit = max(1, min(rows // recipe.batch_size, CHUNK_STEPS))
        chunk = _even(steps, limit)
        one = streams or chunk < steps or recipe.needs_validation
        room = min(_TOGETHER_BYTES, limits.memory // 3) // (2 * width * recipe.batch_size)
        together = max(1, min(limit, room) // steps)
        most = chunk if one else steps * _even(recipe.epochs, together)
        return cls(steps, chunk, most, limit * recipe.batch_size if streams else None)


def _even(total: int, most: int) -> int:
    """``total`` in as few parts of at most ``most`` as can be, all of about this size."""
    return -(-total // -(-total // most))


class PreparedProgram:
    """The program of a training and its head's answers, compiled and traced on a thread while its rows are made."""

    def __init__(self, head: Any, rows: int, recipe: Recipe, limits: ResourceLimits) -> None:
        self._program = new_program(head, StepPlan.of(rows, head.input_shape[-1], recipe, limits), recipe, limits)
        pool = ThreadPoolExecutor(1, thread_name_prefix="compile")
        self._ready = pool.submit(self._prepare, head)
        pool.shutdown(wait=False)

    def _prepare(self, head: Any) -> None:
        self._program.compile()
        predictor(head).get_concrete_function()

    def program(self) -> Program:
        """The program, as soon as it is ready."""
        self._ready.result()
        return self._program


def new_program(head: Any, plan: StepPlan, recipe: Recipe, limits: ResourceLimits) -> Program:
    """A program that suits ``plan``, not compiled yet."""
    return Program(head, recipe, recipe.epochs * plan.steps, plan.most, limits.compiled)
