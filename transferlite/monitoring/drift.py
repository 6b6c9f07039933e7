"""Drift: compare a model's predictions in service with those on its validation photos (population stability index).

The population stability index (PSI) compares the share of photos in each bin: the sum of
``(observed - expected) * ln(observed / expected)``. As a rule, a PSI below 0.1 means no shift, above 0.25 a large one.
With few photos chance alone makes it large: for n observed and m expected photos it is distributed as ``1/n + 1/m``
times a chi-square variable with ``bins - 1`` degrees of freedom. A PSI below the 95th percentile of that is not drift.

Sources: Siddiqi, Credit Risk Scorecards, 2006, for the thresholds; Yurdakul and Naranjo, Statistical Properties of the
Population Stability Index, Journal of Risk Model Validation 14(4), 2020, for the distribution under chance.
"""

import datetime
import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from transferlite.errors import BundleError, InputError, MissingStoreError
from transferlite.inference.prediction import UNKNOWN
from transferlite.monitoring.read_records import SAMPLE, SampledRecords, parse_since, read_records
from transferlite.registry.manifest import Manifest
from transferlite.registry.open_registry import Registry

MODERATE, LARGE = 0.1, 0.25
_MIN_BIN_PHOTOS = 5
"""Classes with fewer validation photos share one bin: alone, chance would dominate their part of the index."""
_Z95 = 1.6448536269514722
"""95th percentile of the standard normal distribution."""


@dataclass(frozen=True)
class Expected:
    """Distribution of the predictions on the validation photos, from a manifest.

    Attributes:
        classes: photos by most probable class.
        edges: boundaries between the confidence bins, ascending.
        confidence: photos by confidence bin, one more than ``edges``.
        abstained: photos below the model's threshold.
    """

    classes: Mapping[str, int]
    edges: tuple[float, ...]
    confidence: tuple[int, ...]
    abstained: int

    @property
    def photos(self) -> int:
        """Number of validation photos."""
        return sum(self.confidence)


def expected_from(manifest: Manifest) -> Expected | None:
    """Read the distribution in a manifest; None if it has none: an older release, or no validation photos."""
    validation = manifest.metrics.get("validation", {})
    try:
        classes = {label: int(counts["predicted"]) for label, counts in validation["classes"].items()}
        bins = validation["confidence"]
        expected = Expected(classes, tuple(bins["edges"]), tuple(bins["photos"]), int(validation["abstained"]))
    except (LookupError, TypeError, AttributeError):
        return None
    return expected if expected.photos else None


@dataclass
class Observed:
    """Predictions of one model in service: photos by most probable class, confidences, and errors by code."""

    classes: Counter[str] = field(default_factory=Counter)
    confidence: list[float] = field(default_factory=list)
    abstained: int = 0
    errors: Counter[str] = field(default_factory=Counter)

    def add(self, record: Mapping[str, Any]) -> None:
        """Count one record. Raises LookupError, TypeError or ValueError if it is not a valid record."""
        if "error" in record:
            self.errors[str(record["error"]["code"])] += 1
            return
        score = float(record["score"])
        self.classes[str(record["top"][0]["label"])] += 1
        self.confidence.append(score)
        self.abstained += record["label"] == UNKNOWN

    @property
    def photos(self) -> int:
        """Number of labelled photos."""
        return len(self.confidence)


def observed_by_model(records: Iterable[Mapping[str, Any]]) -> dict[str, Observed]:
    """Count the records of each model, oldest model first; invalid records are skipped."""
    observed: dict[str, Observed] = {}
    for record in records:
        try:
            observed.setdefault(str(record["model_id"]), Observed()).add(record)
        except (LookupError, TypeError, ValueError):
            continue
    return {model_id: observed[model_id] for model_id in sorted(observed)}


@dataclass(frozen=True)
class StabilityIndex:
    """A population stability index, and the value that chance alone exceeds in 5% of cases."""

    value: float
    chance: float

    @property
    def reading(self) -> str:
        """Interpretation: within chance, stable, moderate shift or large shift."""
        if self.value <= self.chance:
            return "within chance"
        return "stable" if self.value < MODERATE else "moderate shift" if self.value < LARGE else "large shift"

    def exceeds(self, threshold: float) -> bool:
        """Whether the index exceeds both the threshold and chance."""
        return self.value > max(threshold, self.chance)


