"""Whether what a model answers now is distributed as on its validation photos: the population stability index.

The index compares shares bin by bin: the sum of ``(now - then) * ln(now / then)``. Its usual reading is that below 0.1
nothing moved, and above 0.25 much did. Of few photos chance alone makes it large: for n photos now and m then it is
``1/n + 1/m`` times a chi-square of ``bins - 1`` degrees of freedom, and below the 95th percentile of that says nothing.

Sources: Siddiqi, Credit Risk Scorecards, 2006, for the reading; Yurdakul and Naranjo, Statistical Properties of the
Population Stability Index, Journal of Risk Model Validation 14(4), 2020, for the distribution under chance.
"""

import datetime
import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from transferlite.errors import NotFoundError
from transferlite.inference.prediction import UNKNOWN
from transferlite.monitoring.read_records import SAMPLE, SampledRecords, parse_since, read_records
from transferlite.registry.manifest import Manifest
from transferlite.registry.open_registry import Registry

MODERATE, LARGE = 0.1, 0.25
_FEWEST = 5
"""Validation photos below which a class shares a bin with others: rarer ones move the index by chance alone."""
_Z95 = 1.6448536269514722


@dataclass(frozen=True)
class Expected:
    """What a manifest says of the answers to its validation photos.

    Attributes:
        classes: photos by the class that was most probable.
        edges: between the bins of confidence, rising.
        confidence: photos by bin, one more than edges.
        abstained: photos below the manifest's threshold.
    """

    classes: Mapping[str, int]
    edges: tuple[float, ...]
    confidence: tuple[int, ...]
    abstained: int

    @property
    def photos(self) -> int:
        """How many they are."""
        return sum(self.confidence)


def expected_of(manifest: Manifest) -> Expected | None:
    """The distributions in a manifest; None in one of an older release, or made without validation photos."""
    found = manifest.metrics.get("validation", {})
    try:
        classes = {label: int(one["predicted"]) for label, one in found["classes"].items()}
        told = found["confidence"]
        expected = Expected(classes, tuple(told["edges"]), tuple(told["photos"]), int(found["abstained"]))
    except (LookupError, TypeError, AttributeError):
        return None
    return expected if expected.photos else None


@dataclass
class Observed:
    """What one model answered: its photos by most probable class, their confidences, and errors by their codes."""

    classes: Counter[str] = field(default_factory=Counter)
    confidence: list[float] = field(default_factory=list)
    abstained: int = 0
    errors: Counter[str] = field(default_factory=Counter)

    def add(self, record: Mapping[str, Any]) -> None:
        """Count one record. Raises LookupError or TypeError for what is none."""
        if "error" in record:
            self.errors[str(record["error"]["code"])] += 1
            return
        score = float(record["score"])
        self.classes[str(record["top"][0]["label"])] += 1
        self.confidence.append(score)
        self.abstained += record["label"] == UNKNOWN

    @property
    def photos(self) -> int:
        """Those that were labelled."""
        return len(self.confidence)


def observed_by_model(records: Iterable[Mapping[str, Any]]) -> dict[str, Observed]:
    """The records' answers by the model that gave them, oldest model first. What is no record is left out."""
    found: dict[str, Observed] = {}
    for record in records:
        try:
            found.setdefault(str(record["model_id"]), Observed()).add(record)
        except (LookupError, TypeError, ValueError):
            continue
    return {model: found[model] for model in sorted(found)}


@dataclass(frozen=True)
class StabilityIndex:
    """A population stability index, and the value that chance alone would exceed once in twenty times."""

    value: float
    chance: float

    @property
    def reading(self) -> str:
        """What the index says, in a word or two."""
        if self.value <= self.chance:
            return "no more than chance"
        return "stable" if self.value < MODERATE else "moved" if self.value < LARGE else "moved much"

    def exceeds(self, threshold: float) -> bool:
        """Whether it is over a threshold, and more than chance."""
        return self.value > max(threshold, self.chance)


@dataclass(frozen=True)
class Drift:
    """One model's answers beside those to its validation photos; no index where there is nothing to compare."""

    model_id: str
    observed: Observed
    expected: Expected | None
    classes: StabilityIndex | None
    confidence: StabilityIndex | None

    def exceeds(self, threshold: float) -> bool:
        """Whether either index is over it."""
        return any(index is not None and index.exceeds(threshold) for index in (self.classes, self.confidence))

    def to_dict(self) -> dict[str, Any]:
        """The form printed as JSON."""
        seen, then = self.observed, self.expected
        every = seen.photos + seen.errors.total()
        return {
            "model_id": self.model_id,
            "photos": seen.photos,
            "validation_photos": then.photos if then else 0,
            "classes": _told(self.classes),
            "confidence": _told(self.confidence),
            "shares": {label: count / seen.photos for label, count in seen.classes.most_common()},
            "validation_shares": {name: count / then.photos for name, count in then.classes.items()} if then else {},
            "abstained": seen.abstained / max(seen.photos, 1),
            "validation_abstained": then.abstained / then.photos if then else None,
            "error_share": seen.errors.total() / max(every, 1),
            "errors": dict(seen.errors.most_common()),
        }


def _told(index: StabilityIndex | None) -> dict[str, Any] | None:
    return None if index is None else {"psi": index.value, "chance": index.chance, "reading": index.reading}


def compare(model_id: str, observed: Observed, expected: Expected | None) -> Drift:
    """Both indices of a model's answers."""
    if expected is None or not observed.photos:
        return Drift(model_id, observed, expected, None, None)
    kept = [label for label, count in expected.classes.items() if count >= _FEWEST]
    then, now = ([*(counts[one] for one in kept)] for counts in (expected.classes, observed.classes))
    then.append(expected.photos - sum(then))
    now.append(observed.photos - sum(now))
    bins = Counter(bisect_right(expected.edges, score) for score in observed.confidence)
    confidence = [bins[place] for place in range(len(expected.confidence))]
    return Drift(model_id, observed, expected, stability(then, now), stability(expected.confidence, confidence))


def find_drift(predictions: str, registry: str, since: str, sample: int = SAMPLE) -> tuple[SampledRecords, list[Drift]]:
    """What each model answered since then, beside its validation photos, and what was read for it."""
    log = read_records(predictions, parse_since(since, datetime.datetime.now(datetime.UTC)), sample)
    opened = Registry.open(registry)
    found = []
    for model_id, observed in observed_by_model(log.records).items():
        try:
            expected = expected_of(opened.manifest(model_id))
        except NotFoundError:
            expected = None
        found.append(compare(model_id, observed, expected))
    return log, found


def stability(then: Sequence[int], now: Sequence[int]) -> StabilityIndex:
    """The index of two lists of counts over the same bins. Half a photo is added to each, so that none is empty.

    A bin that is empty in both lists is none.
    """
    pairs = [(old, new) for old, new in zip(then, now, strict=True) if old or new]
    photos = sum(old for old, _ in pairs), sum(new for _, new in pairs)
    value = 0.0
    for old, new in pairs:
        before, after = (
            (count + 0.5) / (total + 0.5 * len(pairs)) for count, total in zip((old, new), photos, strict=True)
        )
        value += (after - before) * math.log(after / before)
    return StabilityIndex(value, _chi_square_95(len(pairs) - 1) * sum(1 / max(one, 1) for one in photos))


def _chi_square_95(freedom: int) -> float:
    """Its 95th percentile, by the approximation of Wilson and Hilferty (1931), right to 3 % from one degree on."""
    if freedom < 1:
        return 0.0
    part = 2 / (9 * freedom)
    return float(freedom * (1 - part + _Z95 * math.sqrt(part)) ** 3)
