"""``transferlite edge status``, and the warnings of each poll: expiry, clock, keys, disk, refused and withdrawn."""

import datetime
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from simulation.tiny_release import write_release
from tests.transferlite.keys import ed25519, owners
from transferlite.cli.main import run
from transferlite.edge import device_status as status_module
from transferlite.registry.local_bundle import CURRENT, find_bundle
from transferlite.registry.open_registry import Registry
from transferlite.storage.folder import FolderStore

Out = pytest.CaptureFixture[str]
DAY = datetime.timedelta(days=1)


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    """A signed registry with versions a and b; its channel points to a."""
    opened = owners(FolderStore(tmp_path / "registry"))
    for number, model_id in enumerate("ab"):
        created_at = f"2026-01-0{number + 1}T00:00:00+00:00"
        opened.publish(tmp_path / model_id, write_release(tmp_path / model_id, model_id, created_at, 3.0 + number))
    opened.promote("a", "production", 30 * DAY)
    return opened


@pytest.fixture
def device(tmp_path: Path) -> Path:
    return tmp_path / "device"


@pytest.fixture
def key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that the device's environment names as its public key."""
    path = tmp_path / "key.pub.pem"
    path.write_text(ed25519().public_keys.to_pem())
    monkeypatch.setenv("TRANSFERLITE_PUBLIC_KEY", str(path))
    return path


@pytest.fixture
def poll(registry: Registry, device: Path, key: Path, capsys: Out) -> Callable[..., list[str]]:
    """Poll once and return the printed lines."""

    def work(location: str = registry.store.uri) -> list[str]:
        capsys.readouterr()
        run(["edge", "run", "--once", "--registry", location, "--dest", str(device)])
        return capsys.readouterr().out.splitlines()

    return work


@pytest.fixture
def status(device: Path, capsys: Out) -> Callable[[], tuple[dict[str, str], list[str]]]:
    """Facts and problems of the device; the exit status is checked."""

    def work() -> tuple[dict[str, str], list[str]]:
        capsys.readouterr()
        code = run(["edge", "status", "--dest", str(device), "--json"])
        printed = json.loads(capsys.readouterr().out)
        assert code == (1 if printed["problems"] else 0)
        return printed["facts"], printed["problems"]

    return work


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Callable[[datetime.datetime], None]:
    """Set the clock of the commands."""

    def work(moment: datetime.datetime) -> None:
        class Clock(datetime.datetime):
            @classmethod
            def now(cls, tz: datetime.tzinfo | None = None) -> "Clock":
                return cls.fromtimestamp(moment.timestamp(), tz)

        for module in ("edge.follow_channel", "cli.edge", "cli.models"):
            monkeypatch.setattr(f"transferlite.{module}.datetime.datetime", Clock)

    return work


Poll = Callable[..., list[str]]
Status = Callable[[], tuple[dict[str, str], list[str]]]


def test_a_device_without_problems_shows_what_it_holds(
    poll: Poll, status: Status, registry: Registry, device: Path, capsys: Out
) -> None:
    assert poll() == ["production -> a"]
    facts, problems = status()
    pointer = registry.channel("production")
    assert problems == []
    assert (facts["model"], facts["pointer expires"]) == ("a", pointer.expires_at)
    assert facts["channel"] == f"production -> a, changed {pointer.updated_at}"
    assert facts["accepted keys"] == str(ed25519().public_keys)
    assert run(["edge", "status", "--dest", str(device)]) == 0
    assert capsys.readouterr().out.endswith("\nno problem found\n")


def test_a_device_without_a_model_says_what_to_do(status: Status, device: Path, key: Path) -> None:
    assert status()[1] == [f"{device} does not exist; correct the path, or mount its disk"]
    device.mkdir()
    facts, problems = status()
    assert facts["model"] == "none"
    assert problems == [f"{device}: no model is installed; run transferlite edge run --once, and read what it prints"]


def test_a_disk_of_the_model_that_is_not_mounted_is_named(
    registry: Registry, tmp_path: Path, key: Path, capsys: Out
) -> None:
    dest = tmp_path / "stick" / "model"
    assert run(["edge", "run", "--once", "--registry", registry.store.uri, "--dest", str(dest)]) == 2
    assert capsys.readouterr().out.splitlines() == [
        f"not installed: {dest}: its parent folder does not exist; mount its disk, or create the parent folder",
        f"no model can be served: {dest}: does not exist; correct the path, or mount its disk",
    ]


