"""Cross-validate the head: with few photos, several folds estimate the accuracy better than one small test split.

The backbone does not run again: all heads train on the feature rows that exist.
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
from train_job.head.fit import fit_head, predict_probabilities
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
    """Train a head per fold on the photos outside the fold, and evaluate it on the fold.

    Near-duplicates share a fold. Augmented views are not used, and early stopping is off, so that a fold never
    influences the head that it evaluates.

    Args:
        rows: feature rows of all photos.
        groups: group of near-duplicates of each photo, ``[N]``.
        classes: number of classes.
        recipe: settings of the fit.
        hidden_units: units of the head's hidden layer.
        folds: number of folds, at most the photos of the smallest class.
        limits: limits of the fit.
        on_epoch: called after each epoch.
        stop: called between programs; True stops the fit.

    Returns:
        ``count``, the ``accuracies`` of the folds, their ``mean``, and Wilson's 95% ``interval`` over all photos; None
        if a class has fewer than two photos.

    Raises:
        StoppedError: ``stop`` returned True.
    """
    folds = min(folds, int(np.bincount(rows.labels).min()))
    if folds < 2:
        return None
    plain = replace(recipe, early_stopping=None, keep_best=False)
    splits = StratifiedGroupKFold(folds, shuffle=True, random_state=recipe.seed).split(rows.ids, rows.labels, groups)
    keras.utils.set_random_seed(recipe.seed)
    head = head_model(int(rows.table.shape[1]), hidden_units, classes)
    initial = head.get_weights()
    accuracies: list[float] = []
    correct = 0
    for train, test in splits:
        head.set_weights(initial)
        no_validation = _subset(rows, test[:0])
        fit_head(head, _subset(rows, train), no_validation, plain, lambda _: on_epoch(), limits=limits, stop=stop)
        scores = score_predictions(predict_probabilities(head, _subset(rows, test)), rows.labels[test])
        accuracies.append(scores.accuracy)
        correct += int(np.trace(scores.confusion))
    return {
        "count": folds,
        "accuracies": accuracies,
        "mean": float(np.mean(accuracies)),
        "interval": wilson_interval(correct, len(rows)),
    }


def _subset(rows: RowSet, positions: Any) -> RowSet:
    return replace(rows, ids=rows.ids[positions], labels=rows.labels[positions])
