import math

import numpy as np
import pytest

from train_job.scores import score_predictions

PROBABILITIES = np.array(
    [[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.5, 0.25, 0.25], [0.2, 0.2, 0.6], [0.9, 0.05, 0.05]], np.float32
)
LABELS = np.array([0, 1, 1, 2, 2], np.int32)


def test_scores_are_those_computed_by_hand() -> None:
    scores = score_predictions(PROBABILITIES, LABELS)
    assert scores.confusion.tolist() == [[1, 0, 0], [1, 1, 0], [1, 0, 1]]
    assert scores.photos == 5
    assert scores.accuracy == 3 / 5
    expected = -sum(math.log(p) for p in (0.7, 0.8, 0.25, 0.6, 0.05)) / 5
    assert scores.log_loss == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("cut", range(6))
def test_the_parts_of_a_set_add_up(cut: int) -> None:
    whole = score_predictions(PROBABILITIES, LABELS)
    first, second = (
        score_predictions(PROBABILITIES[:cut], LABELS[:cut]),
        score_predictions(PROBABILITIES[cut:], LABELS[cut:]),
    )
    np.testing.assert_array_equal(first.confusion + second.confusion, whole.confusion)
    assert first.total_log_loss + second.total_log_loss == pytest.approx(whole.total_log_loss)


def test_the_log_loss_of_a_zero_probability_is_finite() -> None:
    scores = score_predictions(np.array([[1.0, 0.0]], np.float32), np.array([1], np.int32))
    assert scores.log_loss == pytest.approx(-math.log(1e-7))


def test_correct_certain_predictions_have_no_loss() -> None:
    assert score_predictions(np.eye(3, dtype=np.float32), np.arange(3, dtype=np.int32)).log_loss == 0


def test_an_empty_set_scores_zero() -> None:
    scores = score_predictions(np.zeros((0, 3), np.float32), np.zeros(0, np.int32))
    assert (scores.photos, scores.accuracy, scores.log_loss) == (0, 0, 0)


def test_the_manifest_counts_each_class() -> None:
    written = score_predictions(PROBABILITIES, LABELS).to_dict(("cat", "dog", "cow"))
    assert written["classes"] == {
        "cat": {"photos": 1, "right": 1, "predicted": 3},
        "dog": {"photos": 2, "right": 1, "predicted": 1},
        "cow": {"photos": 2, "right": 1, "predicted": 1},
    }
    assert (written["photos"], written["accuracy"]) == (5, 0.6)
