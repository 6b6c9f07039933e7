"""Channel pointers as documents: their stored form, damage, and other releases' fields."""

import datetime
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.transferlite.keys import ed25519, owners, trusting
from tests.transferlite.registry.conftest import Publish
from transferlite.errors import BundleError, UntrustedError
from transferlite.registry import channel_pointer, schema
from transferlite.registry.channel_pointer import POINTER_TYPE, Pointer, check_pointer, next_pointer
from transferlite.registry.open_registry import Registry
from transferlite.storage.store import MemoryStore
from transferlite.trust.envelope import Envelope

NOW = datetime.datetime(2026, 1, 31, 23, 59, 59, tzinfo=datetime.UTC)
POINTER = Pointer("two", ("one", "zero"), NOW.isoformat(), "production", 7, "2026-03-02T23:59:59+00:00", ("bad",))
CHANNEL = "channels/production.json"


def stored(**changes: Any) -> bytes:
    """Return the stored form of a pointer with changed or added fields."""
    payload = json.loads(Envelope.from_dict(json.loads(POINTER.to_json())).payload)
    return Envelope(POINTER_TYPE, json.dumps(payload | changes).encode()).to_json()


def test_a_pointer_round_trips_through_json() -> None:
    assert Pointer.from_json(POINTER.to_json()) == POINTER
    signed = POINTER.signed(ed25519())
    assert Pointer.from_json(signed.to_json()) == signed
    assert signed != POINTER
    assert replace(signed) == POINTER


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0\0\0",
        b"{",
        b"[]",
        b"{}",
        b"null",
        b"[" * 10**5,
        Envelope(POINTER_TYPE, b"").to_json(),
        Envelope(POINTER_TYPE, b"[]").to_json(),
        Envelope("text/plain", Envelope.from_dict(json.loads(POINTER.to_json())).payload).to_json(),
        stored(model_id="../x"),
        stored(previous="two"),
        stored(previous=["../x"]),
        stored(withdrawn=[7]),
        stored(sequence="7"),
        stored(sequence=True),
        stored(channel=7),
        stored(updated_at=None),
        stored(expires_at="soon"),
        stored(expires_at="2026-03-02T23:59:59"),
        stored(schema=None),
    ],
)
def test_a_damaged_pointer_is_refused_with_its_name(data: bytes) -> None:
    with pytest.raises(BundleError, match=r"^channels/x\.json: "):
        Pointer.from_json(data, "channels/x.json")


def test_a_pointer_of_before_the_first_release_is_named_as_such() -> None:
    with pytest.raises(BundleError, match=r"was written before release 0\.1\.0"):
        Pointer.from_json(b'{"model_id": "one", "previous": [], "updated_at": ""}')


# -- other releases --------------------------------------------------------------------------------------------------


def newer_pointer(channel: str = "production", **added: Any) -> bytes:
    """Return a signed pointer as a newer release writes it, with fields that this release does not know."""
    return replace(POINTER, model_id="one", previous=(), unknown=added, channel=channel).signed(ed25519()).to_json()


def test_a_pointer_with_added_fields_is_verified_and_read() -> None:
    pointer = Pointer.from_json(newer_pointer(wave={"share": 0.1}))
    check_pointer(pointer, "production", ed25519().public_keys, "here")
    assert pointer.model_id == "one"
    assert pointer.to_json() == newer_pointer(wave={"share": 0.1})


def test_an_added_field_cannot_be_altered() -> None:
    raw = json.loads(newer_pointer(wave=1))
    raw["payload"] = json.loads(newer_pointer(wave=2))["payload"]
    with pytest.raises(UntrustedError, match="does not match its signature"):
        check_pointer(Pointer.from_json(json.dumps(raw).encode()), "production", ed25519().public_keys, "here")


def test_promotions_and_rollbacks_keep_the_fields_of_a_newer_release(publish: Publish) -> None:
    store = MemoryStore()
    publish(owners(store), "one", "two")
    store.put(CHANNEL, newer_pointer(wave={"share": 0.1}))
    assert owners(store).promote("two", "production").unknown == {"wave": {"share": 0.1}}
    assert owners(store).rollback("production").unknown == {"wave": {"share": 0.1}}
    assert trusting(store).channel("production").unknown == {"wave": {"share": 0.1}}


