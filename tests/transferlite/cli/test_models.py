import json
from pathlib import Path
from typing import Any

import pytest

from tests.transferlite.bundles import manifest_of, write_bundle
from transferlite.cli.main import run
from transferlite.registry.channel_pointer import Pointer
from transferlite.registry.manifest import Manifest
from transferlite.registry.open_registry import Registry

Out = pytest.CaptureFixture[str]


@pytest.fixture
def registry(tmp_path: Path) -> str:
    """A local registry with models one, two and three; production points to two, and before to one."""
    location = str(tmp_path / "registry")
    opened = Registry.open(location)
    for model_id in ("one", "two", "three"):
        manifest: Manifest = write_bundle(tmp_path / "bundles" / model_id, model_id)
        opened.publish(tmp_path / "bundles" / model_id, manifest)
    opened.promote("one", "production")
    opened.promote("two", "production")
    return location


def lines(text: str) -> list[Any]:
    return [json.loads(line) for line in text.splitlines()]


def test_list_prints_each_version_and_its_channel(registry: str, capsys: Out) -> None:
    assert run(["models", "list", "--registry", registry]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "one  accuracy 0.500  efficientnet_lite0  blue, red",
        "three  accuracy 0.500  efficientnet_lite0  blue, red",
        "two  accuracy 0.500  efficientnet_lite0  blue, red  <- production",
    ]


def test_a_damaged_version_is_a_warning_and_the_others_are_listed(registry: str, capsys: Out) -> None:
    Path(registry, "models", "one", "manifest.json").write_bytes(b"{")
    assert run(["models", "list", "--registry", registry]) == 0
    out, err = capsys.readouterr()
    assert [line.split()[0] for line in out.splitlines()] == ["three", "two"]
    assert err.startswith(f"warning: {registry}/models/one/manifest.json: the manifest cannot be read")


def test_list_in_json(registry: str, capsys: Out) -> None:
    assert run(["models", "list", "--registry", registry, "--json"]) == 0
    (rows,) = lines(capsys.readouterr().out)
    assert {row["model_id"]: row["channels"] for row in rows} == {"one": [], "three": [], "two": ["production"]}
    assert set(rows[0]) == {"model_id", "created_at", "backbone", "labels", "accuracy", "channels"}


@pytest.mark.parametrize(("options", "expected"), [([], "has no models yet"), (["--json"], "[]")])
def test_an_empty_registry_lists_nothing(tmp_path: Path, capsys: Out, options: list[str], expected: str) -> None:
    assert run(["models", "list", "--registry", str(tmp_path), *options]) == 0
    assert expected in capsys.readouterr().out


@pytest.mark.parametrize(
    "words", [["list"], ["show"], ["promote", "one"], ["rollback"], ["pull", "--dest", "somewhere"]]
)
def test_a_missing_registry_ends_with_status_2(tmp_path: Path, capsys: Out, words: list[str]) -> None:
    assert run(["models", *words, "--registry", str(tmp_path / "none")]) == 2
    assert "none: there is no such registry; correct the path" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_show_prints_labels_metrics_and_variants(registry: str, capsys: Out) -> None:
    assert run(["models", "show", "--registry", registry]) == 0
    out = capsys.readouterr().out
    assert out.startswith("two, created 2026-01-31T23:59:59+00:00 from efficientnet_lite0\nlabels: blue, red\n")
    assert "input: uint8 RGB 64x48" in out
    assert "int8            0.0 MiB  accuracy 1.000  agreement 1.000  largest difference 4.0e-03" in out
    assert "dynamic      left out: agreement 0.50 is below 0.95" in out


def test_show_prints_the_threshold(registry: str, capsys: Out) -> None:
    path = Path(registry, "models", "two", "manifest.json")
    path.write_bytes(manifest_of("two", threshold=0.5851).to_json())
    assert run(["models", "show", "--registry", registry]) == 0
    assert "predictions below 0.585 are unknown\n" in capsys.readouterr().out


def test_show_in_json_is_the_manifest_with_all_its_fields(registry: str, capsys: Out) -> None:
    path = Path(registry, "models", "one", "manifest.json")
    path.write_text(json.dumps(json.loads(path.read_bytes()) | {"added": "by a newer release"}))
    assert run(["models", "show", "one", "--registry", registry, "--json"]) == 0
    stored = Path(registry, "models", "one", "manifest.json").read_bytes()
    assert json.loads(capsys.readouterr().out) == json.loads(stored)


