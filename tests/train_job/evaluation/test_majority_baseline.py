import numpy as np
import pytest

from train_job.evaluation.majority_baseline import FLOOR_LEVEL, compare_with_majority


def test_the_counts_and_the_p_value_are_those_computed_by_hand() -> None:
    labels = np.array([0] * 5 + [1] * 5, np.int32)
    predicted = np.array([0, 0, 0, 0, 0, 1, 1, 1, 0, 0])
    found = compare_with_majority(predicted, labels, ("cat", "dog"))
    assert (found.label, found.photos, found.right, found.constant_right) == ("cat", 10, 8, 5)
    assert found.p_value == pytest.approx((11 + 45 / 2) / 1024)  # of 10 coins over 8 heads, and half of exactly 8


@pytest.mark.parametrize(
    ("right", "is_better"),
    [([True, False], False), ([True, True], False), ([True] * 4, False), ([True] * 6, True), ([True] * 24, True)],
)
def test_two_test_photos_never_show_that_a_version_is_good(right: list[bool], is_better: bool) -> None:
    labels = np.arange(len(right), dtype=np.int32) % 2
    predicted = np.where(right, labels, 1 - labels)
    assert compare_with_majority(predicted, labels, ("cat", "dog")).is_better is is_better


def test_the_constant_prediction_itself_is_not_better() -> None:
    labels = np.array([0] * 90 + [1] * 10, np.int32)
    found = compare_with_majority(np.zeros(100, np.int64), labels, ("cat", "dog"))
    assert found.right == 90
    assert found.p_value == pytest.approx(0.5, abs=0.06)
    assert found.reasons() == [
        "not shown to be better than always predicting 'cat': 90 of 100 test photos are right, 90 with that prediction"
        f" (p = {found.p_value:.2g}, limit 0.02); add photos, or pass --promote always"
    ]


def test_random_predictions_are_better_in_no_more_cases_than_the_level() -> None:
    random = np.random.default_rng(0)
    labels = np.arange(60, dtype=np.int32) % 3
    better = [compare_with_majority(random.integers(0, 3, 60), labels, "abc").is_better for _ in range(2000)]
    assert np.mean(better) <= FLOOR_LEVEL + 0.01


def test_many_classes_of_few_photos_need_few_right_predictions() -> None:
    labels = np.arange(80, dtype=np.int32) % 40
    predicted = np.where(np.arange(80) < 12, labels, (labels + 1) % 40)
    names = [f"c{n}" for n in range(40)]
    assert compare_with_majority(predicted, labels, names).is_better
    assert not compare_with_majority(np.roll(labels, 1), labels, names).is_better


def test_cross_validated_photos_are_named_in_the_reason() -> None:
    labels = np.array([0, 1], np.int32)
    (reason,) = compare_with_majority(labels[::-1].astype(np.int64), labels, ("a", "b"), 1).reasons()
    assert "0 of 2 photos (1 test photos, the others by cross-validation) are right, 1 with that prediction" in reason
