"""When to answer ``unknown``: the least confidence at which the answers are as often right as was asked for.

Source: Geifman and El-Yaniv, Selective Classification for Deep Neural Networks, NeurIPS 2017.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

PRECISIONS = (0.9, 0.95, 0.99)
"""What is reported of every model, whatever was asked for."""


@dataclass(frozen=True)
class AbstentionCounts:
    """Of ``photos``, how many are answered at a threshold, and how many of those rightly."""

    photos: int
    answered: int
    right: int


def count_abstentions(
    probabilities: NDArray[np.float32], labels: NDArray[np.int32], threshold: float
) -> AbstentionCounts:
    """What comes of probabilities ``[N, C]`` and true labels ``[N]`` where confidence below ``threshold`` abstains."""
    sure = probabilities.max(axis=1, initial=0) >= threshold
    right = sure & (probabilities.argmax(axis=1) == labels)
    return AbstentionCounts(len(labels), int(sure.sum()), int(right.sum()))


def threshold_for(probabilities: NDArray[np.float32], labels: NDArray[np.int32], precision: float) -> float | None:
    """The lowest threshold above which at least the share ``precision`` of the answers is right.

    It lies half-way between two confidences that were seen; 0 where nothing need be held back, None where no threshold
    reaches the precision.
    """
    confidence = probabilities.max(axis=1, initial=0).astype(np.float64)
    right = probabilities.argmax(axis=1) == labels
    order = np.argsort(-confidence, kind="stable")
    share = np.cumsum(right[order]) / np.arange(1, len(order) + 1)
    falls = np.append(np.diff(confidence[order]) < 0, True)  # photos of equal confidence are answered together
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
    """The threshold fitted on validation for a precision, and what it does there and on the test photos."""
    threshold = threshold_for(*validation, precision)
    found: dict[str, Any] = {"precision": precision, "threshold": threshold}
    if threshold is not None:
        found |= {
            "validation": asdict(count_abstentions(*validation, threshold)),
            "test": asdict(count_abstentions(*test, threshold)),
        }
    return found
