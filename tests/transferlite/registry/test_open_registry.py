"""Pulling versions, and local copies of remote registries."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.transferlite.bundles import write_bundle
from tests.transferlite.registry.conftest import SERVING_FILES, CountingStore, Publish, file_names
from transferlite.edge.install import install_current
from transferlite.errors import BundleError, NotFoundError
from transferlite.registry.local_bundle import CURRENT, check_files, find_bundle, read_manifest
from transferlite.registry.manifest import MANIFEST
from transferlite.registry.open_registry import Registry, cache_folder
from transferlite.storage.store import MemoryStore


def test_a_pull_copies_the_tflite_files_and_the_labels(registry: Registry, publish: Publish, tmp_path: Path) -> None:
    manifest = publish(registry, "one")
    bundle = registry.pull("one", tmp_path / "device")
    assert bundle == tmp_path / "device" / "one"
    assert file_names(bundle) == SERVING_FILES
    assert read_manifest(bundle) == manifest


@pytest.mark.parametrize(
    ("variants", "files"),
    [
        (["int8"], {"int8.tflite", "labels.txt", MANIFEST}),
        (["saved_model"], {"saved_model/1/saved_model.pb", "labels.txt", MANIFEST}),
    ],
)
def test_a_pull_copies_the_requested_variants(
    publish: Publish, tmp_path: Path, variants: list[str], files: set[str]
) -> None:
    registry = Registry(MemoryStore())
    publish(registry, "one")
    assert file_names(registry.pull("one", tmp_path / "device", variants)) == files


def test_a_missing_variant_cannot_be_pulled(publish: Publish, tmp_path: Path) -> None:
    registry = Registry(MemoryStore())
    publish(registry, "one")
    with pytest.raises(NotFoundError, match="no variant 'float64'"):
        registry.pull("one", tmp_path / "device", ["float64"])


def test_a_second_pull_fetches_nothing(publish: Publish, tmp_path: Path) -> None:
    store = CountingStore()
    publish(Registry(store), "one")
    Registry(store).pull("one", tmp_path / "device")
    assert len(store.downloads) == 3
    Registry(store).pull("one", tmp_path / "device")
    assert len(store.downloads) == 3


@pytest.mark.parametrize("damage", [lambda path: path.write_bytes(b"damaged"), Path.unlink])
def test_a_pull_replaces_only_a_damaged_file(
    publish: Publish, tmp_path: Path, damage: Callable[[Path], object]
) -> None:
    store = CountingStore()
    manifest = publish(Registry(store), "one")
    bundle = Registry(store).pull("one", tmp_path / "device")
    damage(bundle / "int8.tflite")
    store.downloads.clear()
    Registry(store).pull("one", tmp_path / "device")
    assert store.downloads == ["models/one/int8.tflite"]
    check_files(bundle, manifest.serving_files(["float32", "int8"]))


def test_concurrent_pulls_into_one_cache_do_not_interfere(publish: Publish, tmp_path: Path) -> None:
    class SlowStore(CountingStore):
        def stream(self, key: str, start: int = 0) -> Iterator[bytes]:
            for block in super().stream(key, start):
                for i in range(len(block)):
                    yield block[i : i + 1]
                    time.sleep(0.001)

    store = SlowStore()
    publish(Registry(store), "one")
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: Registry(store).pull("one", tmp_path / "cache"), range(4)))
    assert len(store.downloads) == 3
    assert file_names(tmp_path / "cache" / "one") == SERVING_FILES


def test_a_file_altered_in_the_registry_is_refused(registry: Registry, publish: Publish, tmp_path: Path) -> None:
    publish(registry, "one")
    registry.store.put("models/one/int8.tflite", b"altered")
    with pytest.raises(BundleError, match=r"int8\.tflite: does not have the manifest's sha256"):
        registry.pull("one", tmp_path / "device")
    with pytest.raises(NotFoundError):
        find_bundle(tmp_path / "device" / "one")


def test_a_file_missing_in_the_registry_is_reported(registry: Registry, tmp_path: Path) -> None:
    manifest = write_bundle(tmp_path / "bundle", "one")
    registry.store.put("models/one/manifest.json", manifest.to_json())
    with pytest.raises(NotFoundError, match=r"models/one/\S+: does not exist"):
        registry.pull("one", tmp_path / "device")


def test_pulling_a_channel_follows_it_and_keeps_the_previous_version(publish: Publish, tmp_path: Path) -> None:
    registry = Registry(MemoryStore())
    publish(registry, "one", "two")
    device = tmp_path / "device"
    registry.promote("one", "production")
    assert install_current(registry, "production", device).bundle == find_bundle(device) == device / "one"
    registry.promote("two", "production")
    assert install_current(registry, "production", device).bundle == find_bundle(device) == device / "two"
    assert read_manifest(device / "one").model_id == "one"


def test_a_failed_pull_of_a_channel_keeps_the_installed_model(publish: Publish, tmp_path: Path) -> None:
    registry = Registry(MemoryStore())
    publish(registry, "one", "two")
    registry.promote("one", "production")
    install_current(registry, "production", tmp_path / "device")
    before = (tmp_path / "device" / CURRENT).read_bytes()
    registry.promote("two", "production")
    registry.store.put("models/two/int8.tflite", b"altered")
    with pytest.raises(BundleError):
        install_current(registry, "production", tmp_path / "device")
    assert (tmp_path / "device" / CURRENT).read_bytes() == before
    assert find_bundle(tmp_path / "device").name == "one"


def test_the_local_bundle_of_a_local_registry_is_its_own_folder(publish: Publish, tmp_path: Path) -> None:
    registry = Registry.open(str(tmp_path / "registry"))
    publish(registry, "one")
    with registry.local_bundle("one", tmp_path / "cache", ["float32"]) as bundle:
        assert bundle == tmp_path / "registry" / "models" / "one"
    assert not (tmp_path / "cache").exists()
    missing = registry.local_bundle("two", tmp_path / "cache", ["float32"])
    with pytest.raises(NotFoundError, match="there is no model two"), missing:
        pass


def test_the_local_bundle_of_a_remote_registry_is_a_copy_in_the_cache(publish: Publish, tmp_path: Path) -> None:
    registry = Registry(MemoryStore())
    publish(registry, "one")
    with registry.local_bundle("one", tmp_path / "cache", ["float32"]) as bundle:
        assert bundle == tmp_path / "cache" / "one"
    assert file_names(bundle) == {"float32.tflite", "labels.txt", MANIFEST}


def test_the_cache_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TRANSFERLITE_CACHE", str(tmp_path))
    assert cache_folder("s3://b/x") == tmp_path / "transferlite" / "s3-b-x"
    monkeypatch.delenv("TRANSFERLITE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder("s3://b/x") == tmp_path / "xdg" / "transferlite" / "s3-b-x"
