"""Inject faults: S3 errors, and a crash between two store operations."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from transferlite.storage.s3_boto3 import s3_client
from transferlite.storage.store import Blob, Entry, OnSkip, Store


def refuse(operation: str, code: str, status: int, key: str = "") -> None:
    """Make S3 fail every ``operation`` on keys that end in ``key`` with this error."""

    def respond(params: dict[str, Any], **_: object) -> Any:
        if not params["url_path"].endswith(key):
            return None
        error = {"Error": {"Code": code, "Message": f"{code} for a test"}}
        return SimpleNamespace(status_code=status), error | {"ResponseMetadata": {"HTTPStatusCode": status}}

    s3_client().meta.events.register(f"before-call.s3.{operation}", respond)


class CrashError(Exception):
    """The simulated crash of the process."""


class MortalStore:
    """A store that crashes at operation number ``steps``: before it, or after it took effect."""

    def __init__(self, inner: Store, steps: int, after: bool) -> None:
        self._inner = inner
        self._left = steps
        self._after = after
        self._lock = threading.Lock()

    @contextmanager
    def _step(self) -> Iterator[None]:
        with self._lock:
            self._left -= 1
            left = self._left
        if left < 0 or (left == 0 and not self._after):
            raise CrashError
        yield
        if left == 0:
            raise CrashError

    @property
    def uri(self) -> str:
        return self._inner.uri

    def get(self, key: str, max_bytes: int | None = None) -> Blob:
        with self._step():
            return self._inner.get(key, max_bytes)

    def stream(self, key: str, start: int = 0) -> Iterator[bytes]:
        with self._step():
            yield from self._inner.stream(key, start)

    def get_changed(self, key: str, etag: str) -> Blob | None:
        with self._step():
            return self._inner.get_changed(key, etag)

    def put(self, key: str, data: bytes, *, if_absent: bool = False, if_match: str | None = None) -> str:
        with self._step():
            return self._inner.put(key, data, if_absent=if_absent, if_match=if_match)

    def delete(self, key: str) -> None:
        with self._step():
            self._inner.delete(key)

    def head(self, key: str) -> Entry:
        with self._step():
            return self._inner.head(key)

    def entries(self, prefix: str = "", on_skip: OnSkip | None = None) -> Iterator[Entry]:
        with self._step():
            yield from self._inner.entries(prefix, on_skip)

    def children(self, prefix: str = "") -> Iterator[str]:
        with self._step():
            yield from self._inner.children(prefix)

    def upload(self, key: str, path: Path) -> None:
        with self._step():
            self._inner.upload(key, path)

    def download(self, key: str, path: Path) -> None:
        with self._step():
            self._inner.download(key, path)

    def check_writable(self) -> None:
        with self._step():
            self._inner.check_writable()
