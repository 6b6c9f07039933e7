"""Fixtures of the training job's tests."""

from pathlib import Path

import pytest

from runtime.folder import FolderStore
from runtime.s3 import S3Store
from runtime.store import MemoryStore, Store
from tests.conftest import BUCKET


@pytest.fixture(params=["folder", "memory", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """An empty store of each kind, where a feature store can be."""
    if request.param == "folder":
        return FolderStore(tmp_path / "features")
    if request.param == "memory":
        return MemoryStore()
    request.getfixturevalue("bucket")
    return S3Store(BUCKET, "registry/features")
