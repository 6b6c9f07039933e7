"""Any number of photos that exist only while they are read, and a store that counts what S3 would be asked for."""

import hashlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.helpers.photos import PhotoStyle
from transferlite.errors import NotFoundError
from transferlite.storage import locations
from transferlite.storage.folder import FolderStore
from transferlite.storage.store import Blob, Entry, OnSkip, Store

KIND = PhotoStyle(classes=10, width=96, height=72)
PAGE = 1000
"""Keys that S3 lists in one request."""
BASES = [KIND.jpeg(number) for number in range(KIND.classes)]

Requests = Counter[str]


def content(number: int) -> bytes:
    """Photo ``number``: the picture of its class, and its number behind the end of the image."""
    return BASES[number % KIND.classes] + b"%010d" % number


class SyntheticPhotos:
    """A read-only store of ``count`` photos, a folder per class."""

    def __init__(self, count: int, requests: Requests) -> None:
        self.count, self.requests = count, requests

    @property
    def uri(self) -> str:
        """The bucket."""
        return "s3://photos"

    def entries(self, prefix: str = "", on_skip: OnSkip | None = None) -> Iterator[Entry]:
        """Yield the photos in key order."""
        listed = 0
        for label in range(KIND.classes):
            for number in range(label, self.count, KIND.classes):
                self.requests["list"] += listed % PAGE == 0
                listed += 1
                yield entry(number)

    def get(self, key: str, max_bytes: int | None = None) -> Blob:
        """Return a photo."""
        self.requests["get photo"] += 1
        number = int(key.rpartition("/")[2].removesuffix(".jpg"))
        if number >= self.count:
            raise NotFoundError("does not exist", where=key)
        return Blob(content(number)[:max_bytes], entry(number).etag)


def entry(number: int) -> Entry:
    """The listed photo ``number``."""
    return Entry(KIND.key(number), len(BASES[0]) + 10, hashlib.md5(b"%d" % number, usedforsecurity=False).hexdigest())


class CountingStore:
    """A folder that counts the requests that a bucket would get."""

    def __init__(self, folder: Path, requests: Requests) -> None:
        self._store, self._requests = FolderStore(folder), requests

    def __getattr__(self, name: str) -> Any:
        kinds = {"get": "get", "get_changed": "get", "stream": "get", "download": "get", "head": "head", "put": "put"}
        kinds |= {"upload": "put", "delete": "delete", "entries": "list", "children": "list"}
        self._requests[kinds.get(name, "")] += name in kinds
        return getattr(self._store, name)


def use_synthetic_store(count: int, folder: Path) -> Requests:
    """Let ``s3://photos`` be ``count`` photos and every other bucket ``folder``; return the requests from now on."""
    requests: Requests = Counter()

    def open_bucket(uri: str, path: str) -> Store:
        bucket, _, prefix = path.partition("/")
        store: Any = (
            SyntheticPhotos(count, requests) if bucket == "photos" else CountingStore(folder / prefix, requests)
        )
        return store  # type: ignore[no-any-return]

    locations._open_s3_store = open_bucket
    return requests
