"""Champion and challenger: compare the new version with the one that the channel names, on the same photos.

:mod:`train_job.pipeline.non_inferiority` decides; this module runs both versions, counts, and puts the result in words.
"""

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from train_job.data.dataset import Example, Split
from train_job.pipeline.export_variants import ExportedVariants
from train_job.pipeline.non_inferiority import (
    CLASS_LEVEL,
    MIN_PHOTOS,
    OVERALL_LEVEL,
    POWER,
    Verdict,
    check,
    detectable_drop,
)
from train_job.pipeline.prepare_data import JobContext
from train_job.pipeline.previous_version import read_dataset_csv
from train_job.pipeline.train_classifier import TrainedClassifier
from train_job.store.feature_store import FeatureStore
from train_job.store.pixel_cache import MAX_GATE_PHOTOS, available_photos, balanced_sample, decoded_photos
from transferlite.errors import BundleError, NotFoundError
from transferlite.predict.predictor import Predictor
from transferlite.registry.open_registry import Registry

LARGE_DROP = 0.2
"""A note says so where the overall check would miss such a drop in accuracy."""
LARGE_CLASS_DROP = 0.5
"""A note says so where a class's own check would miss such a drop in recall."""

_NAMED = 5


@dataclass(frozen=True)
class Comparison:
    """Two versions on the test photos that neither learned from, with labels that both know.

    Attributes:
        champion: the id of the version that the channel names.
        classes: for each label its ``photos``, how many of them the ``champion`` and the ``challenger`` got right, and
            how many ``only_champion`` and ``only_challenger``.
        gone: labels that the champion knows and the challenger does not.
        tolerance: the drop in a class's recall that is never a reason, a share from 0 to 1.
    """

    champion: str
    classes: Mapping[str, Mapping[str, int]]
    gone: tuple[str, ...]
    tolerance: float

    def total(self, count: str) -> int:
        """One of the counts, over all classes."""
        return sum(one[count] for one in self.classes.values())

    @cached_property
    def verdict(self) -> Verdict:
        """The result of the promotion check; its classes have the order of :attr:`classes`."""
        names = ("photos", "only_champion", "only_challenger")
        counts = [np.array([one[name] for one in self.classes.values()], np.int64) for name in names]
        return check(counts[0], counts[1], counts[2], self.tolerance)

    @property
    def p_value(self) -> float:
        """McNemar's one-sided mid-p value over all photos; small where the challenger is worse."""
        return float(self.verdict.p_value)

    def reasons(self) -> list[str]:
        """Why the challenger must not take the champion's place; empty if it may.

        A class that vanished is a reason, and so is each class, or all photos together, that the promotion check
        refuses: see :func:`train_job.pipeline.non_inferiority.check`.
        """
        found = [f"class {label!r} of {self.champion} is missing from this version" for label in self.gone]
        verdict = self.verdict
        rows = zip(self.classes.items(), verdict.worse_classes, verdict.class_p_values, strict=True)
        found += [f"{label!r}: recall {_fell(one, p_value)}" for (label, one), worse, p_value in rows if worse]
        if verdict.worse:
            totals = {name: self.total(name) for name in next(iter(self.classes.values()))}
            found.append(f"accuracy {_fell(totals, self.p_value)}, most of them in {self._most_lost()}")
        return found

    def notes(self) -> list[str]:
        """What the check cannot find because test photos are too few; these are no reasons."""
        photos = self.total("photos")
        if not photos:
            return [f"promotion check: no test photo suits both {self.champion} and this version, nothing was compared"]
        found = []
        drop = detectable_drop(photos, OVERALL_LEVEL, self.tolerance)
        if drop is None or drop > LARGE_DROP:
            least = "no drop in accuracy" if drop is None else f"only drops in accuracy of {drop:.0%} or more"
            found.append(
                f"promotion check: {photos} test photos are too few, it finds {least} with {POWER:.0%} probability:"
                " add test photos"
            )
        few = [label for label, one in self.classes.items() if one["photos"] < MIN_PHOTOS]
        if few:
            found.append(
                f"promotion check: fewer than {MIN_PHOTOS} test photos in {len(few)} of {len(self.classes)} classes,"
                f" which only the overall check covers: {_some(few)}"
            )
        weak = [label for label in self.classes if label not in few and self._misses_large_drop(label)]
        if weak:
            found.append(
                f"promotion check: too few test photos in {len(weak)} of {len(self.classes)} classes to find a drop in"
                f" recall of {LARGE_CLASS_DROP:.0%} with {POWER:.0%} probability: {_some(weak)}"
            )
        return found

    def to_dict(self) -> dict[str, Any]:
        """The form kept in ``evaluation.json``."""
        verdict = self.verdict
        return {
            "champion": self.champion,
            "photos": self.total("photos"),
            "both_right": self.total("champion") - self.total("only_champion"),
            "only_champion": self.total("only_champion"),
            "only_challenger": self.total("only_challenger"),
            "tolerance": self.tolerance,
            "levels": {"overall": OVERALL_LEVEL, "classes": CLASS_LEVEL},
            "p_value": self.p_value,
            "worse": bool(verdict.worse),
            "detectable": detectable_drop(self.total("photos"), OVERALL_LEVEL, self.tolerance),
            "classes": {
                label: {
                    **one,
                    "p_value": float(verdict.class_p_values[place]),
                    "checked": bool(verdict.checked[place]),
                    "worse": bool(verdict.worse_classes[place]),
                    "detectable": detectable_drop(one["photos"], CLASS_LEVEL, self.tolerance),
                }
                for place, (label, one) in enumerate(self.classes.items())
            },
            "reasons": self.reasons(),
            "notes": self.notes(),
        }

    def _misses_large_drop(self, label: str) -> bool:
        drop = detectable_drop(self.classes[label]["photos"], CLASS_LEVEL, self.tolerance)
        return drop is None or drop > LARGE_CLASS_DROP

    def _most_lost(self) -> str:
        """The classes that lost most photos, with how many."""
        lost = {label: one["champion"] - one["challenger"] for label, one in self.classes.items()}
        worst = sorted((label for label in lost if lost[label] > 0), key=lambda label: -lost[label])
        return _some([f"{label!r} ({lost[label]})" for label in worst], quoted=True)


