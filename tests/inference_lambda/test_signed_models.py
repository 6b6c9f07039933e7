"""The function with a public key loads only versions and pointers that the owner signed."""

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from inference_lambda.current_model import CurrentModel
from inference_lambda.settings import Settings
from tests.conftest import Trained
from tests.inference_lambda.models import publish
from tests.transferlite.keys import ed25519, forged, owners, signature_of
from transferlite.errors import UntrustedError
from transferlite.registry.open_registry import Registry


@pytest.fixture
def registry(trained: Trained, tmp_path: Path) -> Registry:
    """Signed registry with versions one and two; production points to one."""
    opened = publish(str(tmp_path / "registry"), trained, "two", "one")
    signed = owners(opened.store)
    for model_id in ("two", "one"):
        signed.sign(model_id)
        signed.promote(model_id, "production")
    return signed


@pytest.fixture
def serving(registry: Registry) -> Callable[[], str]:
    """Function that returns the current version's id; it reads the channel pointer at each call."""
    model = CurrentModel(Settings(registry.store.uri, None, refresh_seconds=0))
    return lambda: model.get().manifest.model_id


@pytest.fixture
def _with_a_key(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRANSFERLITE_PUBLIC_KEY", ed25519().public_keys.to_pem())


@pytest.mark.usefixtures("_with_a_key")
def test_a_signed_change_is_followed(registry: Registry, serving: Callable[[], str]) -> None:
    assert serving() == "one"
    registry.promote("two", "production")
    assert serving() == "two"
    registry.rollback("production")
    assert serving() == "one"


@pytest.mark.usefixtures("_with_a_key")
@pytest.mark.parametrize("attack", ["unsigned pointer", "unsigned manifest", "edited pointer", "other key"])
def test_an_unsigned_change_is_refused_and_the_old_model_stays(
    registry: Registry, serving: Callable[[], str], caplog: pytest.LogCaptureFixture, attack: str
) -> None:
    assert serving() == "one"
    old = registry.channel("production")
    pointer, store = registry.promote("two", "production"), registry.store
    if attack == "unsigned manifest":
        store.delete("models/two/model.sig")
    elif attack == "other key":
        store.put("models/two/model.sig", signature_of(store.get("models/two/manifest.json").data, ed25519("stranger")))
    else:
        edited = forged(old, model_id="two") if attack == "edited pointer" else replace(pointer).to_json()
        store.put("channels/production.json", edited)
    with caplog.at_level(logging.ERROR, "transferlite"):
        assert serving() == "one"
    lines = [json.loads(record.message) for record in caplog.records]
    assert lines[-1]["event"] == "model-kept"
    assert "signed" in lines[-1]["reason"] or "does not match its signature" in lines[-1]["reason"]


@pytest.mark.usefixtures("_with_a_key")
def test_a_replayed_old_pointer_is_not_followed(
    registry: Registry, serving: Callable[[], str], caplog: pytest.LogCaptureFixture
) -> None:
    old = registry.store.get("channels/production.json").data
    registry.promote("two", "production")
    assert serving() == "two"
    registry.store.put("channels/production.json", old)
    with caplog.at_level(logging.ERROR, "transferlite"):
        assert serving() == "two"
    (line,) = (json.loads(record.message) for record in caplog.records)
    assert "an old pointer was replayed" in line["reason"]
    registry.promote("two", "production")
    registry.rollback("production")
    assert serving() == "one"


def test_a_cold_start_with_nothing_signed_is_an_error(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(str(tmp_path / "unsigned"), trained, "one")
    monkeypatch.setenv("TRANSFERLITE_PUBLIC_KEY", ed25519().public_keys.to_pem())
    with pytest.raises(UntrustedError, match="is not signed, and a public key is configured"):
        CurrentModel(Settings(str(tmp_path / "unsigned"), None)).get()


def test_without_a_public_key_one_line_is_logged(serving: Callable[[], str], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "transferlite"):
        serving()
        serving()
    events = [json.loads(record.message)["event"] for record in caplog.records]
    assert events == ["signatures-unchecked"]