def test_show_of_an_unknown_version_ends_with_status_2(registry: str, capsys: Out) -> None:
    assert run(["models", "show", "four", "--registry", registry]) == 2
    assert "there is no model four; list the models with: transferlite models list" in capsys.readouterr().err


def test_promote_and_rollback_print_the_channels_version(registry: str, capsys: Out) -> None:
    assert run(["models", "promote", "three", "--registry", registry]) == 0
    assert run(["models", "rollback", "--registry", registry]) == 0
    assert run(["models", "promote", "one", "--registry", registry, "--channel", "staging"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "production -> three (was two), not signed",
        "production -> two (withdrew three), not signed",
        "staging -> one, not signed",
    ]
    assert Registry.open(registry).channel("production").model_id == "two"


def test_an_expired_pointer_and_withdrawn_versions_are_shown(
    registry: str, capsys: Out, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(["models", "promote", "three", "--registry", registry, "--valid-for", "30d"]) == 0
    assert run(["models", "rollback", "--registry", registry]) == 0
    pointer = Registry.open(registry).channel("production")
    assert run(["models", "list", "--registry", registry]) == 0
    assert "expired" not in capsys.readouterr().err
    assert run(["models", "show", "--registry", registry]) == 0
    shown = capsys.readouterr().out
    assert (
        f"channel production: changed {pointer.updated_at}, expires {pointer.expires_at}\nwithdrawn: three\n" in shown
    )
    assert run(["models", "promote", "two", "--registry", registry, "--valid-for", "1s"]) == 0
    monkeypatch.setattr(Pointer, "is_expired", lambda *_: True)
    assert run(["models", "list", "--registry", registry]) == 0
    assert "warning: the pointer of channel production expired" in capsys.readouterr().err
    assert run(["models", "promote", "two", "--registry", registry, "--valid-for", "never"]) == 0
    assert Registry.open(registry).channel("production").expires_at is None
    assert run(["models", "promote", "two", "--registry", registry, "--valid-for", "soon"]) == 2


def test_a_damaged_pointer_is_listed_as_a_warning_and_replaced_with_force(registry: str, capsys: Out) -> None:
    Path(registry, "channels", "production.json").write_bytes(b"{")
    assert run(["models", "list", "--registry", registry]) == 0
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 3
    assert "production.json: the pointer cannot be read" in err
    assert "models promote --force" in err
    assert run(["models", "promote", "one", "--registry", registry]) == 1
    assert run(["models", "promote", "one", "--registry", registry, "--force"]) == 0
    assert Registry.open(registry).channel("production").model_id == "one"


def test_rollback_without_a_previous_model_ends_with_status_2(registry: str, capsys: Out) -> None:
    assert run(["models", "rollback", "--registry", registry]) == 0
    assert run(["models", "rollback", "--registry", registry]) == 2
    assert "has no previous model to go back to" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "model_id", "files"),
    [
        ([], "two", {"float32.tflite", "int8.tflite", "labels.txt", "manifest.json"}),
        (["--variants", "int8"], "two", {"int8.tflite", "labels.txt", "manifest.json"}),
        (["--model", "one", "--variants", "int8"], "one", {"int8.tflite", "labels.txt", "manifest.json"}),
    ],
)
def test_pull_copies_a_model_and_prints_its_path(
    registry: str, tmp_path: Path, capsys: Out, words: list[str], model_id: str, files: set[str]
) -> None:
    dest = tmp_path / "device"
    assert run(["models", "pull", "--registry", registry, "--dest", str(dest), *words]) == 0
    assert capsys.readouterr().out == f"{dest / model_id}\n"
    assert {path.name for path in (dest / model_id).iterdir()} == files
    assert (dest / "current.json").exists() == (model_id == "two")


def test_a_damaged_registry_ends_with_status_1(registry: str, capsys: Out) -> None:
    Path(registry, "channels", "production.json").write_bytes(b"{")
    assert run(["models", "show", "--registry", registry]) == 1
    assert "production.json: the pointer cannot be read" in capsys.readouterr().err
