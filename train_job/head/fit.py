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

from train_job.head.checkpoint import Arrays, Checkpoint
from train_job.head.compiled_loop import (
    DEFAULT_LIMITS,
    HeldOut,
    Labelled,
    PreparedProgram,
    ResourceLimits,
    StepPlan,
    new_program,
    on_device,
    predictor,
)
from train_job.head.recipe import Epoch, Recipe
from train_job.head.row_sets import RowSet, ShuffledOrder
from transferlite.errors import InputError, StoppedError
from transferlite.storage.prefetch import prefetch_map

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
    limits: ResourceLimits = DEFAULT_LIMITS,
    prepared: PreparedProgram | None = None,
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
    training = _Training(head, train, validation, recipe, limits, prepared)
    training.restore(checkpoint)
    for epoch in training.progress.history:
        on_epoch(epoch)
    started = saved = time.monotonic()
    for stopping in training.run(on_epoch):
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


@dataclass(frozen=True)
class _Chunk:
    """What one call does: ``steps`` steps from ``start`` in ``epoch``, and as many in the epochs that follow."""

    epoch: int
    start: int
    steps: int
    epochs: int


class _Training:
    def __init__(
        self,
        head: Any,
        rows: RowSet,
        validation: RowSet,
        recipe: Recipe,
        limits: ResourceLimits,
        prepared: PreparedProgram | None = None,
    ) -> None:
        self.head, self.rows, self.recipe = head, rows, recipe
        self.plan = plan = StepPlan.of(len(rows), int(rows.table.shape[1]), recipe, limits)
        self.order = ShuffledOrder(len(rows), recipe.seed, plan.window)
        program = prepared.program() if prepared is not None else None
        if program is None or not program.suits(recipe.epochs * plan.steps, plan.chunk):
            program = new_program(head, plan, recipe, limits)
        self.program, self.optimizer = program, program.optimizer
        self.weights = tf.constant(recipe.weights_of(rows.labels, head.output_shape[-1]))
        self.resident = None if plan.window else on_device(rows.take(slice(None)))
        self.validation = _Validation(validation, program.held_out)
        self.progress = Progress()

    def run(self, on_epoch: Callable[[Epoch], None]) -> Iterator[bool]:
        """One call of the program after another; yields after each whether that was the last."""
        progress = self.progress
        if progress.history and self._is_over():
            return
        for chunk, rows in prefetch_map(self._inputs, self._chunks(), 1, 1):
            ends = chunk.start + chunk.steps == self.plan.steps
            steps, measured = chunk.steps, np.zeros((chunk.epochs, 4))
            for piece in self.validation.pieces() if ends else [self.validation.nothing]:
                measured += self.program(chunk.epochs, steps, rows, self.weights, piece)
                steps = 0  # only the first piece's call learns too
            for loss, right, nats, val_right in measured.tolist():
                if not np.isfinite(loss):
                    raise InputError(f"the loss is {loss} in epoch {progress.epoch}", hint="lower --learning-rate")
                progress.loss, progress.right = progress.loss + loss, progress.right + right
                if ends:
                    on_epoch(self._end_epoch(nats, val_right))
            if not ends:
                progress.step = chunk.start + chunk.steps
            yield ends and self._is_over()

    def _chunks(self) -> Iterator[_Chunk]:
        """What each call does, from where the training stands: several epochs where that is all the same."""
        steps, chunk, held_out = self.plan.steps, self.plan.chunk, len(self.validation.rows)
        alone = self.plan.most == chunk or held_out > self.program.held_out
        measuring = held_out // (3 * self.recipe.batch_size)  # in steps: only forward, a third of one's work
        together = 1 if alone else max(1, self.program.most // (steps + measuring))
        epoch, start = self.progress.epoch, self.progress.step
        while epoch <= self.recipe.epochs:
            epochs = min(together, self.recipe.epochs + 1 - epoch) if start == 0 else 1
            yield _Chunk(epoch, start, min(chunk, steps - start), epochs)
            start += chunk
            if start >= steps:
                epoch, start = epoch + epochs, 0

    def _inputs(self, chunk: _Chunk) -> tuple[_Chunk, Labelled]:
        """The chunk, and what the program takes: rows and labels, filled up with any."""
        batch, first = self.recipe.batch_size, (chunk.epoch - 1) * self.plan.steps + chunk.start
        places = self.order.places(first * batch, (first + chunk.epochs * chunk.steps) * batch)
        places = np.concatenate([places, np.zeros(self.program.most * batch - len(places), np.int64)])
        rows = on_device(self.rows.take(places)) if self.resident is None else tf.gather(self.resident, places)
        return chunk, (rows, tf.constant(self.rows.labels[places]))

    def _end_epoch(self, nats: float, val_right: float) -> Epoch:
        progress, steps, held_out = self.progress, self.plan.steps, len(self.validation.rows)
        accuracy = progress.right / (steps * self.recipe.batch_size)
        validated = (nats / held_out, val_right / held_out) if held_out else (None, None)
        measured = Epoch(progress.epoch, progress.loss / steps, accuracy, *validated)
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


class _Validation:
    """Validation rows in pieces of ``most``, as a program takes them; the first piece stays on the device."""

    def __init__(self, rows: RowSet, most: int) -> None:
        self.rows, self.most = rows, most
        self._first = self._piece(0)
        self.nothing: HeldOut = (0, *self._first[1:])

    def pieces(self) -> Iterator[HeldOut]:
        """All of them: one that is empty where there are no rows."""
        yield self._first
        yield from map(self._piece, range(self.most, len(self.rows), self.most))

    def _piece(self, start: int) -> HeldOut:
        some = slice(start, min(start + self.most, len(self.rows)))
        count = some.stop - start
        if not count:
            return 0, tf.zeros((self.most, self.rows.table.shape[1]), tf.float16), tf.zeros(self.most, tf.int32)
        filled = [0, self.most - count]
        return (
            count,
            tf.pad(on_device(self.rows.take(some)), [filled, [0, 0]]),
            tf.pad(self.rows.labels[some], [filled]),
        )


def predict_rows(head: Any, rows: RowSet) -> NDArray[np.float32]:
    """The head's probabilities ``[N, classes]`` for every row, at least one, in chunks."""
    return _in_chunks(predictor(head), rows, _chunk(rows))


def _chunk(rows: RowSet) -> int:
    return max(1, PREDICT_BYTES // (4 * int(rows.table.shape[1])))


def _in_chunks(predict: Callable[[Any], Any], rows: RowSet, chunk: int) -> NDArray[np.float32]:
    starts = range(0, len(rows), chunk)
    return np.concatenate([predict(on_device(rows.take(slice(start, start + chunk)))).numpy() for start in starts])
