"""Plan a fit, and compile its steps into programs that run whole epochs without Python in between."""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from train_job.head.recipe import Recipe
from train_job.head.row_sets import FeatureTable
from train_job.scores import SMALLEST_PROBABILITY

LabelledRows = tuple[Any, Any]
"""Tensors on the device: feature rows, float16 ``[N, D]``, and their labels, int32 ``[N]``."""
ValidationChunk = tuple[int, Any, Any]
"""How many validation rows count, then feature rows and labels padded to the program's size."""

VALIDATION_BYTES = 2**23
"""Size of the feature rows of a validation chunk."""
ROWS_PER_CALL, STEPS_PER_CALL = 10_000, 1_000
"""Limits of one call of a program: about a second on a small CPU, so that a job reacts to SIGTERM in time.

The feature rows of a call are first copied together: 26 MB for EfficientNet-Lite0.
"""
_COPY_BYTES = 2**25
"""Limit of the feature rows that are copied together for a call of several epochs."""

compile_lock = threading.Lock()
"""Held by whatever compiles with XLA: it has crashed on two compilations at once."""


# -- planning ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ResourceLimits:
    """Limits of a fit.

    Attributes:
        max_bytes: memory for feature rows; larger tables are streamed.
        rows_per_call: rows that one call of a program trains on.
        compiled: compile the steps with XLA, which is fastest for dense layers and slow for convolutions on a CPU.
    """

    max_bytes: int = 2**30
    rows_per_call: int = ROWS_PER_CALL
    compiled: bool = True


DEFAULT_LIMITS = ResourceLimits()


