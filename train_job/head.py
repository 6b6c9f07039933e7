"""Train the head on rows: each epoch is one compiled program, with no Python between its steps."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from runtime.errors import InputError
from train_job.evaluate import evaluate

Rows = NDArray[np.float32]
Labels = NDArray[np.int32]


@dataclass(frozen=True)
class Recipe:
    """How the head learns: Keras's own optimizers and defaults, sparse categorical cross-entropy.

    ``steps_per_epoch`` None is one pass over the rows; ``learning_rate`` None is the optimizer's default.
    """

    epochs: int = 100
    steps_per_epoch: int | None = None
    batch_size: int = 50
    optimizer: str = "rmsprop"
    learning_rate: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        self.new_optimizer()

    def new_optimizer(self) -> Any:
        """A Keras optimizer as asked for. Raises InputError when Keras has none of that name."""
        settings = {} if self.learning_rate is None else {"learning_rate": self.learning_rate}
        try:
            return keras.optimizers.get({"class_name": self.optimizer, "config": settings})
        except (ValueError, LookupError, TypeError) as error:
            raise InputError(f"unknown optimizer {self.optimizer!r}", hint="for example rmsprop, adam, sgd") from error

    def steps(self, photos: int) -> int:
        """Steps an epoch for that many rows."""
        return self.steps_per_epoch or -(-photos // self.batch_size)


@dataclass(frozen=True)
class Epoch:
    """What one epoch measured: mean loss and accuracy over its steps, and over the validation rows at its end."""

    epoch: int
    loss: float
    accuracy: float
    val_loss: float | None = None
    val_accuracy: float | None = None


def fit_head(
    head: Any,
    rows: Rows,
    labels: Labels,
    validation: tuple[Rows, Labels],
    recipe: Recipe,
    on_epoch: Callable[[Epoch], None],
) -> list[Epoch]:
    """Train ``head`` in place on ``rows`` ``[N, D]`` with integer ``labels`` ``[N]``; returns the history.

    Raises:
        InputError: the optimizer is unknown, or the loss is no longer a number.
    """
    optimizer = recipe.new_optimizer()
    optimizer.build(head.trainable_variables)
    program = _epoch_program(head, optimizer, tf.constant(rows), tf.constant(labels))
    batches = _batches(len(rows), recipe)
    history = []
    for number in range(1, recipe.epochs + 1):
        order = next(batches)
        loss, right = (float(total) for total in program(tf.constant(order)))
        if not np.isfinite(loss):
            raise InputError(f"the loss is {loss} in epoch {number}", hint="lower --learning-rate")
        epoch = Epoch(number, loss / len(order), right / order.size, *_validated(head, *validation))
        history.append(epoch)
        on_epoch(epoch)
    return history


def _epoch_program(head: Any, optimizer: Any, rows: Any, labels: Any) -> Callable[[Any], tuple[Any, Any]]:
    """A compiled function of a row order int32 ``[steps, batch]``, giving summed mean losses and right answers."""
    variables = head.trainable_variables
    cross_entropy = keras.losses.SparseCategoricalCrossentropy()

    def epoch(order: Any) -> tuple[Any, Any]:
        loss_sum, right = tf.constant(0.0), tf.constant(0.0)
        for step in tf.range(order.shape[0]):
            x, y = tf.gather(rows, order[step]), tf.gather(labels, order[step])
            with tf.GradientTape() as tape:
                probabilities = head(x, training=True)
                loss = cross_entropy(y, probabilities)
            optimizer.apply(tape.gradient(loss, variables), variables)
            loss_sum += loss
            hits = tf.equal(tf.argmax(probabilities, 1, tf.int32), y)
            right += tf.reduce_sum(tf.cast(hits, tf.float32))
        return loss_sum, right

    return cast(Callable[[Any], tuple[Any, Any]], tf.function(epoch, jit_compile=True))


def _batches(count: int, recipe: Recipe) -> Iterator[NDArray[np.int32]]:
    """An endless run of epochs' orders ``[steps, batch]``: shuffled passes one after another, cut where epochs end."""
    random = np.random.default_rng(recipe.seed)
    steps, left = recipe.steps(count), np.zeros(0, np.int32)
    need = steps * recipe.batch_size
    while True:
        while len(left) < need:
            left = np.concatenate([left, random.permutation(count).astype(np.int32)])
        yield left[:need].reshape(steps, recipe.batch_size)
        left = left[need:]


def _validated(head: Any, rows: Rows, labels: Labels) -> tuple[float | None, float | None]:
    if not len(rows):
        return None, None
    scores = evaluate(predict_rows(head, rows), labels)
    return scores.log_loss, scores.accuracy


def predict_rows(head: Any, rows: Rows, batch: int = 8192) -> Rows:
    """The head's probabilities ``[N, classes]`` for rows ``[N, D]``, every row, in chunks."""
    chunks = [head(rows[start : start + batch], training=False).numpy() for start in range(0, len(rows), batch)]
    return np.concatenate(chunks) if chunks else np.zeros((0, head.output_shape[-1]), np.float32)
