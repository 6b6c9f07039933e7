"""The ``Store`` protocol (objects by key below a root) and its in-memory implementation.

Readers see every write whole or not at all. A write can be conditional: only if the key does not exist, or only if the
object still has a given ETag. Channels, which several jobs may change at once, rely on nothing else.
"""

import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from transferlite.errors import ConflictError, NotFoundError
from transferlite.storage.file_stamp import FileChange
from transferlite.storage.walk_folder import SkippedEntry

BLOCK = 2**18
"""Bytes in a block of a stream."""


OnSkip = Callable[[SkippedEntry], None]


@dataclass(frozen=True)
class Entry:
    """A listed object.

    Attributes:
        key: below the store's root.
        size: in bytes.
        etag: changes with the content.
        version: S3 version id, if known.
        modified: time of writing in seconds since 1970; ignored when entries are compared.
        change: for a local file, whose ETag and size may stay when its content changes; ignored when entries are
            compared.
    """

    key: str
    size: int
    etag: str
    version: str = ""
    modified: float = field(default=0.0, compare=False)
    change: FileChange | None = field(default=None, compare=False)

    @property
    def stamp(self) -> str:
        """Text that changes whenever the content changes: ETag, size, and S3 version or :meth:`FileChange.mark`.

        It is empty if a local file cannot be read where only its content shows a change.
        """
        if self.change is None:
            return " ".join(filter(None, (self.etag, str(self.size), self.version)))
        mark = self.change.mark()
        return f"{self.etag} {self.size} {mark}" if mark else ""


@dataclass(frozen=True)
class Blob:
    """An object's content, its ETag for conditional writes, and its time of writing in seconds since 1970."""

    data: bytes
    etag: str
    modified: float = field(default=0.0, compare=False)


class Store(Protocol):
    """Objects by key, such as ``a/b.jpg``, below a root. Methods raise the store errors of ``transferlite.errors``."""

    @property
    def uri(self) -> str:
        """The root as the user writes it, without a trailing slash."""

    def get(self, key: str, max_bytes: int | None = None) -> Blob:
        """Read an object, or only its first ``max_bytes`` bytes. Raises NotFoundError."""

    def stream(self, key: str, start: int = 0) -> Iterator[bytes]:
        """Yield an object's content in blocks from byte ``start`` on; nothing if the object ends before it.

        Raises NotFoundError, and UnavailableError if the connection breaks.
        """

    def get_changed(self, key: str, etag: str) -> Blob | None:
        """Read an object; None if its ETag is still ``etag``. Raises NotFoundError."""

    def put(self, key: str, data: bytes, *, if_absent: bool = False, if_match: str | None = None) -> str:
        """Write an object and return its ETag. Raises ConflictError if the condition does not hold."""

    def delete(self, key: str) -> None:
        """Delete an object; does nothing if it does not exist."""

    def head(self, key: str) -> Entry:
        """Return an object's entry without reading its content. Raises NotFoundError."""

    def entries(self, prefix: str = "", on_skip: OnSkip | None = None) -> Iterator[Entry]:
        """Yield the objects whose key starts with ``prefix``, in key order.

        ``on_skip`` receives what a folder's listing leaves out. Without it, an unreadable folder raises
        AccessDeniedError, and other skipped entries are left out silently.
        """

    def children(self, prefix: str = "") -> Iterator[str]:
        """Yield the names of the folders directly below ``prefix`` (empty or ending in a slash), in order."""

    def upload(self, key: str, path: Path) -> None:
        """Write a file of any size to ``key``."""

    def download(self, key: str, path: Path) -> None:
        """Write an object to the file ``path``, which appears only when complete."""

    def check_writable(self) -> None:
        """Raise now the error that a later write would raise; writes nothing."""


def join_uri(root: str, key: str) -> str:
    """Return the URI of ``key`` below ``root``."""
    return f"{root.rstrip('/')}/{key}"


class MemoryStore:
    """Objects in this process's memory, with S3's semantics; for tests."""

    def __init__(self, uri: str = "memory://store") -> None:
        self._uri = uri
        self._objects: dict[str, bytes] = {}
        self._modified: dict[str, float] = {}
        self._lock = threading.Lock()

    @property
    def uri(self) -> str:
        return self._uri

    def get(self, key: str, max_bytes: int | None = None) -> Blob:
        try:
            data = self._objects[key]
        except KeyError:
            raise NotFoundError("does not exist", where=join_uri(self.uri, key)) from None
        return Blob(data[:max_bytes], _content_etag(data), self._modified.get(key, 0.0))

    def stream(self, key: str, start: int = 0) -> Iterator[bytes]:
        data = self.get(key).data
        yield from (data[i : i + BLOCK] for i in range(start, len(data), BLOCK))

    def get_changed(self, key: str, etag: str) -> Blob | None:
        blob = self.get(key)
        return blob if blob.etag != etag else None

    def put(self, key: str, data: bytes, *, if_absent: bool = False, if_match: str | None = None) -> str:
        with self._lock:
            previous = self._objects.get(key)
            if if_absent and previous is not None:
                raise ConflictError("exists already", where=join_uri(self.uri, key))
            if if_match is not None and (previous is None or _content_etag(previous) != if_match):
                raise ConflictError("was changed by another writer", where=join_uri(self.uri, key))
            self._objects[key] = data
            self._modified[key] = time.time()
        return _content_etag(data)

    def delete(self, key: str) -> None:
        self._objects.pop(key, None)

    def head(self, key: str) -> Entry:
        blob = self.get(key)
        return Entry(key, len(blob.data), blob.etag, modified=blob.modified)

    def entries(self, prefix: str = "", on_skip: OnSkip | None = None) -> Iterator[Entry]:
        for key, data in sorted(self._objects.copy().items()):  # the copy is atomic: other threads may write meanwhile
            if key.startswith(prefix):
                yield Entry(key, len(data), _content_etag(data), modified=self._modified.get(key, 0.0))

    def children(self, prefix: str = "") -> Iterator[str]:
        remainders = (key[len(prefix) :] for key in self._objects.copy() if key.startswith(prefix))
        yield from sorted({remainder.split("/")[0] for remainder in remainders if "/" in remainder})

    def upload(self, key: str, path: Path) -> None:
        self.put(key, path.read_bytes())

    def download(self, key: str, path: Path) -> None:
        path.write_bytes(self.get(key).data)

    def check_writable(self) -> None:
        return None


def _content_etag(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
