"""Promotions, rollbacks and reads of channels."""

import datetime
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from tests.transferlite.registry.conftest import Publish
from transferlite.errors import BundleError, ConflictError, InputError, NotFoundError, ReplacedError
from transferlite.registry.channel_pointer import Pointer
from transferlite.registry.open_registry import Registry
from transferlite.registry.versions import utc_now
from transferlite.storage.folder import FolderStore
from transferlite.storage.store import Blob, MemoryStore, Store


def test_a_channel_points_to_the_last_promotion_and_remembers_the_previous(
    registry: Registry, publish: Publish
) -> None:
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


def test_promoting_the_current_version_changes_nothing(registry: Registry, publish: Publish) -> None:
    publish(registry, "a", "b")
    registry.promote("a", "production")
    before = registry.promote("b", "production")
    assert registry.promote("b", "production") == before


def test_a_promotion_that_names_what_it_replaces_is_refused_once_that_is_replaced(
    registry: Registry, publish: Publish
) -> None:
    first, second, third = "a", "b", "c"
    publish(registry, first, second, third)
    registry.promote(first, "production", replaces="")
    registry.promote(second, "production", replaces=first)
    for replaced, shown in ((first, first), ("", "no version")):
        with pytest.raises(ReplacedError, match=f"production: points to {second} instead of {shown}"):
            registry.promote(third, "production", replaces=replaced)
    assert registry.channel("production").model_id == second
    assert registry.promote(second, "production", replaces=first).model_id == second
    assert registry.promote(third, "production", replaces=second).previous == (second, first)


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


def test_a_missing_channel_cannot_be_rolled_back(registry: Registry) -> None:
    with pytest.raises(InputError, match="has no previous model"):
        registry.rollback("production")


def test_a_rollback_does_not_undo_a_concurrent_promotion(publish: Publish) -> None:
    class StoreWithConcurrentPromotion(MemoryStore):
        def get(self, key: str, max_bytes: int | None = None) -> Blob:
            blob = super().get(key, max_bytes)
            if key == "models/a/manifest.json":
                super().put("channels/production.json", Pointer("c", ("b", "a"), "").to_json())
            return blob

    registry = Registry(StoreWithConcurrentPromotion())
    publish(registry, "a", "b", "c")
    registry.store.put("channels/production.json", Pointer("b", ("a",), "").to_json())
    with pytest.raises(ConflictError):
        registry.rollback("production")
    assert registry.channel("production").model_id == "c"


def test_a_rollback_to_a_deleted_version_is_refused(publish: Publish) -> None:
    registry = Registry(MemoryStore())
    publish(registry, "b")
    registry.store.put("channels/production.json", Pointer("b", ("gone",), "").to_json())
    with pytest.raises(NotFoundError, match="there is no model gone"):
        registry.rollback("production")
    assert registry.channel("production").model_id == "b"


def test_a_missing_channel_is_not_found(registry: Registry, publish: Publish) -> None:
    publish(registry, "one")
    with pytest.raises(NotFoundError, match="there is no channel 'production'; train a model"):
        registry.resolve("production")


@pytest.mark.parametrize("name", ["", "Production", "../x", "a/b", "a b", "-x", "a" * 64])
def test_an_invalid_channel_name_is_refused(name: str) -> None:
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
def test_concurrent_promotions_all_succeed_and_stay_in_the_history(
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


def test_a_pointer_holds_the_time_of_its_promotion(publish: Publish) -> None:
    registry = Registry(MemoryStore())
    publish(registry, "one")
    before = utc_now()
    pointer = registry.promote("one", "production")
    assert before <= datetime.datetime.fromisoformat(pointer.updated_at) <= utc_now()
    assert replace(pointer, updated_at="") == Pointer("one", (), "", "production", pointer.sequence)


def test_a_channel_that_has_not_changed_is_not_read_again(registry: Registry, publish: Publish) -> None:
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


def test_a_stray_file_beside_the_channels_is_not_listed(publish: Publish) -> None:
    registry = Registry(MemoryStore())
    publish(registry, "one")
    registry.promote("one", "production")
    registry.store.put("channels/Copy of production.json", b"{}")
    assert list(registry.channels()) == ["production"]
