"""The one seam to the world: objects under a root, in a folder, in memory or in S3.

Every write is whole or absent to readers, and a write can be made conditional: only if the key does not exist yet, or
only if it still has the ETag that was read. Channels, which several jobs may change at once, rest on that alone.
"""

import fcntl
import hashlib
import os
import secrets
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from runtime.errors import AccessDeniedError, ConflictError, InputError, NotFoundError

_TEMPORARY = ".transferlite-"


@dataclass(frozen=True)
class Entry:
    """One listed object: its key below the store's root, its size in bytes, its ETag."""

    key: str
    size: int
    etag: str


@dataclass(frozen=True)
class Blob:
    """One object's content, with the ETag to make a later write conditional on."""

    data: bytes
    etag: str


class Store(Protocol):
    """Objects by key (``a/b.jpg``) below a root. Methods raise the store errors of ``runtime.errors``."""

    @property
    def uri(self) -> str:
        """The root, as the user would write it, without a trailing slash."""

    def get(self, key: str) -> Blob:
        """The whole object. Raises NotFoundError."""

    def put(self, key: str, data: bytes, *, if_absent: bool = False, if_match: str | None = None) -> str:
        """Write the whole object and return its new ETag. Raises ConflictError when the condition does not hold."""

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


def open_store(uri: str) -> Store:
    """The store for ``s3://bucket/prefix``, ``file:///path`` or a local path.

    Raises:
        InputError: the scheme is unknown, or an ``s3://`` URI names no bucket.
        MissingExtraError: boto3 is needed and not installed.
    """
    if "://" not in uri:
        return FolderStore(Path(uri))
    parts = urlsplit(uri)
    if parts.scheme == "file":
        return FolderStore(Path(parts.path))
    if parts.scheme == "s3":
        from runtime.s3 import S3Store

        return S3Store.from_uri(uri)
    raise InputError(f"{parts.scheme}:// is not supported", where=uri, hint="give an s3:// URI or a local path")


def split_uri(uri: str) -> tuple[str, str]:
    """``s3://b/a/cat.jpg`` -> (``s3://b/a``, ``cat.jpg``): the root and the key that name one object."""
    root, slash, name = uri.rpartition("/")
    if not name or root == "s3:/":
        raise InputError("names a folder or bucket where one file is needed", where=uri)
    return (root or slash or "."), name


def join_uri(root: str, key: str) -> str:
    """The URI of ``key`` below ``root``."""
    return f"{root.rstrip('/')}/{key}"


def read_uri(uri: str) -> bytes:
    """The content of one object or file. Raises NotFoundError."""
    root, key = split_uri(uri)
    return open_store(root).get(key).data


