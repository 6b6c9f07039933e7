"""The gate: every variant answers the held-out photos beside the Keras model, in every runtime there is."""

from collections.abc import Iterable, Mapping, Sequence
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
"""Labels whose probabilities are this close are as good as each other: rounding decides which one comes first."""
_FEW = 2
"""A class may lose so many photos whatever their share: of the few that a class has, chance takes as many."""


@dataclass(frozen=True)
class GateLimits:
    """What a variant may lose. Counts are rounded up to one photo, for one is the smallest loss a small set can show.

    Attributes:
        difference: largest difference of a probability from the Keras model's.
        accuracy: share of photos by which the accuracy may be lower.
        recall: the same of any one class; two photos whatever their share, unless it is 0.
        disagreement: share of photos on which another label may come out.
    """

    difference: float
    accuracy: float
    recall: float
    disagreement: float


EXACT = GateLimits(difference=1e-4, accuracy=0.0, recall=0.0, disagreement=0.0)
"""Of what computes in float32 with the trained weights: the SavedModel and the float32 file."""
REDUCED = GateLimits(difference=1.0, accuracy=0.01, recall=0.1, disagreement=0.05)
"""Of variants whose weights or activations are rounded, unless the job says otherwise."""

_EXACT_VARIANTS = frozenset({SAVED_MODEL, FLOAT32})


@dataclass(frozen=True)
class AgreementCounts:
    """Counts of one variant in one runtime against the Keras model over the same photos.

    ``classes`` has the photos of each class and how many of them the variant and Keras got right, ``[C, 3]``.
    """

    photos: int = 0
    right: int = 0
    reference_right: int = 0
    agreed: int = 0
    difference: float = 0.0
    classes: tuple[tuple[int, int, int], ...] = ()

    @classmethod
    def of(
        cls, answer: NDArray[np.float32], reference: NDArray[np.float32], labels: NDArray[np.int32]
    ) -> "AgreementCounts":
        """Count probabilities ``[N, C]`` of the variant and of Keras, N at least 1, with the true labels ``[N]``."""
        theirs = reference.argmax(axis=1)
        mine = _label(answer, theirs)
        difference = float(np.abs(answer.astype(np.float64) - reference).max())
        kinds = [labels, labels[mine == labels], labels[theirs == labels]]
        counts = np.stack([np.bincount(kind, minlength=reference.shape[1]) for kind in kinds], axis=1)
        return cls(
            photos=len(labels),
            right=len(kinds[1]),
            reference_right=len(kinds[2]),
            agreed=int((mine == theirs).sum()),
            difference=difference if np.isfinite(difference) else float("inf"),
            classes=tuple((int(photos), int(right), int(other)) for photos, right, other in counts),
        )

    @property
    def recall_drop(self) -> float:
        """The most that a class's recall is below Keras's."""
        return max(((other - right) / photos for photos, right, other in self.classes if photos), default=0.0)

    def failure(self, limits: GateLimits, labels: Sequence[str] = ()) -> str | None:
        """In words, the first limit that does not hold; None when all do."""
        if self.difference > limits.difference:
            return f"a probability differs by {self.difference:.1e} from Keras (limit {limits.difference:.0e})"
        if self.reference_right - self.right > _count(limits.accuracy, self.photos, 1):
            return f"{self.right} of {self.photos} photos right where Keras has {self.reference_right}"
        for place, (photos, right, other) in enumerate(self.classes):
            if other - right > _count(limits.recall, photos, _FEW):
                name = labels[place] if labels else place
                return f"{right} of {photos} photos of {name!r} right where Keras has {other}"
        if self.photos - self.agreed > _count(limits.disagreement, self.photos, 1):
            return f"only {self.agreed} of {self.photos} photos have the label that Keras gives"
        return None

    def proof(self, form: "ExportedFile", failure: str | None) -> GateResult:
        """The manifest's line."""
        return GateResult(
            variant=form.variant,
            runtime=form.runtime,
            photos=self.photos,
            accuracy=self.right / self.photos,
            accuracy_drop=(self.reference_right - self.right) / self.photos,
            recall_drop=self.recall_drop,
            agreement=self.agreed / self.photos,
            max_difference=self.difference if np.isfinite(self.difference) else None,
            failure=failure or "",
        )


def _count(share: float, photos: int, least: int) -> float:
    return max(share * photos, least) if share else 0


