"""Compare the predictions of each variant in each runtime with the Keras model's, within the gate's limits."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from export.gate.runtimes import PredictFunction
from transferlite.errors import BundleError, GateError
from transferlite.images.decoder import RGB
from transferlite.inference.interpreter import usable_cores
from transferlite.inference.variants import FLOAT32, SAVED_MODEL, base_variant
from transferlite.registry.manifest import GateResult

_CHUNK = 32
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
class CandidateModel:
    """A loaded candidate.

    Attributes:
        predict: its prediction function, or the error if it could not be loaded.
        max_photos: it predicts the first ``max_photos`` photos only.
    """

    predict: PredictFunction | str
    max_photos: int


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
    """

    photos: int = 0
    right: int = 0
    reference_right: int = 0
    agreed: int = 0
    difference: float = 0.0
    classes: tuple[tuple[int, int, int], ...] = ()

    @classmethod
    def count(
        cls, probabilities: NDArray[np.float32], reference: NDArray[np.float32], labels: NDArray[np.int32]
    ) -> "AgreementCounts":
        """Compare probabilities ``[N, C]`` of candidate and reference, N > 0, given the true labels ``[N]``."""
        expected = reference.argmax(axis=1)
        predicted = _predicted_labels(probabilities, expected)
        difference = float(np.abs(probabilities.astype(np.float64) - reference).max())
        subsets = [labels, labels[predicted == labels], labels[expected == labels]]
        by_class = np.stack([np.bincount(subset, minlength=reference.shape[1]) for subset in subsets], axis=1)
        return cls(
            photos=len(labels),
            right=len(subsets[1]),
            reference_right=len(subsets[2]),
            agreed=int((predicted == expected).sum()),
            difference=difference if np.isfinite(difference) else float("inf"),
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
        if self.reference_right - self.right > _allowed_photos(limits.max_accuracy_drop, self.photos, 1):
            return f"{self.right} of {self.photos} photos right where Keras has {self.reference_right}"
        for index, (photos, right, expected) in enumerate(self.classes):
            if expected - right > _allowed_photos(limits.max_recall_drop, photos, _MIN_CLASS_LOSS):
                name = labels[index] if labels else index
                return f"{right} of {photos} photos of {name!r} right where Keras has {expected}"
        if self.photos - self.agreed > _allowed_photos(limits.max_disagreement, self.photos, 1):
            return f"only {self.agreed} of {self.photos} photos have the label that Keras gives"
        return None

    def to_gate_result(self, candidate: Candidate, failure: str | None) -> GateResult:
        """The manifest's entry for this comparison."""
        return GateResult(
            variant=candidate.variant,
            runtime=candidate.runtime,
            photos=self.photos,
            accuracy=self.right / self.photos,
            accuracy_drop=(self.reference_right - self.right) / self.photos,
            recall_drop=self.recall_drop,
            agreement=self.agreed / self.photos,
            max_difference=self.difference if np.isfinite(self.difference) else None,
            failure=failure or "",
        )


def _allowed_photos(share: float, photos: int, minimum: int) -> float:
    return max(share * photos, minimum) if share else 0


def _predicted_labels(probabilities: NDArray[np.float32], expected: NDArray[np.int64]) -> NDArray[np.int64]:
    """Class index of each row ``[N, C]``; the expected one if it is within :data:`TIE` of the highest probability."""
    highest = probabilities.max(axis=1)
    tied = probabilities[np.arange(len(probabilities)), expected] >= highest - TIE
    return np.where(tied, expected, probabilities.argmax(axis=1))


@dataclass(frozen=True)
class GatePredictions:
    """Predictions of the Keras model and of every candidate for the same photos.

    Attributes:
        labels: true labels ``[N]``.
        reference: the Keras model's probabilities ``[N, C]``.
        candidates: probabilities ``[n, C]`` for the first n photos, by candidate, in the order of loading.
        errors: why a candidate could not be loaded or run.
    """

    labels: NDArray[np.int32]
    reference: NDArray[np.float32]
    candidates: Mapping[Candidate, NDArray[np.float32]]
    errors: Mapping[Candidate, str] = field(default_factory=dict)

    @cached_property
    def by_variant(self) -> dict[str, NDArray[np.float32]]:
        """Probabilities of each variant in its first runtime, the one that serves it."""
        first: dict[str, NDArray[np.float32]] = {}
        for candidate, probabilities in self.candidates.items():
            first.setdefault(candidate.variant, probabilities)
        return first

    def counts(self, candidate: Candidate) -> AgreementCounts:
        """Count a candidate's agreement with the Keras model."""
        probabilities = self.candidates[candidate]
        count = len(probabilities)
        return AgreementCounts.count(probabilities, self.reference[:count], self.labels[:count])


def run_candidates(
    reference: PredictFunction, models: Mapping[Candidate, CandidateModel], photos: Iterable[tuple[RGB, int]]
) -> GatePredictions:
    """Predict ``(photo, true label)`` pairs with the reference and all candidates, a chunk at a time, on all cores.

    Raises:
        GateError: there are no photos.
    """
    labels: list[NDArray[np.int32]] = []
    expected: list[NDArray[np.float32]] = []
    predicted: dict[Candidate, list[NDArray[np.float32]]] = {candidate: [] for candidate in models}
    errors = {candidate: model.predict for candidate, model in models.items() if isinstance(model.predict, str)}
    with ThreadPoolExecutor(usable_cores()) as pool:
        done = 0
        for images, chunk_labels in _chunks(photos):
            running = {
                candidate: pool.submit(model.predict, images[: model.max_photos - done])
                for candidate, model in models.items()
                if candidate not in errors and not isinstance(model.predict, str) and done < model.max_photos
            }
            labels.append(chunk_labels)
            expected.append(reference(images))
            for candidate, future in running.items():
                try:
                    predicted[candidate].append(future.result())
                except BundleError as error:
                    errors[candidate] = str(error)
            done += len(chunk_labels)
    if not labels:
        raise GateError("there is no held-out photo to compare the models on")
    complete = {candidate: np.concatenate(chunks) for candidate, chunks in predicted.items() if candidate not in errors}
    return GatePredictions(np.concatenate(labels), np.concatenate(expected), complete, errors)


def _chunks(photos: Iterable[tuple[RGB, int]]) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.int32]]]:
    images: list[RGB] = []
    labels: list[int] = []
    for image, label in photos:
        images.append(image)
        labels.append(label)
        if len(images) == _CHUNK:
            yield np.stack(images), np.array(labels, np.int32)
            images, labels = [], []
    if images:
        yield np.stack(images), np.array(labels, np.int32)


def gate_results(predictions: GatePredictions, limits: GateLimits, labels: Sequence[str]) -> list[GateResult]:
    """Compare every candidate with its limits; ``limits`` are those of variants with rounded numbers."""
    results = [
        GateResult(candidate.variant, candidate.runtime, failure=error)
        for candidate, error in predictions.errors.items()
    ]
    for candidate in predictions.candidates:
        counts = predictions.counts(candidate)
        exact = base_variant(candidate.variant) in _EXACT_VARIANTS
        failure = counts.failed_limit(EXACT_LIMITS if exact else limits, labels)
        results.append(counts.to_gate_result(candidate, failure))
    return results


def left_out_variants(results: Iterable[GateResult]) -> dict[str, str]:
    """Variants that fail in some runtime, each with its first failure.

    Raises:
        GateError: the SavedModel or the float32 file fails.
    """
    reasons: dict[str, str] = {}
    for result in results:
        if result.failure and base_variant(result.variant) in _EXACT_VARIANTS:
            raise GateError(
                f"{result.failure}, on {result.runtime}",
                where=result.variant,
                hint="nothing was published; please report it",
            )
        if result.failure:
            reasons.setdefault(result.variant, f"on {result.runtime}: {result.failure}")
    return reasons
