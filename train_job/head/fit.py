"""Fit the head on feature rows with compiled programs of whole epochs.

The order of the rows depends only on the seed and the position, and the state is saved between calls of the program.
So an interrupted fit ends with the same weights as one that was not interrupted.
"""

import json
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import astuple, dataclass, field
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from train_job.head.checkpoint import Arrays, Checkpoint
from train_job.head.class_weights import class_weight_vector
from train_job.head.compiled_loop import (
    DEFAULT_LIMITS,
    LabelledRows,
    PreparedProgram,
    ResourceLimits,
    StepPlan,
    ValidationChunk,
    new_program,
    on_device,
    predict_function,
)
from train_job.head.early_stopping import is_finished
from train_job.head.finished_fit import FitResult, numbered, restore_finished
from train_job.head.optimizer import set_total_steps
from train_job.head.recipe import Epoch, Recipe
from train_job.head.row_sets import RowSet, ShuffledOrder
from train_job.sigterm import stopped_by_sigterm
from transferlite.errors import InputError
from transferlite.storage.prefetch import prefetch_map

SAVE_SECONDS = 60.0
"""Seconds between checkpoints."""
SHORT_SECONDS = 1.0
"""Finished fits shorter than this are not checkpointed: rerunning is as fast as loading."""
PREDICT_BYTES = 2**25
"""Size of the float32 rows that are predicted at once."""


@dataclass
class Progress:
    """State of a fit: the current epoch, its finished steps and sums, and the epochs before."""

    epoch: int = 1
    step: int = 0
    loss: float = 0.0
    correct: float = 0.0
    history: list[Epoch] = field(default_factory=list)
    best_epoch: int = 0
    best: list[NDArray[Any]] = field(default_factory=list)


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
) -> FitResult:
    """Fit ``head`` in place.

    Args:
        head: a Keras model from feature rows ``[N, D]`` to probabilities ``[N, C]``.
        train: training rows, streamed from their table if they exceed ``limits.max_bytes``.
        validation: rows measured after each epoch; may be empty.
        recipe: settings of the fit.
        on_epoch: called with each epoch's metrics, first with those of an earlier attempt.
        limits: memory, and size of a program.
        prepared: a program compiled for about as many rows; if its calls are too short, another is compiled.
        checkpoint: state kept between attempts.
        stop: called between programs; True stops the fit.

    Raises:
        InputError: the loss is not finite, or the recipe needs validation rows and there are none.
        StoppedError: ``stop`` returned True; the state is saved.
    """
    if recipe.needs_validation and not len(validation):
        raise InputError("there is no validation photo to choose the best epoch by", hint="change --split")
    if prepared is not None:
        prepared.wait()
    if finished := restore_finished(head, recipe, checkpoint):
        for epoch in finished.history:
            on_epoch(epoch)
        return finished
    fit = _Fit(head, train, validation, recipe, limits, prepared)
    fit.restore(checkpoint)
    for epoch in fit.progress.history:
        on_epoch(epoch)
    started = saved = time.monotonic()
    for is_over in fit.run(on_epoch):
        if is_over:
            break
        if stop():
            fit.save(checkpoint)
            raise stopped_by_sigterm()
        if checkpoint is not None and time.monotonic() - saved > SAVE_SECONDS:
            fit.save(checkpoint)
            saved = time.monotonic()
    if time.monotonic() - started > SHORT_SECONDS:
        fit.save(checkpoint)
    return fit.finish()


@dataclass(frozen=True)
class _Call:
    """One call of the program: ``steps`` steps from step ``start`` of ``epoch``, and of each following epoch."""

    epoch: int
    start: int
    steps: int
    epochs: int


