"""Fit the familiarity score to the training photos, and its threshold to a share of rejected validation photos."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from transferlite.predict.familiarity import NEAREST_WEIGHT, Familiarity, Scale, log_confidence, project

COMPONENTS = 128
REFERENCES = 512
"""Training rows to compare with. All 700 rows of four kinds of flowers give 0.005 more AUROC than 300 of them."""
MAX_FITTED_ROWS = 20_000
"""Rows that the principal components are computed from."""
_LEAST_STD_OF_CONFIDENCE, _LEAST_STD_OF_CLOSENESS = 0.05, 0.02
"""Where all validation photos are equally certain, a small difference must not count as much as a large one."""


def fit_familiarity(
    train: NDArray[np.float16],
    validation: NDArray[np.float16],
    probabilities: NDArray[np.float32],
    rejected: float,
) -> Familiarity:
    """Fit the score and its threshold.

    Args:
        train: feature rows of the training photos ``[N, D]``, an array or a memory map, in any order.
        validation: feature rows of the validation photos ``[V, D]``, at least one.
        probabilities: of the validation photos ``[V, C]``, by the model that will be published.
        rejected: share of familiar photos to reject, 0 to 1.
    """
    rows = _unit(train[_evenly(len(train), MAX_FITTED_ROWS)])
    mean = _rounded(rows.mean(axis=0))
    components = _rounded(_principal_components(rows - mean))
    projected, rests = project(_unit(train[_evenly(len(train), REFERENCES)]), mean, components)
    unscaled = Familiarity(
        mean, components, _rounded(projected), _rounded(rests), Scale(0, 1), Scale(0, 1), 0, rejected, len(validation)
    )
    found = (log_confidence(probabilities), unscaled.nearest(validation.astype(np.float32)))
    least = (_LEAST_STD_OF_CONFIDENCE, _LEAST_STD_OF_CLOSENESS)
    confidence, closeness = (
        Scale(float(values.mean()), max(float(values.std()), floor)) for values, floor in zip(found, least, strict=True)
    )
    scores = confidence(found[0]) + NEAREST_WEIGHT * closeness(found[1])
    fields = vars(unscaled) | {"confidence": confidence, "closeness": closeness}
    return Familiarity(**fields | {"threshold": threshold_for(scores, rejected)})


def threshold_for(scores: NDArray[np.float32], rejected: float) -> float:
    """Return the threshold that at most the share ``rejected`` of the scores ``[V]`` are below.

    It lies halfway between two scores. If it may reject none, it lies below the lowest by half of the distance to the
    next.
    """
    ordered = np.sort(scores.astype(np.float64))
    count = int(rejected * len(ordered) + 1e-9)
    if count:
        return float(ordered[count - 1] + ordered[min(count, len(ordered) - 1)]) / 2
    return float(ordered[0] - (ordered[min(1, len(ordered) - 1)] - ordered[0]) / 2)


@dataclass(frozen=True)
class RejectedCounts:
    """What the threshold rejects of familiar photos.

    Attributes:
        photos: number of photos.
        rejected: photos below the threshold.
        right: correct predictions for all photos.
        right_of_accepted: correct predictions for the photos that are not rejected.
    """

    photos: int
    rejected: int
    right: int
    right_of_accepted: int

    def summary(self) -> str:
        """Describe the counts, such as ``3 (2.0%; accuracy 0.9300 of the others, 0.9200 of all) of 150``."""
        accepted = self.photos - self.rejected
        accuracy = f"{self.right_of_accepted / accepted:.4f}" if accepted else "none"
        of_all = f"{self.right / self.photos:.4f} of all"
        share = f"{self.rejected / self.photos:.1%}"
        return f"{self.rejected} ({share}; accuracy {accuracy} of the others, {of_all}) of {self.photos}"


def count_rejected(
    familiarity: Familiarity,
    rows: NDArray[np.float32],
    probabilities: NDArray[np.float32],
    labels: NDArray[np.int32],
) -> RejectedCounts:
    """Count the photos with rows ``[N, D]``, probabilities ``[N, C]`` and labels ``[N]`` that are rejected."""
    is_right = probabilities.argmax(axis=1) == labels
    accepted = familiarity.scores(rows, probabilities) >= familiarity.threshold
    right_of_accepted = int((is_right & accepted).sum())
    return RejectedCounts(len(labels), int((~accepted).sum()), int(is_right.sum()), right_of_accepted)


def _principal_components(centred: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the components ``[D, K]`` with the largest variance of rows ``[N, D]``."""
    _, vectors = np.linalg.eigh(centred.T @ centred)
    kept = min(COMPONENTS, *centred.shape)
    components: NDArray[np.float32] = vectors[:, ::-1][:, :kept].astype(np.float32)
    return components


def _unit(rows: NDArray[np.float16]) -> NDArray[np.float32]:
    whole = rows.astype(np.float32)
    return np.asarray(whole / np.maximum(np.linalg.norm(whole, axis=1, keepdims=True), 1e-12), np.float32)


def _rounded(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Round as the stored form does, so that the threshold fits the stored score."""
    return values.astype(np.float16).astype(np.float32)


def _evenly(count: int, most: int) -> NDArray[np.int64]:
    """Return at most ``most`` evenly spaced indices below ``count``."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(np.int64))