@dataclass(frozen=True)
class Drift:
    """One model's predictions compared with its validation photos.

    Attributes:
        model_id: the version.
        observed: its predictions in service.
        expected: its predictions on the validation photos; None if they are not known.
        classes: index of the predicted classes; None if there is nothing to compare.
        confidence: index of the confidence; None if there is nothing to compare.
        skipped: error that prevented reading the version's manifest; empty if it was read.
    """

    model_id: str
    observed: Observed
    expected: Expected | None
    classes: StabilityIndex | None
    confidence: StabilityIndex | None
    skipped: str = ""

    def exceeds(self, threshold: float) -> bool:
        """Whether either index exceeds the threshold and chance."""
        return any(index is not None and index.exceeds(threshold) for index in (self.classes, self.confidence))

    def to_dict(self) -> dict[str, Any]:
        """Convert to JSON types."""
        observed, expected = self.observed, self.expected
        validation_shares = {}
        if expected:
            validation_shares = {label: count / expected.photos for label, count in expected.classes.items()}
        return {
            "model_id": self.model_id,
            "skipped": self.skipped,
            "photos": observed.photos,
            "validation_photos": expected.photos if expected else 0,
            "classes": _index_dict(self.classes),
            "confidence": _index_dict(self.confidence),
            "shares": {label: count / observed.photos for label, count in observed.classes.most_common()},
            "validation_shares": validation_shares,
            "abstained": observed.abstained / max(observed.photos, 1),
            "validation_abstained": expected.abstained / expected.photos if expected else None,
            "error_share": observed.errors.total() / max(observed.photos + observed.errors.total(), 1),
            "errors": dict(observed.errors.most_common()),
        }


def _index_dict(index: StabilityIndex | None) -> dict[str, Any] | None:
    return None if index is None else {"psi": index.value, "chance": index.chance, "reading": index.reading}


def compare(model_id: str, observed: Observed, expected: Expected | None) -> Drift:
    """Compute both indices of one model."""
    if expected is None or not observed.photos:
        return Drift(model_id, observed, expected, None, None)
    common = [label for label, count in expected.classes.items() if count >= _MIN_BIN_PHOTOS]
    expected_counts, observed_counts = (
        [*(counts[label] for label in common)] for counts in (expected.classes, observed.classes)
    )
    expected_counts.append(expected.photos - sum(expected_counts))  # all rare classes in one bin
    observed_counts.append(observed.photos - sum(observed_counts))
    classes = stability(expected_counts, observed_counts)
    bins = Counter(bisect_right(expected.edges, score) for score in observed.confidence)
    confidence = stability(expected.confidence, [bins[index] for index in range(len(expected.confidence))])
    return Drift(model_id, observed, expected, classes, confidence)


def find_drift(predictions: str, registry: str, since: str, sample: int = SAMPLE) -> tuple[SampledRecords, list[Drift]]:
    """Read the records since ``since`` and compare each model's with its validation photos; return both.

    A version that is unknown, damaged or not signed by an accepted key is skipped; :attr:`Drift.skipped` says why.

    Raises:
        InputError: ``predictions`` or ``registry`` is a file, or ``since`` is invalid.
        NotFoundError: ``predictions`` or ``registry`` is a local folder that does not exist.
        TransferLiteError: a store cannot be read.
    """
    opened = Registry.open(registry)
    opened.check_exists()
    sampled = read_records(predictions, parse_since(since, datetime.datetime.now(datetime.UTC)), sample)
    drifts = []
    for model_id, observed in observed_by_model(sampled.records).items():
        try:
            drifts.append(compare(model_id, observed, expected_from(opened.manifest(model_id))))
        except MissingStoreError:
            raise
        except (InputError, BundleError) as error:  # InputError: not found, or no model id at all
            drifts.append(Drift(model_id, observed, None, None, None, skipped=str(error)))
    return sampled, drifts


def stability(expected: Sequence[int], observed: Sequence[int]) -> StabilityIndex:
    """Compute the index of two lists of counts over the same bins.

    Half a photo is added to each bin, so that no share is 0. A bin that is empty in both lists is left out.
    """
    bins = [pair for pair in zip(expected, observed, strict=True) if any(pair)]
    totals = [sum(counts) for counts in zip(*bins, strict=True)] or [0, 0]
    value = 0.0
    for counts in bins:
        before, after = ((count + 0.5) / (total + 0.5 * len(bins)) for count, total in zip(counts, totals, strict=True))
        value += (after - before) * math.log(after / before)
    return StabilityIndex(value, _chi_square_95(len(bins) - 1) * sum(1 / max(total, 1) for total in totals))


def _chi_square_95(degrees: int) -> float:
    """95th percentile of the chi-square distribution, within 3% for one degree of freedom and more.

    Source: Wilson and Hilferty, The Distribution of Chi-Square, 1931.
    """
    if degrees < 1:
        return 0.0
    part = 2 / (9 * degrees)
    return float(degrees * (1 - part + _Z95 * math.sqrt(part)) ** 3)
