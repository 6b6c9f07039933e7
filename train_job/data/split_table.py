"""The split of each photo by its sha256, as columns: 33 bytes a photo, where a dictionary takes 250."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from train_job.data.example import Split
from train_job.data.photos import SPLIT_CODES, SPLITS
from train_job.digests import NO_DIGESTS, Digests, digests_from_hex, digests_to_hex, indices_in


@dataclass(frozen=True, eq=False)
class SplitTable(Mapping[str, Split]):
    """Splits by hexadecimal sha256.

    Attributes:
        digests: sha256s ``[N]``, sorted and distinct.
        codes: index of each photo's split in :data:`train_job.data.photos.SPLITS`.
    """

    digests: Digests = field(default_factory=lambda: NO_DIGESTS)
    codes: NDArray[np.int8] = field(default_factory=lambda: np.zeros(0, np.int8))

    @classmethod
    def of(cls, splits: Mapping[str, Split]) -> "SplitTable":
        """Convert splits to columns."""
        if isinstance(splits, SplitTable):
            return splits
        codes = np.array([SPLIT_CODES[split] for split in splits.values()], np.int8)
        return cls.from_columns(digests_from_hex(list(splits)), codes)

    @classmethod
    def from_columns(cls, digests: Digests, codes: NDArray[Any]) -> "SplitTable":
        """Return the splits of photos in any order; of equal sha256s, the first counts."""
        distinct, first = np.unique(digests, return_index=True)
        return cls(distinct, codes[first].astype(np.int8))

    def __len__(self) -> int:
        return len(self.digests)

    def __iter__(self) -> Iterator[str]:
        yield from digests_to_hex(self.digests)

    def __getitem__(self, sha256: str) -> Split:
        code = int(self.lookup(digests_from_hex([sha256]))[0])
        if code < 0:
            raise KeyError(sha256)
        return SPLITS[code]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Mapping) and dict(zip(self, map(SPLITS.__getitem__, self.codes), strict=True)) == dict(
            other.items()
        )

    __hash__ = None  # type: ignore[assignment]

    def lookup(self, digests: Digests) -> NDArray[np.int8]:
        """Return the code of each photo's split ``[M]``; -1 if it has none."""
        return np.append(self.codes, np.int8(-1))[indices_in(self.digests, digests)]

    def only(self, splits: Collection[Split]) -> "SplitTable":
        """Return the photos of some splits."""
        chosen = np.isin(self.codes, [SPLIT_CODES[split] for split in splits])
        return SplitTable(self.digests[chosen], self.codes[chosen])

    def without(self, digests: Digests) -> "SplitTable":
        """Return the photos whose sha256 is not among ``digests``, which are sorted."""
        kept = indices_in(digests, self.digests) < 0
        return SplitTable(self.digests[kept], self.codes[kept])

    def or_else(self, other: "SplitTable") -> "SplitTable":
        """Return the photos of both; those of this table keep their split."""
        return SplitTable.from_columns(
            np.concatenate([self.digests, other.digests]), np.concatenate([self.codes, other.codes])
        )
