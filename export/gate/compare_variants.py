"""Compare the predictions of each variant in each runtime with the Keras model's, within the gate's limits."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from export.gate.limits import _EXACT_VARIANTS, EXACT_LIMITS, AgreementCounts, Candidate, GateLimits
from export.gate.runtimes import PredictFunction
from transferlite.errors import BundleError, GateError
from transferlite.images.decoder import RGB
from transferlite.inference.thread_count import usable_cores
from transferlite.inference.variants import base_variant
from transferlite.registry.manifest import GateResult

_CHUNK = 32


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
class GatePredictions:
    """Predictions of the Keras model and of every candidate for the same photos.

    Attributes:
        labels: true labels ``[N]``; None if the photos have none.
        reference: the Keras model's probabilities ``[N, C]``.
        candidates: probabilities ``[n, C]`` for the first n photos, by candidate, in the order of loading.
        errors: why a candidate could not be loaded or run.
    """

    labels: NDArray[np.int32] | None
    reference: NDArray[np.float32]
    candidates: Mapping[Candidate, NDArray[np.float32]]
    errors: Mapping[Candidate, str] = field(default_factory=dict)

    @property
    def true_labels(self) -> NDArray[np.int32]:
        """The true labels ``[N]`` of photos that have labels."""
        assert self.labels is not None
        return self.labels

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
        labels = None if self.labels is None else self.labels[:count]
        return AgreementCounts.count(probabilities, self.reference[:count], labels)


def run_candidates(
    reference: PredictFunction, models: Mapping[Candidate, CandidateModel], photos: Iterable[tuple[RGB, int | None]]
) -> GatePredictions:
    """Predict ``(photo, true label)`` pairs with the reference and all candidates, a chunk at a time, on all cores.

    Either all photos have a label or none has.

    Raises:
        GateError: there are no photos.
    """
    labels: list[int | None] = []
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
            labels += chunk_labels
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
    known = None if None in labels else np.array(labels, np.int32)
    return GatePredictions(known, np.concatenate(expected), complete, errors)


def _chunks(photos: Iterable[tuple[RGB, int | None]]) -> Iterator[tuple[NDArray[np.uint8], list[int | None]]]:
    images: list[RGB] = []
    labels: list[int | None] = []
    for image, label in photos:
        images.append(image)
        labels.append(label)
        if len(images) == _CHUNK:
            yield np.stack(images), labels
            images, labels = [], []
    if images:
        yield np.stack(images), labels


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
