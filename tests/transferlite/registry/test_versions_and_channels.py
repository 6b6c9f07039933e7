import datetime
import itertools
import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from tests.conftest import BUCKET
from tests.transferlite.bundles import FILES, manifest_of, write_bundle
from tests.transferlite.faults import CrashError, MortalStore
from transferlite.edge.install import install_current
from transferlite.errors import BundleError, ConflictError, InputError, MissingStoreError, NotFoundError
from transferlite.registry.channel_pointer import Pointer
from transferlite.registry.local_bundle import CURRENT, check_files, describe_files, find_bundle, read_manifest
from transferlite.registry.manifest import MANIFEST, Manifest
from transferlite.registry.open_registry import Registry, cache_folder
from transferlite.registry.versions import new_model_id, utc_now
from transferlite.storage.folder import FolderStore
from transferlite.storage.s3_boto3 import S3Store
from transferlite.storage.store import Blob, MemoryStore, Store

SERVING = {"float32.tflite", "int8.tflite", "labels.txt", MANIFEST}


@pytest.fixture(params=["folder", "memory", "s3"])
def registry(request: pytest.FixtureRequest, tmp_path: Path) -> Registry:
    if request.param == "folder":
        return Registry(FolderStore(tmp_path / "registry"))
    if request.param == "memory":
        return Registry(MemoryStore())
    request.getfixturevalue("bucket")
    return Registry(S3Store(BUCKET, "registry"))


@pytest.fixture
def publish(tmp_path: Path) -> Callable[..., Manifest]:
    """Publishes a small bundle of each id to a registry; the last one's manifest is the value."""

    def work(registry: Registry, *model_ids: str) -> Manifest:
        for model_id in model_ids:
            manifest = write_bundle(tmp_path / "bundles" / model_id, model_id)
            registry.publish(tmp_path / "bundles" / model_id, manifest)
        return manifest

    return work


Publish = Callable[..., Manifest]


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


class CountingStore(MemoryStore):
    """Remembers which files were fetched."""

    def __init__(self) -> None:
        super().__init__()
        self.downloads: list[str] = []

    def stream(self, key: str, start: int = 0) -> Iterator[bytes]:
        self.downloads.append(key)
        yield from super().stream(key, start)


# -- versions --------------------------------------------------------------------------------------------------------


def test_model_ids_sort_by_time_and_differ() -> None:
    early, late = datetime.datetime(2026, 1, 31, 23, 59, 59), datetime.datetime(2026, 2, 1)
    assert new_model_id(early) < new_model_id(late)
    assert new_model_id(early) != new_model_id(early)
    assert re.fullmatch(r"20260131-235959-[0-9a-f]{8}", new_model_id(early))


def test_what_was_published_is_listed_oldest_first(registry: Registry, publish: Publish) -> None:
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


def test_a_stray_file_beside_the_channels_is_not_listed(publish: Publish) -> None:
    registry = Registry(MemoryStore())
    publish(registry, "one")
    registry.promote("one", "production")
    registry.store.put("channels/Copy of production.json", b"{}")
    assert list(registry.channels()) == ["production"]


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


def test_a_bundle_altered_since_its_manifest_is_not_published(tmp_path: Path) -> None:
    registry = Registry(MemoryStore())
    manifest = write_bundle(tmp_path, "one")
    (tmp_path / "int8.tflite").write_bytes(b"altered")
    with pytest.raises(BundleError, match="int8"):
        registry.publish(tmp_path, manifest)
    assert not list(registry.store.entries())


def test_an_impossible_id_is_refused_before_the_store_is_asked() -> None:
    with pytest.raises(InputError, match="is not a model id"):
        Registry(MortalStore(MemoryStore(), 1, after=False)).manifest("../secrets")


def test_a_missing_bucket_is_said_to_be_one(bucket: object) -> None:
    registry = Registry(S3Store("no-such-bucket"))
    for ask in (lambda: registry.manifest("one"), lambda: registry.channel("c"), lambda: list(registry.versions())):
        with pytest.raises(MissingStoreError, match="there is no bucket no-such-bucket"):
            ask()


# -- channels --------------------------------------------------------------------------------------------------------


def test_a_channel_names_what_was_promoted_and_remembers_the_rest(registry: Registry, publish: Publish) -> None:
    publish(registry, "a", "b", "c")
    for model_id in ("a", "b", "c"):
        assert registry.promote(model_id, "production").model_id == model_id
    assert registry.channel("production").previous == ("b", "a")
    assert registry.resolve("production") == "c"
    assert registry.resolve("production", "a") == "a"


