"""Turn labelled photos into feature rows with a split each: the data that the head is trained and evaluated on."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from train_job.data.augmentation import PLAIN
from train_job.data.dataset import Dataset, rejected_summary
from train_job.data.example import Split
from train_job.data.photos import SPLIT_CODES
from train_job.data.split import SplitShares, assign_splits
from train_job.data.split_table import SplitTable
from train_job.digests import digests_from_hex, indices_in
from train_job.extraction.extract_features import ExtractionCounts, ExtractionResult
from train_job.extraction.frozen_backbone import FrozenBackbone, extract_missing, gather_feature_rows
from train_job.head.row_sets import FeatureTable, RowSet
from train_job.options import TrainOptions
from train_job.pipeline.previous_version import PreviousVersion
from train_job.progress import PhaseTimer, Reporter
from train_job.quality.codes import Note
from train_job.quality.duplicates import NearDuplicates, deduplicate, near_duplicates
from train_job.quality.findings import CheckResult, count_by_code, find_problems
from train_job.quality.label_changes import find_label_changes
from train_job.quality.label_issues import LabelIssue, find_label_issues
from train_job.sigterm import StopRequest
from train_job.store.feature_store import FeatureStore
from transferlite.errors import AccessDeniedError, InputError, UnavailableError
from transferlite.registry.open_registry import Registry

_MAX_EXTRACTIONS = 3
"""Extractions before the job fails because rows are missing from the feature store again and again."""


@dataclass(frozen=True)
class JobContext:
    """Objects that every step of one training job uses."""

    options: TrainOptions
    registry: Registry
    phases: PhaseTimer
    report: Reporter
    stop: StopRequest


@dataclass(frozen=True)
class PreparedData:
    """The usable photos with their splits and feature rows.

    Attributes:
        dataset: usable photos.
        splits: split of each photo by its sha256.
        tables: one table of feature rows for each output of the backbone. Its first rows are the photos in the data
            set's order. Below them, each augmented view has one row for each training photo.
        extraction_counts: photos fetched, images forwarded, seconds.
        check: findings about the photos and labels.
        near_duplicates: groups of photos that look alike.
        new_uris: URIs of photos that no earlier training has fetched.
    """

    dataset: Dataset
    splits: SplitTable
    tables: Sequence[FeatureTable]
    extraction_counts: ExtractionCounts
    check: CheckResult
    near_duplicates: NearDuplicates
    new_uris: frozenset[str]

    @cached_property
    def split_codes(self) -> NDArray[np.int8]:
        """Code of each photo's split ``[N]``, in the order of the data set."""
        return self.splits.lookup(self.dataset.examples.digests)

    def indices(self, split: Split) -> NDArray[np.int64]:
        """Indices of the split's photos in the data set."""
        return np.flatnonzero(self.split_codes == SPLIT_CODES[split])

    def row_set(self, split: Split, output: int = 0) -> RowSet:
        """Feature rows and labels of a split; those of the training split include the augmented views."""
        photos = self.photo_row_set(split, output)
        if split is not Split.TRAIN:
            return photos
        augmented = np.arange(len(self.dataset.examples), len(photos.table))
        labels = np.tile(photos.labels, 1 + len(augmented) // len(photos))
        return RowSet(photos.table, np.concatenate([photos.ids, augmented]), labels)

    def photo_row_set(self, split: Split, output: int = 0) -> RowSet:
        """Feature rows and labels of a split's photos, without augmented views."""
        return self._row_set(self.indices(split), output)

    def full_row_set(self, output: int = 0) -> RowSet:
        """Feature rows and labels of all photos, without augmented views."""
        return self._row_set(np.arange(len(self.dataset.examples)), output)

    def duplicate_groups(self) -> NDArray[np.int64]:
        """Group number of each photo ``[N]``; near-duplicates share one, so that no fold separates them."""
        digests = self.dataset.examples.digests
        order = np.argsort(digests)
        numbers = np.arange(len(digests))
        for group in self.near_duplicates.groups:
            members = order[indices_in(digests[order], digests_from_hex(list(group)))]
            numbers[members] = members.min()
        return np.unique(numbers, return_inverse=True)[1].astype(np.int64)

    def label_issues(self, seed: int) -> list[LabelIssue]:
        """Find photos that are probably labelled wrong, worst first."""
        photos = self.full_row_set()
        return find_label_issues(photos.table[: len(photos)], photos.labels, seed, self.duplicate_groups())

    def _row_set(self, indices: NDArray[np.int64], output: int) -> RowSet:
        return RowSet(self.tables[output], indices, self.class_indices[indices])

    @cached_property
    def class_indices(self) -> NDArray[np.int32]:
        """Class of each photo ``[N]``."""
        return self.dataset.examples.class_indices(self.dataset.labels)


def prepare_data(
    job: JobContext,
    backbone: FrozenBackbone,
    dataset: Dataset,
    shares: SplitShares,
    previous: PreviousVersion,
    folder: Path,
) -> PreparedData:
    """Extract missing features, drop unusable photos, assign splits and gather the feature rows in ``folder``.

    Raises:
        InputError: too many photos are rejected, or a class or split has none left.
        StoppedError: the job was stopped.
        UnavailableError: rows disappear from the feature store while the job runs.
    """
    store = FeatureStore.open(job.options.feature_store, job.report.warning)
    for _ in range(_MAX_EXTRACTIONS):
        with job.phases("features"):
            extracted = extract_missing(backbone, dataset.examples, store, job.report, job.stop)
        with job.phases("data"):
            usable, notes = _usable(dataset, extracted, job)
            facts = store.facts()
            duplicates = near_duplicates(usable.examples, facts, previous.splits)
            splits = assign_splits(usable.examples, shares, previous.splits, duplicates.groups)
            _check_splits(usable, splits, shares)
        with job.phases("features"):
            digests = usable.examples.digests
            train = digests[splits.lookup(digests) == SPLIT_CODES[Split.TRAIN]]
            hashes = dict.fromkeys(backbone.views, train) | {PLAIN: digests}
            tables, missing = gather_feature_rows(backbone.feature_request, store, hashes, folder)
        if not missing:
            changes = find_label_changes(previous.model_id, previous.examples, usable.examples)
            check = find_problems(usable, facts, duplicates, splits, [*notes, *changes.notes()])
            _report_splits(usable, splits, check, job.report)
            if changes.changed:
                job.report.warning(changes.summary())
            return PreparedData(usable, splits, tables, extracted.counts, check, duplicates, extracted.new_uris)
        job.report.warning(f"{len(missing)} feature rows are damaged or were removed; extracting them again")
    raise UnavailableError(
        f"feature rows were still missing after {_MAX_EXTRACTIONS} extractions", where=job.options.feature_store
    )


def _usable(dataset: Dataset, extracted: ExtractionResult, job: JobContext) -> tuple[Dataset, tuple[Note, ...]]:
    """Data set without rejected photos and copies, and the notes about copies that were kept."""
    if not extracted.examples and all(photo.code == "forbidden" for photo in extracted.rejected):
        first = extracted.rejected[0]
        raise AccessDeniedError(
            "no photo may be read: " + first.reason, where=first.uri, hint="check the role's policy"
        )
    unique = deduplicate(extracted.examples)
    rejected = (*extracted.rejected, *unique.rejected)
    usable = dataset.restrict_to(unique.examples, rejected)
    usable.check_rejected_share(job.options.fail_over)
    if rejected:
        job.report.warning(rejected_summary(rejected))
    return usable, unique.notes


def _check_splits(dataset: Dataset, splits: SplitTable, shares: SplitShares) -> None:
    """Check that there are photos to train on, and to test on unless too few photos a class leave none for the test."""
    codes = splits.lookup(dataset.examples.digests)
    trained = dataset.examples.label_counts(codes == SPLIT_CODES[Split.TRAIN])
    for label in dataset.labels:
        if label not in trained:
            raise InputError(f"no photo of {label!r} is left to train on", hint="add photos or change --split")
    if SPLIT_CODES[Split.TEST] not in codes and not shares.test:
        raise InputError("no photo is left to test on", hint="add photos, change --split or pass --test-images")


def _report_splits(dataset: Dataset, splits: SplitTable, check: CheckResult, report: Reporter) -> None:
    codes = splits.lookup(dataset.examples.digests)
    report.line("split: " + ", ".join(f"{int((codes == SPLIT_CODES[split]).sum())} {split}" for split in Split))
    if check.notes:
        report.line(f"check: {count_by_code(check.notes)}; all in notes.csv")


def warm_start_obstacle(job: JobContext, data: PreparedData, previous: PreviousVersion) -> str:
    """Explain in the log why ``--warm-start`` must start cold; empty if it may start warm or is not given."""
    if not job.options.warm_start:
        return ""
    facts = FeatureStore.open(job.options.feature_store, job.report.warning).facts()
    obstacle = previous.warm_start_obstacle(data.dataset.examples, data.splits, facts)
    if obstacle:
        job.report.warning(obstacle)
    return obstacle
