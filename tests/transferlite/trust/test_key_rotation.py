"""A signing key is replaced, on devices that follow, that were offline meanwhile, and that have one key only."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from tests.transferlite.bundles import write_bundle
from tests.transferlite.keys import ed25519, p256, trusting
from transferlite.cli.main import run
from transferlite.edge.install import install_current
from transferlite.errors import UntrustedError
from transferlite.registry.local_bundle import find_bundle, read_manifest
from transferlite.registry.open_registry import Registry
from transferlite.storage.folder import FolderStore
from transferlite.storage.store import MemoryStore

OLD, NEW = p256("old"), ed25519("new")


@pytest.fixture
def store(tmp_path: Path) -> MemoryStore:
    """Return a registry whose owner signed version one with the old key, and promoted it."""
    store = MemoryStore()
    registry = Registry(store, OLD.public_keys, OLD)
    registry.publish(tmp_path / "one", write_bundle(tmp_path / "one", "one"))
    registry.promote("one", "production")
    return store


def rotate(store: MemoryStore, tmp_path: Path) -> None:
    """Sign with the new key from now on: the version in use, then a new one."""
    owner = Registry(store, OLD.public_keys | NEW.public_keys, NEW)
    owner.sign("one")
    owner.publish(tmp_path / "two", write_bundle(tmp_path / "two", "two"))
    assert owner.promote("two", "production").previous == ("one",)


def test_a_device_with_both_keys_follows_before_during_and_after(store: MemoryStore, tmp_path: Path) -> None:
    device = tmp_path / "device"
    for accepted in ((OLD,), (OLD, NEW)):
        assert install_current(trusting(store, *accepted), "production", device).model_id == "one"
    rotate(store, tmp_path)
    for accepted in ((OLD, NEW), (NEW,)):
        assert install_current(trusting(store, *accepted), "production", device).model_id == "two"


def test_a_device_that_was_offline_keeps_its_model_until_it_has_the_new_key(store: MemoryStore, tmp_path: Path) -> None:
    device = tmp_path / "device"
    install_current(trusting(store, OLD), "production", device)
    rotate(store, tmp_path)
    with pytest.raises(UntrustedError, match=rf"is signed with another key \({NEW.public_keys}; accepted: "):
        install_current(trusting(store, OLD), "production", device)
    assert read_manifest(find_bundle(device), OLD.public_keys).model_id == "one"
    assert install_current(trusting(store, NEW), "production", device).model_id == "two"


def test_a_device_that_got_only_the_new_key_trusts_its_old_model_again_after_the_next_pull(
    store: MemoryStore, tmp_path: Path
) -> None:
    device = tmp_path / "device"
    install_current(trusting(store, OLD), "production", device)
    with pytest.raises(UntrustedError, match="is signed with another key"):
        read_manifest(find_bundle(device), NEW.public_keys)
    owner = Registry(store, OLD.public_keys | NEW.public_keys, NEW)
    owner.sign("one")
    owner.promote("one", "production")
    assert install_current(trusting(store, NEW), "production", device).model_id == "one"
    assert read_manifest(find_bundle(device), NEW.public_keys).model_id == "one"


def test_what_the_withdrawn_key_signs_is_refused(store: MemoryStore, tmp_path: Path) -> None:
    rotate(store, tmp_path)
    device = tmp_path / "device"
    install_current(trusting(store, NEW), "production", device)
    thief = Registry(store, OLD.public_keys | NEW.public_keys, OLD)
    thief.publish(tmp_path / "evil", write_bundle(tmp_path / "evil", "evil"))
    thief.promote("evil", "production")
    with pytest.raises(UntrustedError, match="is signed with another key"):
        install_current(trusting(store, NEW), "production", device)
    assert find_bundle(device).name == "two"


def test_signing_the_channel_again_keeps_its_history(store: MemoryStore, tmp_path: Path) -> None:
    owner = Registry(store, OLD.public_keys, OLD)
    for model_id in ("two", "three"):
        owner.publish(tmp_path / model_id, write_bundle(tmp_path / model_id, model_id))
        owner.promote(model_id, "production")
    before = owner.rollback("production")
    rotating = Registry(store, OLD.public_keys | NEW.public_keys, NEW)
    rotating.sign("two")
    after = rotating.promote("two", "production")
    assert (after.model_id, after.previous, after.withdrawn) == ("two", ("one",), ("three",))
    assert after.sequence > before.sequence
    assert rotating.promote("two", "production") == after
    assert trusting(store, NEW).channel("production") == after


def test_the_sign_command_accepts_the_old_key_for_the_channel(tmp_path: Path) -> None:
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    registry = Registry(FolderStore(tmp_path / "registry"), OLD.public_keys, OLD)
    for model_id in ("one", "two"):
        registry.publish(tmp_path / model_id, write_bundle(tmp_path / model_id, model_id))
        registry.promote(model_id, "production")
    (tmp_path / "new.pem").write_bytes(NEW.key.private_bytes(*form))
    (tmp_path / "old.pub.pem").write_text(OLD.public_keys.to_pem())
    words = ["models", "sign", "--registry", registry.store.uri, "--signing-key", str(tmp_path / "new.pem")]
    assert run([*words, "--public-key", str(tmp_path / "old.pub.pem")]) == 0
    assert trusting(registry.store, NEW).channel("production").previous == ("one",)
