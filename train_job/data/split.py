"""Assign photos to training, validation and test by their content: stratified by class, and stable over retrains."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from train_job.data.example import Example, Split
from train_job.digests import digests_from_hex, indices_in
from transferlite.errors import InputError

if TYPE_CHECKING:
    from train_job.data.photos import Photos
    from train_job.data.split_table import SplitTable


@dataclass(frozen=True)
class SplitShares:
    """Relative shares of training, validation and test; any non-negative numbers."""

    train: float
    validation: float
    test: float

    def __post_init__(self) -> None:
        parts = (self.train, self.validation, self.test)
        if not all(map(math.isfinite, parts)) or min(parts) < 0 or self.train <= 0:
            raise InputError(f"cannot split as {self}", hint="write it as 80/10/10, with a training share above 0")

    @classmethod
    def parse(cls, text: str) -> "SplitShares":
        """Parse ``80/10/10``, the shares of training, validation and test. Raises InputError."""
        try:
            train, validation, test = (float(part) for part in text.split("/"))
        except ValueError:
            raise InputError(f"{text!r} is not a split", hint="write it as 80/10/10") from None
        return cls(train, validation, test)

    def adjust_for(self, photos: "Photos") -> "SplitShares":
        """Set the test share to 0 if the user chose the test photos."""
        has_user_tests = tuple(Split).index(Split.TEST) in photos.split_codes
        return replace(self, test=0.0) if has_user_tests else self

    @property
    def parts(self) -> dict[Split, float]:
        """Share of each split."""
        return {Split.TRAIN: self.train, Split.VALIDATION: self.validation, Split.TEST: self.test}

    def __str__(self) -> str:
        return f"{self.train:g}/{self.validation:g}/{self.test:g}"

    def counts_of(self, total: int) -> dict[Split, int]:
        """Divide ``total`` photos into whole counts by the largest remainder method.

        Of equal remainders, test wins: without a test photo nothing can be published.
        """
        exact = {split: part * total / sum(self.parts.values()) for split, part in self.parts.items()}
        whole = {split: int(value) for split, value in exact.items()}
        by_remainder = sorted(
            (Split.TEST, Split.VALIDATION, Split.TRAIN), key=lambda split: round(whole[split] - exact[split], 9)
        )
        for split in by_remainder[: total - sum(whole.values())]:
            whole[split] += 1
        return whole


def assign_splits(
    examples: "Sequence[Example]",
    shares: SplitShares,
    previous: Mapping[str, Split],
    groups: Sequence[Sequence[str]] = (),
) -> "SplitTable":
    """Assign a split to each photo, by its sha256.

    1. A split that the user chose is kept. If the user chose test photos, no other photo becomes a test photo.
    2. A photo keeps its split of an earlier version.
    3. A new photo joins the split of the known photos of its group.
    4. Other new photos go where their class is furthest below its share: the largest groups first, then single photos,
       in the order of their sha256.

    So the same photos always get the same splits, new photos never move old ones, the splits stay stratified, and a
    group stays together.

    Args:
        examples: the photos, with their sha256.
        shares: of training, validation and test.
        previous: split by sha256 in earlier versions.
        groups: sha256s of photos to keep in one split, such as near-duplicates.
    """
    from train_job.data.photos import SPLIT_CODES, Photos
    from train_job.data.split_table import SplitTable

    photos = Photos.of(examples)
    is_chosen = photos.split_codes >= 0
    chosen = SplitTable.from_columns(photos.digests[is_chosen][::-1], photos.split_codes[is_chosen][::-1])
    fixed = chosen.or_else(SplitTable.of(previous))
    if SPLIT_CODES[Split.TEST] in chosen.codes:
        fixed = fixed.only((Split.TRAIN, Split.VALIDATION))
    others = photos.take(chosen.lookup(photos.digests) < 0)
    return chosen.or_else(_assign(others, shares.adjust_for(photos), fixed, groups))


def _assign(
    photos: "Photos", shares: SplitShares, fixed: "SplitTable", groups: Sequence[Sequence[str]]
) -> "SplitTable":
    from train_job.data.split_table import SplitTable

    order = np.argsort(photos.labels).argsort().astype(np.int32)[photos.label_codes] if len(photos) else photos.rows
    by_label = np.lexsort((order, photos.digests))  # of copies with several labels, the first label counts
    digests, first = np.unique(photos.digests[by_label], return_index=True)
    labels = photos.label_codes[by_label[first]]
    codes = fixed.lookup(digests)
    quotas = _SplitQuotas(shares, labels, len(photos.labels))
    quotas.add_all(labels[codes >= 0], codes[codes >= 0])
    members = [indices_in(digests, digests_from_hex(list(group))) for group in groups]
    for group, indices in zip(groups, members, strict=True):
        votes = fixed.lookup(digests_from_hex(list(group)))
        if (votes >= 0).any():
            joining = indices[(indices >= 0) & (codes[indices] < 0)]
            codes[joining] = np.bincount(votes[votes >= 0], minlength=len(tuple(Split))).argmax()
            quotas.add_all(labels[joining], codes[joining])
    waiting = [np.unique(indices[(indices >= 0) & (codes[indices] < 0)]) for indices in members]
    for unit in sorted((unit for unit in waiting if len(unit)), key=lambda unit: (-len(unit), unit.tolist())):
        codes[unit] = quotas.best_split(labels[unit])
        quotas.add_all(labels[unit], codes[unit])
    for label in range(len(photos.labels)):
        single = np.flatnonzero((codes < 0) & (labels == label))
        codes[single] = quotas.assign_singles(label, len(single))
    return SplitTable(digests, codes)


class _SplitQuotas:
    """Number of photos of each class that each split still has room for."""

    def __init__(self, shares: SplitShares, labels: NDArray[np.int32], classes: int) -> None:
        photos = np.bincount(labels, minlength=classes).tolist()
        self._target = np.array([[*map(shares.counts_of(count).__getitem__, Split)] for count in photos], np.int64)
        self._target = self._target.reshape(classes, len(tuple(Split)))
        self._room = self._target.copy()
        self._used_splits = [code for code, split in enumerate(Split) if shares.parts[split] > 0]

    def add_all(self, labels: NDArray[np.int32], codes: NDArray[np.int8]) -> None:
        """Count photos as assigned to the splits with these codes."""
        np.subtract.at(self._room, (labels, codes), 1)

    def best_split(self, labels: NDArray[np.int32]) -> int:
        """Choose the split for a group: of those with room for all, the one furthest below its share.

        Without such a split, choose the one that exceeds its share by the fewest photos.
        """
        classes, counts = np.unique(labels, return_counts=True)
        room = self._room[classes]
        excess = np.maximum(0, counts[:, None] - room).sum(axis=0)
        deficit = (room / np.maximum(self._target[classes], 1) * counts[:, None]).sum(axis=0)
        return _choose(excess.tolist(), deficit.tolist(), self._used_splits)

    def assign_singles(self, label: int, count: int) -> list[int]:
        """Choose the splits of ``count`` photos of a class one after the other."""
        room, target = self._room[label].tolist(), [max(1, value) for value in self._target[label].tolist()]
        chosen = []
        for _ in range(count):
            deficit = [have / full for have, full in zip(room, target, strict=True)]
            best = _choose([0 if have > 0 else 1 - have for have in room], deficit, self._used_splits)
            room[best] -= 1
            chosen.append(best)
        self._room[label] = room
        return chosen


def _choose(excess: Sequence[int], deficit: Sequence[float], used: Sequence[int]) -> int:
    with_room = [code for code, over in enumerate(excess) if not over]
    if not with_room:
        return min(used, key=excess.__getitem__)
    return max(with_room, key=deficit.__getitem__)