class _Fit:
    """A fit in progress."""

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
        self.order = ShuffledOrder(len(rows), recipe.seed, plan.shuffle_window)
        program = prepared.program() if prepared is not None else None
        if program is None or program.max_steps < plan.steps_per_call:
            program = new_program(head, plan, recipe, limits)
        set_total_steps(program.optimizer, recipe.epochs * plan.steps_per_epoch)
        self.program, self.optimizer = program, program.optimizer
        self.class_weights = tf.constant(class_weight_vector(recipe.class_weights, rows.labels, head.output_shape[-1]))
        self.resident = None if plan.shuffle_window else on_device(rows.take(slice(None)))
        self.validation = _ValidationChunks(validation, program.validation_rows)
        self.progress = Progress()

    def run(self, on_epoch: Callable[[Epoch], None]) -> Iterator[bool]:
        """Call the program until the fit is over; yields after each call whether it was the last."""
        progress = self.progress
        for call, rows in prefetch_map(self._inputs, self._calls(), 1, 1):
            ends_epoch = call.start + call.steps == self.plan.steps_per_epoch
            for loss, correct, val_loss, val_correct in self._execute(call, rows, validate=ends_epoch).tolist():
                if not np.isfinite(loss):
                    raise InputError(f"the loss is {loss} in epoch {progress.epoch}", hint="lower --learning-rate")
                progress.loss, progress.correct = progress.loss + loss, progress.correct + correct
                if ends_epoch:
                    on_epoch(self._end_epoch(val_loss, val_correct))
            if not ends_epoch:
                progress.step = call.start + call.steps
            yield ends_epoch and self._is_over()

    def _execute(self, call: _Call, rows: LabelledRows, validate: bool) -> NDArray[np.float64]:
        """Execute a call and sum over the validation chunks; returns ``[epochs, 4]`` as the program does."""
        steps, results = call.steps, np.zeros((call.epochs, 4))
        for chunk in self.validation.chunks() if validate else [self.validation.empty]:
            results += self.program(call.epochs, steps, rows, self.class_weights, chunk)
            steps = 0  # only the first chunk's call trains
        return results

    def _calls(self) -> Iterator[_Call]:
        """The remaining calls: several epochs each if nothing has to be decided between them."""
        steps, steps_per_call = self.plan.steps_per_epoch, self.plan.steps_per_call
        validation_rows = len(self.validation.rows)
        one_epoch = self.plan.max_steps == steps_per_call or validation_rows > self.program.validation_rows
        validation_steps = validation_rows // (3 * self.recipe.batch_size)  # without gradients: a third of the work
        epochs_per_call = 1 if one_epoch else max(1, self.program.max_steps // (steps + validation_steps))
        epoch, start = self.progress.epoch, self.progress.step
        while epoch <= self.recipe.epochs:
            epochs = min(epochs_per_call, self.recipe.epochs + 1 - epoch) if start == 0 else 1
            yield _Call(epoch, start, min(steps_per_call, steps - start), epochs)
            start += steps_per_call
            if start >= steps:
                epoch, start = epoch + epochs, 0

    def _inputs(self, call: _Call) -> tuple[_Call, LabelledRows]:
        """The call with its rows and labels, padded to the size that the program takes."""
        batch, first = self.recipe.batch_size, (call.epoch - 1) * self.plan.steps_per_epoch + call.start
        indices = self.order.row_indices(first * batch, (first + call.epochs * call.steps) * batch)
        indices = np.concatenate([indices, np.zeros(self.program.max_steps * batch - len(indices), np.int64)])
        rows = on_device(self.rows.take(indices)) if self.resident is None else tf.gather(self.resident, indices)
        return call, (rows, tf.constant(self.rows.labels[indices]))

    def _end_epoch(self, val_loss: float, val_correct: float) -> Epoch:
        """Add the finished epoch to the history, from the sums over its steps and over the validation rows."""
        progress, steps, validation_rows = self.progress, self.plan.steps_per_epoch, len(self.validation.rows)
        accuracy = progress.correct / (steps * self.recipe.batch_size)
        validated = (val_loss / validation_rows, val_correct / validation_rows) if validation_rows else (None, None)
        epoch = Epoch(progress.epoch, progress.loss / steps, accuracy, *validated)
        progress.history.append(epoch)
        if self.recipe.needs_validation and epoch == _best_epoch(progress.history):
            progress.best_epoch, progress.best = epoch.epoch, self.head.get_weights()
        progress.epoch, progress.step, progress.loss, progress.correct = progress.epoch + 1, 0, 0.0, 0.0
        return epoch

    def _is_over(self) -> bool:
        progress, recipe = self.progress, self.recipe
        return is_finished(len(progress.history), progress.best_epoch, recipe.epochs, recipe.early_stopping)

    def restore(self, checkpoint: Checkpoint | None) -> None:
        """Resume from the checkpoint of an earlier attempt, if there is one."""
        arrays = None if checkpoint is None else checkpoint.load()
        if arrays is None:
            return
        state = json.loads(str(arrays["progress"]))
        history = [Epoch(*values) for values in state.pop("history")]
        self.head.set_weights(numbered(arrays, "head"))
        for variable, value in zip(self.optimizer.variables, numbered(arrays, "optimizer"), strict=True):
            variable.assign(value)
        self.progress = Progress(**state, history=history, best=numbered(arrays, "best"))

    def save(self, checkpoint: Checkpoint | None) -> None:
        """Save the weights, the optimizer's variables and the progress."""
        if checkpoint is None:
            return
        state = vars(self.progress) | {"history": [astuple(epoch) for epoch in self.progress.history]}
        lists = {
            "head": self.head.get_weights(),
            "optimizer": [np.asarray(variable) for variable in self.optimizer.variables],
            "best": state.pop("best"),
        }
        arrays: Arrays = {f"{name}.{i}": array for name, values in lists.items() for i, array in enumerate(values)}
        checkpoint.save(arrays | {"progress": np.array(json.dumps(state))})

    def finish(self) -> FitResult:
        """Set the best epoch's weights if the recipe keeps them; otherwise the last epoch's stay."""
        if self.progress.best:
            self.head.set_weights(self.progress.best)
        return FitResult(self.progress.history, self.progress.best_epoch or len(self.progress.history))


def _best_epoch(history: list[Epoch]) -> Epoch:
    """The first epoch with the lowest validation loss."""
    return min(history, key=lambda epoch: np.inf if epoch.val_loss is None else epoch.val_loss)


class _ValidationChunks:
    """Validation rows in chunks of ``size``, as a program takes them; the first chunk stays on the device."""

    def __init__(self, rows: RowSet, size: int) -> None:
        self.rows, self.size = rows, size
        self._first = self._chunk(0)
        self.empty: ValidationChunk = (0, *self._first[1:])

    def chunks(self) -> Iterator[ValidationChunk]:
        """All chunks; a single empty one if there are no rows."""
        yield self._first
        yield from map(self._chunk, range(self.size, len(self.rows), self.size))

    def _chunk(self, start: int) -> ValidationChunk:
        part = slice(start, min(start + self.size, len(self.rows)))
        count = part.stop - start
        if not count:
            return 0, tf.zeros((self.size, self.rows.table.shape[1]), tf.float16), tf.zeros(self.size, tf.int32)
        padding = [0, self.size - count]
        rows = tf.pad(on_device(self.rows.take(part)), [padding, [0, 0]])
        return count, rows, tf.pad(self.rows.labels[part], [padding])


def predict_probabilities(head: Any, rows: RowSet, max_bytes: int = 2**30) -> NDArray[np.float32]:
    """Predict the probabilities ``[N, C]`` of at least one row; above ``max_bytes`` they are in a temporary file."""
    shape = len(rows), int(head.output_shape[-1])
    if 4 * shape[0] * shape[1] > max_bytes:
        with tempfile.TemporaryFile() as file:
            probabilities: NDArray[np.float32] = np.memmap(file, np.float32, "w+", shape=shape)
    else:
        probabilities = np.empty(shape, np.float32)
    for part, values in predict_in_chunks(head, rows):
        probabilities[part] = values
    return probabilities


def predict_in_chunks(head: Any, rows: RowSet) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    """Yield the probabilities ``[n, C]`` of runs of rows whose inputs and outputs take :data:`PREDICT_BYTES`."""
    width = max(int(rows.table.shape[1]), int(head.output_shape[-1]))
    predict, chunk = predict_function(head), max(1, PREDICT_BYTES // (4 * width))
    for start in range(0, len(rows), chunk):
        part = slice(start, min(start + chunk, len(rows)))
        yield part, predict(on_device(rows.take(part))).numpy()
