"""Rows that follow from the photo they are of, so that any row found in a store can be judged."""

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from train_job.store.feature_store import FeatureSpace, FeatureStore
from transferlite.images.input_spec import InputSpec
from transferlite.storage.store import Blob, MemoryStore

WIDTH = 6
SPACE = FeatureSpace("efficientnet_lite0", "ab" * 32, InputSpec(64, 64), WIDTH)
FLIPPED = FeatureSpace("efficientnet_lite0", "ab" * 32, InputSpec(64, 64), WIDTH, view="flip-1")

Rows = NDArray[np.float16]


def hashes_of(photos: Iterable[int]) -> list[str]:
    """The sha256s of imagined photos."""
    return [hashlib.sha256(b"%d" % photo).hexdigest() for photo in photos]


def rows_of(photos: Iterable[int]) -> Rows:
    """Their rows, float16 ``[N, WIDTH]``."""
    digests = b"".join(bytes.fromhex(one)[:WIDTH] for one in hashes_of(photos))
    return np.frombuffer(digests, np.uint8).reshape(-1, WIDTH).astype(np.float16)


def add(store: FeatureStore, photos: Iterable[int], space: FeatureSpace = SPACE) -> str:
    """Write a part."""
    photos = list(photos)
    return store.add(space, hashes_of(photos), rows_of(photos))


def assert_holds(store: FeatureStore, photos: Iterable[int], space: FeatureSpace = SPACE) -> None:
    """Each photo is known, and its row is the right one."""
    photos = list(photos)
    known = store.keys(space)
    assert [photo for photo, one in zip(photos, hashes_of(photos), strict=True) if one not in known] == []
    out = np.full((len(photos), WIDTH), -1, np.float16)
    assert store.read(space, hashes_of(photos), out) == []
    np.testing.assert_array_equal(out, rows_of(photos))


class WatchedStore(MemoryStore):
    """Tells ``before_get`` each key that is about to be read."""

    def __init__(self, before_get: Callable[[str], None]) -> None:
        super().__init__()
        self.before_get = before_get

    def get(self, key: str, max_bytes: int | None = None) -> Blob:
        """The object's content."""
        self.before_get(key)
        return super().get(key, max_bytes)


def silent(_: str) -> None:
    """Take a warning and say nothing."""


def files_below(folder: Path) -> list[str]:
    """The files below a folder, by their relative paths."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
