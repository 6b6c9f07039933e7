"""Champion and challenger: is the new version at least as good as the one in the channel, on the same photos?

Both answer the same photos, so only those on which they differ say anything: McNemar's exact test.
Source: Dietterich, Approximate Statistical Tests for Comparing Supervised Classification Learning Algorithms, 1998.
"""

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from train_job.data.dataset import Example, Split
from train_job.pipeline.csv_records import read_dataset_csv
from train_job.pipeline.export_variants import ExportedVariants
from train_job.pipeline.prepare_data import JobContext
from train_job.pipeline.train_classifier import TrainedClassifier
from train_job.store.feature_store import FeatureStore
from train_job.store.pixel_cache import MAX_GATE_PHOTOS, available_photos, balanced_sample, decoded_photos
from transferlite.errors import BundleError, NotFoundError
from transferlite.predict.predictor import Predictor
from transferlite.registry.open_registry import Registry

SIGNIFICANT = 0.05
"""As unlikely as this, of equally good versions, must the loss over all photos be to count."""
SUSPICIOUS = 0.25
"""The same for a single class, of which there are fewer photos, and whose loss the whole may hide."""


@dataclass(frozen=True)
class Comparison:
    """Two versions on the photos that neither learnt from and whose label both know.

    Attributes:
        champion: the id of the version that the channel names.
        classes: for each label its ``photos``, how many of them the ``champion`` and the ``challenger`` got right, and
            how many ``only_champion`` and ``only_challenger``.
        gone: labels that the champion knows and the challenger does not.
        tolerance: the share of a class's photos that may be lost.
    """

    champion: str
    classes: Mapping[str, Mapping[str, int]]
    gone: tuple[str, ...]
    tolerance: float

    def total(self, count: str) -> int:
        """One of the counts, over all classes."""
        return sum(one[count] for one in self.classes.values())

    @property
    def p_value(self) -> float:
        """How likely such a loss, or a larger one, were if both versions were equally good."""
        return chance(self.total("only_champion"), self.total("only_challenger"))

    def reasons(self) -> list[str]:
        """Why the challenger must not take the champion's place; empty if it may.

        A class may lose :attr:`tolerance` of its photos, and more where one chance in four would do it; all classes
        together may not be significantly worse.
        """
        found = [f"{label!r} is a class of {self.champion} and of this version not" for label in self.gone]
        worse = self.p_value < SIGNIFICANT
        for label, one in self.classes.items():
            lost = one["champion"] - one["challenger"]
            too_many = lost > self.tolerance * one["photos"]
            if (too_many and chance(one["only_champion"], one["only_challenger"]) <= SUSPICIOUS) or (
                worse and lost > 0
            ):
                found.append(
                    f"{label!r}: {one['challenger']} of {one['photos']} test photos right where {self.champion} has"
                    f" {one['champion']}"
                )
        if worse:
            found.append(
                f"significantly worse: {self.total('only_champion')} photos are right no more,"
                f" {self.total('only_challenger')} are now (McNemar p = {self.p_value:.2g})"
            )
        return found

    def to_dict(self) -> dict[str, Any]:
        """The form kept in ``evaluation.json``."""
        return {
            "champion": self.champion,
            "photos": self.total("photos"),
            "both_right": self.total("champion") - self.total("only_champion"),
            "only_champion": self.total("only_champion"),
            "only_challenger": self.total("only_challenger"),
            "p_value": self.p_value,
            "classes": {label: dict(one) for label, one in self.classes.items()},
            "reasons": self.reasons(),
        }


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
    with job.report.counting("champion", len(sample)) as advance:
        pairs = zip(sample, *(decoded_photos(sample, spec, store) for spec in specs), strict=True)
        for place, (example, ours, theirs) in enumerate(pairs):
            job.stop.check()
            mine = learned.classifier.labels[exported.best(example, ours)]
            right[:, place] = (champion.best_label(theirs) == example.label, mine == example.label)
            advance()
    gone = tuple(label for label in champion.manifest.labels if label not in learned.classifier.labels)
    return tally(model_id, [one.label for one in sample], right, gone, job.options.tolerance)


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


def chance(lost: int, won: int) -> float:
    """The probability that of ``lost`` + ``won`` fair coins at least ``lost`` are lost."""
    return float(binomtest(lost, lost + won, alternative="greater").pvalue) if lost + won else 1.0


def tally(
    champion: str, labels: Sequence[str], right: NDArray[np.bool_], gone: tuple[str, ...], tolerance: float
) -> Comparison:
    """Count ``right`` ``[2, N]``: which photos the champion, and the challenger, got right; ``labels`` are ``[N]``."""
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
        for label in sorted(set(labels))
    }
    return Comparison(champion, classes, gone, tolerance)


def refusals(
    job: "JobContext", learned: "TrainedClassifier", exported: "ExportedVariants", comparison: "Comparison | None"
) -> tuple[str, ...]:
    """The reasons against it; empty where there are none."""
    reasons = comparison.reasons() if comparison else []
    chosen = learned.evaluation.chosen
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
