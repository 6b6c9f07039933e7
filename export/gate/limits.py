"""Limits of the gate: how far a variant may differ from the Keras model before it is left out."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from transferlite.inference.variants import FLOAT32, SAVED_MODEL
from transferlite.registry.manifest import GateResult

TIE = 1e-5
"""Probabilities closer than this count as equal: rounding errors decide which of two such labels comes first."""


_MIN_CLASS_LOSS = 2
"""Photos that any class may lose, however few it has: in a class of 10, one photo is already 10%."""


@dataclass(frozen=True)
class GateLimits:
    """Maximum loss of a variant compared with the Keras model. A limit on photos is at least one photo, unless it is 0.

    Attributes:
        max_difference: largest difference of a probability.
        max_accuracy_drop: drop in accuracy.
        max_recall_drop: drop in any class's recall; at least two photos, unless it is 0.
        max_disagreement: share of photos with another label.
    """

    max_difference: float
    max_accuracy_drop: float
    max_recall_drop: float
    max_disagreement: float


EXACT_LIMITS = GateLimits(max_difference=1e-4, max_accuracy_drop=0.0, max_recall_drop=0.0, max_disagreement=0.0)
"""Limits of the variants that compute in float32 with the trained weights: the SavedModel and the float32 file."""


ROUNDED_LIMITS = GateLimits(max_difference=1.0, max_accuracy_drop=0.01, max_recall_drop=0.1, max_disagreement=0.05)
"""Default limits of the variants with rounded weights or activations: float16, dynamic and int8."""


_EXACT_VARIANTS = frozenset({SAVED_MODEL, FLOAT32})


@dataclass(frozen=True)
class Candidate:
    """A variant in one runtime: what the gate compares with the Keras model."""

    variant: str
    runtime: str


@dataclass(frozen=True)
class AgreementCounts:
    """Agreement of one candidate with the Keras model ("reference") on the same photos.

    Attributes:
        photos: photos compared.
        right: photos that the candidate labels correctly.
        reference_right: photos that the reference labels correctly.
        agreed: photos that both give the same label.
        difference: largest difference of a probability; infinite if one is not a finite number.
        classes: for each class its photos, and how many of them the candidate and the reference label correctly.
        lost_probability: mean of the reference's probability for its own label minus that for the candidate's: the
            expected drop in accuracy if the reference is calibrated, which is all that photos without labels can tell.
        labelled: whether the photos have true labels; without, ``right``, ``reference_right`` and ``classes`` are 0.
    """

    photos: int = 0
    right: int = 0
    reference_right: int = 0
    agreed: int = 0
    difference: float = 0.0
    classes: tuple[tuple[int, int, int], ...] = ()
    lost_probability: float = 0.0
    labelled: bool = True

    @classmethod
    def count(
        cls, probabilities: NDArray[np.float32], reference: NDArray[np.float32], labels: NDArray[np.int32] | None
    ) -> "AgreementCounts":
        """Compare probabilities ``[N, C]`` of candidate and reference, N > 0, given the true labels ``[N]``, if any."""
        expected = reference.argmax(axis=1)
        predicted = _predicted_labels(probabilities, expected)
        counts = cls(
            photos=len(reference),
            agreed=int((predicted == expected).sum()),
            difference=_largest_difference(probabilities, reference),
            lost_probability=_lost_probability(reference, expected, predicted),
            labelled=labels is not None,
        )
        if labels is None:
            return counts
        subsets = [labels, labels[predicted == labels], labels[expected == labels]]
        by_class = np.stack([np.bincount(subset, minlength=reference.shape[1]) for subset in subsets], axis=1)
        return replace(
            counts,
            right=len(subsets[1]),
            reference_right=len(subsets[2]),
            classes=tuple((int(photos), int(right), int(expected)) for photos, right, expected in by_class),
        )

    @property
    def recall_drop(self) -> float:
        """Largest drop in a class's recall compared with the reference."""
        return max(((expected - right) / photos for photos, right, expected in self.classes if photos), default=0.0)

    def failed_limit(self, limits: GateLimits, labels: Sequence[str] = ()) -> str | None:
        """Describe the first limit that is exceeded; None if all are kept."""
        if self.difference > limits.max_difference:
            return f"a probability differs by {self.difference:.1e} from Keras (limit {limits.max_difference:.0e})"
        if not self.labelled:
            return self._failed_limit_without_labels(limits)
        if self.reference_right - self.right > _allowed_photos(limits.max_accuracy_drop, self.photos, 1):
            return f"{self.right} of {self.photos} photos right where Keras has {self.reference_right}"
        for index, (photos, right, expected) in enumerate(self.classes):
            if expected - right > _allowed_photos(limits.max_recall_drop, photos, _MIN_CLASS_LOSS):
                name = labels[index] if labels else index
                return f"{right} of {photos} photos of {name!r} right where Keras has {expected}"
        if self.photos - self.agreed > _allowed_photos(limits.max_disagreement, self.photos, 1):
            return f"only {self.agreed} of {self.photos} photos have the label that Keras gives"
        return None

    def _failed_limit_without_labels(self, limits: GateLimits) -> str | None:
        """Describe the limit that is exceeded. Among many similar classes, other labels alone say little."""
        if self.lost_probability > limits.max_accuracy_drop:
            return (
                f"an expected drop in accuracy of {self.lost_probability:.2%} by the Keras model's own probabilities"
                f" (limit {limits.max_accuracy_drop:.2%})"
            )
        if not limits.max_disagreement and self.agreed < self.photos:
            return f"only {self.agreed} of {self.photos} photos have the label that Keras gives"
        return None

    def to_gate_result(self, candidate: Candidate, failure: str | None) -> GateResult:
        """The manifest's entry for this comparison."""
        return GateResult(
            variant=candidate.variant,
            runtime=candidate.runtime,
            photos=self.photos,
            accuracy=self.right / self.photos if self.labelled else None,
            accuracy_drop=(self.reference_right - self.right) / self.photos if self.labelled else self.lost_probability,
            recall_drop=self.recall_drop,
            agreement=self.agreed / self.photos,
            max_difference=self.difference if np.isfinite(self.difference) else None,
            failure=failure or "",
        )


def _allowed_photos(share: float, photos: int, minimum: int) -> float:
    return max(share * photos, minimum) if share else 0


def _largest_difference(probabilities: NDArray[np.float32], reference: NDArray[np.float32]) -> float:
    """The largest difference of a probability; infinite if one is not a finite number."""
    difference = float(np.abs(probabilities.astype(np.float64) - reference).max())
    return difference if np.isfinite(difference) else float("inf")


def _lost_probability(
    reference: NDArray[np.float32], expected: NDArray[np.int64], predicted: NDArray[np.int64]
) -> float:
    """Mean probability ``[N, C]`` that the reference gives to its own label rather than to the predicted one."""
    photos = np.arange(len(reference))
    return float((reference[photos, expected] - reference[photos, predicted]).mean())


def _predicted_labels(probabilities: NDArray[np.float32], expected: NDArray[np.int64]) -> NDArray[np.int64]:
    """Class index of each row ``[N, C]``; the expected one if it is within :data:`TIE` of the highest probability."""
    highest = probabilities.max(axis=1)
    tied = probabilities[np.arange(len(probabilities)), expected] >= highest - TIE
    return np.where(tied, expected, probabilities.argmax(axis=1))
