"""Fixtures of the training job's tests."""

from pathlib import Path

import pytest

from tests.conftest import BUCKET
from transferlite.storage.folder import FolderStore
from transferlite.storage.s3_boto3 import S3Store
from transferlite.storage.store import MemoryStore, Store


@pytest.fixture(params=["folder", "memory", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """An empty store of each kind, where a feature store can be."""
    if request.param == "folder":
        return FolderStore(tmp_path / "features")
    if request.param == "memory":
        return MemoryStore()
    request.getfixturevalue("bucket")
    return S3Store(BUCKET, "registry/features")
