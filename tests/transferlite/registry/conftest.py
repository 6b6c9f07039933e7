"""Fixtures for registry tests."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import BUCKET
from tests.transferlite.bundles import write_bundle
from transferlite.registry.manifest import MANIFEST, Manifest
from transferlite.registry.open_registry import Registry
from transferlite.storage.folder import FolderStore
from transferlite.storage.s3_boto3 import S3Store
from transferlite.storage.store import MemoryStore

SERVING_FILES = {"float32.tflite", "int8.tflite", "labels.txt", MANIFEST}
"""Files that a pull copies of the bundle that ``publish`` writes."""
Publish = Callable[..., Manifest]


@pytest.fixture(params=["folder", "memory", "s3"])
def registry(request: pytest.FixtureRequest, tmp_path: Path) -> Registry:
    """Return an empty registry in each kind of store."""
    if request.param == "folder":
        return Registry(FolderStore(tmp_path / "registry"))
    if request.param == "memory":
        return Registry(MemoryStore())
    request.getfixturevalue("bucket")
    return Registry(S3Store(BUCKET, "registry"))


@pytest.fixture
def publish(tmp_path: Path) -> Publish:
    """Return a function that publishes a small bundle for each id and returns the last manifest."""

    def publish_bundles(registry: Registry, *model_ids: str) -> Manifest:
        for model_id in model_ids:
            manifest = write_bundle(tmp_path / "bundles" / model_id, model_id)
            registry.publish(tmp_path / "bundles" / model_id, manifest)
        return manifest

    return publish_bundles


def file_names(folder: Path) -> set[str]:
    """Return the relative paths of all files below a folder."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


class CountingStore(MemoryStore):
    """Record the keys of all downloads."""

    def __init__(self) -> None:
        super().__init__()
        self.downloads: list[str] = []

    def stream(self, key: str, start: int = 0) -> Iterator[bytes]:
        self.downloads.append(key)
        yield from super().stream(key, start)
