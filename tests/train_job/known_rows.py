"""Feature rows that are computed from the photo's number, so that a test can verify any row in a store."""

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
    """Return the sha256s of imaginary photos."""
    return [hashlib.sha256(b"%d" % photo).hexdigest() for photo in photos]


def rows_of(photos: Iterable[int]) -> Rows:
    """Return the photos' rows, float16 ``[N, WIDTH]``."""
    digests = b"".join(bytes.fromhex(sha256)[:WIDTH] for sha256 in hashes_of(photos))
    return np.frombuffer(digests, np.uint8).reshape(-1, WIDTH).astype(np.float16)


def add(store: FeatureStore, photos: Iterable[int], space: FeatureSpace = SPACE) -> str:
    """Write the photos' rows as a part; return its name."""
    photos = list(photos)
    return store.add(space, hashes_of(photos), rows_of(photos))


def assert_holds(store: FeatureStore, photos: Iterable[int], space: FeatureSpace = SPACE) -> None:
    """Check that each photo is known and has the right row."""
    photos = list(photos)
    known = store.row_index(space)
    assert [photo for photo, sha256 in zip(photos, hashes_of(photos), strict=True) if sha256 not in known] == []
    out = np.full((len(photos), WIDTH), -1, np.float16)
    assert store.read(space, hashes_of(photos), out) == []
    np.testing.assert_array_equal(out, rows_of(photos))


class WatchedStore(MemoryStore):
    """Calls ``before_get`` with each key that is about to be read."""

    def __init__(self, before_get: Callable[[str], None]) -> None:
        super().__init__()
        self.before_get = before_get

    def get(self, key: str, max_bytes: int | None = None) -> Blob:
        """Read the object's content."""
        self.before_get(key)
        return super().get(key, max_bytes)


def silent(_: str) -> None:
    """Ignore a warning."""


def files_below(folder: Path) -> list[str]:
    """Return the relative paths of the files below a folder."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
