"""Read the labelled photos: from a label file, or from one folder per class."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from train_job.data.dataset import Dataset, Example, RejectedPhoto, first_rejection, rejected_summary
from train_job.data.labels.find_columns import find_columns, parse_split
from train_job.data.labels.formats import open_label_file
from train_job.data.labels.label_rows import LabelRow
from train_job.data.labels.match_photos import UNPRINTABLE, PhotoMatcher, escape_unprintable, name_problem, to_nfc
from train_job.options import TrainOptions
from train_job.progress import Reporter
from transferlite.errors import InputError, NotFoundError
from transferlite.images.find_photos import is_junk, is_photo, may_hide_photos
from transferlite.storage.locations import open_store
from transferlite.storage.store import join_uri
from transferlite.storage.walk_folder import SkippedEntry


def read_dataset(
    images: str,
    labels: str | None = None,
    x_col: str | None = None,
    y_col: str | None = None,
    classes: Sequence[str] = (),
    split_col: str | None = None,
) -> Dataset:
    """Read the labelled photos below ``images``, an ``s3://`` prefix or folder.

    Labels are normalised to NFC, so that labels that look the same are one class.

    Args:
        images: root of the photos; without ``labels``, each of its folders is a class.
        labels: label file (:mod:`train_job.data.labels.formats`); names in it are relative to ``images`` or absolute.
        x_col: column of names; found by default (:func:`train_job.data.labels.find_columns.find_columns`).
        y_col: column of labels; found by default.
        classes: classes to use, in this order; rows of other classes are ignored. Default: all, in alphabetical order.
        split_col: column of splits; found by default if there is one, and ``""`` means none.

    Raises:
        NotFoundError: the label file or the root of the photos does not exist.
        InputError: the label file cannot be read, no photo is usable, or fewer than two classes remain.
    """
    unlabelled: tuple[str, ...] = ()
    if labels is None:
        labelled, rejected = _read_folders(images, tuple(map(to_nfc, classes)))
    else:
        labelled, rejected, unlabelled = _read_file(images, labels, (x_col, y_col, split_col))
    names = tuple(map(to_nfc, classes)) or tuple(sorted({example.label for example in labelled}))
    if len(set(names)) != len(names):
        raise InputError("a class is named twice", where=f"--classes {','.join(names)}")
    examples = tuple(example for example in labelled if example.label in set(names))
    if not examples:
        reason = first_rejection(rejected) or f"none has one of the labels {', '.join(names)}"
        raise InputError("no labelled photo was found", where=labels or images, hint=reason)
    return Dataset(examples, names, tuple(rejected), unlabelled)


def _read_folders(images: str, classes: Sequence[str]) -> tuple[list[Example], list[RejectedPhoto]]:
    store = open_store(images)
    examples: list[Example] = []
    rejected: list[RejectedPhoto] = []
    skipped: list[SkippedEntry] = []
    for entry in store.entries(on_skip=skipped.append):
        label, _, rest = entry.key.lstrip("/").partition("/")
        uri = join_uri(store.uri, entry.key)
        if is_junk(entry.key) or not (rest or is_photo(entry.key) or name_problem(uri)):
            continue
        if problem := name_problem(uri):
            rejected.append(RejectedPhoto(escape_unprintable(uri), None, "bad-name", problem))
        elif not is_photo(entry.key):
            rejected.append(RejectedPhoto(uri, None, "not-photo-name", "not a photo extension"))
        elif not rest:
            rejected.append(RejectedPhoto(uri, None, "no-label", "the photo lies in no class folder"))
        else:
            examples.append(Example(uri, to_nfc(label), stamp=entry.stamp))
    rejected += (_reject_skipped(store.uri, entry, classes) for entry in filter(may_hide_photos, skipped))
    if not examples:
        hint = "use one folder a class, or pass a label file with --labels"
        broken = first_rejection([photo for photo in rejected if photo.code not in ("not-photo-name", "no-label")])
        raise InputError("holds no folder of photos", where=images, hint=broken or hint)
    return examples, rejected


def _reject_skipped(root: str, entry: SkippedEntry, classes: Sequence[str]) -> RejectedPhoto:
    """Reject what the listing of class folders left out.

    Raises the error of a class folder that cannot be read: the model would lack the class.
    """
    label, _, rest = entry.key.partition("/")
    if entry.code == "duplicate":
        if entry.same_as.partition("/")[0] not in ("", label):
            entry = entry._replace(code="conflicting-labels", reason=f"{entry.reason} with another label")
    elif entry.hides_files and not rest and (not classes or to_nfc(label) in classes):
        raise entry.to_error(join_uri(root, entry.key))
    return _reject(root, entry)


def _read_file(
    images: str, labels: str, columns: tuple[str | None, str | None, str | None]
) -> tuple[list[Example], list[RejectedPhoto], tuple[str, ...]]:
    """Read a label file; ``columns`` are the options for names, labels and splits.

    Returns the labelled photos, the rejected photos and rows, and the URIs of photos without a row.
    """
    file = open_label_file(labels)
    store = open_store(images)
    skipped: list[SkippedEntry] = []
    stamps = {entry.key: entry.stamp for entry in store.entries(on_skip=skipped.append)}
    photos = PhotoMatcher(store.uri, stamps, {entry.key: entry for entry in skipped})
    if not stamps:
        first = next((f"{entry.key} {entry.reason}" for entry in skipped), "")
        raise NotFoundError("holds no files", where=images, hint=first or "check --images")
    collector = _RowCollector(photos, labels)
    collector.add(file.rows(find_columns(file, *columns, photos)))
    examples, rejected = collector.result()
    rejected += (_reject(store.uri, entry) for entry in skipped if entry.hides_files and not is_junk(entry.key))
    names = (*stamps, *(entry.key for entry in skipped if not entry.may_be_folder))
    unlabelled = (key for key in names if key not in collector.named_keys and is_photo(key))
    return examples, rejected, tuple(join_uri(store.uri, key) for key in unlabelled)


def _reject(root: str, entry: SkippedEntry) -> RejectedPhoto:
    uri = escape_unprintable(join_uri(root, entry.key))
    return RejectedPhoto(uri, None, entry.code, escape_unprintable(entry.reason))


@dataclass
class _RowCollector:
    """Collects the rows of a label file: the first row of each photo, and the rejected rows."""

    photos: PhotoMatcher
    location: str
    named_keys: set[str] = field(default_factory=set)
    examples: dict[str, Example] = field(default_factory=dict)
    rejected: list[RejectedPhoto] = field(default_factory=list)
    labels: dict[str, str] = field(default_factory=dict)
    """One text object for each label, which saves memory when a million rows share a few labels."""

    def add(self, rows: Iterable[LabelRow | RejectedPhoto]) -> None:
        for row in rows:
            result = self._with_photo_uri(row) if isinstance(row, RejectedPhoto) else self._read_row(row)
            if isinstance(result, RejectedPhoto):
                self.rejected.append(result)
            elif result is not None:
                self._add_example(result)

    def _with_photo_uri(self, rejected: RejectedPhoto) -> RejectedPhoto:
        """Set a rejected row's URI to that of its photo, if it names a photo."""
        if rejected.uri == self.location:
            return rejected
        match = self.photos.match(rejected.uri)
        self.named_keys.add(match.key)
        return replace(rejected, uri=match.uri)

    def _read_row(self, row: LabelRow) -> Example | RejectedPhoto | None:
        """Read a row on its own; None if it is blank."""
        label = to_nfc(row.label.strip())
        if not label and not row.name.strip():
            return None
        if not row.name.strip():
            return RejectedPhoto(self.location, row.row, "no-label", "the row has an empty name")
        uri, key, stamp, code, reason = self.photos.match(row.name)
        self.named_keys.add(key)
        if not label:
            return RejectedPhoto(uri, row.row, "no-label", "the row has an empty label")
        if UNPRINTABLE.search(label):
            reason = f"the label '{escape_unprintable(label)}' has a character that cannot be printed"
            return RejectedPhoto(uri, row.row, "bad-label", reason)
        if code:
            in_file = f" (row {row.row} of {self.location})" if code == "missing" else ""
            return RejectedPhoto(uri, row.row, code, reason + in_file)
        try:
            split = parse_split(row.split)
        except ValueError as error:
            return RejectedPhoto(uri, row.row, "bad-split", str(error))
        return Example(uri, self.labels.setdefault(label, label), row.row, split=split, stamp=stamp)

    def _add_example(self, example: Example) -> None:
        """Add an example, unless an earlier row names the same photo."""
        first = self.examples.setdefault(example.image, example)
        if first is example:
            return
        same_label = first.label == example.label
        earlier, later = (first.split, example.split) if same_label else (first.label, example.label)
        if earlier == later or None in (earlier, later):
            self.examples[example.image] = replace(first, split=first.split or example.split)
            self._reject(example, "repeated-row", f"row {first.row} has the same content")
        else:
            code = "conflicting-splits" if same_label else "conflicting-labels"
            reason = f"row {first.row} has {str(earlier)!r}, row {example.row} has {str(later)!r}"
            self._reject(example, code, reason)

    def _reject(self, example: Example, code: str, reason: str) -> None:
        self.rejected.append(RejectedPhoto(example.image, example.row, code, reason))

    def result(self) -> tuple[list[Example], list[RejectedPhoto]]:
        """Return the examples without those whose rows conflict, and the rejected rows."""
        codes = ("conflicting-labels", "conflicting-splits")
        conflicts = {rejected.uri: rejected for rejected in self.rejected if rejected.code in codes}
        for uri, rejected in conflicts.items():
            self.rejected.append(replace(rejected, row=self.examples.pop(uri).row))
        return list(self.examples.values()), self.rejected


def read_job_dataset(options: TrainOptions, report: Reporter) -> Dataset:
    """Read the photos that a job's options name, with the user's own test photos in the test split."""
    columns = {"x_col": options.x_col, "y_col": options.y_col}
    dataset = read_dataset(
        options.images, options.labels, classes=options.classes, split_col=options.split_col, **columns
    )
    _report(dataset, "", report)
    if options.test_images is None:
        return dataset
    try:
        held_out = read_dataset(
            options.test_images, options.test_labels, classes=dataset.labels, split_col="", **columns
        )
    except InputError as error:
        raise InputError(error.message, where=error.where or options.test_images, hint=error.hint) from None
    _report(held_out, " to test on", report)
    return dataset.with_test_photos(held_out)


def _report(dataset: Dataset, purpose: str, report: Reporter) -> None:
    count, classes = len(dataset.examples), len(dataset.labels)
    report.line(f"Found {count} validated image filenames belonging to {classes} classes{purpose}.")
    if dataset.rejected:
        report.warning(rejected_summary(dataset.rejected))
