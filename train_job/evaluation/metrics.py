"""Compute classification metrics of predictions on labelled photos, with scikit-learn."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest
from sklearn.metrics import average_precision_score, precision_recall_curve, precision_recall_fscore_support

from train_job.evaluation.confidence_calibration import calibration_error, reliability
from train_job.scores import score_predictions

CURVE_CLASSES = 30
"""Most classes for which curves are computed."""
CURVE_POINTS = 60
"""Most points of a curve."""


def wilson_interval(correct: int, photos: int) -> list[float]:
    """Wilson's 95% confidence interval of an accuracy."""
    if not photos:
        return [0.0, 1.0]
    interval = binomtest(correct, photos).proportion_ci(method="wilson")
    return [float(interval.low), float(interval.high)]


def compute_metrics(
    probabilities: NDArray[np.float32], labels: NDArray[np.int32], names: Sequence[str], thresholds: Mapping[str, float]
) -> dict[str, Any]:
    """Compute all metrics of probabilities ``[N, C]`` against labels ``[N]``, N at least 1, as JSON values.

    Averages over classes include only classes with photos.

    Args:
        probabilities: predictions.
        labels: true labels.
        names: class names.
        thresholds: operating threshold by class name.
    """
    scores = score_predictions(probabilities, labels)
    correct, total = int(np.trace(scores.confusion)), scores.photos
    columns = precision_recall_fscore_support(
        labels, probabilities.argmax(axis=1), labels=range(len(names)), zero_division=0.0
    )
    classes = {
        name: {
            "photos": int(photos),
            "right": int(scores.confusion[index, index]),
            "precision": float(precision),
            "recall": float(recall),
            "f1": float(f1),
            "threshold": thresholds.get(name),
        }
        for index, (name, precision, recall, f1, photos) in enumerate(zip(names, *columns, strict=True))
    }
    present = [metrics for metrics in classes.values() if metrics["photos"]]
    return {
        "photos": total,
        "right": correct,
        "accuracy": scores.accuracy,
        "interval": wilson_interval(correct, total),
        "balanced_accuracy": float(np.mean([metrics["recall"] for metrics in present])),
        "macro_precision": float(np.mean([metrics["precision"] for metrics in present])),
        "macro_f1": float(np.mean([metrics["f1"] for metrics in present])),
        "log_loss": scores.log_loss,
        "calibration_error": calibration_error(probabilities, labels),
        "classes": classes,
        "confusion": scores.confusion.tolist(),
        "reliability": reliability(probabilities, labels),
    }


def precision_recall_curves(
    probabilities: NDArray[np.float32], labels: NDArray[np.int32], names: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Each class's precision-recall curve of at most :data:`CURVE_POINTS` points, and its average precision.

    Empty for more than :data:`CURVE_CLASSES` classes, whose curves would not be readable.
    """
    curves: dict[str, dict[str, Any]] = {}
    for index, name in enumerate(names if len(names) <= CURVE_CLASSES else ()):
        of_class = labels == index
        if not of_class.any():
            continue
        precision, recall, _ = precision_recall_curve(of_class, probabilities[:, index])
        points = np.unique(np.linspace(0, len(recall) - 1, CURVE_POINTS).astype(int))
        curves[name] = {
            "precision": [round(float(value), 4) for value in precision[points]],
            "recall": [round(float(value), 4) for value in recall[points]],
            "average_precision": float(average_precision_score(of_class, probabilities[:, index])),
        }
    return curves


def operating_thresholds(
    probabilities: NDArray[np.float32], labels: NDArray[np.int32], names: Sequence[str]
) -> dict[str, float]:
    """For each class with photos, the probability threshold with the best F1 for this class against the rest."""
    best = {}
    for index, name in enumerate(names):
        of_class = labels == index
        if of_class.any():
            precision, recall, thresholds = precision_recall_curve(of_class, probabilities[:, index])
            f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
            best[name] = float(thresholds[f1[:-1].argmax()])
    return best
