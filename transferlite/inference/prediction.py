"""A model's prediction for one photo: the best labels, or ``unknown`` below the model's threshold."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:  # saves import time on a cold start
    import numpy as np
    from numpy.typing import NDArray

UNKNOWN = "unknown"
"""Label of a prediction whose best probability is below the model's threshold."""


class Prediction(NamedTuple):
    """A model's prediction for one photo.

    Attributes:
        model_id: the model version.
        label: the label with the highest probability; :data:`UNKNOWN` below the model's threshold.
        score: the highest probability, also below the threshold.
        top: the best few labels with their probabilities, best first.
    """

    model_id: str
    label: str
    score: float
    top: tuple[tuple[str, float], ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form; ``top`` is a list of ``{"label": ..., "score": ...}``."""
        return {
            "model_id": self.model_id,
            "label": self.label,
            "score": self.score,
            "top": [{"label": label, "score": score} for label, score in self.top],
        }


def predict_label(
    model_id: str, labels: Sequence[str], probabilities: "NDArray[np.float32]", threshold: float, top: int = 3
) -> Prediction:
    """Build the prediction from finite probabilities ``[N]``; ties keep the order of the labels.

    Below ``threshold`` the label is :data:`UNKNOWN`. With a threshold of 0 no label is: a foreign model may output
    logits below 0.
    """
    best = (-probabilities).argsort(kind="stable")[: max(top, 1)]
    ranked = tuple((labels[i], float(probabilities[i])) for i in best)
    label, score = ranked[0]
    is_certain = not threshold or score >= threshold
    return Prediction(model_id, label if is_certain else UNKNOWN, score, ranked[: max(top, 0)])
