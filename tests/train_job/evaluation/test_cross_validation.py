from typing import Any

import numpy as np
import pytest

from tests.train_job.recipes import make_recipe
from train_job.head.row_sets import RowSet


def validated(labels: list[int], rows: Any, groups: list[int] | None = None, folds: int = 5) -> Any:
    from train_job.evaluation.cross_validation import cross_validate
    from train_job.head.compiled_loop import ResourceLimits

    table = np.asarray(rows, np.float16)
    row_set = RowSet(table, np.arange(len(labels)), np.array(labels, np.int32))
    recipe = make_recipe(epochs=20, learning_rate=0.05)
    group_ids = np.arange(len(labels)) if groups is None else np.array(groups)
    classes = max(labels) + 1
    limits = ResourceLimits(2**26)
    return cross_validate(row_set, group_ids, classes, recipe, 8, folds, limits, lambda: None, lambda: False)


def test_every_photo_is_predicted_by_a_head_that_did_not_learn_it() -> None:
    labels = [0, 1] * 10
    rows = np.array([[4.0, 0.0] if label else [0.0, 4.0] for label in labels])
    found = validated(labels, rows)
    assert found.probabilities.shape == (20, 2)
    assert np.bincount(found.fold).tolist() == [4] * 5
    assert found.to_dict()["mean"] == 1
    assert found.to_dict()["count"] == len(found.accuracies) == 5


def test_a_memorised_label_does_not_help_its_own_photo() -> None:
    rows = np.eye(12)
    found = validated([0, 1] * 6, rows)
    assert np.mean(found.accuracies) < 0.9


def test_a_class_with_one_photo_is_predicted_wrongly_and_stops_nothing() -> None:
    labels = [0, 0, 0, 1, 1, 1, 2]
    rows = np.eye(3)[labels] * 4
    found = validated(labels, rows)
    assert len(found.accuracies) == 3  # the photos of the largest class
    assert found.probabilities[6].argmax() != 2


def test_near_duplicates_share_a_fold() -> None:
    found = validated([0, 1] * 6, np.eye(12), groups=[0, 1, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
    assert found.fold[0] == found.fold[2]
    assert found.fold[1] == found.fold[3]


@pytest.mark.parametrize("labels", [[0, 1], [0, 1, 2, 3]])
def test_without_a_class_of_two_photos_there_is_no_cross_validation(labels: list[int]) -> None:
    assert validated(labels, np.eye(len(labels))) is None
