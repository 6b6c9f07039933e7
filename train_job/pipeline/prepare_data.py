"""From labelled photos to rows, each in its split: what the training of the head starts from."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from train_job.data.augmentation import PLAIN
from train_job.data.dataset import Dataset, Split, left_out
from train_job.data.split import Shares, assign
from train_job.extraction.extract_features import Counts, Extracted
from train_job.extraction.frozen_backbone import FrozenBase, embed, gather
from train_job.head.row_sets import RowSet, Table
from train_job.options import TrainOptions
from train_job.pipeline.csv_records import Before
from train_job.progress import Phases, Reporter
from train_job.quality.codes import Note
from train_job.quality.duplicates import Near, near_duplicates, once_each
from train_job.quality.findings import Checked, judge, tally
from train_job.sigterm import Stop
from train_job.store.feature_store import FeatureStore
from transferlite.errors import AccessDeniedError, InputError, UnavailableError
from transferlite.registry.open_registry import Registry

_ATTEMPTS = 3


@dataclass(frozen=True)
class Job:
    """What the parts of one training share."""

    options: TrainOptions
    registry: Registry
    phases: Phases
    report: Reporter
    stop: Stop


@dataclass(frozen=True)
class Divided:
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
    counts: Counts
    checked: Checked
    near: Near
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


def divide(job: Job, base: FrozenBase, dataset: Dataset, shares: Shares, before: Before, folder: Path) -> Divided:
    """Make the rows that are not there yet, leave out what cannot be used, assign splits, gather tables in ``folder``.

    Raises:
        InputError: too many photos cannot be used, or a class or split has none left.
        StoppedError: the job was told to stop.
    """
    store = FeatureStore.open(job.options.feature_store, job.report.warning)
    for _ in range(_ATTEMPTS):
        with job.phases("features"):
            extracted = embed(base, dataset.examples, store, job.report, job.stop)
        with job.phases("data"):
            usable, notes = _usable(dataset, extracted, job)
            facts = store.facts().of([one.sha256 for one in usable.examples])
            near = near_duplicates(usable.examples, facts, before.splits)
            splits = assign(usable.examples, shares, before.splits, near.groups)
            _check(usable, splits)
        with job.phases("features"):
            train = [one.sha256 for one in usable.examples if splits[one.sha256] is Split.TRAIN]
            hashes = dict.fromkeys(base.views, train) | {PLAIN: [one.sha256 for one in usable.examples]}
            tables, lost = gather(base.wanted, store, hashes, folder)
        if not lost:
            checked = judge(usable, facts, near, splits, notes)
            _announce(usable, splits, checked, job.report)
            return Divided(usable, splits, tables, extracted.counts, checked, near, extracted.new)
        job.report.warning(f"{len(lost)} rows were damaged or removed meanwhile, and are made again")
    raise UnavailableError("rows vanish as they are written", where=job.options.feature_store)


def _usable(dataset: Dataset, extracted: Extracted, job: Job) -> tuple[Dataset, tuple[Note, ...]]:
    if not extracted.examples and all(reject.code == "forbidden" for reject in extracted.rejects):
        first = extracted.rejects[0]
        raise AccessDeniedError(
            "no photo may be read: " + first.reason, where=first.uri, hint="check the role's policy"
        )
    once = once_each(extracted.examples)
    rejects = (*extracted.rejects, *once.rejects)
    usable = dataset.of_those(once.examples, rejects)
    usable.check_share(job.options.fail_over)
    if rejects:
        job.report.warning(left_out(rejects))
    return usable, once.notes


def _check(dataset: Dataset, splits: dict[str, Split]) -> None:
    counts = Counter((splits[example.sha256], example.label) for example in dataset.examples)
    for label in dataset.labels:
        if not counts[Split.TRAIN, label]:
            raise InputError(f"no photo of {label!r} is left to train on", hint="add photos or change --split")
    if Split.TEST not in splits.values():
        raise InputError("no photo is left to test on", hint="add photos, change --split or give --test-images")


def _announce(dataset: Dataset, splits: dict[str, Split], checked: Checked, report: Reporter) -> None:
    counts = Counter(splits[example.sha256] for example in dataset.examples)
    report.line("split: " + ", ".join(f"{counts[split]} {split}" for split in Split))
    if checked.notes:
        report.line(f"check: {tally(checked.notes)}; all in notes.csv")
