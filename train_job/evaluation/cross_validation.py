"""Cross-validation: with few photos, one small test split says little; as many heads as folds say more.

The base runs no more often: the heads train on the rows that are there.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold

from train_job.evaluation.metrics import wilson_interval
from train_job.head.compiled_loop import ResourceLimits
from train_job.head.fit import fit_head, predict_rows
from train_job.head.model import head_model
from train_job.head.recipe import Recipe
from train_job.head.row_sets import RowSet
from train_job.scores import score_predictions


def cross_validate(
    rows: RowSet,
    groups: NDArray[np.int64],
    classes: int,
    recipe: Recipe,
    hidden_units: int,
    folds: int,
    limits: ResourceLimits,
    on_epoch: Callable[[], None],
    stop: Callable[[], bool],
) -> Mapping[str, Any] | None:
    """Train a head on all photos but a fold's and judge it on those, for each fold.

    Photos that look alike are in one fold. Augmented views are not used, and every epoch of the recipe is run: nothing
    of a fold may decide anything. Returns ``count``, each fold's accuracy, their mean, and Wilson's 95 % interval of
    all photos together; None where some class has fewer than two photos.

    Raises:
        StoppedError: ``stop`` said so.
    """
    folds = min(folds, int(np.bincount(rows.labels).min()))
    if folds < 2:
        return None
    plain = replace(recipe, early_stopping=None, keep_best=False)
    parts = StratifiedGroupKFold(folds, shuffle=True, random_state=recipe.seed).split(rows.ids, rows.labels, groups)
    keras.utils.set_random_seed(recipe.seed)
    head = head_model(int(rows.table.shape[1]), hidden_units, classes)
    start = head.get_weights()
    accuracies: list[float] = []
    right = 0
    for learn, judge in parts:
        head.set_weights(start)
        nothing = _some(rows, judge[:0])
        fit_head(head, _some(rows, learn), nothing, plain, lambda _: on_epoch(), limits=limits, stop=stop)
        scores = score_predictions(predict_rows(head, _some(rows, judge)), rows.labels[judge])
        accuracies.append(scores.accuracy)
        right += int(np.trace(scores.confusion))
    return {
        "count": folds,
        "accuracies": accuracies,
        "mean": float(np.mean(accuracies)),
        "interval": wilson_interval(right, len(rows)),
    }


def _some(rows: RowSet, places: Any) -> RowSet:
    return replace(rows, ids=rows.ids[places], labels=rows.labels[places])
