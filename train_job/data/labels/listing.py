"""The files below a root as columns: some 100 bytes a file, where a dictionary of texts takes 300."""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from train_job.arrow import pa, pc
from train_job.data.photos import decode_text, text_column
from transferlite.storage.store import Store
from transferlite.storage.walk_folder import SkippedEntry

_BLOCK = 2**14


@dataclass(frozen=True)
class Listing:
    """Files below a root, as columns ``[N]`` in the order of the store.

    Attributes:
        root: URI or path of the folder.
        keys: keys of the files, as :func:`train_job.data.photos.encode_text` has them.
        stamps: ``Entry.stamp`` of each; empty if it was not needed.
        left_out: what the listing left out, by key.
    """

    root: str
    keys: pa.LargeBinaryArray
    stamps: pa.LargeBinaryArray
    left_out: dict[str, SkippedEntry]

    @classmethod
    def read(cls, store: Store, needs_stamp: Callable[[str], bool] = lambda _: True) -> "Listing":
        """List the files of a store; stamps of those for which ``needs_stamp`` is false are empty."""
        left_out: list[SkippedEntry] = []
        entries = store.entries(on_skip=left_out.append)
        parts: list[tuple[pa.LargeBinaryArray, pa.LargeBinaryArray]] = [(text_column([]), text_column([]))]
        while block := list(islice(entries, _BLOCK)):
            stamps = (entry.stamp if needs_stamp(entry.key) else "" for entry in block)
            parts.append((text_column(entry.key for entry in block), text_column(stamps)))
        keys, stamps_of = (pa.concat_arrays(column) for column in zip(*parts, strict=True))
        return cls(store.uri, keys, stamps_of, {entry.key: entry for entry in left_out})

    def __len__(self) -> int:
        return len(self.keys)

    def __iter__(self) -> Iterator[tuple[str, str]]:
        """Yield each file's key and stamp."""
        for start in range(0, len(self), _BLOCK):
            columns = (column.slice(start, _BLOCK).to_pylist() for column in (self.keys, self.stamps))
            for key, stamp in zip(*columns, strict=True):
                yield decode_text(key), decode_text(stamp)

    def find(self, names: pa.LargeBinaryArray) -> NDArray[np.int64]:
        """Return the index of the file whose key is each of the names ``[M]``; -1 if there is none."""
        indices: NDArray[np.int64] = (
            pc.fill_null(pc.index_in(names, value_set=self.keys), -1).to_numpy().astype(np.int64)
        )
        return indices

    def select(self, names: Collection[str]) -> dict[str, str]:
        """Return the stamps of those of the names that are keys."""
        indices = self.find(text_column(names))
        stamps = iter(self.stamps.take(pa.array(indices[indices >= 0])).to_pylist())
        return {name: decode_text(next(stamps)) for name, index in zip(names, indices, strict=True) if index >= 0}
