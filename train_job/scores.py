"""How good probabilities are, from sums and counts, so that parts of a set add up and no row is dropped."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

SMALLEST_PROBABILITY = 1e-7
"""Probabilities are not taken below this in a logarithm, as in Keras."""


@dataclass(frozen=True)
class Scores:
    """Counts over a set: ``confusion[i, j]`` photos of class i were called j; ``nats`` is the summed log loss."""

    confusion: NDArray[np.int64]
    nats: float

    @property
    def photos(self) -> int:
        """How many were judged."""
        return int(self.confusion.sum())

    @property
    def accuracy(self) -> float:
        """The share of right answers; 0 of nothing."""
        return float(np.trace(self.confusion)) / max(self.photos, 1)

    @property
    def log_loss(self) -> float:
        """The mean negative logarithm of the right class's probability, in nats."""
        return self.nats / max(self.photos, 1)

    def to_dict(self, labels: tuple[str, ...]) -> dict[str, Any]:
        """The form kept in the manifest, with each class's photos, right answers, and photos that were called so."""
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
    """Scores of probabilities ``[N, classes]`` against integer labels ``[N]``."""
    classes = probabilities.shape[1]
    confusion = np.zeros((classes, classes), np.int64)
    np.add.at(confusion, (labels, probabilities.argmax(axis=1)), 1)
    chosen = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return Scores(confusion, float(-np.log(np.clip(chosen, SMALLEST_PROBABILITY, 1.0)).sum()))
