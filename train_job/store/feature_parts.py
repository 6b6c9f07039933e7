"""Immutable parts: tables under content-derived names, which any number of processes may write, merge and read at once.

A part is one or two Arrow files, the second with some of the first's columns; it exists once its last file does. Its
name is ``<generation>-<sha256 of each file>``: the same table written twice is one part, and damage is noticed.

A part that stands for others is one generation above them, and complete before they are deleted. So parts are never
deleted for each other in a ring, and a listing, which goes up the names, still meets what stands for a part that it
came too late for: no lock is needed.
"""

import hashlib
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np

from train_job.arrow import pa, pc
from train_job.store.digests import NONE, Digests
from transferlite.errors import MissingStoreError, NotFoundError
from transferlite.storage.prefetch import prefetch_map
from transferlite.storage.store import Store, join_uri

Loaded = TypeVar("Loaded")

PARTS_AT_ONCE = 4
"""Parts that are fetched at the same time, and held in memory."""

_NAME = re.compile(r"\d{6}(-[0-9a-f]{32})+")


@dataclass(frozen=True)
class PartStore:
    """The parts of one kind.

    Attributes:
        store: where they are.
        files: the folder (``photos/``) and the schema of each of a part's files; the first has all columns, and the
            first column is the key, an ``S32`` by which the rows are sorted.
        warn: told of each damaged file, which is then left out.
        size: bytes of a part that compaction aims at.
        order: which of several rows with the same key is kept: the first in this order (see ``pa.Table.sort_by``).
    """

    store: Store
    files: tuple[tuple[str, pa.Schema], ...]
    warn: Callable[[str], None]
    size: int = 64 * 2**20
    order: tuple[tuple[str, str], ...] = ()

    def write(self, table: pa.Table, generation: int = 0) -> str:
        """Write a part of rows that are sorted by distinct keys; returns its name."""
        contents = [_to_bytes(table.select(schema.names)) for _, schema in self.files]
        name = "-".join([f"{generation:06}", *map(_digest, contents)])
        for number, content in enumerate(contents):
            self.store.put(self._key(name, number), content)  # over the same content, or over a damaged file
        return name

    def names(self) -> list[str]:
        """The parts, the lowest generation first."""
        return list(self._listed(-1))

    def sizes(self) -> dict[str, int]:
        """The bytes of each part's first file, also of parts that are not complete, or not yet."""
        return self._listed(0)

    def read(self, name: str) -> pa.Table | None:
        """A part; None if it is gone or damaged."""
        return self._read(name, 0)

    def indexes(self, load: Callable[[pa.Table], Loaded], skip: Collection[str] = ()) -> dict[str, Loaded]:
        """What ``load`` makes of each part's last file, by the part's name, the highest generation first."""
        loaded: dict[str, Loaded] = {}
        tried = set(skip)
        names = self.names()
        # a part that vanished before it was read has left its rows to one that only a new listing shows
        while fresh := [name for name in names if name not in tried]:
            for name, table in zip(
                fresh, prefetch_map(partial(self._read, number=-1), fresh, PARTS_AT_ONCE, PARTS_AT_ONCE), strict=True
            ):
                if table is not None:
                    loaded[name] = load(table)
            tried.update(fresh)
            names = self.names()
        return {name: loaded[name] for name in reversed(names) if name in loaded}

    def merged(self, tables: Iterable[pa.Table]) -> pa.Table:
        """All rows of several tables, sorted by their distinct keys."""
        table = pa.concat_tables(tables)
        keys = (table.column_names[0], "ascending")
        order = pc.sort_indices(table, sort_keys=[keys, *self.order]).to_numpy()
        digests = digests_of(table.column(0).take(pa.array(order)))
        distinct = np.ones(len(digests), bool)
        distinct[1:] = digests[1:] != digests[:-1]
        return table.take(pa.array(order[distinct]))

    def replace(self, names: Sequence[str], table: pa.Table) -> None:
        """Let ``table`` stand for the parts ``names``, which are deleted."""
        if len(table):
            self.write(table, 1 + max(int(name[:6]) for name in names))
        for name in names:
            self.delete(name)

    def delete(self, name: str) -> None:
        """Remove a part: the large file first, so that at worst a small one is left for compaction to tidy up."""
        for number in range(len(self.files)):
            self.store.delete(self._key(name, number))

    def tidy(self) -> dict[str, int]:
        """Complete what died between the deletions of a part's files; returns the :meth:`sizes` of the parts."""
        names = self.names()
        sizes = self.sizes()
        for name in names:
            if name not in sizes:
                self.delete(name)
        return {name: sizes[name] for name in names if name in sizes}

    def _listed(self, number: int) -> dict[str, int]:
        folder = self.files[number][0]
        found = {entry.key[len(folder) :].removesuffix(".arrow"): entry.size for entry in self.store.entries(folder)}
        return {
            name: size for name, size in found.items() if _NAME.fullmatch(name) and name.count("-") == len(self.files)
        }

    def _key(self, name: str, number: int) -> str:
        return f"{self.files[number][0]}{name}.arrow"

    def _read(self, name: str, number: int) -> pa.Table | None:
        key = self._key(name, number)
        try:
            data = self.store.get(key).data
        except MissingStoreError:
            raise
        except NotFoundError:
            return None
        sound = _digest(data) == name.split("-")[1:][number]
        table = _from_bytes(data, self.files[number][1]) if sound else None
        if table is None:
            self.warn(f"{join_uri(self.store.uri, key)}: is damaged and left out; delete it")
        return table


def digests_of(column: pa.ChunkedArray) -> Digests:
    """A column of 32-byte values as ``S32`` ``[N]``, without copying where it is in one piece."""
    array = column.combine_chunks()
    if not len(array):
        return NONE
    return np.frombuffer(array.buffers()[1], "S32", len(array), 32 * array.offset)


def column_of(digests: Digests) -> pa.Array:
    """The inverse of :func:`digests_of`."""
    buffer = pa.py_buffer(np.ascontiguousarray(digests))
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(32), len(digests), [None, buffer])


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:32]


def _to_bytes(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table.combine_chunks())
    return bytes(sink.getvalue())


def _from_bytes(data: bytes, schema: pa.Schema) -> pa.Table | None:
    """The table in an Arrow file, without copying; None if it is not one, or of another schema."""
    try:
        table = pa.ipc.open_file(pa.py_buffer(data)).read_all()
    except (pa.ArrowException, OSError):
        return None
    complete = table.schema.equals(schema) and not any(column.null_count for column in table.columns)
    return table if complete else None
