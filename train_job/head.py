"""Train the head on rows: whole epochs are compiled programs, with no Python between their steps.

The order of rows is a function of the seed and the position alone, and the state is saved between programs, so that a
training that was interrupted ends in the same weights as one that was not.
"""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import astuple, dataclass, field
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from runtime.ahead import map_ahead
from runtime.errors import InputError, StoppedError
from train_job.checkpoint import Arrays, Checkpoint
from train_job.evaluate import evaluate
from train_job.prepare import DEFAULT_LIMITS, Limits, Plan, Prepared, new_program
from train_job.recipe import Epoch, Recipe
from train_job.rows import Order, RowSet
from train_job.steps import on_device, predictor

SAVE_SECONDS = 60.0
SHORT_SECONDS = 5.0
"""What a finished training took at most of which the state is not saved: it is done again as soon as it is read."""
PREDICT_BYTES = 2**25


@dataclass
class Progress:
    """How far a training has come: the epoch under way, its steps done, and what they measured."""

    epoch: int = 1
    step: int = 0
    loss: float = 0.0
    right: float = 0.0
    history: list[Epoch] = field(default_factory=list)
    best_epoch: int = 0
    best: list[NDArray[Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Fitted:
    """The history, and the epoch whose weights the head has now."""

    history: list[Epoch]
    epoch: int


def fit_head(
    head: Any,
    train: RowSet,
    validation: RowSet,
    recipe: Recipe,
    on_epoch: Callable[[Epoch], None],
    *,
    limits: Limits = DEFAULT_LIMITS,
    prepared: Prepared | None = None,
    checkpoint: Checkpoint | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Fitted:
    """Train ``head`` in place.

    Args:
        head: a Keras model from rows ``[N, D]`` to probabilities ``[N, C]``.
        train: the rows to learn from; they stream from their table where they exceed ``limits.memory``.
        validation: rows that are measured after each epoch; may be empty.
        recipe: how to learn.
        on_epoch: told of each epoch, at once of those that an earlier attempt did.
        limits: memory, and the length of a compiled program.
        prepared: the program for about so many rows; another is compiled where it does not suit.
        checkpoint: where the state is kept between attempts.
        stop: asked between compiled programs.

    Raises:
        InputError: the loss is no longer a number, or there is no validation row to stop early by.
        StoppedError: ``stop`` said so; the state is saved.
    """
    if recipe.needs_validation and not len(validation):
        raise InputError("there is no validation photo to choose the best epoch by", hint="change --split")
    training = _Training(head, train, recipe, limits, prepared)
    training.restore(checkpoint)
    for epoch in training.progress.history:
        on_epoch(epoch)
    started = saved = time.monotonic()
    for stopping, measured in training.run(_validating(head, validation)):
        if measured is not None:
            on_epoch(measured)
        if stopping:
            break
        if stop():
            training.save(checkpoint)
            raise StoppedError("stopped by SIGTERM", hint="run the same command again: it goes on from here")
        if checkpoint is not None and time.monotonic() - saved > SAVE_SECONDS:
            training.save(checkpoint)
            saved = time.monotonic()
    if time.monotonic() - started > SHORT_SECONDS:
        training.save(checkpoint)
    return training.finish()


class _Training:
    def __init__(
        self, head: Any, rows: RowSet, recipe: Recipe, limits: Limits, prepared: Prepared | None = None
    ) -> None:
        self.head, self.rows, self.recipe = head, rows, recipe
        self.plan = plan = Plan.of(len(rows), int(rows.table.shape[1]), recipe, limits)
        self.order = Order(len(rows), recipe.seed, plan.window)
        program = prepared.program() if prepared is not None else None
        if program is None or not program.suits(recipe.epochs * plan.steps, plan.chunk):
            program = new_program(head, plan, recipe, limits)
        self.program, self.optimizer = program, program.optimizer
        self.weights = tf.constant(recipe.weights_of(rows.labels, head.output_shape[-1]))
        self.resident = None if plan.window else on_device(rows.take(slice(None)))
        self.progress = Progress()

    def run(self, validate: Callable[[], tuple[float | None, float | None]]) -> Iterator[tuple[bool, Epoch | None]]:
        """One compiled program after another; yields whether to stop, and at an epoch's end what it measured."""
        progress = self.progress
        if progress.history and self._is_over():
            return
        for start, stop, rows, labels in map_ahead(self._inputs, self._chunks(), 1, 1):
            loss, right = self.program(stop - start, rows, labels, self.weights)
            if not np.isfinite(loss):
                raise InputError(f"the loss is {loss} in epoch {progress.epoch}", hint="lower --learning-rate")
            progress.loss, progress.right, progress.step = progress.loss + loss, progress.right + right, stop
            if stop < self.plan.steps:
                yield False, None
                continue
            measured = self._end_epoch(*validate())
            yield self._is_over(), measured

    def _chunks(self) -> Iterator[tuple[int, int, int]]:
        """The epoch and the steps ``[start, stop)`` in it of each program, from where the training stands."""
        step = self.progress.step
        for epoch in range(self.progress.epoch, self.recipe.epochs + 1):
            for start in range(step, self.plan.steps, self.plan.chunk):
                yield epoch, start, min(start + self.plan.chunk, self.plan.steps)
            step = 0

    def _inputs(self, chunk: tuple[int, int, int]) -> tuple[int, int, Any, Any]:
        """Where the chunk starts and stops, and what the program takes: rows and labels, filled up with any."""
        epoch, start, stop = chunk
        batch, before = self.recipe.batch_size, (epoch - 1) * self.plan.steps
        places = self.order.places((before + start) * batch, (before + stop) * batch)
        places = np.concatenate([places, np.zeros(self.program.most * batch - len(places), np.int64)])
        rows = on_device(self.rows.take(places)) if self.resident is None else tf.gather(self.resident, places)
        return start, stop, rows, tf.constant(self.rows.labels[places])

    def _end_epoch(self, val_loss: float | None, val_accuracy: float | None) -> Epoch:
        progress, steps = self.progress, self.plan.steps
        accuracy = progress.right / (steps * self.recipe.batch_size)
        measured = Epoch(progress.epoch, progress.loss / steps, accuracy, val_loss, val_accuracy)
        progress.history.append(measured)
        if self.recipe.needs_validation and measured == _best(progress.history):
            progress.best_epoch, progress.best = measured.epoch, self.head.get_weights()
        progress.epoch, progress.step, progress.loss, progress.right = progress.epoch + 1, 0, 0.0, 0.0
        return measured

    def _is_over(self) -> bool:
        patience = self.recipe.early_stopping
        done = len(self.progress.history)
        return done == self.recipe.epochs or (patience is not None and done - self.progress.best_epoch >= patience)

    def restore(self, checkpoint: Checkpoint | None) -> None:
        """Go on from the state that an earlier attempt saved, if it did."""
        arrays = None if checkpoint is None else checkpoint.load()
        if arrays is None:
            return
        state = json.loads(str(arrays["progress"]))
        history = [Epoch(*values) for values in state.pop("history")]
        self.head.set_weights(_named(arrays, "head"))
        for variable, value in zip(self.optimizer.variables, _named(arrays, "optimizer"), strict=True):
            variable.assign(value)
        self.progress = Progress(**state, history=history, best=_named(arrays, "best"))

    def save(self, checkpoint: Checkpoint | None) -> None:
        """Save everything that the rest of the training depends on."""
        if checkpoint is None:
            return
        state = vars(self.progress) | {"history": [astuple(epoch) for epoch in self.progress.history]}
        best = state.pop("best")
        lists = {
            "head": self.head.get_weights(),
            "optimizer": [np.asarray(variable) for variable in self.optimizer.variables],
            "best": best,
        }
        arrays: Arrays = {f"{name}.{i}": one for name, several in lists.items() for i, one in enumerate(several)}
        checkpoint.save(arrays | {"progress": np.array(json.dumps(state))})

    def finish(self) -> Fitted:
        """The best weights where they were asked for, else the last."""
        if self.progress.best:
            self.head.set_weights(self.progress.best)
        return Fitted(self.progress.history, self.progress.best_epoch or len(self.progress.history))


def _named(arrays: Arrays, name: str) -> list[NDArray[Any]]:
    """The arrays ``name.0``, ``name.1``…"""
    found: list[NDArray[Any]] = []
    while f"{name}.{len(found)}" in arrays:
        found.append(arrays[f"{name}.{len(found)}"])
    return found


def _best(history: list[Epoch]) -> Epoch:
    """The first epoch of the lowest validation loss."""
    return min(history, key=lambda epoch: np.inf if epoch.val_loss is None else epoch.val_loss)


def _validating(head: Any, rows: RowSet) -> Callable[[], tuple[float | None, float | None]]:
    """A function that measures the log loss and accuracy on ``rows``; few of them stay on the device."""
    predict, chunk = predictor(head), _chunk(rows)
    resident = on_device(rows.take(slice(None))) if 0 < len(rows) <= chunk else None

    def measure() -> tuple[float | None, float | None]:
        if not len(rows):
            return None, None
        found = _in_chunks(predict, rows, chunk) if resident is None else predict(resident).numpy()
        scores = evaluate(found, rows.labels)
        return scores.log_loss, scores.accuracy

    return measure


def predict_rows(head: Any, rows: RowSet) -> NDArray[np.float32]:
    """The head's probabilities ``[N, classes]`` for every row, at least one, in chunks."""
    return _in_chunks(predictor(head), rows, _chunk(rows))


def _chunk(rows: RowSet) -> int:
    return max(1, PREDICT_BYTES // (4 * int(rows.table.shape[1])))


def _in_chunks(predict: Callable[[Any], Any], rows: RowSet, chunk: int) -> NDArray[np.float32]:
    starts = range(0, len(rows), chunk)
    return np.concatenate([predict(on_device(rows.take(slice(start, start + chunk)))).numpy() for start in starts])
