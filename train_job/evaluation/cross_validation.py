"""Cross-validate the head: with few photos, several folds estimate the accuracy better than one small test split.

The backbone does not run again: all heads train on the feature rows that exist.
"""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold

from train_job.evaluation.metrics import wilson_interval
from train_job.head.compiled_loop import PreparedProgram, ResourceLimits
from train_job.head.fit import fit_head, predict_probabilities
from train_job.head.model import head_model
from train_job.head.recipe import Recipe
from train_job.head.row_sets import RowSet

DEFAULT_FOLDS = 5
"""Folds when a cross-validation is needed and ``--folds`` is not given."""


@dataclass(frozen=True)
class CrossValidation:
    """Out-of-fold predictions: each photo is predicted by a head that did not learn it or its near-duplicates.

    Attributes:
        probabilities: predictions of all photos, ``[N, C]``.
        labels: true labels, ``[N]``.
        fold: fold of each photo, ``[N]``.
    """

    probabilities: NDArray[np.float32]
    labels: NDArray[np.int32]
    fold: NDArray[np.int64]

    @property
    def accuracies(self) -> list[float]:
        """Accuracy of each fold."""
        right = self.probabilities.argmax(axis=1) == self.labels
        return [float(right[self.fold == fold].mean()) for fold in np.unique(self.fold)]

    def to_dict(self) -> dict[str, Any]:
        """The entry ``folds`` of evaluation.json, with Wilson's 95% interval over all photos."""
        right = int((self.probabilities.argmax(axis=1) == self.labels).sum())
        accuracies = self.accuracies
        return {
            "count": len(accuracies),
            "accuracies": accuracies,
            "mean": float(np.mean(accuracies)),
            "interval": wilson_interval(right, len(self.labels)),
        }

    def log_line(self) -> str:
        """Describe the result in one line."""
        result = self.to_dict()
        low, high = result["interval"]
        return (
            f"cross-validation: mean accuracy {result['mean']:.4f} over {result['count']} folds,"
            f" 95% interval {low:.3f} to {high:.3f}"
        )


def fold_count(labels: NDArray[np.int32], folds: int) -> int:
    """Return the number of folds that is possible, at most the photos of the largest class; below 2, none is."""
    return min(folds, int(np.bincount(labels).max(initial=0)))


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
) -> CrossValidation | None:
    """Train a head per fold on the photos outside the fold, and evaluate it on the fold.

    Near-duplicates share a fold. Augmented views are not used, and early stopping is off, so that a fold never
    influences the head that it evaluates. The photo of a class with a single photo is always predicted wrongly.

    Args:
        rows: feature rows of all photos.
        groups: group of near-duplicates of each photo, ``[N]``.
        classes: number of classes.
        recipe: settings of the fit.
        hidden_units: units of the head's hidden layer.
        folds: number of folds, at most the photos of the largest class.
        limits: limits of the fit.
        on_epoch: called after each epoch.
        stop: called between programs; True stops the fit.

    Returns:
        The out-of-fold predictions; None if no class has two photos.

    Raises:
        StoppedError: ``stop`` returned True.
    """
    folds = fold_count(rows.labels, folds)
    if folds < 2:
        return None
    plain = replace(recipe, early_stopping=None, keep_best=False)
    keras.utils.set_random_seed(recipe.seed)
    head = head_model(int(rows.table.shape[1]), hidden_units, classes)
    initial = head.get_weights()
    program = PreparedProgram(head, len(rows), plain, limits)
    program.program()
    probabilities = np.zeros((len(rows), classes), np.float32)
    fold_of = np.zeros(len(rows), np.int64)
    for fold, (train, test) in enumerate(_folds(rows, groups, folds, recipe.seed)):
        head.set_weights(initial)
        fit_head(
            head,
            _subset(rows, train),
            _subset(rows, test[:0]),
            plain,
            lambda _: on_epoch(),
            limits=limits,
            prepared=program,
            stop=stop,
        )
        probabilities[test], fold_of[test] = predict_probabilities(head, _subset(rows, test)), fold
    return CrossValidation(probabilities, rows.labels, fold_of)


def _folds(rows: RowSet, groups: NDArray[np.int64], folds: int, seed: int) -> Iterator[tuple[Any, Any]]:
    """Yield the positions of the training and the test photos of each fold that has both."""
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a class may have fewer photos than there are folds
        splits = list(splitter.split(rows.ids, rows.labels, groups))
    yield from ((train, test) for train, test in splits if len(train) and len(test))


def _subset(rows: RowSet, positions: Any) -> RowSet:
    return replace(rows, ids=rows.ids[positions], labels=rows.labels[positions])