def test_channels_are_independent(registry: Registry, publish: Publish) -> None:
    publish(registry, "a", "b")
    registry.promote("a", "production")
    registry.promote("b", "staging-2")
    assert {name: pointer.model_id for name, pointer in registry.channels().items()} == {
        "production": "a",
        "staging-2": "b",
    }


def test_promoting_what_is_named_already_changes_nothing(registry: Registry, publish: Publish) -> None:
    publish(registry, "a", "b")
    registry.promote("a", "production")
    before = registry.promote("b", "production")
    assert registry.promote("b", "production") == before


def test_an_unknown_version_cannot_be_promoted(registry: Registry, publish: Publish) -> None:
    publish(registry, "a")
    registry.promote("a", "production")
    with pytest.raises(NotFoundError, match="there is no model b"):
        registry.promote("b", "production")
    assert registry.channel("production").model_id == "a"


def test_a_version_without_a_manifest_cannot_be_promoted(registry: Registry) -> None:
    registry.store.put("models/half/float32.tflite", b"")
    with pytest.raises(NotFoundError, match="there is no model half"):
        registry.promote("half", "production")
    assert registry.channels() == {}


def test_each_rollback_goes_one_model_back(registry: Registry, publish: Publish) -> None:
    publish(registry, "a", "b", "c")
    for model_id in ("a", "b", "c"):
        registry.promote(model_id, "production")
    assert registry.rollback("production").model_id == "b"
    assert registry.rollback("production").model_id == "a"
    with pytest.raises(InputError, match="has no previous model"):
        registry.rollback("production")
    assert registry.channel("production").model_id == "a"


def test_a_channel_that_names_nothing_cannot_be_rolled_back(registry: Registry) -> None:
    with pytest.raises(InputError, match="has no previous model"):
        registry.rollback("production")


def test_a_rollback_does_not_undo_a_promotion_made_meanwhile(publish: Publish) -> None:
    class Overtaken(MemoryStore):
        def get(self, key: str, max_bytes: int | None = None) -> Blob:
            blob = super().get(key, max_bytes)
            if key == "models/a/manifest.json":
                super().put("channels/production.json", Pointer("c", ("b", "a"), "").to_json())
            return blob

    registry = Registry(Overtaken())
    publish(registry, "a", "b", "c")
    registry.store.put("channels/production.json", Pointer("b", ("a",), "").to_json())
    with pytest.raises(ConflictError):
        registry.rollback("production")
    assert registry.channel("production").model_id == "c"


def test_a_rollback_to_a_version_that_is_gone_is_refused(publish: Publish) -> None:
    registry = Registry(MemoryStore())
    publish(registry, "b")
    registry.store.put("channels/production.json", Pointer("b", ("gone",), "").to_json())
    with pytest.raises(NotFoundError, match="there is no model gone"):
        registry.rollback("production")
    assert registry.channel("production").model_id == "b"


def test_a_channel_that_is_not_there_is_not_found(registry: Registry) -> None:
    with pytest.raises(NotFoundError, match="there is no channel 'production'; train a model"):
        registry.resolve("production")


@pytest.mark.parametrize("name", ["", "Production", "../x", "a/b", "a b", "-x", "a" * 64])
def test_a_channel_has_a_plain_name(name: str) -> None:
    with pytest.raises(InputError, match="is not a channel name"):
        Registry(MemoryStore()).channel(name)


def test_a_damaged_pointer_is_not_overwritten(publish: Publish) -> None:
    registry = Registry(MemoryStore())
    publish(registry, "a")
    registry.store.put("channels/production.json", b"{")
    with pytest.raises(BundleError, match=r"channels/production\.json"):
        registry.promote("a", "production")


def test_a_channel_remembers_twenty_models(publish: Publish) -> None:
    registry = Registry(MemoryStore())
    ids = [f"m{number:02}" for number in range(23)]
    publish(registry, *ids)
    for model_id in ids:
        registry.promote(model_id, "production")
    assert registry.channel("production").previous == tuple(reversed(ids[2:22]))


