"""Labelled photos as columns: about 150 bytes a photo, where an object a photo takes 600.

An :class:`Example` is made when a photo is taken out, and is gone when the loop goes on.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from train_job.arrow import pa
from train_job.data.example import Example, Split
from train_job.digests import Digests

_BLOCK = 2**14
"""Photos that are taken out of the columns or added to them at a time."""


SPLITS = tuple(Split)
"""The splits in the order of their codes in columns; -1 is no split."""
SPLIT_CODES: Mapping[Split | None, int] = {None: -1} | {split: code for code, split in enumerate(SPLITS)}


def encode_text(text: str) -> bytes:
    """Encode a URI, also with a file name that is not Unicode, as Python reads it (PEP 383)."""
    return text.encode("utf-8", "surrogateescape")


def decode_text(data: bytes) -> str:
    """Invert :func:`encode_text`."""
    return data.decode("utf-8", "surrogateescape")


def text_column(texts: Iterable[str]) -> pa.LargeBinaryArray:
    """Convert URIs or other texts to a column."""
    return pa.array(map(encode_text, texts), pa.large_binary())


@dataclass(frozen=True, eq=False)
class Photos(Sequence[Example]):  # noqa: PLW1641 (columns have no hash)
    """Labelled photos, as columns of equal length ``[N]``.

    Attributes:
        uris: UTF-8, as :func:`encode_text` has it.
        stamps: the same; empty if unknown.
        labels: distinct labels, in no particular order.
        label_codes: index of each photo's label in ``labels``.
        rows: row in the label file; 0 without a file.
        split_codes: split that the user chose, as an index in :data:`SPLITS`; -1 if the job chooses.
        digests: sha256; empty until the photo is fetched.
    """

    uris: pa.LargeBinaryArray
    stamps: pa.LargeBinaryArray
    labels: tuple[str, ...]
    label_codes: NDArray[np.int32]
    rows: NDArray[np.int64]
    split_codes: NDArray[np.int8]
    digests: Digests

    @classmethod
    def of(cls, examples: Iterable[Example]) -> "Photos":
        """Convert photos to columns."""
        if isinstance(examples, Photos):
            return examples
        builder = PhotosBuilder()
        for example in examples:
            builder.add(example)
        return builder.build()

    @classmethod
    def from_columns(
        cls,
        uris: pa.LargeBinaryArray,
        stamps: pa.LargeBinaryArray,
        labels: Sequence[str],
        label_codes: NDArray[Any],
        rows: NDArray[Any] | None = None,
        split_codes: NDArray[Any] | None = None,
        digests: Digests | None = None,
    ) -> "Photos":
        """Return photos without rows, splits or digests where these are None."""
        count = len(uris)
        return cls(
            uris,
            stamps,
            tuple(labels),
            label_codes.astype(np.int32),
            np.zeros(count, np.int64) if rows is None else rows.astype(np.int64),
            np.full(count, -1, np.int8) if split_codes is None else split_codes.astype(np.int8),
            np.zeros(count, "S32") if digests is None else digests,
        )

    @classmethod
    def concatenate(cls, first: "Photos", second: "Photos") -> "Photos":
        """Return the photos of both."""
        labels = tuple(dict.fromkeys((*first.labels, *second.labels)))
        codes = {label: code for code, label in enumerate(labels)}
        moved = np.array([codes[label] for label in second.labels], np.int32)
        return cls(
            pa.concat_arrays([first.uris, second.uris]),
            pa.concat_arrays([first.stamps, second.stamps]),
            labels,
            np.concatenate([first.label_codes, moved[second.label_codes]]),
            np.concatenate([first.rows, second.rows]),
            np.concatenate([first.split_codes, second.split_codes]),
            np.concatenate([first.digests, second.digests]),
        )

    def __len__(self) -> int:
        return len(self.label_codes)

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> "Photos": ...
    def __getitem__(self, index: int | slice) -> "Example | Photos":
        if isinstance(index, slice):
            return self.take(np.arange(len(self))[index])
        return next(self._examples(range(len(self))[index], 1))

    def __iter__(self) -> Iterator[Example]:
        for start in range(0, len(self), _BLOCK):
            yield from self._examples(start, _BLOCK)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(self) == len(other) and list(self) == list(other)

    def _examples(self, start: int, count: int) -> Iterator[Example]:
        part = slice(start, start + count)
        columns = (
            self.uris.slice(start, count).to_pylist(),
            self.label_codes[part].tolist(),
            self.rows[part].tolist(),
            self.digests[part].tolist(),
            self.split_codes[part].tolist(),
            self.stamps.slice(start, count).to_pylist(),
        )
        for uri, label, row, digest, split, stamp in zip(*columns, strict=True):
            yield Example(
                decode_text(uri),
                self.labels[label],
                row or None,
                digest.ljust(32, b"\0").hex() if digest else "",
                None if split < 0 else SPLITS[split],
                decode_text(stamp),
            )

    def take(self, indices: NDArray[Any]) -> "Photos":
        """Return the photos at ``indices``, or where a mask ``[N]`` is true."""
        if indices.dtype == bool:
            indices = np.flatnonzero(indices)
        return Photos(
            self.uris.take(pa.array(indices)),
            self.stamps.take(pa.array(indices)),
            self.labels,
            self.label_codes[indices],
            self.rows[indices],
            self.split_codes[indices],
            self.digests[indices],
        )

    def with_digests(self, digests: Digests) -> "Photos":
        """Return the photos with their sha256s."""
        return replace(self, digests=digests)

    def with_split(self, split: Split) -> "Photos":
        """Return the photos, all in one split."""
        return replace(self, split_codes=np.full(len(self), SPLIT_CODES[split], np.int8))

    def label_counts(self, mask: NDArray[np.bool_] | slice = slice(None)) -> dict[str, int]:
        """Return the number of photos of each label that has any, in the order of the labels."""
        counts = np.bincount(self.label_codes[mask], minlength=len(self.labels)).tolist()
        return {label: count for label, count in sorted(zip(self.labels, counts, strict=True)) if count}

    def has_label(self, labels: Iterable[str]) -> NDArray[np.bool_]:
        """Return which photos have one of the labels, ``[N]``."""
        chosen = set(labels)
        return np.array([label in chosen for label in self.labels], bool)[self.label_codes]

    def class_indices(self, classes: Sequence[str]) -> NDArray[np.int32]:
        """Return the index in ``classes`` of each photo's label, ``[N]``; -1 if it is none of them."""
        index = {label: number for number, label in enumerate(classes)}
        return np.array([index.get(label, -1) for label in self.labels], np.int32)[self.label_codes]


