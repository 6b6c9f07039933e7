"""Immutable tables with content-derived names (parts) that many processes write, merge and read without a lock.

A part is one or two Arrow files; the second repeats some columns of the first and is written last: then the part
exists. Its name is ``<generation>-<sha256 of each file>``, so that writing a table twice gives one part and damage is
detected.

A merged part is one generation above the parts that it replaces, and is complete before they are deleted. Therefore
parts never replace each other in a cycle. A listing is in the order of names, so a reader that misses a deleted part
still sees the part that replaced it.
"""

import hashlib
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from train_job.arrow import pa, pc
from train_job.digests import NO_DIGESTS, Digests
from transferlite.errors import MissingStoreError, NotFoundError
from transferlite.storage.folder import FolderStore
from transferlite.storage.prefetch import prefetch_map
from transferlite.storage.store import Store, join_uri

Loaded = TypeVar("Loaded")

PARTS_AT_ONCE = 4
"""Maximum parts to fetch at the same time and hold in memory."""

_NAME = re.compile(r"\d{6}(-[0-9a-f]{32})+")


@dataclass(frozen=True)
class PartStore:
    """The parts of one kind, such as the rows of a space or the photo index.

    Attributes:
        store: the store that holds them.
        files: folder (``photos/``) and schema of each of a part's files. The first file has all columns; its first
            column is the key, an ``S32`` by which the rows are sorted.
        warn: receives a message for each damaged file, which is then ignored.
        target_bytes: size of the parts that compaction writes.
        preference: sort order (see ``pa.Table.sort_by``) of rows with the same key; merging keeps the first.
    """

    store: Store
    files: tuple[tuple[str, pa.Schema], ...]
    warn: Callable[[str], None]
    target_bytes: int = 64 * 2**20
    preference: tuple[tuple[str, str], ...] = ()

    def write(self, table: pa.Table, generation: int = 0) -> str:
        """Write a table, sorted by distinct keys, as a part; return its name."""
        contents = [_to_bytes(table.select(schema.names)) for _, schema in self.files]
        name = "-".join([f"{generation:06}", *map(_digest, contents)])
        for file_index, content in enumerate(contents):
            self.store.put(self._key(name, file_index), content)  # replaces the same content or a damaged file
        return name

    def names(self) -> list[str]:
        """List the complete parts, the lowest generation first."""
        return list(self._listed(-1))

    def sizes(self) -> dict[str, int]:
        """Return the bytes of each part's first file, including incomplete parts."""
        return self._listed(0)

    def read(self, name: str) -> pa.Table | None:
        """Read a part; None if it is gone or damaged."""
        return self._read(name, 0)

    def stream(self) -> Iterator[pa.Table]:
        """Yield the complete parts one after another, each mapped from its file if the store is a local folder.

        Unlike :meth:`read`, it does not check a local part's hash, which would read the file twice.
        """
        for name in self.names():
            path = self.store.path_of(self._key(name, 0)) if isinstance(self.store, FolderStore) else None
            table = self.read(name) if path is None else _map_file(path, self.files[0][1])
            if table is not None:
                yield table

    def load_indexes(self, load: Callable[[pa.Table], Loaded], skip: Collection[str] = ()) -> dict[str, Loaded]:
        """Apply ``load`` to each part's last file; return the results by name, the highest generation first."""
        loaded: dict[str, Loaded] = {}
        tried = set(skip)
        names = self.names()
        # List again after reading: a part deleted meanwhile was merged into another that the first listing may miss.
        while fresh := [name for name in names if name not in tried]:
            for name, table in zip(
                fresh,
                prefetch_map(partial(self._read, file_index=-1), fresh, PARTS_AT_ONCE, PARTS_AT_ONCE),
                strict=True,
            ):
                if table is not None:
                    loaded[name] = load(table)
            tried.update(fresh)
            names = self.names()
        return {name: loaded[name] for name in reversed(names) if name in loaded}

    def merge(self, tables: Iterable[pa.Table]) -> pa.Table:
        """Merge tables into one that is sorted by distinct keys; of equal keys, the preferred row is kept."""
        table = pa.concat_tables(tables)
        by_key = (table.column_names[0], "ascending")
        order = pc.sort_indices(table, sort_keys=[by_key, *self.preference]).to_numpy()
        digests = digests_from_column(table.column(0).take(pa.array(order)))
        distinct = np.ones(len(digests), bool)
        distinct[1:] = digests[1:] != digests[:-1]
        return table.take(pa.array(order[distinct]))

    def replace(self, names: Sequence[str], table: pa.Table) -> None:
        """Write ``table`` as a part that replaces the parts ``names``, then delete those."""
        if len(table):
            self.write(table, 1 + max(int(name[:6]) for name in names))
        for name in names:
            self.delete(name)

    def delete(self, name: str) -> None:
        """Delete a part, its large file first: an interruption leaves a small file at worst, for :meth:`tidy`."""
        for file_index in range(len(self.files)):
            self.store.delete(self._key(name, file_index))

    def tidy(self) -> dict[str, int]:
        """Finish interrupted deletions; return the :meth:`sizes` of the complete parts."""
        names = self.names()
        sizes = self.sizes()
        for name in names:
            if name not in sizes:
                self.delete(name)
        return {name: sizes[name] for name in names if name in sizes}

    def _listed(self, file_index: int) -> dict[str, int]:
        folder = self.files[file_index][0]
        sizes = {entry.key[len(folder) :].removesuffix(".arrow"): entry.size for entry in self.store.entries(folder)}
        return {
            name: size for name, size in sizes.items() if _NAME.fullmatch(name) and name.count("-") == len(self.files)
        }

    def _key(self, name: str, file_index: int) -> str:
        return f"{self.files[file_index][0]}{name}.arrow"

    def _read(self, name: str, file_index: int) -> pa.Table | None:
        key = self._key(name, file_index)
        try:
            data = self.store.get(key).data
        except MissingStoreError:
            raise
        except NotFoundError:
            return None
        is_intact = _digest(data) == name.split("-")[1:][file_index]
        table = _from_bytes(data, self.files[file_index][1]) if is_intact else None
        if table is None:
            self.warn(f"{join_uri(self.store.uri, key)}: damaged file ignored; delete it")
        return table


def digests_from_column(column: pa.ChunkedArray) -> Digests:
    """Return a column of 32-byte values as ``S32`` ``[N]``, without a copy if it has one chunk."""
    array = column.combine_chunks()
    if not len(array):
        return NO_DIGESTS
    return np.frombuffer(array.buffers()[1], "S32", len(array), 32 * array.offset)


def digests_to_column(digests: Digests) -> pa.Array:
    """Invert :func:`digests_from_column`."""
    buffer = pa.py_buffer(np.ascontiguousarray(digests))
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(32), len(digests), [None, buffer])


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:32]


def _to_bytes(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table.combine_chunks())
    return bytes(sink.getvalue())


def _map_file(path: Path, schema: pa.Schema) -> pa.Table | None:
    try:
        return _from_buffer(pa.memory_map(str(path)), schema)
    except OSError:  # merged into another part meanwhile
        return None


def _from_bytes(data: bytes, schema: pa.Schema) -> pa.Table | None:
    return _from_buffer(pa.py_buffer(data), schema)


def _from_buffer(source: Any, schema: pa.Schema) -> pa.Table | None:
    """Read the table in an Arrow file without a copy; None if the file is invalid or has another schema."""
    try:
        table = pa.ipc.open_file(source).read_all()
    except (pa.ArrowException, OSError):
        return None
    complete = table.schema.equals(schema) and not any(column.null_count for column in table.columns)
    return table if complete else None
