"""Sets of feature rows from a table that may exceed memory, and the shuffled order in which a fit uses them."""

import mmap
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

FeatureTable = NDArray[np.float16]
"""Feature rows ``[M, D]``, in memory or mapped from a file."""

_BLOCK = 64
"""Rows that stay together when a table larger than memory is shuffled, so that the disk reads runs of rows."""
_COPY_BYTES = 2**22
"""Bytes copied from a memory map before its pages are released."""


@dataclass(frozen=True)
class RowSet:
    """The rows ``ids`` ``[n]`` of a table ``[M, D]``, with their labels ``[n]``."""

    table: FeatureTable
    ids: NDArray[np.int64]
    labels: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, positions: NDArray[np.int64] | slice) -> FeatureTable:
        """Copy the rows at ``positions`` of this set, and release the pages of a memory map as they are copied.

        Rows are read in the order of the table, so that few pages are mapped at once and the disk reads in runs.
        """
        ids, width = self.ids[positions], int(self.table.shape[1])
        rows = _new_pages(len(ids), width, self.table.dtype)
        run = max(1, _COPY_BYTES // (width * self.table.itemsize))
        mapped = getattr(self.table, "_mmap", None)
        order = np.argsort(ids)
        for start in range(0, len(ids), run):
            part = order[start : start + run]
            rows[part] = self.table[ids[part]]
            if isinstance(mapped, mmap.mmap):
                mapped.madvise(mmap.MADV_DONTNEED)
        return rows


def _new_pages(count: int, width: int, dtype: np.dtype[np.float16]) -> FeatureTable:
    """Allocate zeros ``[count, width]`` on pages of their own, returned to the system when no reference is left.

    TensorFlow shares such memory only if it is aligned, and freed arrays of the C heap would leave holes.
    """
    pages = mmap.mmap(-1, max(1, count * width * dtype.itemsize), mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with suppress(OSError):  # a kernel without huge pages works too, but takes three times as long to fill them
            pages.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(pages, dtype, count * width).reshape(count, width)


@dataclass(frozen=True)
class ShuffledOrder:
    """An endless sequence of shuffled passes over ``count`` rows, each determined by the seed and its number.

    With a ``window``, blocks of neighbouring rows are shuffled, then the rows within each window of that many rows.
    So a table larger than memory is read in runs.
    """

    count: int
    seed: int
    window: int | None = None

    def row_indices(self, start: int, stop: int) -> NDArray[np.int64]:
        """Indices of the rows at positions ``start`` to ``stop`` of the sequence."""
        first, last = start // self.count, (stop - 1) // self.count
        parts = []
        for number in range(first, last + 1):
            offset = number * self.count
            parts.append(_shuffled_pass(self, number)[max(start - offset, 0) : stop - offset])
        return np.concatenate(parts)


@lru_cache(maxsize=2)
def _shuffled_pass(order: ShuffledOrder, number: int) -> NDArray[np.int64]:
    random = np.random.default_rng([order.seed, number])
    if order.window is None:
        return random.permutation(order.count)
    blocks = random.permutation(-(-order.count // _BLOCK))
    indices = (blocks[:, None] * _BLOCK + np.arange(_BLOCK)).reshape(-1)
    indices = indices[indices < order.count]
    for start in range(0, order.count, order.window):
        random.shuffle(indices[start : start + order.window])
    return indices