class PhotosBuilder:
    """Collects photos one by one into columns."""

    def __init__(self) -> None:
        self._waiting: list[Example] = []
        self._parts: list[tuple[Any, ...]] = []
        self._codes: dict[str, int] = {}

    def add(self, example: Example) -> None:
        """Add a photo."""
        self._waiting.append(example)
        if len(self._waiting) == _BLOCK:
            self._flush()

    def _flush(self) -> None:
        photos = self._waiting
        self._parts.append(
            (
                text_column(photo.image for photo in photos),
                text_column(photo.stamp for photo in photos),
                np.array([self._codes.setdefault(photo.label, len(self._codes)) for photo in photos], np.int32),
                np.array([photo.row or 0 for photo in photos], np.int64),
                np.array([SPLIT_CODES[photo.split] for photo in photos], np.int8),
                np.array([bytes.fromhex(photo.sha256) for photo in photos], "S32"),
            )
        )
        self._waiting = []

    def build(self) -> Photos:
        """Return all photos, in the order in which they were added."""
        self._flush()
        uris, stamps, *arrays = zip(*self._parts, strict=True)
        codes, rows, splits, digests = map(np.concatenate, arrays)
        return Photos(
            pa.concat_arrays(uris), pa.concat_arrays(stamps), tuple(self._codes), codes, rows, splits, digests
        )