@pytest.mark.parametrize("make", [lambda path: MemoryStore(), FolderStore], ids=["memory", "folder"])
def test_promoters_at_once_all_end_and_none_is_forgotten(
    tmp_path: Path, make: Callable[[Path], Store], publish: Publish
) -> None:
    registry = Registry(make(tmp_path / "registry"))
    ids = [f"m{number}" for number in range(6)]
    publish(registry, *ids)
    start = threading.Barrier(len(ids))

    def promote(model_id: str) -> None:
        start.wait()
        registry.promote(model_id, "production")

    with ThreadPoolExecutor(len(ids)) as pool:
        list(pool.map(promote, ids))
    pointer = registry.channel("production")
    assert sorted([pointer.model_id, *pointer.previous]) == ids


# -- crashes ---------------------------------------------------------------------------------------------------------


def crashes_at(step: int, after: bool, store: Store, work: Callable[[Registry], object]) -> bool:
    """Whether ``work`` on the store came as far as the operation at which its process dies."""
    try:
        work(Registry(MortalStore(store, step, after)))
    except CrashError:
        return True
    return False


@pytest.mark.parametrize("after", [False, True], ids=["before the operation", "after the operation"])
@pytest.mark.parametrize("old", [[], ["one"]], ids=["the first model", "a second model"])
def test_a_crash_at_any_operation_leaves_the_old_model_or_the_new(
    tmp_path: Path, publish: Publish, after: bool, old: list[str]
) -> None:
    new = write_bundle(tmp_path / "new", "two")

    def job(registry: Registry) -> None:
        registry.publish(tmp_path / "new", new)
        registry.promote("two", "production")

    for step in itertools.count(1):
        registry = Registry(MemoryStore())
        for model_id in old:
            publish(registry, model_id)
            registry.promote(model_id, "production")
        crashed = crashes_at(step, after, registry.store, job)
        named = [pointer.model_id for pointer in registry.channels().values()]
        listed = [manifest.model_id for manifest in registry.versions()]
        assert named in ([old, ["two"]] if crashed else [["two"]])
        assert listed in [old, [*old, "two"]]
        assert set(named) <= set(listed)
        for manifest in registry.versions():
            variants = list(manifest.variants)
            check_files(registry.pull(manifest.model_id, tmp_path, variants), manifest.serving_files(variants))
        if not crashed:
            break
    assert step > len(FILES) + 3  # all files, the manifest, reading it again, the pointer


@pytest.mark.parametrize("after", [False, True], ids=["before the operation", "after the operation"])
def test_a_crash_while_pulling_leaves_no_half_bundle_and_the_next_pull_ends(
    tmp_path: Path, publish: Publish, after: bool
) -> None:
    store = MemoryStore()
    manifest = publish(Registry(store), "one")
    for step in itertools.count(1):
        bundle = tmp_path / str(step) / "one"
        if not crashes_at(step, after, store, partial(Registry.pull, model_id="one", folder=bundle.parent)):
            break
        assert not (bundle / MANIFEST).exists()
        assert names(Registry(store).pull("one", bundle.parent)) == SERVING
    check_files(bundle, manifest.serving_files(["float32", "int8"]))
    assert step == 6  # after the manifest, its signature and three files


# -- copies ----------------------------------------------------------------------------------------------------------


def test_a_pull_copies_the_tflite_files_and_the_labels(registry: Registry, publish: Publish, tmp_path: Path) -> None:
    manifest = publish(registry, "one")
    bundle = registry.pull("one", tmp_path / "device")
    assert bundle == tmp_path / "device" / "one"
    assert names(bundle) == SERVING
    assert read_manifest(bundle) == manifest


@pytest.mark.parametrize(
    ("variants", "files"),
    [
        (["int8"], {"int8.tflite", "labels.txt", MANIFEST}),
        (["saved_model"], {"saved_model/1/saved_model.pb", "labels.txt", MANIFEST}),
    ],
)
def test_a_pull_copies_the_variants_asked_for(
    publish: Publish, tmp_path: Path, variants: list[str], files: set[str]
) -> None:
    registry = Registry(MemoryStore())
    publish(registry, "one")
    assert names(registry.pull("one", tmp_path / "device", variants)) == files


