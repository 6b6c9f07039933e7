import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from train_job.evaluation.abstention import choose_threshold, count_abstentions, find_threshold


def two_classes(confidences: list[float], correct: list[bool]) -> tuple[np.ndarray, np.ndarray]:
    """Predictions of class 0 with these confidences, and labels that make them correct or wrong."""
    first = np.array(confidences, np.float32)
    return np.stack([first, 1 - first], axis=1), np.array([0 if is_correct else 1 for is_correct in correct], np.int32)


def test_the_threshold_lies_halfway_between_the_last_prediction_kept_and_the_next() -> None:
    photos = two_classes([0.9, 0.8, 0.7, 0.6], [True, True, False, False])
    assert find_threshold(*photos, 1.0) == pytest.approx(0.75)
    assert find_threshold(*photos, 0.66) == pytest.approx(0.65)


def test_a_dip_in_precision_that_recovers_needs_no_threshold() -> None:
    photos = two_classes([0.9, 0.8, 0.7, 0.6], [False, True, True, True])
    assert find_threshold(*photos, 0.75) == 0.0


def test_there_is_no_threshold_if_none_reaches_the_precision() -> None:
    assert find_threshold(*two_classes([0.9, 0.8], [False, True]), 0.9) is None
    assert find_threshold(*two_classes([], []), 0.9) is None


def test_photos_of_equal_confidence_are_kept_or_dropped_together() -> None:
    photos = two_classes([0.9, 0.8, 0.8], [True, True, False])
    assert find_threshold(*photos, 1.0) == pytest.approx(0.85)


def test_a_choice_counts_its_effect_on_both_splits() -> None:
    validation = two_classes([0.9, 0.8, 0.7], [True, True, False])
    choice = choose_threshold(1.0, validation, two_classes([0.95, 0.76, 0.5], [True, False, True]))
    assert choice["threshold"] == pytest.approx(0.75)
    assert choice["validation"] == {"photos": 3, "answered": 2, "right": 2}
    assert choice["test"] == {"photos": 3, "answered": 2, "right": 1}
    assert choose_threshold(1.0, two_classes([0.9], [False]), validation) == {"precision": 1.0, "threshold": None}


@given(st.lists(st.tuples(st.floats(0.5, 1), st.booleans()), min_size=1, max_size=40), st.sampled_from([0.5, 0.9, 1.0]))
def test_predictions_above_the_threshold_reach_the_precision_on_validation(
    photos: list[tuple[float, bool]], precision: float
) -> None:
    validation = two_classes([confidence for confidence, _ in photos], [is_correct for _, is_correct in photos])
    threshold = find_threshold(*validation, precision)
    if threshold is not None:
        kept = count_abstentions(*validation, threshold)
        assert kept.answered >= 1
        assert kept.right >= precision * kept.answered - 1e-9
