"""Every method of a store as a call, for tests of what all of them make of an answer of S3."""

from collections.abc import Callable
from pathlib import Path

import pytest

from transferlite.errors import TransferLiteError
from transferlite.storage.store import Store

Work = Callable[[Store, Path], object]

ROOT = "s3://bucket/p"

READING: dict[str, Work] = {
    "get": lambda store, path: store.get("k"),
    "get_changed": lambda store, path: store.get_changed("k", '"other"'),
    "stream": lambda store, path: list(store.stream("k")),
}
WRITING: dict[str, Work] = {
    "put": lambda store, path: store.put("k", b""),
    "create": lambda store, path: store.put("k", b"", if_absent=True),
    "replace": lambda store, path: store.put("k", b"", if_match='"e"'),
}
OTHERS: dict[str, Work] = {
    "delete": lambda store, path: store.delete("k"),
    "entries": lambda store, path: list(store.entries()),
    "children": lambda store, path: list(store.children()),
    "upload": lambda store, path: store.upload("k", path),
    "check_writable": lambda store, path: store.check_writable(),
}
WITHOUT_WORDS: dict[str, Work] = {
    "head": lambda store, path: store.head("k"),
    "download": lambda store, path: store.download("k", path),
}
"""Their first request is a HEAD, whose refusal has a status and no code."""


def failure(work: Work, store: Store, path: Path) -> TransferLiteError:
    with pytest.raises(TransferLiteError) as caught:
        work(store, path)
    return caught.value
