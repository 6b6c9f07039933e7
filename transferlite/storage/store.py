"""The one seam to the world: objects under a root, in a folder, in memory or in S3.

Every write is whole or absent to readers, and a write can be made conditional: only if the key does not exist yet, or
only if it still has the ETag that was read. Channels, which several jobs may change at once, rest on that alone.
"""

import hashlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from transferlite.errors import ConflictError, NotFoundError

BLOCK = 2**18
"""Bytes of a block of a stream."""


@dataclass(frozen=True)
class Entry:
    """One listed object: its key below the store's root, its size in bytes, its ETag, its version where one is told.

    ``modified`` is when it was written, in seconds since 1970; it is no part of what makes two entries equal.
    """

    key: str
    size: int
    etag: str
    version: str = ""
    modified: float = field(default=0.0, compare=False)

    @property
    def stamp(self) -> str:
        """A text that changes whenever the content does."""
        return " ".join(filter(None, (self.etag, str(self.size), self.version)))


@dataclass(frozen=True)
class Blob:
    """One object's content, with the ETag to make a later write conditional on, and when it was written."""

    data: bytes
    etag: str
    modified: float = field(default=0.0, compare=False)


class Store(Protocol):
    """Objects by key (``a/b.jpg``) below a root. Methods raise the store errors of ``transferlite.errors``."""

    @property
    def uri(self) -> str:
        """The root, as the user would write it, without a trailing slash."""

    def get(self, key: str, max_bytes: int | None = None) -> Blob:
        """The object's content, or its first ``max_bytes`` bytes if it is longer. Raises NotFoundError."""

    def stream(self, key: str, start: int = 0) -> Iterator[bytes]:
        """The object's content from byte ``start`` on, in blocks; nothing if it ends before.

        Raises NotFoundError, and UnavailableError where it breaks off.
        """

    def get_changed(self, key: str, etag: str) -> Blob | None:
        """The object's content, or None while its ETag is still this one. Raises NotFoundError."""

    def put(self, key: str, data: bytes, *, if_absent: bool = False, if_match: str | None = None) -> str:
        """Write the whole object and return its new ETag. Raises ConflictError when the condition does not hold."""

    def delete(self, key: str) -> None:
        """Remove the object; one that does not exist is no error."""

    def head(self, key: str) -> Entry:
        """The object's entry, without its content. Raises NotFoundError."""

    def entries(self, prefix: str = "") -> Iterator[Entry]:
        """Every object whose key begins with ``prefix``, in key order."""

    def children(self, prefix: str = "") -> Iterator[str]:
        """The names of the folders directly below ``prefix`` (which ends in a slash or is empty), in order."""

    def upload(self, key: str, path: Path) -> None:
        """Write a file's content, of any size, to ``key``."""

    def download(self, key: str, path: Path) -> None:
        """Write the object's content to the file ``path``, which appears only when complete."""

    def check_writable(self) -> None:
        """Fail now, without writing anything, if a later write would be refused."""


def join_uri(root: str, key: str) -> str:
    """The URI of ``key`` below ``root``."""
    return f"{root.rstrip('/')}/{key}"


class MemoryStore:
    """Objects in this process's memory: the twin of S3 for tests and for use without any storage."""

    def __init__(self, uri: str = "memory://store") -> None:
        self._uri = uri
        self._objects: dict[str, bytes] = {}
        self._written: dict[str, float] = {}
        self._lock = threading.Lock()

    @property
    def uri(self) -> str:
        return self._uri

    def get(self, key: str, max_bytes: int | None = None) -> Blob:
        try:
            data = self._objects[key]
        except KeyError:
            raise NotFoundError("does not exist", where=join_uri(self.uri, key)) from None
        return Blob(data[:max_bytes], _content_etag(data), self._written.get(key, 0.0))

    def stream(self, key: str, start: int = 0) -> Iterator[bytes]:
        data = self.get(key).data
        yield from (data[place : place + BLOCK] for place in range(start, len(data), BLOCK))

    def get_changed(self, key: str, etag: str) -> Blob | None:
        blob = self.get(key)
        return blob if blob.etag != etag else None

    def put(self, key: str, data: bytes, *, if_absent: bool = False, if_match: str | None = None) -> str:
        with self._lock:
            old = self._objects.get(key)
            if if_absent and old is not None:
                raise ConflictError("exists already", where=join_uri(self.uri, key))
            if if_match is not None and (old is None or _content_etag(old) != if_match):
                raise ConflictError("was changed by another writer", where=join_uri(self.uri, key))
            self._objects[key] = data
            self._written[key] = time.time()
        return _content_etag(data)

    def delete(self, key: str) -> None:
        self._objects.pop(key, None)

    def head(self, key: str) -> Entry:
        blob = self.get(key)
        return Entry(key, len(blob.data), blob.etag, modified=blob.modified)

    def entries(self, prefix: str = "") -> Iterator[Entry]:
        for key, data in sorted(self._objects.copy().items()):  # in one step, whatever another thread writes
            if key.startswith(prefix):
                yield Entry(key, len(data), _content_etag(data), modified=self._written.get(key, 0.0))

    def children(self, prefix: str = "") -> Iterator[str]:
        rests = (key[len(prefix) :] for key in self._objects.copy() if key.startswith(prefix))
        yield from sorted({rest.split("/")[0] for rest in rests if "/" in rest})

    def upload(self, key: str, path: Path) -> None:
        self.put(key, path.read_bytes())

    def download(self, key: str, path: Path) -> None:
        path.write_bytes(self.get(key).data)

    def check_writable(self) -> None:
        return None


def _content_etag(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