def _fell(counts: Mapping[str, int], p_value: float) -> str:
    """A drop in words, from the counts of a class or of all."""
    before, after = (counts[side] / counts["photos"] for side in ("champion", "challenger"))
    return (
        f"fell from {before:.1%} to {after:.1%}: of {counts['photos']} test photos {counts['only_champion']} got worse,"
        f" {counts['only_challenger']} got better (p = {p_value:.2g})"
    )


def _some(labels: Sequence[str], quoted: bool = False) -> str:
    """The first few labels, quoted unless they are already."""
    shown = labels if quoted else [repr(label) for label in labels]
    return ", ".join(shown[:_NAMED]) + (", …" if len(shown) > _NAMED else "")


def compare_with_champion(job: JobContext, learned: TrainedClassifier, exported: ExportedVariants) -> Comparison | None:
    """Run the version that the channel names beside the new float32 file, on at most :data:`MAX_GATE_PHOTOS` photos.

    They are the test photos of both: the champion's own stay frozen with it, whatever the challenger's data are. None
    where the channel names nothing that can be run.
    """
    try:
        model_id = job.registry.channel(job.options.channel).model_id
        before = read_dataset_csv(job.registry, model_id)
        with tempfile.TemporaryDirectory(prefix="transferlite-") as cache:
            champion = Predictor.from_registry(job.options.registry, model_id=model_id, cache=Path(cache))
    except NotFoundError:
        return None  # a new channel
    except BundleError as error:
        job.report.warning(f"not compared with the version in {job.options.channel}, which cannot be run: {error}")
        return None
    examples = fair_photos(learned, before, champion.manifest.labels)
    store = FeatureStore.open(job.options.feature_store, job.report.warning)
    specs = (learned.classifier.input, champion.manifest.input)
    sample = balanced_sample(examples, learned.classifier.labels, MAX_GATE_PHOTOS)
    for spec in specs:
        sample = available_photos(sample, spec, store)
    right = np.zeros((2, len(sample)), bool)
    with job.report.progress("champion", len(sample)) as advance:
        pairs = zip(sample, *(decoded_photos(sample, spec, store) for spec in specs), strict=True)
        for place, (example, ours, theirs) in enumerate(pairs):
            job.stop.check()
            mine = learned.classifier.labels[exported.predicted_class(example, ours)]
            right[:, place] = (champion.best_label(theirs) == example.label, mine == example.label)
            advance()
    gone = tuple(label for label in champion.manifest.labels if label not in learned.classifier.labels)
    known = [label for label in champion.manifest.labels if label not in gone]
    found = tally(model_id, [one.label for one in sample], right, gone, job.options.tolerance, known)
    for note in found.notes():
        job.report.warning(note)
    return found


