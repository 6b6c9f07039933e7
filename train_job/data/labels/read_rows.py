"""Read photos whose labels are in a label file."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from train_job.data.dataset import Example, LabelledPhotos, RejectedPhoto
from train_job.data.labels.class_names import LabelMerge, label_problem
from train_job.data.labels.find_columns import find_columns, parse_split
from train_job.data.labels.formats import open_label_file
from train_job.data.labels.label_rows import LabelRow
from train_job.data.labels.match_photos import PhotoMatcher, to_nfc
from train_job.data.labels.read_folders import reject_skipped, skip_reason
from transferlite.errors import NotFoundError
from transferlite.images.find_photos import is_junk, is_photo
from transferlite.storage.locations import open_store
from transferlite.storage.store import join_uri
from transferlite.storage.walk_folder import SkippedEntry


def read_rows(
    images: str, labels: str, columns: tuple[str | None, str | None, str | None], merge: LabelMerge
) -> LabelledPhotos:
    """Read a label file; every row and every file below ``images`` is used, rejected or counted as skipped.

    Args:
        images: URI or path of the photos' root.
        labels: URI or path of the label file.
        columns: the options for the columns of names, labels and splits.
        merge: labels to replace.

    Raises:
        NotFoundError: the label file or the root does not exist, or the root is empty.
        InputError: the label file cannot be read.
    """
    file = open_label_file(labels)
    store = open_store(images)
    left_out: list[SkippedEntry] = []
    stamps = {entry.key: entry.stamp for entry in store.entries(on_skip=left_out.append)}
    photos = PhotoMatcher(store.uri, stamps, {entry.key: entry for entry in left_out})
    if not stamps:
        first = next((f"{entry.key} {entry.reason}" for entry in left_out), "")
        raise NotFoundError("holds no files", where=images, hint=first or "check --images")
    found = find_columns(file, *columns, photos)
    collector = _RowCollector(photos, labels, merge)
    collector.add(file.rows(found))
    examples, rejected = collector.result()
    rejected += (reject_skipped(store.uri, entry) for entry in left_out if entry.hides_files and not is_junk(entry.key))
    names = (*stamps, *(entry.key for entry in left_out if not entry.may_be_folder))
    unnamed = [key for key in names if key not in collector.named_keys]
    unlabelled = tuple(join_uri(store.uri, key) for key in unnamed if is_photo(key))
    skipped = collector.skipped + Counter(skip_reason(key) for key in unnamed if not is_photo(key))
    remarks = tuple(f"{labels} {remark}" for remark in (file.remark, found.remark) if remark)
    return LabelledPhotos(tuple(examples), (), tuple(rejected), unlabelled, skipped, remarks)


@dataclass
class _RowCollector:
    """Collects the rows of a label file: the first row of each photo, and the rejected rows."""

    photos: PhotoMatcher
    location: str
    merge: LabelMerge
    named_keys: set[str] = field(default_factory=set)
    examples: dict[str, Example] = field(default_factory=dict)
    rejected: list[RejectedPhoto] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    labels: dict[str, str] = field(default_factory=dict)
    """One text object for each label, which saves memory when a million rows share a few labels."""

    def add(self, rows: Iterable[LabelRow | RejectedPhoto]) -> None:
        for row in rows:
            result = self._with_photo_uri(row) if isinstance(row, RejectedPhoto) else self._read_row(row)
            if isinstance(result, RejectedPhoto):
                self.rejected.append(result)
            elif result is None:
                self.skipped["blank row"] += 1
            else:
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
        if problem := label_problem(label):
            return RejectedPhoto(uri, row.row, "bad-label", problem)
        label = self.merge.replace(label)
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