def test_a_variant_that_is_not_there_cannot_be_pulled(publish: Publish, tmp_path: Path) -> None:
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
def test_a_pull_heals_a_damaged_copy_and_fetches_only_that(
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


def test_several_who_pull_into_one_cache_do_not_disturb_each_other(publish: Publish, tmp_path: Path) -> None:
    class Slow(CountingStore):
        def stream(self, key: str, start: int = 0) -> Iterator[bytes]:
            for block in super().stream(key, start):
                for place in range(len(block)):
                    yield block[place : place + 1]
                    time.sleep(0.001)

    store = Slow()
    publish(Registry(store), "one")
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: Registry(store).pull("one", tmp_path / "cache"), range(4)))
    assert len(store.downloads) == 3
    assert names(tmp_path / "cache" / "one") == SERVING


def test_a_file_altered_in_the_registry_is_refused(registry: Registry, publish: Publish, tmp_path: Path) -> None:
    publish(registry, "one")
    registry.store.put("models/one/int8.tflite", b"altered")
    with pytest.raises(BundleError, match=r"int8\.tflite: does not have the manifest's sha256"):
        registry.pull("one", tmp_path / "device")
    with pytest.raises(NotFoundError):
        find_bundle(tmp_path / "device" / "one")


def test_a_file_missing_in_the_registry_is_named(registry: Registry, tmp_path: Path) -> None:
    manifest = write_bundle(tmp_path / "bundle", "one")
    registry.store.put("models/one/manifest.json", manifest.to_json())
    with pytest.raises(NotFoundError, match=r"models/one/\S+: does not exist"):
        registry.pull("one", tmp_path / "device")


def test_pulling_a_channel_follows_it_and_keeps_the_version_before(publish: Publish, tmp_path: Path) -> None:
    registry = Registry(MemoryStore())
    publish(registry, "one", "two")
    device = tmp_path / "device"
    registry.promote("one", "production")
    assert install_current(registry, "production", device).bundle == find_bundle(device) == device / "one"
    registry.promote("two", "production")
    assert install_current(registry, "production", device).bundle == find_bundle(device) == device / "two"
    assert read_manifest(device / "one").model_id == "one"


def test_a_failed_pull_of_a_channel_keeps_the_model_that_was_there(publish: Publish, tmp_path: Path) -> None:
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


def test_a_local_registry_serves_its_own_folder(publish: Publish, tmp_path: Path) -> None:
    registry = Registry.open(str(tmp_path / "registry"))
    publish(registry, "one")
    assert registry.local_bundle("one", tmp_path / "cache", ["float32"]) == tmp_path / "registry" / "models" / "one"
    assert not (tmp_path / "cache").exists()
    with pytest.raises(NotFoundError, match="there is no model two"):
        registry.local_bundle("two", tmp_path / "cache", ["float32"])


def test_a_remote_registry_is_copied_to_the_cache(publish: Publish, tmp_path: Path) -> None:
    registry = Registry(MemoryStore())
    publish(registry, "one")
    bundle = registry.local_bundle("one", tmp_path / "cache", ["float32"])
    assert bundle == tmp_path / "cache" / "one"
    assert names(bundle) == {"float32.tflite", "labels.txt", MANIFEST}


def test_the_cache_is_where_the_user_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TRANSFERLITE_CACHE", str(tmp_path))
    assert cache_folder("s3://b/x") == tmp_path / "transferlite" / "s3-b-x"
    monkeypatch.delenv("TRANSFERLITE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder("s3://b/x") == tmp_path / "xdg" / "transferlite" / "s3-b-x"


def test_a_pointer_holds_the_moment_of_its_promotion(publish: Publish) -> None:
    registry = Registry(MemoryStore())
    publish(registry, "one")
    before = utc_now()
    pointer = registry.promote("one", "production")
    assert before <= datetime.datetime.fromisoformat(pointer.updated_at) <= utc_now()
    assert replace(pointer, updated_at="") == Pointer("one", (), "", "production", pointer.sequence)


def test_a_channel_that_has_not_changed_is_not_read_again(registry: Registry, publish: Callable[..., Manifest]) -> None:
    publish(registry, "one", "two")
    with pytest.raises(NotFoundError, match="there is no channel 'staging'"):
        registry.followed_channel("staging")
    registry.promote("one", "staging")
    known = registry.followed_channel("staging")
    assert known[0].model_id == "one"
    assert registry.followed_channel("staging", known) is known
    registry.promote("two", "staging")
    assert registry.followed_channel("staging", known)[0].model_id == "two"
    registry.store.delete("channels/staging.json")
    with pytest.raises(NotFoundError, match="there is no channel 'staging'"):
        registry.followed_channel("staging", known)
