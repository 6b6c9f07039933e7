"""What is said of a classifier's answers on labelled photos, in the measures of the field, by scikit-learn."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest
from sklearn.metrics import average_precision_score, precision_recall_curve, precision_recall_fscore_support

from train_job.evaluation.confidence_calibration import calibration_error, reliability
from train_job.scores import score_predictions

CURVE_CLASSES = 30
CURVE_POINTS = 60


def wilson_interval(right: int, photos: int) -> list[float]:
    """Wilson's 95 % confidence interval of a share."""
    if not photos:
        return [0.0, 1.0]
    found = binomtest(right, photos).proportion_ci(method="wilson")
    return [float(found.low), float(found.high)]


def compute_metrics(
    probabilities: NDArray[np.float32], labels: NDArray[np.int32], names: Sequence[str], thresholds: Mapping[str, float]
) -> dict[str, Any]:
    """Everything that is measured of probabilities ``[N, C]`` against labels ``[N]``, N at least 1, for JSON.

    Averages over classes are over those that have a photo. ``thresholds`` are the classes' operating thresholds.
    """
    scores = score_predictions(probabilities, labels)
    right, everything = int(np.trace(scores.confusion)), scores.photos
    columns = precision_recall_fscore_support(
        labels, probabilities.argmax(axis=1), labels=range(len(names)), zero_division=0.0
    )
    classes = {
        name: {
            "photos": int(photos),
            "right": int(scores.confusion[place, place]),
            "precision": float(precision),
            "recall": float(recall),
            "f1": float(f1),
            "threshold": thresholds.get(name),
        }
        for place, (name, precision, recall, f1, photos) in enumerate(zip(names, *columns, strict=True))
    }
    there = [one for one in classes.values() if one["photos"]]
    return {
        "photos": everything,
        "right": right,
        "accuracy": scores.accuracy,
        "interval": wilson_interval(right, everything),
        "balanced_accuracy": float(np.mean([one["recall"] for one in there])),
        "macro_precision": float(np.mean([one["precision"] for one in there])),
        "macro_f1": float(np.mean([one["f1"] for one in there])),
        "log_loss": scores.log_loss,
        "calibration_error": calibration_error(probabilities, labels),
        "classes": classes,
        "confusion": scores.confusion.tolist(),
        "reliability": reliability(probabilities, labels),
    }


def curves(
    probabilities: NDArray[np.float32], labels: NDArray[np.int32], names: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Each class's precision-recall curve, at most :data:`CURVE_POINTS` points, and its average precision.

    Empty where there are more than :data:`CURVE_CLASSES` classes: no one looks at that many.
    """
    found: dict[str, dict[str, Any]] = {}
    for place, name in enumerate(names if len(names) <= CURVE_CLASSES else ()):
        is_it = labels == place
        if not is_it.any():
            continue
        precision, recall, _ = precision_recall_curve(is_it, probabilities[:, place])
        some = np.unique(np.linspace(0, len(recall) - 1, CURVE_POINTS).astype(int))
        found[name] = {
            "precision": [round(float(one), 4) for one in precision[some]],
            "recall": [round(float(one), 4) for one in recall[some]],
            "average_precision": float(average_precision_score(is_it, probabilities[:, place])),
        }
    return found


def operating_thresholds(
    probabilities: NDArray[np.float32], labels: NDArray[np.int32], names: Sequence[str]
) -> dict[str, float]:
    """For each class that has photos, the probability above which calling them so has the best F1."""
    found = {}
    for place, name in enumerate(names):
        is_it = labels == place
        if is_it.any():
            precision, recall, thresholds = precision_recall_curve(is_it, probabilities[:, place])
            f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
            found[name] = float(thresholds[f1[:-1].argmax()])
    return found