def _label(answer: NDArray[np.float32], expected: NDArray[np.int64]) -> NDArray[np.int64]:
    """The label of each row ``[N, C]``: the expected one where it is as probable as the best within :data:`TIE`."""
    best = answer.max(axis=1)
    level = answer[np.arange(len(answer)), expected] >= best - TIE
    return np.where(level, expected, answer.argmax(axis=1))


@dataclass(frozen=True)
class ExportedFile:
    """A variant in one runtime."""

    variant: str
    runtime: str


@dataclass(frozen=True)
class RuntimeUnderTest:
    """How to ask a form: the function (or why there is none), and how many of the photos, from the first."""

    answers: PredictFunction | str
    most: int


@dataclass(frozen=True)
class GatePredictions:
    """What every form of the model said of the same photos.

    Attributes:
        labels: the true ones ``[N]``.
        reference: the Keras model's probabilities ``[N, C]``.
        forms: the probabilities ``[n, C]`` of the first n photos by form, in the order asked.
        failures: why a form could not be run.
    """

    labels: NDArray[np.int32]
    reference: NDArray[np.float32]
    forms: Mapping[ExportedFile, NDArray[np.float32]]
    failures: Mapping[ExportedFile, str] = field(default_factory=dict)

    @cached_property
    def variants(self) -> dict[str, NDArray[np.float32]]:
        """The probabilities of each variant in the runtime that was asked first: that which serves it."""
        first: dict[str, NDArray[np.float32]] = {}
        for form, answer in self.forms.items():
            first.setdefault(form.variant, answer)
        return first

    def tally(self, form: ExportedFile) -> AgreementCounts:
        """One form's counts."""
        answer = self.forms[form]
        return AgreementCounts.of(answer, self.reference[: len(answer)], self.labels[: len(answer)])


def compare(
    reference: PredictFunction, forms: Mapping[ExportedFile, RuntimeUnderTest], photos: Iterable[tuple[RGB, int]]
) -> GatePredictions:
    """Run every form and the reference over ``(photo, true label)`` pairs, a chunk at a time, on all cores.

    Raises:
        GateError: there was not one photo.
    """
    truth: list[NDArray[np.int32]] = []
    expected: list[NDArray[np.float32]] = []
    found: dict[ExportedFile, list[NDArray[np.float32]]] = {form: [] for form in forms}
    failures = {form: asked.answers for form, asked in forms.items() if isinstance(asked.answers, str)}
    with ThreadPoolExecutor(usable_cores()) as pool:
        done = 0
        for images, labels in _chunks(photos):
            wanted = {
                form: pool.submit(asked.answers, images[: asked.most - done])
                for form, asked in forms.items()
                if form not in failures and not isinstance(asked.answers, str) and done < asked.most
            }
            truth.append(labels)
            expected.append(reference(images))
            for form, answer in wanted.items():
                try:
                    found[form].append(answer.result())
                except BundleError as error:
                    failures[form] = str(error)
            done += len(labels)
    if not truth:
        raise GateError("there is no held-out photo to compare the models on")
    together = {form: np.concatenate(several) for form, several in found.items() if form not in failures}
    return GatePredictions(np.concatenate(truth), np.concatenate(expected), together, failures)


def _chunks(photos: Iterable[tuple[RGB, int]]) -> Iterable[tuple[NDArray[np.uint8], NDArray[np.int32]]]:
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


def gate_failure(answered: GatePredictions, limits: GateLimits, labels: Sequence[str]) -> list[GateResult]:
    """What was measured of each form, and whether it holds; ``limits`` are those of rounded variants."""
    proofs = [GateResult(form.variant, form.runtime, failure=why) for form, why in answered.failures.items()]
    for form in answered.forms:
        tally = answered.tally(form)
        failure = tally.failure(EXACT if base_variant(form.variant) in _EXACT_VARIANTS else limits, labels)
        proofs.append(tally.proof(form, failure))
    return proofs


def left_out(proofs: Iterable[GateResult]) -> dict[str, str]:
    """The variants that fail somewhere, each with the first reason.

    Raises:
        GateError: a form that must equal the Keras model (the SavedModel, float32) does not.
    """
    reasons: dict[str, str] = {}
    for proof in proofs:
        if proof.failure and base_variant(proof.variant) in _EXACT_VARIANTS:
            raise GateError(
                f"{proof.failure}, on {proof.runtime}",
                where=proof.variant,
                hint="nothing was published; please report it",
            )
        if proof.failure:
            reasons.setdefault(proof.variant, f"on {proof.runtime}: {proof.failure}")
    return reasons
