"""Signed registries: what owners write and devices accept."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import BUCKET
from tests.transferlite import keys
from tests.transferlite.bundles import write_bundle
from tests.transferlite.faults import refuse
from tests.transferlite.keys import owners, trusting
from transferlite.errors import AccessDeniedError, BundleError, InputError, UntrustedError
from transferlite.registry.channel_pointer import check_pointer
from transferlite.registry.manifest import MANIFEST, SIGNATURE
from transferlite.registry.open_registry import Registry
from transferlite.storage.s3_boto3 import S3Store
from transferlite.storage.store import MemoryStore
from transferlite.trust.keys import Signer


@pytest.fixture
def store(tmp_path: Path) -> MemoryStore:
    """Make a signed registry with versions one and two; production points to two."""
    store = MemoryStore()
    for model_id in ("one", "two"):
        owners(store).publish(tmp_path / model_id, write_bundle(tmp_path / model_id, model_id))
        owners(store).promote(model_id, "production")
    return store


def test_versions_and_channels_of_the_owner_are_trusted(tmp_path: Path, signer: Signer) -> None:
    registry = Registry(MemoryStore(), signer.public_keys, signer)
    manifest = write_bundle(tmp_path / "one", "one")
    registry.publish(tmp_path / "one", manifest)
    registry.promote("one", "production")
    assert registry.manifest(registry.resolve("production")) == manifest
    assert [manifest.model_id for manifest in registry.versions()] == ["one"]


def test_the_signature_is_written_before_the_manifest(tmp_path: Path) -> None:
    written = []

    class RecordingStore(MemoryStore):
        def put(self, key: str, data: bytes, *, if_absent: bool = False, if_match: str | None = None) -> str:
            written.append(key.rpartition("/")[2])
            return super().put(key, data, if_absent=if_absent, if_match=if_match)

    owners(RecordingStore()).publish(tmp_path, write_bundle(tmp_path, "one"))
    assert written[-2:] == [SIGNATURE, MANIFEST]


def test_a_signed_registry_can_be_read_without_keys(store: MemoryStore) -> None:
    assert Registry(store).channel("production").model_id == "two"
    assert Registry(store).manifest("one").model_id == "one"


def test_an_unreadable_signature_is_an_error_only_with_a_key(bucket: object, tmp_path: Path) -> None:
    store = S3Store(BUCKET)
    owners(store).publish(tmp_path / "one", write_bundle(tmp_path / "one", "one"))
    refuse("GetObject", "AccessDenied", 403, "model.sig")
    assert Registry(store).pull("one", tmp_path / "device").name == "one"
    with pytest.raises(AccessDeniedError):
        trusting(store).manifest("one")


def test_an_unsigned_registry_is_refused_with_a_key(tmp_path: Path) -> None:
    store = MemoryStore()
    Registry(store).publish(tmp_path, write_bundle(tmp_path, "one"))
    Registry(store).promote("one", "production")
    for read in (lambda: trusting(store).channel("production"), lambda: trusting(store).manifest("one")):
        with pytest.raises(UntrustedError, match="is not signed, and a public key is configured"):
            read()


def test_a_signed_channel_cannot_be_changed_without_the_key(store: MemoryStore) -> None:
    before = store.get("channels/production.json")
    registry = Registry(store)
    changes: tuple[Callable[[], object], ...] = (
        lambda: registry.promote("one", "production"),
        lambda: registry.rollback("production"),
        lambda: registry.loses_history("production"),
    )
    for change in changes:
        with pytest.raises(InputError, match=r"channel production: is signed.*--signing-key"):
            change()
    assert store.get("channels/production.json") == before


def test_each_promotion_and_rollback_has_a_higher_sequence(store: MemoryStore) -> None:
    registry = owners(store)
    pointers = [registry.channel("production")]
    pointers.append(registry.rollback("production"))
    pointers.append(registry.promote("two", "production"))
    pointers.append(registry.promote("one", "production"))
    sequences = [pointer.sequence for pointer in pointers]
    assert sequences == sorted(set(sequences))
    assert [pointer.model_id for pointer in pointers] == ["two", "one", "two", "one"]
    for pointer in pointers:
        check_pointer(pointer, "production", keys.ed25519().public_keys, "")


def test_the_sequence_grows_when_the_channel_is_deleted_and_promoted_again_at_once(store: MemoryStore) -> None:
    first = owners(store).channel("production").sequence
    store.delete("channels/production.json")
    assert owners(store).promote("one", "production").sequence > first


def test_the_pointer_of_another_channel_is_refused(store: MemoryStore) -> None:
    owners(store).promote("one", "staging")
    store.put("channels/production.json", store.get("channels/staging.json").data)
    with pytest.raises(UntrustedError, match="is the pointer of another channel, 'staging'"):
        trusting(store).channel("production")


def test_an_unsigned_version_has_to_be_signed_before_promotion(store: MemoryStore, tmp_path: Path) -> None:
    Registry(store).publish(tmp_path / "old", write_bundle(tmp_path / "old", "old"))
    with pytest.raises(UntrustedError, match=r"is not signed.*transferlite models sign"):
        owners(store).promote("old", "production")
    owners(store).sign("old")
    assert owners(store).promote("old", "production").model_id == "old"
    assert trusting(store).manifest("old").model_id == "old"


def test_the_first_signed_promotion_restarts_the_channel_s_history(tmp_path: Path) -> None:
    store = MemoryStore()
    for model_id in ("one", "two"):
        Registry(store).publish(tmp_path / model_id, write_bundle(tmp_path / model_id, model_id))
        Registry(store).promote(model_id, "production")
    registry = owners(store)
    assert registry.loses_history("production")
    with pytest.raises(UntrustedError, match="its history cannot be trusted"):
        registry.rollback("production")
    registry.sign("two")
    pointer = registry.promote("two", "production")
    assert pointer.previous == ()
    assert trusting(store).channel("production") == pointer
    assert not registry.loses_history("production")


def test_a_forged_history_is_not_signed_by_the_owner(store: MemoryStore) -> None:
    pointer = owners(store).channel("production")
    store.put("channels/production.json", keys.forged(pointer, previous=("one", "evil")))
    with pytest.raises(UntrustedError):
        owners(store).rollback("production")
    assert owners(store).promote("two", "production").previous == ()


def test_a_key_is_rotated(store: MemoryStore) -> None:
    old, new = keys.ed25519(), keys.p256("new")
    rotating = Registry(store, old.public_keys, new)
    rotating.sign("two")
    pointer = rotating.promote("one", "production")
    assert pointer.previous == ("two", "one")
    assert trusting(store, old, new).channel("production") == pointer
    with pytest.raises(UntrustedError, match="another key"):
        trusting(store, old).channel("production")
    with pytest.raises(UntrustedError, match="another key"):
        trusting(store, new).manifest("one")
    rotating.sign("one")
    assert trusting(store, new).manifest("one").model_id == "one"


def test_the_manifest_of_another_version_is_refused(store: MemoryStore) -> None:
    for name in (MANIFEST, SIGNATURE):
        store.put(f"models/two/{name}", store.get(f"models/one/{name}").data)
    for registry in (trusting(store), Registry(store)):
        with pytest.raises(BundleError, match=r"models/two/manifest\.json: is the manifest of another version, one"):
            registry.manifest("two")
