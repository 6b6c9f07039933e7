"""Publishing, listing and reading model versions."""

import datetime
import re
from pathlib import Path

import pytest

from tests.transferlite.bundles import FILES, manifest_of, write_bundle
from tests.transferlite.faults import MortalStore
from tests.transferlite.registry.conftest import Publish
from transferlite.errors import BundleError, ConflictError, InputError, MissingStoreError, NotFoundError
from transferlite.registry.local_bundle import check_files, describe_files
from transferlite.registry.manifest import MANIFEST
from transferlite.registry.open_registry import Registry
from transferlite.registry.versions import new_model_id
from transferlite.storage.s3_boto3 import S3Store
from transferlite.storage.store import MemoryStore


def test_model_ids_sort_by_time_and_are_unique() -> None:
    early, late = datetime.datetime(2026, 1, 31, 23, 59, 59), datetime.datetime(2026, 2, 1)
    assert new_model_id(early) < new_model_id(late)
    assert new_model_id(early) != new_model_id(early)
    assert re.fullmatch(r"20260131-235959-[0-9a-f]{8}", new_model_id(early))


def test_published_versions_are_listed_oldest_first(registry: Registry, publish: Publish) -> None:
    for model_id in ("20260201-b", "20260101-a", "20260301-c"):
        manifest = publish(registry, model_id)
        assert registry.manifest(model_id) == manifest
    assert [manifest.model_id for manifest in registry.versions()] == ["20260101-a", "20260201-b", "20260301-c"]


def test_a_published_version_holds_every_file(registry: Registry, publish: Publish) -> None:
    publish(registry, "one")
    keys = [entry.key for entry in registry.store.entries("models/one/")]
    assert keys == sorted(f"models/one/{name}" for name in [*FILES, MANIFEST])


def test_a_version_without_a_manifest_is_not_listed(registry: Registry, publish: Publish) -> None:
    publish(registry, "one")
    registry.store.put("models/half/float32.tflite", b"")
    assert [manifest.model_id for manifest in registry.versions()] == ["one"]
    with pytest.raises(NotFoundError, match="there is no model half"):
        registry.manifest("half")


def test_a_stray_folder_beside_the_versions_is_not_listed(publish: Publish) -> None:
    registry = Registry(MemoryStore())
    publish(registry, "one")
    registry.store.put("models/.ipynb_checkpoints/notes.txt", b"")
    assert [manifest.model_id for manifest in registry.versions()] == ["one"]


def test_an_empty_registry_has_no_versions_and_no_channels(registry: Registry, tmp_path: Path) -> None:
    (tmp_path / "registry").mkdir()
    assert not list(registry.versions())
    assert registry.channels() == {}


def test_the_same_id_cannot_be_published_twice(registry: Registry, publish: Publish) -> None:
    publish(registry, "one")
    with pytest.raises(ConflictError):
        publish(registry, "one")


def test_publishing_an_id_again_leaves_the_first_version_whole(tmp_path: Path) -> None:
    registry = Registry(MemoryStore())
    first = write_bundle(tmp_path / "first", "one")
    registry.publish(tmp_path / "first", first)
    write_bundle(tmp_path / "second", "one")
    (tmp_path / "second" / "float32.tflite").write_bytes(b"another model")
    second = manifest_of("one", files=describe_files(tmp_path / "second"))
    with pytest.raises(ConflictError):
        registry.publish(tmp_path / "second", second)
    check_files(registry.pull("one", tmp_path / "pulled"), first.serving_files(["float32"]))


def test_a_bundle_altered_after_its_manifest_is_not_published(tmp_path: Path) -> None:
    registry = Registry(MemoryStore())
    manifest = write_bundle(tmp_path, "one")
    (tmp_path / "int8.tflite").write_bytes(b"altered")
    with pytest.raises(BundleError, match="int8"):
        registry.publish(tmp_path, manifest)
    assert not list(registry.store.entries())


def test_an_invalid_id_is_refused_before_any_store_operation() -> None:
    with pytest.raises(InputError, match="is not a model id"):
        Registry(MortalStore(MemoryStore(), 1, after=False)).manifest("../secrets")


def test_a_missing_bucket_is_reported_as_such(bucket: object) -> None:
    registry = Registry(S3Store("no-such-bucket"))
    for read in (lambda: registry.manifest("one"), lambda: registry.channel("c"), lambda: list(registry.versions())):
        with pytest.raises(MissingStoreError, match="there is no bucket no-such-bucket"):
            read()
