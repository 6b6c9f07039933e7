import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from train_job.evaluation.abstention import choose_threshold, count_abstentions, threshold_for


def two_classes(confidences: list[float], right: list[bool]) -> tuple[np.ndarray, np.ndarray]:
    """Photos called class 0 with these confidences, and labels that make them right or wrong."""
    first = np.array(confidences, np.float32)
    return np.stack([first, 1 - first], axis=1), np.array([0 if one else 1 for one in right], np.int32)


def test_the_threshold_lies_between_the_last_answer_kept_and_the_first_held_back() -> None:
    photos = two_classes([0.9, 0.8, 0.7, 0.6], [True, True, False, False])
    assert threshold_for(*photos, 1.0) == pytest.approx(0.75)
    assert threshold_for(*photos, 0.66) == pytest.approx(0.65)


def test_a_dip_that_later_answers_make_up_for_holds_nothing_back() -> None:
    photos = two_classes([0.9, 0.8, 0.7, 0.6], [False, True, True, True])
    assert threshold_for(*photos, 0.75) == 0.0


def test_where_no_threshold_is_precise_enough_there_is_none() -> None:
    assert threshold_for(*two_classes([0.9, 0.8], [False, True]), 0.9) is None
    assert threshold_for(*two_classes([], []), 0.9) is None


def test_answers_of_equal_confidence_are_given_or_held_back_together() -> None:
    photos = two_classes([0.9, 0.8, 0.8], [True, True, False])
    assert threshold_for(*photos, 1.0) == pytest.approx(0.85)


def test_a_choice_says_what_it_does_on_both_sets() -> None:
    validation = two_classes([0.9, 0.8, 0.7], [True, True, False])
    found = choose_threshold(1.0, validation, two_classes([0.95, 0.76, 0.5], [True, False, True]))
    assert found["threshold"] == pytest.approx(0.75)
    assert found["validation"] == {"photos": 3, "answered": 2, "right": 2}
    assert found["test"] == {"photos": 3, "answered": 2, "right": 1}
    assert choose_threshold(1.0, two_classes([0.9], [False]), validation) == {"precision": 1.0, "threshold": None}


@given(st.lists(st.tuples(st.floats(0.5, 1), st.booleans()), min_size=1, max_size=40), st.sampled_from([0.5, 0.9, 1.0]))
def test_what_is_answered_on_validation_always_reaches_the_precision(
    photos: list[tuple[float, bool]], precision: float
) -> None:
    sure = two_classes([confidence for confidence, _ in photos], [right for _, right in photos])
    threshold = threshold_for(*sure, precision)
    if threshold is not None:
        kept = count_abstentions(*sure, threshold)
        assert kept.answered >= 1
        assert kept.right >= precision * kept.answered - 1e-9