class FolderStore:
    """A folder on a local (or shared POSIX) file system."""

    def __init__(self, root: Path) -> None:
        self.root = root.expanduser()

    @property
    def uri(self) -> str:
        return str(self.root)

    def get(self, key: str) -> Blob:
        path = self._path(key)
        with self._explained(path), path.open("rb") as file:
            etag = _stat_etag(os.fstat(file.fileno()))
            return Blob(file.read(), etag)

    def put(self, key: str, data: bytes, *, if_absent: bool = False, if_match: str | None = None) -> str:
        path = self._path(key)
        with self._explained(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with _written_aside(path) as aside:
                aside.write_bytes(data)
                etag = _stat_etag(aside.stat())
                self._commit(aside, path, if_absent, if_match)
        return etag

    def entries(self, prefix: str = "") -> Iterator[Entry]:
        folder = self._path(prefix.rpartition("/")[0]) if "/" in prefix else self.root
        found = []
        with self._explained(folder):
            for base, _, names in os.walk(folder, followlinks=True):
                found += [Path(base, name) for name in names if not name.startswith(_TEMPORARY)]
        keyed = sorted((path.relative_to(self.root).as_posix(), path) for path in found)
        for key, path in keyed:
            if key.startswith(prefix) and path.is_file():
                stat = path.stat()
                yield Entry(key, stat.st_size, _stat_etag(stat))

    def children(self, prefix: str = "") -> Iterator[str]:
        folder = self._path(prefix.rstrip("/")) if prefix else self.root
        if folder.is_dir():
            with self._explained(folder):
                yield from sorted(path.name for path in folder.iterdir() if path.is_dir())

    def upload(self, key: str, path: Path) -> None:
        target = self._path(key)
        with self._explained(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            with _written_aside(target) as aside:
                shutil.copyfile(path, aside)
                os.replace(aside, target)

    def download(self, key: str, path: Path) -> None:
        source = self._path(key)
        with self._explained(source), _written_aside(path) as aside:
            shutil.copyfile(source, aside)
            os.replace(aside, path)

    def check_writable(self) -> None:
        if not self.root.exists():
            if not self.root.absolute().parent.is_dir():
                raise NotFoundError("its parent folder does not exist", where=self.uri, hint="create it first")
            return
        if not self.root.is_dir():
            raise InputError("is a file, not a folder", where=self.uri)
        if not os.access(self.root, os.W_OK | os.X_OK):
            raise AccessDeniedError("no permission to write", where=self.uri)

    def _path(self, key: str) -> Path:
        if ".." in key.split("/") or key.startswith("/"):
            raise InputError("a key may not leave its store", where=join_uri(self.uri, key))
        return self.root / key

    @contextmanager
    def _explained(self, path: Path) -> Iterator[None]:
        try:
            yield
        except (FileNotFoundError, NotADirectoryError):
            raise NotFoundError("does not exist", where=str(path)) from None
        except IsADirectoryError:
            raise InputError("is a folder where a file is needed", where=str(path)) from None
        except PermissionError:
            raise AccessDeniedError("permission denied", where=str(path)) from None

    def _commit(self, aside: Path, path: Path, if_absent: bool, if_match: str | None) -> None:
        if if_absent:
            try:
                os.link(aside, path)
            except FileExistsError:
                raise ConflictError("exists already", where=str(path)) from None
        elif if_match is None:
            os.replace(aside, path)
        else:
            with _folder_lock(path.parent):
                if not path.exists() or _stat_etag(path.stat()) != if_match:
                    raise ConflictError("was changed by another writer", where=str(path))
                os.replace(aside, path)


@contextmanager
def _written_aside(path: Path) -> Iterator[Path]:
    """A temporary neighbour of ``path`` to write and then move into place; removed if it still stands at the end."""
    aside = path.with_name(f"{_TEMPORARY}{secrets.token_hex(8)}")
    try:
        yield aside
    finally:
        aside.unlink(missing_ok=True)


@contextmanager
def _folder_lock(folder: Path) -> Iterator[None]:
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _stat_etag(stat: os.stat_result) -> str:
    return f"{stat.st_ino:x}-{stat.st_mtime_ns:x}-{stat.st_size:x}"


class MemoryStore:
    """Objects in this process's memory: the twin of S3 for tests and for use without any storage."""

    def __init__(self, uri: str = "memory://store") -> None:
        self._uri = uri
        self._objects: dict[str, bytes] = {}
        self._lock = threading.Lock()

    @property
    def uri(self) -> str:
        return self._uri

    def get(self, key: str) -> Blob:
        try:
            data = self._objects[key]
        except KeyError:
            raise NotFoundError("does not exist", where=join_uri(self.uri, key)) from None
        return Blob(data, _content_etag(data))

    def put(self, key: str, data: bytes, *, if_absent: bool = False, if_match: str | None = None) -> str:
        with self._lock:
            old = self._objects.get(key)
            if if_absent and old is not None:
                raise ConflictError("exists already", where=join_uri(self.uri, key))
            if if_match is not None and (old is None or _content_etag(old) != if_match):
                raise ConflictError("was changed by another writer", where=join_uri(self.uri, key))
            self._objects[key] = data
        return _content_etag(data)

    def entries(self, prefix: str = "") -> Iterator[Entry]:
        for key, data in sorted(self._objects.items()):
            if key.startswith(prefix):
                yield Entry(key, len(data), _content_etag(data))

    def children(self, prefix: str = "") -> Iterator[str]:
        rests = (key[len(prefix) :] for key in self._objects if key.startswith(prefix))
        yield from sorted({rest.split("/")[0] for rest in rests if "/" in rest})

    def upload(self, key: str, path: Path) -> None:
        self.put(key, path.read_bytes())

    def download(self, key: str, path: Path) -> None:
        path.write_bytes(self.get(key).data)

    def check_writable(self) -> None:
        return None


def _content_etag(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
