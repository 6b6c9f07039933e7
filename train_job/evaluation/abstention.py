"""Abstention: choose the confidence threshold below which the model returns ``unknown``, for a given precision.

Source: Geifman and El-Yaniv, Selective Classification for Deep Neural Networks, NeurIPS 2017.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

PRECISIONS = (0.9, 0.95, 0.99)
"""Precisions whose thresholds are reported for every model."""


@dataclass(frozen=True)
class AbstentionCounts:
    """Effect of a threshold.

    Attributes:
        photos: number of photos.
        answered: photos with a prediction, not ``unknown``.
        right: correct predictions among those.
    """

    photos: int
    answered: int
    right: int


def count_abstentions(
    probabilities: NDArray[np.float32], labels: NDArray[np.int32], threshold: float
) -> AbstentionCounts:
    """Count predictions ``[N, C]`` whose confidence is at least ``threshold``, and how many match labels ``[N]``."""
    answered = probabilities.max(axis=1, initial=0) >= threshold
    correct = answered & (probabilities.argmax(axis=1) == labels)
    return AbstentionCounts(len(labels), int(answered.sum()), int(correct.sum()))


def find_threshold(probabilities: NDArray[np.float32], labels: NDArray[np.int32], precision: float) -> float | None:
    """Find the lowest threshold at which at least the share ``precision`` of the predictions is correct.

    It lies halfway between two observed confidences. It is 0 if no threshold is needed, and None if none reaches the
    precision.
    """
    confidence = probabilities.max(axis=1, initial=0).astype(np.float64)
    correct = probabilities.argmax(axis=1) == labels
    order = np.argsort(-confidence, kind="stable")
    share = np.cumsum(correct[order]) / np.arange(1, len(order) + 1)
    falls = np.append(np.diff(confidence[order]) < 0, True)  # a threshold cannot separate photos of equal confidence
    ends = np.flatnonzero((share >= precision) & falls[: len(order)])
    if not len(ends):
        return None
    last = ends[-1]
    if last == len(order) - 1:
        return 0.0
    return float(confidence[order[last]] + confidence[order[last + 1]]) / 2


def choose_threshold(
    precision: float,
    validation: tuple[NDArray[np.float32], NDArray[np.int32]],
    test: tuple[NDArray[np.float32], NDArray[np.int32]],
) -> dict[str, Any]:
    """Find the threshold for a precision on the validation photos; count its effect there and on the test photos.

    Both are probabilities ``[N, C]`` and labels ``[N]``. Returns an entry of ``abstention.choices`` in evaluation.json.
    """
    threshold = find_threshold(*validation, precision)
    choice: dict[str, Any] = {"precision": precision, "threshold": threshold}
    if threshold is not None:
        choice |= {
            "validation": asdict(count_abstentions(*validation, threshold)),
            "test": asdict(count_abstentions(*test, threshold)),
        }
    return choice
