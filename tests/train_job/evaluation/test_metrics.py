import numpy as np
import pytest

from train_job.evaluation.metrics import (
    CURVE_CLASSES,
    compute_metrics,
    operating_thresholds,
    precision_recall_curves,
    wilson_interval,
)

NAMES = ("cat", "dog", "cow")
PROBABILITIES = np.array(
    [[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.5, 0.25, 0.25], [0.2, 0.7, 0.1], [0.9, 0.05, 0.05]], np.float32
)
LABELS = np.array([0, 1, 1, 1, 0], np.int32)


def test_metrics_match_a_hand_computation() -> None:
    metrics = compute_metrics(PROBABILITIES, LABELS, NAMES, {"cat": 0.6})
    assert (metrics["photos"], metrics["right"], metrics["accuracy"]) == (5, 4, 0.8)
    cat, dog, cow = metrics["classes"].values()
    assert cat == {
        "photos": 2,
        "right": 2,
        "precision": pytest.approx(2 / 3),
        "recall": 1,
        "f1": pytest.approx(0.8),
        "threshold": 0.6,
    }
    assert (dog["photos"], dog["precision"], dog["recall"], dog["threshold"]) == (3, 1, pytest.approx(2 / 3), None)
    assert cow["photos"] == 0
    assert metrics["confusion"] == [[2, 0, 0], [1, 2, 0], [0, 0, 0]]


def test_averages_are_over_the_classes_that_have_photos() -> None:
    metrics = compute_metrics(PROBABILITIES, LABELS, NAMES, {})
    assert metrics["balanced_accuracy"] == pytest.approx((1 + 2 / 3) / 2)
    assert metrics["macro_f1"] == pytest.approx((0.8 + 0.8) / 2)


def test_the_interval_is_wilsons() -> None:
    assert wilson_interval(95, 100) == [pytest.approx(0.8882, abs=1e-4), pytest.approx(0.9785, abs=1e-4)]
    assert wilson_interval(10, 10)[1] == pytest.approx(1)
    assert wilson_interval(0, 0) == [0, 1]


def test_the_operating_threshold_is_where_f1_is_best() -> None:
    probabilities = np.array([[0.9, 0.1], [0.6, 0.4], [0.55, 0.45], [0.2, 0.8]], np.float32)
    thresholds = operating_thresholds(probabilities, np.array([0, 0, 1, 1], np.int32), ("cat", "dog"))
    assert thresholds["cat"] == pytest.approx(0.6)
    assert thresholds["dog"] == pytest.approx(0.45)


def test_a_class_without_photos_has_no_threshold_and_no_curve() -> None:
    assert operating_thresholds(PROBABILITIES, LABELS, NAMES).keys() == {"cat", "dog"}
    assert precision_recall_curves(PROBABILITIES, LABELS, NAMES).keys() == {"cat", "dog"}


def test_a_curve_goes_from_full_recall_to_none_in_few_points() -> None:
    random = np.random.default_rng(0)
    probabilities = random.dirichlet(np.ones(2), 5000).astype(np.float32)
    curve = precision_recall_curves(probabilities, random.integers(0, 2, 5000).astype(np.int32), ("cat", "dog"))["cat"]
    assert (curve["recall"][0], curve["recall"][-1], curve["precision"][-1]) == (1, 0, 1)
    assert len(curve["recall"]) == len(curve["precision"]) <= 60
    assert 0.4 < curve["average_precision"] < 0.6


def test_many_classes_have_no_curves() -> None:
    classes = CURVE_CLASSES + 1
    names = [str(index) for index in range(classes)]
    assert precision_recall_curves(np.eye(classes, dtype=np.float32), np.arange(classes, dtype=np.int32), names) == {}