@pytest.fixture
def newer_release(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Make this process a newer release, of schema 2; ``undo`` makes it this release again."""
    monkeypatch.setattr(schema, "SCHEMA", 2)
    monkeypatch.setattr(channel_pointer, "SCHEMA", 2)
    monkeypatch.setattr(channel_pointer, "MIN_RELEASE", "9.1")
    return monkeypatch


def test_a_newer_release_follows_what_this_one_wrote(publish: Publish, newer_release: pytest.MonkeyPatch) -> None:
    store = MemoryStore()
    with pytest.MonkeyPatch.context() as this_release:
        this_release.setattr(channel_pointer, "SCHEMA", 1)
        publish(owners(store), "one", "two")
        owners(store).promote("one", "production")
    assert trusting(store).channel("production").model_id == "one"
    assert trusting(store).manifest("one").model_id == "one"
    assert owners(store).promote("two", "production").previous == ("one",)


def test_this_release_learns_which_release_a_newer_schema_needs(
    publish: Publish, newer_release: pytest.MonkeyPatch
) -> None:
    store = MemoryStore()
    publish(owners(store), "one", "two")
    newer = owners(store).promote("one", "production").to_json()
    newer_release.undo()
    needs = r"production\.json: pointer schema 2 is not supported.*; install TransferLite 9\.1 or newer"
    uses: tuple[Callable[[], object], ...] = (
        lambda: trusting(store).channel("production"),
        lambda: owners(store).promote("two", "production"),
        lambda: owners(store).rollback("production"),
    )
    for use in uses:
        with pytest.raises(BundleError, match=needs):
            use()
    assert store.get(CHANNEL).data == newer


# -- expiry ----------------------------------------------------------------------------------------------------------


def test_a_pointer_expires_after_its_validity() -> None:
    pointer = next_pointer("production", "one", None, (), (), NOW, datetime.timedelta(days=30))
    assert not pointer.is_expired(NOW + datetime.timedelta(days=30))
    assert pointer.is_expired(NOW + datetime.timedelta(days=30, seconds=1))
    assert pointer.validity == datetime.timedelta(days=30)
    unlimited = next_pointer("production", "one", None, (), (), NOW, None)
    assert not unlimited.is_expired(NOW + datetime.timedelta(days=9999))


@pytest.mark.parametrize(
    ("updated_at", "expires_at", "days"),
    [
        ("2026-01-01T00:00:00+00:00", "9999-12-31T00:00:00+00:00", 3650),
        ("2026-01-01T00:00:00+00:00", "2025-01-01T00:00:00+00:00", None),
        ("", "2025-01-01T00:00:00+00:00", None),
    ],
)
def test_an_odd_validity_is_bounded_when_it_is_renewed(updated_at: str, expires_at: str, days: int | None) -> None:
    odd = Pointer("one", (), updated_at, "production", 7, expires_at)
    following = next_pointer("production", "two", odd, ("one",), (), NOW, None)
    assert following.validity == (datetime.timedelta(days=days) if days else None)


def test_each_change_of_the_channel_renews_the_validity(publish: Publish) -> None:
    registry = Registry(MemoryStore())
    publish(registry, "one", "two")
    month, zero = datetime.timedelta(days=30), datetime.timedelta()
    assert registry.promote("one", "production", month).validity == month
    assert registry.promote("two", "production").validity == month
    assert registry.rollback("production").validity == month
    before = registry.channel("production")
    renewed = registry.promote("one", "production")
    assert (renewed.model_id, renewed.previous, renewed.validity) == ("one", before.previous, month)
    assert renewed.sequence > before.sequence
    assert registry.promote("one", "production", zero).expires_at is None


# -- withdrawn versions ----------------------------------------------------------------------------------------------


def test_a_rollback_withdraws_the_version_and_a_promotion_takes_it_back(publish: Publish) -> None:
    registry = Registry(MemoryStore())
    publish(registry, "a", "b", "c")
    for model_id in ("a", "b", "c"):
        registry.promote(model_id, "production")
    assert registry.rollback("production").withdrawn == ("c",)
    assert registry.rollback("production").withdrawn == ("b", "c")
    pointer = registry.promote("c", "production")
    assert (pointer.previous, pointer.withdrawn) == (("a",), ("b",))


def test_a_rollback_never_returns_to_a_withdrawn_version(publish: Publish) -> None:
    registry = Registry(MemoryStore())
    publish(registry, "a", "b")
    for model_id in ("a", "b", "a"):
        registry.promote(model_id, "production")
    pointer = registry.rollback("production")
    assert (pointer.model_id, pointer.previous, pointer.withdrawn) == ("b", (), ("a",))


def test_a_pointer_remembers_the_newest_withdrawn_versions() -> None:
    names = tuple(f"m{number}" for number in range(300))
    pointer = next_pointer("production", "one", None, (), names, NOW, None)
    assert pointer.withdrawn == names[:200]


# -- damage ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", [b"", b"{", b"\0" * 99, stored(schema=2)])
def test_a_damaged_pointer_is_replaced_with_force_only(publish: Publish, damage: bytes) -> None:
    store = MemoryStore()
    publish(owners(store), "one")
    store.put(CHANNEL, damage)
    with pytest.raises(BundleError, match=r"models promote --force|install a newer|install TransferLite"):
        owners(store).promote("one", "production")
    errors: list[BundleError] = []
    assert Registry(store).channels(errors.append) == {}
    assert len(errors) == 1
    assert owners(store).promote("one", "production", force=True).model_id == "one"
    assert trusting(store).channel("production").previous == ()
