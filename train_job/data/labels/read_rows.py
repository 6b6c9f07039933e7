"""Read photos whose labels are in a label file."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from train_job.data.dataset import LabelledPhotos
from train_job.data.example import RejectedPhoto, Split
from train_job.data.labels.class_names import LabelMerge, label_problem
from train_job.data.labels.find_columns import find_columns, parse_split
from train_job.data.labels.formats import open_label_file
from train_job.data.labels.label_rows import LabelTable
from train_job.data.labels.listing import Listing
from train_job.data.labels.match_photos import PhotoMatcher, to_nfc
from train_job.data.labels.match_rows import MatchedRows, match_rows
from train_job.data.labels.read_folders import reject_skipped, skip_reason
from train_job.data.photos import SPLIT_CODES, SPLITS, Photos, decode_text
from transferlite.errors import NotFoundError
from transferlite.images.find_photos import is_junk, is_photo
from transferlite.storage.locations import open_store
from transferlite.storage.store import join_uri


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
    listing = Listing.read(open_store(images))
    if not len(listing):
        first = next((f"{entry.key} {entry.reason}" for entry in listing.left_out.values()), "")
        raise NotFoundError("holds no files", where=images, hint=first or "check --images")
    photos = PhotoMatcher(listing)
    found = find_columns(file, *columns, photos)
    rows = LabelTable.read(file, found)
    matched = match_rows(rows.names, photos)
    reader = _RowReader(rows, matched, labels, merge)
    by_position = sorted([*reader.unusable_rows(), *reader.repeated_rows()], key=lambda item: item[0])
    rejected = [*(photo for _, photo in by_position), *reader.conflicts]
    for entry in listing.left_out.values():
        if entry.hides_files and not is_junk(entry.key):
            rejected.append(reject_skipped(listing.root, entry))
    unlabelled: list[str] = []
    for key in matched.unnamed_keys():
        if is_photo(key):
            unlabelled.append(join_uri(listing.root, key))
        else:
            reader.skipped[skip_reason(key)] += 1
    remarks = tuple(f"{labels} {remark}" for remark in (file.remark, found.remark) if remark)
    return LabelledPhotos(reader.photos(), (), tuple(rejected), tuple(unlabelled), reader.skipped, remarks)


class _RowReader:
    """Tells the rows that give a photo its label from the rows that are not used."""

    def __init__(self, rows: LabelTable, matched: MatchedRows, location: str, merge: LabelMerge) -> None:
        self.rows, self.matched, self.location, self.merge = rows, matched, location, merge
        self.labels = [to_nfc(text.strip()) for text in rows.labels]
        self.split_of = [_parse_split(text) for text in rows.splits]
        self.skipped: Counter[str] = Counter()
        self.conflicts: list[RejectedPhoto] = []
        label_ok = np.array([bool(label) and not label_problem(label) for label in self.labels], bool)
        split_ok = np.array([not isinstance(split, ValueError) for split in self.split_of], bool)
        self.is_used = label_ok[rows.label_codes] & split_ok[rows.split_codes] & (matched.photo >= 0)
        self.is_used[list(rows.problems)] = False
        codes = [-1 if isinstance(split, ValueError) else SPLIT_CODES[split] for split in self.split_of]
        self.split_codes = np.array(codes, np.int8)[rows.split_codes]

    def unusable_rows(self) -> Iterator[tuple[int, RejectedPhoto]]:
        """Yield the position of each row that cannot be used, and why; blank rows are counted as skipped."""
        for position in np.flatnonzero(~self.is_used).tolist():
            rejected = self._reject(position)
            if rejected is None:
                self.skipped["blank row"] += 1
            else:
                yield position, rejected

    def _reject(self, position: int) -> RejectedPhoto | None:
        rows, row = self.rows, int(self.rows.numbers[position])
        label, split = self.labels[rows.label_codes[position]], self.split_of[rows.split_codes[position]]
        match, problem = self.matched.match(position), rows.problems.get(position, "")
        if not decode_text(rows.names[position].as_py()).strip():
            if problem:
                return RejectedPhoto(self.location, row, "bad-row", problem)
            return RejectedPhoto(self.location, row, "no-label", "the row has an empty name") if label else None
        if problem:
            return RejectedPhoto(match.uri, row, "bad-row", problem)
        if not label:
            return RejectedPhoto(match.uri, row, "no-label", "the row has an empty label")
        if problem := label_problem(label):
            return RejectedPhoto(match.uri, row, "bad-label", problem)
        self.merge.replace(label)
        if match.code:
            in_file = f" (row {row} of {self.location})" if match.code == "missing" else ""
            return RejectedPhoto(match.uri, row, match.code, match.reason + in_file)
        return RejectedPhoto(match.uri, row, "bad-split", str(split))

    def repeated_rows(self) -> Iterator[tuple[int, RejectedPhoto]]:
        """Merge the labels, and yield each later row of a photo; photos whose rows conflict are not used at all."""
        counts = np.bincount(self.rows.label_codes[self.is_used], minlength=len(self.labels))
        self.labels = [self.merge.replace(*pair) for pair in zip(self.labels, counts.tolist(), strict=True)]
        used = np.flatnonzero(self.is_used)
        photos, copies = np.unique(self.matched.photo[used], return_counts=True)
        firsts: dict[int, int] = {}
        conflicts: dict[int, RejectedPhoto] = {}
        for position in used[np.isin(self.matched.photo[used], photos[copies > 1])].tolist():
            photo = int(self.matched.photo[position])
            first = firsts.setdefault(photo, position)
            if first == position:
                continue
            self.is_used[position] = False
            rejected = self._compare(first, position)
            yield position, rejected
            if rejected.code != "repeated-row":
                conflicts[photo] = replace(rejected, row=int(self.rows.numbers[first]))
                self.is_used[first] = False
        self.conflicts = list(conflicts.values())

    def _compare(self, first: int, later: int) -> RejectedPhoto:
        """Reject a later row of a photo; the first row gets its split if it has none."""
        numbers, pair, uri = self.rows.numbers, (first, later), self.matched.match(later).uri
        labels = [self.labels[self.rows.label_codes[position]] for position in pair]
        splits = [self.split_of[self.rows.split_codes[position]] for position in pair]
        splits[0] = None if self.split_codes[first] < 0 else SPLITS[self.split_codes[first]]
        values, code = (splits, "conflicting-splits") if labels[0] == labels[1] else (labels, "conflicting-labels")
        if values[0] == values[1] or None in values:
            self.split_codes[first] = max(self.split_codes[first], self.split_codes[later])
            reason = f"row {numbers[first]} has the same content"
            return RejectedPhoto(uri, int(numbers[later]), "repeated-row", reason)
        reason = f"row {numbers[first]} has {str(values[0])!r}, row {numbers[later]} has {str(values[1])!r}"
        return RejectedPhoto(uri, int(numbers[later]), code, reason)

    def photos(self) -> Photos:
        """Return the photos of the rows that are used."""
        used = np.flatnonzero(self.is_used)
        unique = {label: code for code, label in enumerate(dict.fromkeys(self.labels))}
        codes = np.array([unique[label] for label in self.labels], np.int32)[self.rows.label_codes[used]]
        photo, numbers = self.matched.photo[used], self.rows.numbers[used]
        uris, stamps = self.matched.uris(photo), self.matched.stamps(photo)
        return Photos.from_columns(uris, stamps, tuple(unique), codes, numbers, self.split_codes[used])


def _parse_split(text: str) -> Split | ValueError | None:
    try:
        return parse_split(text)
    except ValueError as error:
        return error
