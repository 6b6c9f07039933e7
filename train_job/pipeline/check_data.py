"""Check labelled photos for problems without training: the ``transferlite check`` command."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from export.native_logs import quiet_native_logs
from train_job.data.dataset import LabelledPhotos
from train_job.data.example import Example, RejectedPhoto
from train_job.data.labels.read_labels import read_job_photos, to_dataset
from train_job.data.load_photos import DecodedPhoto, load_photos
from train_job.data.photo_facts import PhotoFacts
from train_job.data.photos import Photos, encode_text
from train_job.data.split import assign_splits
from train_job.data.split_table import SplitTable
from train_job.options import TrainOptions
from train_job.pipeline.previous_version import read_previous_version
from train_job.pipeline.training_csvs import quarantine_csv
from train_job.progress import Reporter, printable
from train_job.quality.codes import advice_for
from train_job.quality.duplicates import deduplicate, near_duplicates
from train_job.quality.findings import CheckResult, find_problems
from train_job.quality.label_changes import LabelChanges, find_label_changes
from train_job.sigterm import StopRequest, stop_on_sigterm
from train_job.store.facts_index import FactsIndex
from train_job.store.feature_store import FeatureStore
from transferlite.errors import AccessDeniedError
from transferlite.images.input_spec import InputSpec
from transferlite.registry.open_registry import Registry
from transferlite.storage.locations import open_store

_SPEC = InputSpec(224, 224)
"""Size to decode photos to; as in training, large JPEGs are scaled down while they are decoded."""

_MAX_PRINTED = 3  # photos printed for each code; the files list all


def check_data(options: TrainOptions, out: str, report: Reporter) -> CheckResult:
    """Examine every photo, and write ``quarantine.csv``, ``notes.csv`` and ``check.json`` to ``out``.

    Raises:
        InputError: there are no labelled photos. After the files are written, also if more than the share
            ``options.fail_over`` of the photos cannot be used, or a class has no usable photo.
        StoppedError: the job received SIGTERM.
        UnavailableError: the store does not respond.
    """
    store = open_store(out)
    store.check_writable()
    with stop_on_sigterm() as stop:
        labelled = read_job_photos(options, report)
        with quiet_native_logs():  # libtiff prints warnings about damaged files
            examples, rejected, facts = _examine_all(labelled.examples, _feature_store(options, report), report, stop)
    _check_access(examples, rejected)
    unique = deduplicate(examples)
    rejected += unique.rejected
    photos = _usable_photos(labelled, unique.examples, rejected)
    duplicates = near_duplicates(photos.examples, facts, SplitTable())
    splits = assign_splits(photos.examples, options.split.adjust_for(photos.examples), SplitTable(), duplicates.groups)
    changes = _label_changes(options, photos)
    checked = find_problems(photos, facts, duplicates, splits, [*unique.notes, *changes.notes()])
    checked = replace(
        checked, summary={**checked.summary, "label_changes": changes.to_dict() if changes.model_id else None}
    )
    store.put("quarantine.csv", encode_text(quarantine_csv(photos.rejected)))
    store.put("notes.csv", encode_text(quarantine_csv(checked.notes)))
    store.put("check.json", printable(checked.to_json()).encode())
    _print_findings(photos, checked, out, report)
    if changes.changed:
        report.warning(changes.summary())
    dataset = to_dataset(labelled, options.labels, options.images)
    photos.check_rejected_share(options.fail_over)
    dataset.restrict_to(unique.examples, rejected)  # raises InputError if a class has no photo left
    return checked


def _feature_store(options: TrainOptions, report: Reporter) -> FeatureStore | None:
    return FeatureStore.open(options.feature_store, report.warning) if options.registry else None


def _examine_all(
    photos: Photos, store: FeatureStore | None, report: Reporter, stop: StopRequest
) -> tuple[Photos, list[RejectedPhoto], FactsIndex]:
    """Return the usable photos with their sha256, the rejected ones, and the facts.

    Photos whose facts a training has stored are not fetched again.
    """
    facts, digests = FactsIndex.of({}), np.zeros(len(photos), "S32")
    rejected: dict[int, RejectedPhoto] = {}
    is_new = np.ones(len(photos), bool)
    if store is not None:
        known, facts = store.photos().find(photos), store.facts()
        digests, is_new = known.digests.copy(), facts.rows(known.digests) < 0
        is_new[list(known.rejected)] = False
        positions = np.array(list(known.rejected), np.int64)
        for example, (position, reason) in zip(photos.take(positions), known.rejected.items(), strict=True):
            rejected[position] = RejectedPhoto(example.image, example.row, *reason)
    new_facts: dict[str, PhotoFacts] = {}
    positions = np.flatnonzero(is_new)
    with report.progress("check", len(positions)) as advance:
        for position, loaded in zip(positions.tolist(), load_photos(photos.take(is_new), _SPEC), strict=True):
            if isinstance(loaded, DecodedPhoto):
                digests[position] = bytes.fromhex(loaded.example.sha256)
                new_facts[loaded.example.sha256] = loaded.facts
            elif isinstance(loaded, RejectedPhoto):
                rejected[position] = loaded
            advance()
            stop.check()
    usable = np.ones(len(photos), bool)
    usable[list(rejected)] = False
    in_order = [rejected[position] for position in sorted(rejected)]
    return photos.with_digests(digests).take(usable), in_order, facts.with_new(new_facts)


def _check_access(examples: Sequence[Example], rejected: Sequence[RejectedPhoto]) -> None:
    if not examples and rejected and all(photo.code == "forbidden" for photo in rejected):
        raise AccessDeniedError("no photo may be read: " + rejected[0].reason, where=rejected[0].uri)


def _label_changes(options: TrainOptions, photos: LabelledPhotos) -> LabelChanges:
    """Compare the labels with those of the channel's version; without a registry, nothing has changed."""
    if not options.registry:
        return LabelChanges()
    previous = read_previous_version(Registry.open(options.registry), options.channel, options.split)
    return find_label_changes(previous.model_id, previous.examples, photos.examples)


def _usable_photos(labelled: LabelledPhotos, usable: Photos, rejected: Sequence[RejectedPhoto]) -> LabelledPhotos:
    """Return the usable photos and the classes that still have one, to report them before an error is raised."""
    remaining = usable.label_counts()
    labels = tuple(label for label in labelled.labels if label in remaining)
    return replace(labelled, examples=usable, labels=labels, rejected=(*labelled.rejected, *rejected))


def _print_findings(photos: LabelledPhotos, checked: CheckResult, out: str, report: Reporter) -> None:
    """Print the number of photos for each code, with the first few."""
    by_code: dict[str, list[RejectedPhoto]] = defaultdict(list)
    for finding in (*photos.rejected, *checked.notes):
        by_code[finding.code].append(finding)
    for code, findings in by_code.items():
        report.line(f"{code}: {len(findings)}; {advice_for(code)}")
        for finding in findings[:_MAX_PRINTED]:
            row = f" (row {finding.row})" if finding.row else ""
            report.line(f"    {finding.uri}{row}: {finding.reason}" if finding.uri else f"    {finding.reason}")
    report.line(
        f"{len(photos.examples)} photos can be used, {len(photos.rejected)} are rejected;"
        f" see quarantine.csv, notes.csv and check.json in {out}"
    )