def test_an_expired_pointer_warns_at_each_poll_until_it_is_renewed(
    poll: Poll, status: Status, registry: Registry, device: Path, at: Callable[[datetime.datetime], None], capsys: Out
) -> None:
    poll()
    at(datetime.datetime.now(datetime.UTC) + 31 * DAY)
    expired = f"the pointer of channel production expired {registry.channel('production').expires_at}: newer versions"
    _, (problem,) = status()
    assert problem.startswith(expired)
    assert problem.endswith("renew the pointer with: transferlite models promote")
    up_to_date, warning = poll()
    assert (up_to_date, warning) == ("a is up to date", f"warning: {problem}")
    assert poll("/no/such/registry")[-1] == f"warning: {problem}"
    assert run(["models", "pull", "--registry", registry.store.uri, "--dest", str(device)]) == 0
    assert f"warning: {problem}\n" in capsys.readouterr().err
    registry.promote("a", "production", 90 * DAY)
    assert poll() == ["a is up to date"]
    assert status()[1] == []


def test_a_new_pointer_whose_version_cannot_be_installed_counts_for_the_expiry(
    poll: Poll, registry: Registry, at: Callable[[datetime.datetime], None]
) -> None:
    poll()
    registry.promote("b", "production", 90 * DAY)
    registry.store.put("models/b/float32.tflite", b"damaged")
    at(datetime.datetime.now(datetime.UTC) + 31 * DAY)
    assert not any("expired" in line for line in poll())


def test_a_clock_that_was_reset_is_reported(
    poll: Poll, status: Status, at: Callable[[datetime.datetime], None]
) -> None:
    poll()
    at(datetime.datetime(1970, 1, 1, 0, 5, tzinfo=datetime.UTC))
    _, (problem,) = status()
    assert problem.startswith("the clock of this device says 1970-01-01 00:05 UTC, but its model was promoted 20")
    assert problem.endswith("set the clock, for example with: timedatectl set-ntp true")
    assert poll()[-1] == f"warning: {problem}"


def test_a_key_is_replaced_while_a_device_is_offline(poll: Poll, status: Status, registry: Registry, key: Path) -> None:
    poll()
    old, new = (ed25519(name).public_keys for name in ("owner", "successor"))
    successor = Registry(registry.store, old, ed25519("successor"))
    for model_id in "ab":
        successor.sign(model_id)
    successor.promote("b", "production")
    refused = poll()[0]
    assert "is signed with another key" in refused
    assert status()[0]["model"] == "a"
    key.write_text((old | new).to_pem())
    assert poll() == ["production -> b (was a)"]
    key.write_text(new.to_pem())
    assert poll() == ["b is up to date"]
    assert status()[1] == []
    stolen = Registry(registry.store, None, ed25519())
    stolen.sign("a")
    stolen.promote("a", "production")
    assert "is signed with another key" in poll()[0]
    assert status()[0]["model"] == "b"


def test_a_device_whose_key_was_removed_too_early_says_so(poll: Poll, status: Status, key: Path) -> None:
    poll()
    key.write_text(ed25519("successor").public_keys.to_pem())
    _, problems = status()
    pointer, model = problems
    assert "current.json: is signed with another key" in pointer
    assert model.startswith("the installed model does not load: ")


def test_refused_withdrawn_and_damaged_are_listed(
    poll: Poll, status: Status, registry: Registry, device: Path, tmp_path: Path
) -> None:
    registry.promote("b", "production")
    poll()
    registry.rollback("production")
    registry.store.put("models/a/float32.tflite", b"damaged")
    *_, warning = poll()
    assert warning == "warning: b is still installed, although its channel withdrew it"
    facts, problems = status()
    assert (facts["model"], facts["withdrawn"]) == ("b", "b")
    assert facts["refused"].startswith("a, 1 attempts, tried again after 20")
    assert any(problem.startswith("a was refused: ") for problem in problems)
    (device / "device.json").write_bytes(b"{")
    (find_bundle(device) / "float32.tflite").write_bytes(b"damaged")
    _, problems = status()
    assert any("device.json is damaged; the next poll repairs it" in problem for problem in problems)
    assert any("the installed model does not load: " in problem for problem in problems)
    (device / CURRENT).write_bytes(b"")
    assert any("current.json is damaged" in problem for problem in status()[1])


def test_a_full_or_read_only_disk_is_a_problem(poll: Poll, status: Status, monkeypatch: pytest.MonkeyPatch) -> None:
    poll()
    usage = shutil.disk_usage("/")._replace(free=100)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    monkeypatch.setattr(status_module, "os", SimpleNamespace(access=lambda *_: False, W_OK=os.W_OK))
    read_only, full = status()[1]
    assert read_only.endswith("the disk or folder is not writable; remount it for writing, or correct its owner")
    assert "0.0 MB are free: the next version may not fit" in full
