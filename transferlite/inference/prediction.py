"""A model's prediction for one photo: the best labels, or ``unknown`` with the reason."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:  # saves import time on a cold start
    import numpy as np
    from numpy.typing import NDArray

UNKNOWN = "unknown"
"""Label of a prediction that names no class; its ``reason`` is one of the following."""

UNSURE = "unsure"
"""The best probability is below the model's threshold."""

UNLIKE = "unlike-training-photos"
"""The photo is too different from the training photos (:mod:`transferlite.predict.familiarity`)."""

NONE_OF_THESE = "none-of-these"
"""The model recognises the photo as one of its negative class."""

NEGATIVE_CLASS = "_negative"
"""Default name of the negative class: photos of none of the other classes."""


class Prediction(NamedTuple):
    """A model's prediction for one photo.

    Attributes:
        model_id: the model version.
        label: the label with the highest probability, or :data:`UNKNOWN`.
        score: the highest probability, also below the threshold.
        top: the best few labels with their probabilities, best first.
        reason: why the label is :data:`UNKNOWN`: :data:`UNSURE`, :data:`UNLIKE` or :data:`NONE_OF_THESE`; else empty.
        familiarity: how much the photo is like the training photos, 0 being usual; None if the model has no such score.
    """

    model_id: str
    label: str
    score: float
    top: tuple[tuple[str, float], ...]
    reason: str = ""
    familiarity: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form; ``top`` is a list of ``{"label": ..., "score": ...}``.

        ``reason`` and ``familiarity`` are left out if they are empty.
        """
        content = {
            "model_id": self.model_id,
            "label": self.label,
            "score": self.score,
            "top": [{"label": label, "score": score} for label, score in self.top],
        }
        if self.reason:
            content["reason"] = self.reason
        if self.familiarity is not None:
            content["familiarity"] = round(self.familiarity, 3)
        return content

    def with_threshold(self, threshold: float) -> "Prediction":
        """Return the prediction under another threshold; ``top`` must not be empty."""
        if self.reason not in {"", UNSURE}:
            return self
        is_certain = self.score >= threshold
        return self._replace(label=self.top[0][0] if is_certain else UNKNOWN, reason="" if is_certain else UNSURE)


def predict_label(
    model_id: str,
    labels: Sequence[str],
    probabilities: "NDArray[np.float32]",
    threshold: float,
    top: int = 3,
    negative: str = "",
) -> Prediction:
    """Build the prediction from finite probabilities ``[N]``; ties keep the order of the labels.

    Below ``threshold`` the label is :data:`UNKNOWN`. With a threshold of 0 no label is: a foreign model may output
    logits below 0. It also is :data:`UNKNOWN` if the best label is ``negative``.
    """
    best = (-probabilities).argsort(kind="stable")[: max(top, 1)]
    ranked = tuple((labels[i], float(probabilities[i])) for i in best)
    label, score = ranked[0]
    reason = "" if not threshold or score >= threshold else UNSURE
    if label == negative:
        reason = NONE_OF_THESE
    return Prediction(model_id, UNKNOWN if reason else label, score, ranked[: max(top, 0)], reason)
