"""Result of a fit, and the saved result of a fit that an earlier attempt finished."""

import json
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from train_job.head.checkpoint import Arrays, Checkpoint
from train_job.head.early_stopping import is_finished
from train_job.head.recipe import Epoch, Recipe


@dataclass(frozen=True)
class FitResult:
    """The metrics of each epoch, and the epoch whose weights the head ends with."""

    history: list[Epoch]
    epoch: int


def restore_finished(head: Any, recipe: Recipe, checkpoint: Checkpoint | None) -> FitResult | None:
    """Set the weights of a fit that an earlier attempt finished; None if there is none."""
    arrays = None if checkpoint is None else checkpoint.load()
    if arrays is None:
        return None
    state = json.loads(str(arrays["progress"]))
    history = [Epoch(*values) for values in state["history"]]
    if not history or not is_finished(len(history), state["best_epoch"], recipe.epochs, recipe.early_stopping):
        return None
    head.set_weights(numbered(arrays, "best") or numbered(arrays, "head"))
    return FitResult(history, state["best_epoch"] or len(history))


def numbered(arrays: Arrays, name: str) -> list[NDArray[Any]]:
    """The arrays ``name.0``, ``name.1``, ..."""
    values: list[NDArray[Any]] = []
    while f"{name}.{len(values)}" in arrays:
        values.append(arrays[f"{name}.{len(values)}"])
    return values
