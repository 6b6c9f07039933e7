"""A model's prediction for one photo."""

from typing import Any, NamedTuple

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
