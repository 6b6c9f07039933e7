"""``transferlite edge run``, and the commands that sign and pull models, with models that load."""

import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.conftest import BUCKET, Trained
from tests.pictures import jpeg
from tests.transferlite.bundles import write_bundle
from tests.transferlite.keys import ed25519, owners
from tests.transferlite.registry.mutations import FILES, publish, wrong_predictions
from transferlite.cli.main import run
from transferlite.predict.predictor import Predictor
from transferlite.registry.local_bundle import find_bundle, read_manifest
from transferlite.registry.open_registry import Registry
from transferlite.storage.folder import FolderStore
from transferlite.storage.locations import open_store

Out = pytest.CaptureFixture[str]
ROOT = Path(__file__).parents[3]
PLAIN_PEM = (Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@pytest.fixture
def registry(trained: Trained, tmp_path: Path) -> Registry:
    """A signed local registry with models one and two; production points to one."""
    opened = owners(FolderStore(tmp_path / "registry"))
    for number, model_id in enumerate(("one", "two")):
        add(opened, trained, model_id, number)
    opened.promote("one", "production")
    return opened


def add(registry: Registry, trained: Trained, model_id: str, number: int) -> None:
    files = {name: (trained.bundle / name).read_bytes() + b"\n" * number for name in FILES}
    publish(registry, read_manifest(trained.bundle), model_id, files, "2026-01-01T00:00:00+00:00")


def promote_wrong_model(registry: Registry) -> None:
    """Publish and promote a signed version whose self-test fails."""
    objects = {entry.key: registry.store.get(entry.key).data for entry in registry.store.entries()}
    copies = {key.replace("/two/", "/next/"): data for key, data in objects.items()}
    for key, data in wrong_predictions(copies, random.Random(1))[0].items():
        if "/next/" in key:
            registry.store.put(key, data)
    registry.promote("next", "production")


@pytest.fixture
def key(tmp_path: Path) -> str:
    path = tmp_path / "key.pub.pem"
    path.write_text(ed25519().public_keys.to_pem())
    return str(path)


@pytest.fixture
def words(registry: Registry, key: str, tmp_path: Path) -> Iterator[list[str]]:
    """The command of an edge device; SIGTERM's handler is restored afterwards."""
    handler = signal.getsignal(signal.SIGTERM)
    where = ["--registry", registry.store.uri, "--dest", str(tmp_path / "device"), "--variant", "int8"]
    yield ["edge", "run", *where, "--public-key", key]
    signal.signal(signal.SIGTERM, handler)


def test_the_channels_version_is_installed_and_printed(
    registry: Registry, words: list[str], tmp_path: Path, capsys: Out
) -> None:
    assert run([*words, "--once"]) == 0
    registry.promote("two", "production")
    assert run([*words, "--once"]) == 0
    assert run([*words, "--once"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "production -> one",
        "production -> two (was one)",
        "two is up to date",
    ]
    assert Predictor.load(tmp_path / "device", "int8")(jpeg("red", 5)).model_id == "two"
    assert {path.name for path in find_bundle(tmp_path / "device").iterdir()} == {
        *FILES,
        "manifest.json",
        "model.sig",
    }


def test_a_registry_in_s3_is_followed_and_a_replay_is_refused(
    registry: Registry, words: list[str], key: str, bucket: Any, tmp_path: Path, capsys: Out
) -> None:
    store, device = open_store(f"s3://{BUCKET}/fleet"), tmp_path / "device"
    for entry in registry.store.entries():
        store.put(entry.key, registry.store.get(entry.key).data)
    pull = ["models", "pull", "--registry", store.uri, "--dest", str(device), "--public-key", key]
    old = store.get("channels/production.json").data
    assert run(pull) == 0
    assert find_bundle(device).name == "one"
    owners(store).promote("two", "production")
    assert run([store.uri if word == registry.store.uri else word for word in words] + ["--once"]) == 0
    assert "production -> two (was one)" in capsys.readouterr().out
    store.put("channels/production.json", old)
    assert run(pull) == 1
    assert "is older" in capsys.readouterr().err
    assert find_bundle(device).name == "two"


def test_a_version_whose_self_test_fails_is_refused_and_not_pulled_again(
    registry: Registry, words: list[str], tmp_path: Path, capsys: Out
) -> None:
    assert run([*words, "--once"]) == 0
    promote_wrong_model(registry)
    capsys.readouterr()
    assert run([*words, "--once"]) == 1
    out = capsys.readouterr().out
    assert out.startswith("not installed: ")
    assert "self-test failed: probability differs from the reference" in out
    assert run([*words, "--once"]) == 1
    assert capsys.readouterr().out.startswith("refused: next was refused before: ")
    assert Predictor.load(tmp_path / "device", "int8")(jpeg("red", 5)).model_id == "one"
    registry.rollback("production")
    assert run([*words, "--once"]) == 0
    assert capsys.readouterr().out == "one is up to date\n"


def test_a_missing_public_key_is_printed(registry: Registry, words: list[str], capsys: Out) -> None:
    assert run([*words[:-2], "--once"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "no public key is configured: signatures are not checked",
        "production -> one",
    ]


def test_if_the_model_is_damaged_and_the_registry_is_away_the_previous_version_serves(
    registry: Registry, words: list[str], tmp_path: Path, capsys: Out
) -> None:
    assert run([*words, "--once"]) == 0
    registry.promote("two", "production")
    assert run([*words, "--once"]) == 0
    shutil.move(tmp_path / "registry", tmp_path / "away")
    (tmp_path / "registry").mkdir()
    (tmp_path / "device" / "two" / "int8.tflite").write_bytes(b"damaged")
    capsys.readouterr()
    assert run([*words, "--once"]) == 2
    assert capsys.readouterr().out.splitlines()[-1] == "two no longer loads; went back to the previous version"
    assert Predictor.load(tmp_path / "device", "int8")(jpeg("red", 5)).model_id == "one"
    shutil.rmtree(tmp_path / "registry")
    shutil.move(tmp_path / "away", tmp_path / "registry")
    assert run([*words, "--once"]) == 0
    assert Predictor.load(tmp_path / "device", "int8")(jpeg("red", 5)).model_id == "two"


def test_a_first_model_that_cannot_be_pulled_is_reported(tmp_path: Path, words: list[str], capsys: Out) -> None:
    shutil.rmtree(tmp_path / "registry")
    assert run([*words, "--once"]) == 2
    out = capsys.readouterr().out
    assert "registry: there is no such registry; correct the path, mount its disk" in out
    assert "no model can be served" in out


@pytest.mark.parametrize("poll", ["x", "0s", "1", "h", "1w", "-1h"])
def test_a_wrong_poll_interval_is_refused(words: list[str], poll: str, capsys: Out) -> None:
    assert run([*words, "--poll", poll]) == 2
    assert "is not a time such as" in capsys.readouterr().err


def test_the_channel_is_followed_until_sigterm(registry: Registry, words: list[str], tmp_path: Path) -> None:
    device = subprocess.Popen(
        [sys.executable, "-m", "transferlite", *words, "--poll", "1s"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    try:
        assert device.stdout is not None
        output = iter(device.stdout)

        def next_line(start: str) -> str:
            return next(line for line in output if line.startswith(start))

        assert next_line("production") == "production -> one\n"
        registry.promote("two", "production")
        assert next_line("production") == "production -> two (was one)\n"
        promote_wrong_model(registry)
        assert "self-test failed" in next_line("not installed")
        assert next_line("refused")
        device.send_signal(signal.SIGTERM)
        assert next_line("stopped") == "stopped by SIGTERM\n"
        assert device.wait(10) == 0
    finally:
        device.kill()
        device.communicate()
    assert find_bundle(tmp_path / "device").name == "two"


# -- the owner's commands --------------------------------------------------------------------------------------------


def test_created_keys_sign_promotions_and_rollbacks(
    tmp_path: Path, capsys: Out, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    registry = Registry.open("registry")
    for model_id in ("one", "two"):
        registry.publish(tmp_path / model_id, write_bundle(tmp_path / model_id, model_id))
        registry.promote(model_id, "production")
    assert run(["keys", "create", "owner"]) == 0
    key_id = capsys.readouterr().out.split()[1].rstrip(":")
    where, signing = ["--registry", "registry"], ["--signing-key", "owner.pem"]
    pulling = ["models", "pull", *where, "--dest", "device", "--public-key", "owner.pub.pem"]
    assert run(pulling) == 1
    assert "is not signed, and a public key is configured" in capsys.readouterr().err
    for model_id in ("one", "two"):
        assert run(["models", "sign", model_id, *where, *signing]) == 0
        assert run(["models", "promote", model_id, *where, *signing]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        f"one is signed with key {key_id}",
        f"production -> one, signed with key {key_id}",
        f"two is signed with key {key_id}",
        f"production -> two (was one), signed with key {key_id}",
    ]
    assert err.count("was not signed with this key; its history is dropped") == 1
    assert run(pulling) == 0
    assert run(["models", "rollback", *where]) == 2
    monkeypatch.setenv("TRANSFERLITE_SIGNING_KEY", "owner.pem")
    monkeypatch.setenv("TRANSFERLITE_PUBLIC_KEY", "owner.pub.pem")
    assert run(["models", "rollback", *where]) == 0
    capsys.readouterr()
    assert run(pulling[:-2]) == 0
    assert capsys.readouterr() == ("device/one\n", "")
    assert run(["models", "show", *where]) == 0
    assert f"signed with key {key_id}, signature verified\n" in capsys.readouterr().out
    assert run(["models", "list", *where]) == 0


def test_keys_show_prints_the_public_key(tmp_path: Path, capsys: Out, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["keys", "create", "owner"]) == 0
    for name in ("owner.pem", "owner.pub.pem"):
        capsys.readouterr()
        assert run(["keys", "show", name]) == 0
        assert capsys.readouterr().out == Path("owner.pub.pem").read_text()
    assert run(["keys", "create", "owner"]) == 2
    assert run(["keys", "show", "none.pem"]) == 2


def test_a_pull_without_a_key_warns(registry: Registry, tmp_path: Path, capsys: Out) -> None:
    assert run(["models", "pull", "--registry", registry.store.uri, "--dest", str(tmp_path / "device")]) == 0
    assert capsys.readouterr().err == "no public key is configured: signatures are not checked\n"


def test_one_command_signs_an_unsigned_channel(
    tmp_path: Path, capsys: Out, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setenv("TRANSFERLITE_PUBLIC_KEY", key)
    opened = Registry(FolderStore(tmp_path / "unsigned"))
    opened.publish(tmp_path / "one", write_bundle(tmp_path / "one", "one"))
    opened.promote("one", "production")
    where = ["--registry", opened.store.uri]
    assert run(["models", "pull", *where, "--dest", str(tmp_path / "device")]) == 1
    (tmp_path / "key.pem").write_bytes(ed25519().key.private_bytes(*PLAIN_PEM))
    capsys.readouterr()
    assert run(["models", "sign", *where, "--signing-key", str(tmp_path / "key.pem")]) == 0
    key_id = str(ed25519().public_keys)
    assert capsys.readouterr().out.splitlines() == [
        f"one is signed with key {key_id}",
        f"production -> one, signed with key {key_id}",
    ]
    assert run(["models", "pull", *where, "--dest", str(tmp_path / "device")]) == 0


def test_sign_needs_a_key(registry: Registry, capsys: Out) -> None:
    assert run(["models", "sign", "one", "--registry", registry.store.uri]) == 2
    assert "Give the key: --signing-key." in capsys.readouterr().err


def test_the_key_in_the_environment_checks_loaded_bundles(
    registry: Registry, key: str, trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRANSFERLITE_PUBLIC_KEY", key)
    assert Predictor.from_registry(registry.store.uri, variant="int8")(jpeg("red", 5)).model_id == "one"
    with pytest.raises(Exception, match="is not signed, and a public key is configured"):
        Predictor.load(trained.bundle)