def fair_photos(learned: TrainedClassifier, before: Sequence[Example], labels: Sequence[str]) -> list[Example]:
    """The test photos of either version that the other did not learn from, with a label that both know.

    Where the two disagree on a photo's label, the newer data are believed.
    """
    learnt = {one.sha256 for one in before if one.split is not Split.TEST}
    learnt |= {sha256 for sha256, split in learned.splits.items() if split is not Split.TEST}
    tests = {one.sha256: one for one in before if one.split is Split.TEST}
    tests |= {one.sha256: one for one in learned.examples(Split.TEST)}
    known = set(labels) & set(learned.classifier.labels)
    fair = [one for sha256, one in tests.items() if sha256 not in learnt and one.label in known]
    return sorted(fair, key=lambda one: one.sha256)


def tally(
    champion: str,
    labels: Sequence[str],
    right: NDArray[np.bool_],
    gone: tuple[str, ...],
    tolerance: float,
    known: Sequence[str] = (),
) -> Comparison:
    """Count which photos the versions got right.

    Args:
        champion: the id of the version that the channel names.
        labels: the photos' labels, ``[N]``.
        right: whether the champion, and the challenger, got each photo right, ``[2, N]``.
        gone: labels that only the champion knows.
        tolerance: the drop in recall that is never a reason, a share.
        known: labels that both know, also those without a test photo.
    """
    names, (theirs, ours) = np.array(labels, object), right
    counts = {
        "photos": np.ones_like(theirs),
        "champion": theirs,
        "challenger": ours,
        "only_champion": theirs & ~ours,
        "only_challenger": ours & ~theirs,
    }
    classes = {
        label: {name: int(which[names == label].sum()) for name, which in counts.items()}
        for label in sorted({*labels, *known})
    }
    return Comparison(champion, classes, gone, tolerance)


def refusals(
    job: "JobContext", learned: "TrainedClassifier", exported: "ExportedVariants", comparison: "Comparison | None"
) -> tuple[str, ...]:
    """The reasons against it; empty where there are none."""
    reasons = comparison.reasons() if comparison else []
    chosen = learned.evaluation.chosen_threshold
    if chosen is not None and chosen["threshold"] is None:
        reasons.append(f"no threshold has a precision of {chosen['precision']:.0%} on the validation photos")
    return (*reasons, *unserved(job.registry, job.options.channel, exported.variants, exported.left_out))


def unserved(registry: Registry, channel: str, variants: Iterable[str], left_out: Mapping[str, str]) -> tuple[str, ...]:
    """A reason for each variant that the channel's version has and the new one lacks: its users would find nothing."""
    try:
        served = registry.manifest(registry.channel(channel).model_id).variants
    except (NotFoundError, BundleError):
        return ()  # a new channel, or one that names what no one can load
    return tuple(
        f"{name} is served there, and this version lacks it: {left_out.get(name, 'not exported')}"
        for name in sorted(served.keys() - set(variants))
    )
