"""What the predictor returns for one photo."""

from typing import Any, NamedTuple

UNKNOWN = "unknown"
"""The label of a photo of which the model is less sure than its manifest's threshold asks."""


class Prediction(NamedTuple):
    """One photo's answer: the best label, its probability, and the ``(label, probability)`` of the best few.

    Below the model's threshold the label is :data:`UNKNOWN`; the score and the best few are what they are.
    """

    model_id: str
    label: str
    score: float
    top: tuple[tuple[str, float], ...]

    def to_dict(self) -> dict[str, Any]:
        """The form written as JSON: ``model_id``, ``label``, ``score`` and ``top`` as a list of label and score."""
        return {
            "model_id": self.model_id,
            "label": self.label,
            "score": self.score,
            "top": [{"label": label, "score": score} for label, score in self.top],
        }
