"""Rows to train on: some of a table that may be larger than memory, and the endless order in which they are used."""

import mmap
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Table = NDArray[np.float16]

_BLOCK = 64
"""Rows that stay neighbours when a table larger than memory is shuffled, so that it is read in runs."""


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
        """The rows at ``places``, copied; what was mapped for it is given back to the system."""
        rows = self.table[self.ids[places]]
        base = getattr(self.table, "_mmap", None)
        if isinstance(base, mmap.mmap):
            base.madvise(mmap.MADV_DONTNEED)
        return rows


@dataclass(frozen=True)
class Order:
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
        passes = np.concatenate([_shuffled(self, number) for number in range(first, last + 1)])
        return passes[start - first * self.count : stop - first * self.count]


@lru_cache(maxsize=4)
def _shuffled(order: Order, number: int) -> NDArray[np.int64]:
    random = np.random.default_rng([order.seed, number])
    if order.window is None:
        return random.permutation(order.count)
    blocks = random.permutation(-(-order.count // _BLOCK))
    places = (blocks[:, None] * _BLOCK + np.arange(_BLOCK)).reshape(-1)
    places = places[places < order.count]
    for start in range(0, order.count, order.window):
        random.shuffle(places[start : start + order.window])
    return places