@dataclass(frozen=True)
class StepPlan:
    """Division of a fit's steps into calls of a compiled program.

    Attributes:
        steps_per_epoch: steps of an epoch.
        steps_per_call: steps of one epoch in a call.
        max_steps: steps in a call; more than ``steps_per_call`` if a call runs several short epochs.
        shuffle_window: rows that are shuffled together while streaming; None if all rows fit in memory.
    """

    steps_per_epoch: int
    steps_per_call: int
    max_steps: int
    shuffle_window: int | None

    @classmethod
    def of(cls, count: int, width: int, recipe: Recipe, limits: ResourceLimits) -> "StepPlan":
        """Plan a fit on ``count`` float16 rows of ``width`` features."""
        steps, row_bytes = recipe.steps(count), 2 * width
        streams, rows = count * row_bytes > limits.max_bytes, limits.rows_per_call
        if streams:  # the rows of a call, those of the next one and other copies share the memory
            rows = min(rows, limits.max_bytes // (3 * row_bytes))
        limit = max(1, min(rows // recipe.batch_size, STEPS_PER_CALL))
        steps_per_call = _even_part(steps, limit)
        if streams or steps_per_call < steps or recipe.needs_validation:
            return cls(steps, steps_per_call, steps_per_call, limit * recipe.batch_size if streams else None)
        limit = min(limit, min(_COPY_BYTES, limits.max_bytes // 3) // (row_bytes * recipe.batch_size))
        epochs = _even_part(recipe.epochs, max(1, limit // steps))
        return cls(steps, steps_per_call, steps * epochs, None)


def _even_part(total: int, limit: int) -> int:
    """Size of the parts when ``total`` is divided evenly into the fewest parts of at most ``limit``."""
    return -(-total // -(-total // limit))


# -- programs ---------------------------------------------------------------------------------------------------------


class EpochProgram:
    """A compiled program that trains and validates a head for whole epochs, or part of one, per call.

    It depends only on the shapes of the rows, so it can be compiled before they are known.

    Args:
        head: a Keras model from feature rows ``[N, D]`` to probabilities ``[N, C]``.
        recipe: settings of the fit.
        max_steps: most steps in one call, over all its epochs.
        compiled: compile with XLA.
    """

    def __init__(self, head: Any, recipe: Recipe, max_steps: int, compiled: bool) -> None:
        self.recipe, self.max_steps = recipe, max_steps
        self.optimizer = recipe.new_optimizer(1)
        self.optimizer.build(head.trainable_variables)
        self._width, self._classes, self._is_compiled = head.input_shape[-1], head.output_shape[-1], False
        self.validation_rows = recipe.batch_size * max(1, VALIDATION_BYTES // (2 * self._width * recipe.batch_size))
        """Size of a validation chunk."""
        run = _epochs_function(head, self.optimizer, recipe, max_steps)
        self._run = tf.function(run, jit_compile=compiled, autograph=False)

    def compile(self) -> None:
        """Compile by a call without steps."""
        zero = tf.constant(0)
        rows, validation = self._zeros(self.max_steps * self.recipe.batch_size), self._zeros(self.validation_rows)
        with compile_lock:
            self._run(zero, zero, *rows, tf.ones(self._classes), zero, *validation)
        self._is_compiled = True

    def __call__(
        self, epochs: int, steps: int, rows: LabelledRows, class_weights: Any, validation: ValidationChunk
    ) -> NDArray[np.float32]:
        """Train ``steps`` steps and measure the validation chunk, ``epochs`` times.

        Args:
            epochs: number of epochs.
            steps: steps of each epoch; 0 only validates.
            rows: feature rows float16 ``[max_steps * batch, D]`` and labels int32; the first are used, in order.
            class_weights: weight of a row of each class, ``[C]``.
            validation: number of rows, feature rows float16 ``[validation_rows, D]`` and labels int32.

        Returns:
            ``[epochs, 4]``: sum of the steps' mean losses, correct training predictions, summed log loss of the
            validation rows, correct validation predictions.
        """
        if not self._is_compiled:
            self.compile()
        count, *validation_rows = validation
        epochs_and_steps = tf.constant(epochs), tf.constant(steps)
        results = self._run(*epochs_and_steps, *rows, class_weights, tf.constant(count), *validation_rows).numpy()
        measured: NDArray[np.float32] = results[:epochs]
        return measured

    def _zeros(self, rows: int) -> LabelledRows:
        return tf.zeros((rows, self._width), tf.float16), tf.zeros(rows, tf.int32)


def new_program(head: Any, plan: StepPlan, recipe: Recipe, limits: ResourceLimits) -> EpochProgram:
    """Build a program for ``plan`` without compiling it."""
    return EpochProgram(head, recipe, plan.max_steps, limits.compiled)


class PreparedProgram:
    """A head's program and predict function, compiled on a thread while the feature rows are extracted.

    With ``start`` False it is compiled on demand only, as a finished training does not need it.
    """

    def __init__(self, head: Any, rows: int, recipe: Recipe, limits: ResourceLimits, start: bool = True) -> None:
        self._program = new_program(head, StepPlan.of(rows, head.input_shape[-1], recipe, limits), recipe, limits)
        self._ready: Future[None] | None = None
        if start:
            pool = ThreadPoolExecutor(1, thread_name_prefix="compile")
            self._ready = pool.submit(self._prepare, head)
            pool.shutdown(wait=False)

    def _prepare(self, head: Any) -> None:
        self._program.compile()
        predict_function(head).get_concrete_function()

    def wait(self) -> None:
        """Wait for a compilation that has started: it restores the head's weights, and would undo changes to them.

        Raises what the compilation raised.
        """
        if self._ready is not None:
            self._ready.result()

    def program(self) -> EpochProgram:
        """The program, after a compilation that has started. Raises as :meth:`wait`."""
        self.wait()
        return self._program


@lru_cache(maxsize=2)
def predict_function(head: Any) -> Any:
    """A ``tf.function`` from feature rows float16 ``[N, D]``, any N, to probabilities ``[N, C]``; cached per head."""

    def run(rows: Any) -> Any:
        return head(tf.cast(rows, tf.float32), training=False)

    signature = [tf.TensorSpec((None, head.input_shape[-1]), tf.float16)]
    return tf.function(run, input_signature=signature, autograph=False)


def on_device(rows: FeatureTable) -> Any:
    """Feature rows from :meth:`RowSet.take` as a tensor; on a CPU it shares their memory (tf.constant copies twice)."""
    if tf.config.list_logical_devices("GPU"):
        return tf.constant(rows)
    return tf.experimental.dlpack.from_dlpack(rows.__dlpack__())


# -- what a program computes ------------------------------------------------------------------------------------------


def _epochs_function(head: Any, optimizer: Any, recipe: Recipe, max_steps: int) -> Callable[..., Any]:
    """A function that trains and validates ``epochs`` times; each step's rows follow those of the step before."""
    train, evaluate = _train_function(head, optimizer, recipe), _evaluate_function(head, recipe.batch_size)

    def run(
        epochs: Any,
        steps: Any,
        rows: Any,
        labels: Any,
        class_weights: Any,
        count: Any,
        validation_rows: Any,
        validation_labels: Any,
    ) -> Any:
        def run_epoch(epoch: Any, results: Any) -> tuple[Any, Any]:
            trained = train(epoch * steps, steps, rows, labels, class_weights)
            validated = evaluate(count, validation_rows, validation_labels)
            return epoch + 1, tf.tensor_scatter_nd_update(results, [[epoch]], [tf.stack([*trained, *validated])])

        start = (tf.constant(0), tf.zeros((max_steps, 4)))
        return tf.while_loop(lambda epoch, _: epoch < epochs, run_epoch, start)[1]

    return run


def _train_function(head: Any, optimizer: Any, recipe: Recipe) -> Callable[..., tuple[Any, Any]]:
    """A function that trains ``steps`` steps from step ``first`` on; returns summed loss and correct predictions."""
    variables, batch = head.trainable_variables, recipe.batch_size
    smoothed = keras.losses.CategoricalCrossentropy(label_smoothing=recipe.label_smoothing)
    sparse = keras.losses.SparseCategoricalCrossentropy()

    def loss_of(labels: Any, probabilities: Any, class_weights: Any) -> Any:
        weights = None if recipe.class_weights == "none" else tf.gather(class_weights, labels)
        if recipe.label_smoothing:
            return smoothed(tf.one_hot(labels, probabilities.shape[-1]), probabilities, sample_weight=weights)
        return sparse(labels, probabilities, sample_weight=weights)

    def train_step(x: Any, y: Any, class_weights: Any) -> tuple[Any, Any]:
        with tf.GradientTape() as tape:
            probabilities = head(x, training=False)  # no dropout; BatchNormalization keeps its statistics
            loss = loss_of(y, probabilities, class_weights)
        optimizer.apply(tape.gradient(loss, variables), variables)
        return loss, _count_correct(probabilities, y)

    def train(first: Any, steps: Any, rows: Any, labels: Any, class_weights: Any) -> tuple[Any, Any]:
        def run_step(step: Any, loss_sum: Any, correct_sum: Any) -> tuple[Any, Any, Any]:
            loss, correct = train_step(*_batch(step, batch, rows, labels), class_weights)
            return step + 1, loss_sum + loss, correct_sum + correct

        start = (first, tf.constant(0.0), tf.constant(0.0))
        _, loss_sum, correct_sum = tf.while_loop(lambda step, *_: step < first + steps, run_step, start)
        return loss_sum, correct_sum

    return train


def _evaluate_function(head: Any, batch: int) -> Callable[..., tuple[Any, Any]]:
    """A function that measures the first ``count`` rows; returns summed log loss and correct predictions."""

    def evaluate(count: Any, rows: Any, labels: Any) -> tuple[Any, Any]:
        def run_step(step: Any, loss_sum: Any, correct_sum: Any) -> tuple[Any, Any, Any]:
            x, y = _batch(step, batch, rows, labels)
            mask = tf.cast(step * batch + tf.range(batch) < count, tf.float32)
            probabilities = head(x, training=False)
            of_label = tf.gather(probabilities, y, batch_dims=1)
            loss = -tf.math.log(tf.clip_by_value(of_label, SMALLEST_PROBABILITY, 1.0))
            return (
                step + 1,
                loss_sum + tf.reduce_sum(mask * loss),
                correct_sum + _count_correct(probabilities, y, mask),
            )

        start = (tf.constant(0), tf.constant(0.0), tf.constant(0.0))
        _, loss_sum, correct_sum = tf.while_loop(lambda step, *_: step * batch < count, run_step, start)
        return loss_sum, correct_sum

    return evaluate


def _batch(step: Any, batch: int, rows: Any, labels: Any) -> tuple[Any, Any]:
    x = tf.slice(rows, (step * batch, 0), (batch, rows.shape[1]))
    return tf.cast(x, tf.float32), tf.slice(labels, (step * batch,), (batch,))


def _count_correct(probabilities: Any, labels: Any, mask: Any = 1.0) -> Any:
    return tf.reduce_sum(mask * tf.cast(tf.equal(tf.argmax(probabilities, 1, tf.int32), labels), tf.float32))
