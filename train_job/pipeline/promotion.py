"""Promotion check: compare the new version with the channel's on the same photos, and collect reasons against it."""

import tempfile
from collections.abc import Iterable, Mapping, Set
from pathlib import Path

import numpy as np

from train_job.data.example import Split
from train_job.data.photos import SPLIT_CODES, Photos
from train_job.evaluation.comparison import Comparison, tally
from train_job.pipeline.export_variants import ExportedVariants
from train_job.pipeline.prepare_data import JobContext
from train_job.pipeline.previous_version import read_dataset_csv, read_learnt_photos
from train_job.pipeline.train_classifier import TrainedClassifier
from train_job.quality.learnt_photos import LearntPhotos, unfair_tests
from train_job.store.facts_index import FactsIndex
from train_job.store.feature_store import FeatureStore
from train_job.store.pixel_cache import MAX_GATE_PHOTOS, available_photos, balanced_sample, decoded_photos
from transferlite.errors import BundleError, NotFoundError, ReplacedError
from transferlite.inference.variants import FLOAT32
from transferlite.predict.predictor import Predictor
from transferlite.registry.open_registry import Registry

_MAX_COMPARISONS = 5
"""Comparisons with versions that other jobs promoted meanwhile, before this job gives way."""


def compare_with_champion(job: JobContext, trained: TrainedClassifier, exported: ExportedVariants) -> Comparison | None:
    """Run the channel's version and the new float32 file on the same test photos, at most :data:`MAX_GATE_PHOTOS`.

    The photos are those of both versions, so the champion's test photos stay test photos whatever the new data are.
    None if the channel has no version that can be run.
    """
    try:
        model_id = job.registry.channel(job.options.channel).model_id
        previous = read_dataset_csv(job.registry, model_id)
        with tempfile.TemporaryDirectory(prefix="transferlite-") as cache:
            champion = Predictor.from_registry(
                job.options.registry, model_id=model_id, variant=FLOAT32, cache=Path(cache)
            )
    except NotFoundError:
        return None  # a new channel
    except BundleError as error:
        job.report.warning(f"not compared with the version in {job.options.channel}, which cannot be run: {error}")
        return None
    our_labels = trained.classifier.labels
    store = FeatureStore.open(job.options.feature_store, job.report.warning)
    learnt = read_learnt_photos(job.registry, champion.manifest, previous)
    if learnt is None:
        job.report.warning(f"not compared with {model_id}: the photos that its warm starts learnt from are unknown")
        fair = Photos.of(())
    else:
        tests = shared_tests(trained.examples(Split.TEST), previous, {*champion.manifest.labels} & {*our_labels})
        fair = fair_photos(tests, learnt, trained.learnt, store.facts())
    specs = (trained.classifier.input, champion.manifest.input)
    sample = balanced_sample(fair, our_labels, MAX_GATE_PHOTOS)
    for spec in specs:
        sample = available_photos(sample, spec, store)
    right = np.zeros((2, len(sample)), bool)
    with job.report.progress("champion", len(sample)) as advance:
        pairs = zip(sample, *(decoded_photos(sample, spec, store) for spec in specs), strict=True)
        for i, (example, our_image, their_image) in enumerate(pairs):
            job.stop.check()
            ours = our_labels[exported.predicted_class(example, our_image)]
            right[:, i] = (champion.best_label(their_image) == example.label, ours == example.label)
            advance()
    gone = tuple(label for label in champion.manifest.labels if label not in our_labels)
    known = [label for label in champion.manifest.labels if label not in gone]
    labels = [example.label for example in sample]
    comparison = tally(model_id, labels, right, gone, job.options.tolerance, known)
    for note in comparison.notes():
        job.report.warning(note)
    return comparison


def shared_tests(tests: Photos, previous: Photos, labels: Set[str]) -> Photos:
    """Merge the test photos of both versions that have one of the ``labels``.

    If the two disagree on a photo's label, the newer label counts.
    """
    old = previous.take(previous.split_codes == SPLIT_CODES[Split.TEST])
    merged = Photos.concatenate(tests, old.take(~np.isin(old.digests, tests.digests)))
    return merged.take(merged.has_label(labels))


def fair_photos(tests: Photos, champion: LearntPhotos, challenger: LearntPhotos, facts: FactsIndex) -> Photos:
    """Return the test photos that give neither version an advantage, by sha256: see :func:`unfair_tests`."""
    _, first = np.unique(tests.digests, return_index=True)
    ordered = tests.take(first)
    return ordered.take(~np.isin(ordered.digests, unfair_tests(ordered.digests, champion, challenger, facts)))


def refusals(
    job: JobContext, trained: TrainedClassifier, exported: ExportedVariants, comparison: Comparison | None
) -> tuple[str, ...]:
    """Collect the reasons against promoting the new version."""
    reasons = [*trained.label_changes.reasons(), *(comparison.reasons() if comparison else [])]
    if comparison is None or comparison.detectable is None:  # the comparison with the current version shows nothing
        reasons += trained.evaluated.baseline.reasons()
    chosen = trained.evaluation.chosen_threshold
    if chosen is not None and chosen["threshold"] is None:
        reasons.append(f"no threshold has a precision of {chosen['precision']:.0%} on the validation photos")
    return (*reasons, *unserved(job.registry, job.options.channel, exported.variants, exported.left_out))


def current_version(job: JobContext) -> str:
    """Id of the version that the channel points to; empty if it has none, or a damaged pointer."""
    try:
        return job.registry.channel(job.options.channel).model_id
    except (NotFoundError, BundleError):
        return ""


def promote(job: JobContext, trained: TrainedClassifier, exported: ExportedVariants, compared: str) -> tuple[str, ...]:
    """Point the channel to the new version, if it still points to the version ``compared``.

    If another job has replaced that version meanwhile, the new version is first compared with its successor.

    Returns:
        The reasons why the channel was left unchanged; empty if it points to the new version.
    """
    model_id, channel = exported.model_info.model_id, job.options.channel
    for _ in range(_MAX_COMPARISONS):
        try:
            replaces = compared if job.options.promote == "auto" else None
            pointer = job.registry.promote(model_id, channel, replaces=replaces)
        except ReplacedError as error:
            job.report.warning(f"{error}: comparing again; the report shows the first comparison")
            compared = current_version(job)
            refused = refusals(job, trained, exported, compare_with_champion(job, trained, exported))
            if refused:
                return refused
        else:
            previous = f" (was {pointer.previous[0]})" if pointer.previous else ""
            job.report.line(f"{channel} -> {pointer.model_id}{previous}")
            return ()
    return (f"other jobs replaced its version {_MAX_COMPARISONS} times while this one was compared with it",)


def unserved(registry: Registry, channel: str, variants: Iterable[str], left_out: Mapping[str, str]) -> tuple[str, ...]:
    """Return a reason for each variant of the channel's version that the new one lacks: devices may be using it."""
    try:
        served = registry.manifest(registry.channel(channel).model_id).variants
    except (NotFoundError, BundleError):
        return ()  # a new channel, or a version that cannot be loaded
    return tuple(
        f"{name} is served there, and this version lacks it: {left_out.get(name, 'not exported')}"
        for name in sorted(served.keys() - set(variants))
    )
