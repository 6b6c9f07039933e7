"""From labelled photos to rows, each in its split: what the training of the head starts from."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from train_job.data.augmentation import PLAIN
from train_job.data.dataset import Dataset, Split, rejected_summary
from train_job.data.split import Shares, assign_splits
from train_job.extraction.extract_features import ExtractionCounts, ExtractionResult
from train_job.extraction.frozen_backbone import FrozenBackbone, extract_new, gather_rows
from train_job.head.row_sets import RowSet, Table
from train_job.options import TrainOptions
from train_job.pipeline.csv_records import PreviousVersion
from train_job.progress import Phases, Reporter
from train_job.quality.codes import Note
from train_job.quality.duplicates import NearDuplicates, deduplicate, near_duplicates
from train_job.quality.findings import CheckResult, count_by_code, find_problems
from train_job.sigterm import StopRequest
from train_job.store.feature_store import FeatureStore
from transferlite.errors import AccessDeniedError, InputError, UnavailableError
from transferlite.registry.open_registry import Registry

_ATTEMPTS = 3


@dataclass(frozen=True)
class JobContext:
    """What the parts of one training share."""

    options: TrainOptions
    registry: Registry
    phases: Phases
    report: Reporter
    stop: StopRequest


@dataclass(frozen=True)
class PreparedData:
    """The usable photos, each in its split, and their rows.

    Attributes:
        dataset: the usable photos.
        splits: of each photo's sha256.
        tables: one for each output of the base: a row for each photo in order, then for each augmented view one for
            each photo of the training split.
        counts: what the features cost.
        checked: what there is to say of the photos.
        near: which of them look alike.
        new: the URIs of photos that no earlier training has fetched.
    """

    dataset: Dataset
    splits: dict[str, Split]
    tables: Sequence[Table]
    counts: ExtractionCounts
    checked: CheckResult
    near: NearDuplicates
    new: frozenset[str]

    def of(self, split: Split) -> list[int]:
        """The places of the split's photos in the data set."""
        return [place for place, one in enumerate(self.dataset.examples) if self.splits[one.sha256] is split]

    def rows(self, split: Split, output: int = 0) -> RowSet:
        """The split's rows and labels; those to train on include the augmented views."""
        photos = self.photos(split, output)
        if split is not Split.TRAIN:
            return photos
        augmented = np.arange(len(self.dataset.examples), len(photos.table))
        labels = np.tile(photos.labels, 1 + len(augmented) // len(photos))
        return RowSet(photos.table, np.concatenate([photos.ids, augmented]), labels)

    def photos(self, split: Split, output: int = 0) -> RowSet:
        """A row and a label for each of the split's photos, as they are."""
        return self._plain(self.of(split), output)

    def all_photos(self, output: int = 0) -> RowSet:
        """A row and a label for each photo."""
        return self._plain(range(len(self.dataset.examples)), output)

    def groups(self) -> NDArray[np.int64]:
        """A number for each photo, equal for those that look alike: what judges one must not have learnt another."""
        first = {sha256: group[0] for group in self.near.groups for sha256 in group}
        numbers: dict[str, int] = {}
        hashes = (first.get(one.sha256, one.sha256) for one in self.dataset.examples)
        return np.array([numbers.setdefault(sha256, len(numbers)) for sha256 in hashes], np.int64)

    def _plain(self, places: Sequence[int], output: int) -> RowSet:
        index = {label: number for number, label in enumerate(self.dataset.labels)}
        labels = np.array([index[self.dataset.examples[place].label] for place in places], np.int32)
        return RowSet(self.tables[output], np.array(places, np.int64), labels)


def prepare_data(
    job: JobContext, base: FrozenBackbone, dataset: Dataset, shares: Shares, before: PreviousVersion, folder: Path
) -> PreparedData:
    """Make the rows that are not there yet, leave out what cannot be used, assign splits, gather tables in ``folder``.

    Raises:
        InputError: too many photos cannot be used, or a class or split has none left.
        StoppedError: the job was told to stop.
    """
    store = FeatureStore.open(job.options.feature_store, job.report.warning)
    for _ in range(_ATTEMPTS):
        with job.phases("features"):
            extracted = extract_new(base, dataset.examples, store, job.report, job.stop)
        with job.phases("data"):
            usable, notes = _usable(dataset, extracted, job)
            facts = store.facts().of([one.sha256 for one in usable.examples])
            near = near_duplicates(usable.examples, facts, before.splits)
            splits = assign_splits(usable.examples, shares, before.splits, near.groups)
            _check(usable, splits)
        with job.phases("features"):
            train = [one.sha256 for one in usable.examples if splits[one.sha256] is Split.TRAIN]
            hashes = dict.fromkeys(base.views, train) | {PLAIN: [one.sha256 for one in usable.examples]}
            tables, lost = gather_rows(base.wanted, store, hashes, folder)
        if not lost:
            checked = find_problems(usable, facts, near, splits, notes)
            _announce(usable, splits, checked, job.report)
            return PreparedData(usable, splits, tables, extracted.counts, checked, near, extracted.new)
        job.report.warning(f"{len(lost)} rows were damaged or removed meanwhile, and are made again")
    raise UnavailableError("rows vanish as they are written", where=job.options.feature_store)


def _usable(dataset: Dataset, extracted: ExtractionResult, job: JobContext) -> tuple[Dataset, tuple[Note, ...]]:
    if not extracted.examples and all(reject.code == "forbidden" for reject in extracted.rejects):
        first = extracted.rejects[0]
        raise AccessDeniedError(
            "no photo may be read: " + first.reason, where=first.uri, hint="check the role's policy"
        )
    once = deduplicate(extracted.examples)
    rejects = (*extracted.rejects, *once.rejects)
    usable = dataset.of_those(once.examples, rejects)
    usable.check_share(job.options.fail_over)
    if rejects:
        job.report.warning(rejected_summary(rejects))
    return usable, once.notes


def _check(dataset: Dataset, splits: dict[str, Split]) -> None:
    counts = Counter((splits[example.sha256], example.label) for example in dataset.examples)
    for label in dataset.labels:
        if not counts[Split.TRAIN, label]:
            raise InputError(f"no photo of {label!r} is left to train on", hint="add photos or change --split")
    if Split.TEST not in splits.values():
        raise InputError("no photo is left to test on", hint="add photos, change --split or give --test-images")


def _announce(dataset: Dataset, splits: dict[str, Split], checked: CheckResult, report: Reporter) -> None:
    counts = Counter(splits[example.sha256] for example in dataset.examples)
    report.line("split: " + ", ".join(f"{counts[split]} {split}" for split in Split))
    if checked.notes:
        report.line(f"check: {count_by_code(checked.notes)}; all in notes.csv")
