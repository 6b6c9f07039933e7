"""Which photos have which label: from a label file, or from a folder a class."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from train_job.data.dataset import Dataset, Example, RejectedPhoto, first_reason, rejected_summary
from train_job.data.labels.find_columns import find_columns, split_of
from train_job.data.labels.formats import open_label_file
from train_job.data.labels.label_rows import LabelRow
from train_job.data.labels.match_photos import UNREADABLE, UNREADABLE_NAME, PhotoNames, composed, shown
from train_job.options import TrainOptions
from train_job.progress import Reporter
from transferlite.errors import InputError, NotFoundError
from transferlite.images.find_photos import is_junk, is_photo
from transferlite.storage.locations import open_store
from transferlite.storage.store import join_uri


def read_dataset(
    images: str,
    labels: str | None = None,
    x_col: str | None = None,
    y_col: str | None = None,
    classes: Sequence[str] = (),
    split_col: str | None = None,
) -> Dataset:
    """The photos below ``images`` (an ``s3://`` prefix or folder) that have a label.

    Labels are composed Unicode (NFC): what looks the same is one class.

    Args:
        images: the root of the photos; without ``labels``, each folder in it is a class.
        labels: a label file (:mod:`train_job.data.labels.formats`), which names photos relative to ``images`` or whole.
        x_col: the column of names; by default found (:func:`train_job.data.labels.find_columns.find_columns`).
        y_col: the column of labels; by default found.
        classes: the classes to use, in this order; rows of others are left out. Default: all, in alphabetical order.
        split_col: the column of what photos are for; by default found if there is one, and ``""`` means none.

    Raises:
        NotFoundError: the label file or the photos' root does not exist.
        InputError: the file or a column cannot be read, nothing is usable, or fewer than two classes remain.
    """
    unlabelled: tuple[str, ...] = ()
    if labels is None:
        found, rejects = _from_folders(images)
    else:
        found, rejects, unlabelled = _from_file(images, labels, (x_col, y_col, split_col))
    names = tuple(map(composed, classes)) or tuple(sorted({example.label for example in found}))
    if len(set(names)) != len(names):
        raise InputError("a class is named twice", where=f"--classes {','.join(names)}")
    examples = tuple(example for example in found if example.label in set(names))
    if not examples:
        reason = first_reason(rejects) or f"none has one of the labels {', '.join(names)}"
        raise InputError("no labelled photo was found", where=labels or images, hint=reason)
    return Dataset(examples, names, tuple(rejects), unlabelled)


def _from_folders(images: str) -> tuple[list[Example], list[RejectedPhoto]]:
    store = open_store(images)
    examples: list[Example] = []
    rejects: list[RejectedPhoto] = []
    for entry in store.entries():
        label, _, rest = entry.key.lstrip("/").partition("/")
        uri = join_uri(store.uri, entry.key)
        if not rest or is_junk(entry.key):
            continue
        if UNREADABLE.search(uri):
            rejects.append(RejectedPhoto(shown(uri), None, "bad-name", UNREADABLE_NAME))
        elif is_photo(entry.key):
            examples.append(Example(uri, composed(label), stamp=entry.stamp))
        else:
            rejects.append(RejectedPhoto(uri, None, "not-photo-name", "its name has no ending of a known image format"))
    if not examples:
        raise InputError(
            "holds no folder of photos", where=images, hint="expected one folder a class, or give --labels"
        )
    return examples, rejects


def _from_file(
    images: str, labels: str, asked: tuple[str | None, str | None, str | None]
) -> tuple[list[Example], list[RejectedPhoto], tuple[str, ...]]:
    file = open_label_file(labels)
    store = open_store(images)
    photos = PhotoNames(store.uri, {entry.key: entry.stamp for entry in store.entries()})
    if not photos.stamps:
        raise NotFoundError("holds no files", where=images, hint="mend --images")
    rows = file.rows(find_columns(file, *asked, photos))
    gathered = _Gathered(photos, labels)
    gathered.add(rows)
    unlabelled = (key for key in photos.stamps if key not in gathered.named and is_photo(key))
    return (*gathered.result(), tuple(join_uri(store.uri, key) for key in unlabelled))


@dataclass
class _Gathered:
    """What the rows say so far: of each photo what is first said, and the rows that cannot be used."""

    photos: PhotoNames
    location: str
    named: set[str] = field(default_factory=set)
    examples: dict[str, Example] = field(default_factory=dict)
    rejects: list[RejectedPhoto] = field(default_factory=list)
    texts: dict[str, str] = field(default_factory=dict)
    """Each label once, for a million rows share a few."""

    def add(self, rows: Iterable[LabelRow | RejectedPhoto]) -> None:
        for row in rows:
            one = self._placed(row) if isinstance(row, RejectedPhoto) else self._read(row)
            if isinstance(one, RejectedPhoto):
                self.rejects.append(one)
            elif one is not None:
                self._put(one)

    def _placed(self, reject: RejectedPhoto) -> RejectedPhoto:
        """A row that cannot be read, with its photo's URI if it names one."""
        if reject.uri == self.location:
            return reject
        found = self.photos.find(reject.uri)
        self.named.add(found.key)
        return replace(reject, uri=found.uri)

    def _read(self, row: LabelRow) -> Example | RejectedPhoto | None:
        """One row by itself; None if it is blank."""
        label = composed(row.label.strip())
        if not label and not row.name.strip():
            return None
        if not row.name.strip():
            return RejectedPhoto(self.location, row.row, "no-label", "the row has an empty name")
        uri, key, stamp, code, reason = self.photos.find(row.name)
        self.named.add(key)
        if not label:
            return RejectedPhoto(uri, row.row, "no-label", "the row has an empty label")
        if UNREADABLE.search(label):
            reason = f"the label '{shown(label)}' has a character that cannot be shown"
            return RejectedPhoto(uri, row.row, "bad-label", reason)
        if code:
            place = f" (row {row.row} of {self.location})" if code == "missing" else ""
            return RejectedPhoto(uri, row.row, code, reason + place)
        try:
            split = split_of(row.split)
        except ValueError as error:
            return RejectedPhoto(uri, row.row, "bad-split", str(error))
        label = self.texts.setdefault(label, label)
        return Example(uri, label, row.row, split=split, stamp=stamp, confidence=row.confidence)

    def _put(self, one: Example) -> None:
        """Add an example, unless an earlier row names the same photo."""
        first = self.examples.setdefault(one.image, one)
        if first is one:
            return
        said = (first.label, one.label) if first.label != one.label else (first.split, one.split)
        if said[0] == said[1] or None in said:
            self.examples[one.image] = replace(first, split=first.split or one.split)
            self._reject(one, "repeated-row", f"row {first.row} says the same")
        else:
            code = "conflicting-labels" if first.label != one.label else "conflicting-splits"
            self._reject(one, code, f"row {first.row} says {str(said[0])!r}, row {one.row} says {str(said[1])!r}")

    def _reject(self, one: Example, code: str, reason: str) -> None:
        self.rejects.append(RejectedPhoto(one.image, one.row, code, reason))

    def result(self) -> tuple[list[Example], list[RejectedPhoto]]:
        """The examples, without those that rows disagree about."""
        conflicts = ("conflicting-labels", "conflicting-splits")
        disputed = {reject.uri: reject for reject in self.rejects if reject.code in conflicts}
        for uri, reject in disputed.items():
            self.rejects.append(replace(reject, row=self.examples.pop(uri).row))
        return list(self.examples.values()), self.rejects


def read_data(options: TrainOptions, report: Reporter) -> Dataset:
    """The photos to learn from, with the user's own test photos if there are any."""
    columns = {"x_col": options.x_col, "y_col": options.y_col}
    dataset = read_dataset(
        options.images, options.labels, classes=options.classes, split_col=options.split_col, **columns
    )
    _announce(dataset, "", report)
    if options.test_images is None:
        return dataset
    try:
        held_out = read_dataset(
            options.test_images, options.test_labels, classes=dataset.labels, split_col="", **columns
        )
    except InputError as error:
        raise InputError(error.message, where=error.where or options.test_images, hint=error.hint) from None
    _announce(held_out, " to test on", report)
    return dataset.tested_on(held_out)


def _announce(dataset: Dataset, purpose: str, report: Reporter) -> None:
    count, classes = len(dataset.examples), len(dataset.labels)
    report.line(f"Found {count} validated image filenames belonging to {classes} classes{purpose}.")
    if dataset.rejected:
        report.warning(rejected_summary(dataset.rejected))
