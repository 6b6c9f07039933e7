"""Accuracy and log loss of predicted probabilities, as sums and counts that add up over parts of a set."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

SMALLEST_PROBABILITY = 1e-7
"""Lower bound of a probability before its logarithm is taken, as in Keras."""


@dataclass(frozen=True)
class Scores:
    """Scores over a set of photos.

    Attributes:
        confusion: ``confusion[i, j]`` photos of class i were predicted as class j.
        total_log_loss: log loss in nats, summed over the photos.
    """

    confusion: NDArray[np.int64]
    total_log_loss: float

    def __add__(self, other: "Scores") -> "Scores":
        """Scores over the photos of both sets."""
        return Scores(self.confusion + other.confusion, self.total_log_loss + other.total_log_loss)

    @property
    def photos(self) -> int:
        """Number of photos."""
        return int(self.confusion.sum())

    @property
    def accuracy(self) -> float:
        """Share of correct predictions, 0 to 1; 0 for an empty set."""
        return float(np.trace(self.confusion)) / max(self.photos, 1)

    @property
    def log_loss(self) -> float:
        """Mean negative logarithm of the correct class's probability, in nats."""
        return self.total_log_loss / max(self.photos, 1)

    def to_dict(self, labels: tuple[str, ...]) -> dict[str, Any]:
        """Return the scores as JSON values for the manifest, with each class's photos, hits and predictions."""
        return {
            "photos": self.photos,
            "accuracy": self.accuracy,
            "log_loss": self.log_loss,
            "classes": {
                label: {
                    "photos": int(self.confusion[i].sum()),
                    "right": int(self.confusion[i, i]),
                    "predicted": int(self.confusion[:, i].sum()),
                }
                for i, label in enumerate(labels)
            },
        }


def score_predictions(probabilities: NDArray[np.float32], labels: NDArray[np.int32]) -> Scores:
    """Score probabilities ``[N, classes]`` against integer labels ``[N]``."""
    classes = probabilities.shape[1]
    confusion = np.zeros((classes, classes), np.int64)
    np.add.at(confusion, (labels, probabilities.argmax(axis=1)), 1)
    correct = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return Scores(confusion, float(-np.log(np.clip(correct, SMALLEST_PROBABILITY, 1.0)).sum()))
