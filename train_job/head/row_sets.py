"""Rows to train on: some of a table that may be larger than memory, and the endless order in which they are used."""

import mmap
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Table = NDArray[np.float16]

_BLOCK = 64
"""Rows that stay neighbours when a table larger than memory is shuffled, so that it is read in runs."""
_COPY_BYTES = 2**22
"""What is copied of a memory map before its pages are given back."""


@dataclass(frozen=True)
class RowSet:
    """The rows ``ids`` ``[n]`` of ``table`` float16 ``[M, D]`` (an array or a memory map), and their labels ``[n]``."""

    table: Table
    ids: NDArray[np.int64]
    labels: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def nbytes(self) -> int:
        """The size of the rows themselves."""
        return len(self) * int(self.table.shape[1]) * self.table.itemsize

    def take(self, places: NDArray[np.int64] | slice) -> Table:
        """The rows at ``places``, copied into pages of their own; what was mapped for it is given back to the system.

        They are read in the order of the table: so few pages are mapped at once, and a disk reads in runs.
        """
        ids, width = self.ids[places], int(self.table.shape[1])
        rows = _new_pages(len(ids), width, self.table.dtype)
        run = max(1, _COPY_BYTES // (width * self.table.itemsize))
        mapped = getattr(self.table, "_mmap", None)
        order = np.argsort(ids)
        for start in range(0, len(ids), run):
            some = order[start : start + run]
            rows[some] = self.table[ids[some]]
            if isinstance(mapped, mmap.mmap):
                mapped.madvise(mmap.MADV_DONTNEED)
        return rows


def _new_pages(count: int, width: int, dtype: np.dtype[np.float16]) -> Table:
    """Zeros ``[count, width]`` that begin at a page and go back to the system as soon as nothing refers to them.

    From the C library's heap they would not begin where TensorFlow needs them to, and would leave holes behind.
    """
    pages = mmap.mmap(-1, max(1, count * width * dtype.itemsize), mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with suppress(OSError):  # a kernel without large pages takes three times as long, and that is all
            pages.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(pages, dtype, count * width).reshape(count, width)


@dataclass(frozen=True)
class ShuffledOrder:
    """An endless run of shuffled passes over ``count`` rows, each a function of the seed and its number alone.

    With a ``window`` the rows are shuffled in blocks of neighbours, and then within each window of that many rows: what
    a table larger than memory can be read by.
    """

    count: int
    seed: int
    window: int | None = None

    def places(self, start: int, stop: int) -> NDArray[np.int64]:
        """The rows at positions ``start`` to ``stop`` of the run."""
        first, last = start // self.count, (stop - 1) // self.count
        starts = [number * self.count for number in range(first, last + 1)]
        parts = [_shuffled(self, one // self.count)[max(start - one, 0) : stop - one] for one in starts]
        return np.concatenate(parts)


@lru_cache(maxsize=2)
def _shuffled(order: ShuffledOrder, number: int) -> NDArray[np.int64]:
    random = np.random.default_rng([order.seed, number])
    if order.window is None:
        return random.permutation(order.count)
    blocks = random.permutation(-(-order.count // _BLOCK))
    places = (blocks[:, None] * _BLOCK + np.arange(_BLOCK)).reshape(-1)
    places = places[places < order.count]
    for start in range(0, order.count, order.window):
        random.shuffle(places[start : start + order.window])
    return places
