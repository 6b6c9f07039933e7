"""Messages about what is not there, damaged or of another kind: each names the way out."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Trained
from tests.pictures import jpeg
from transferlite import Predictor
from transferlite.cli.main import run
from transferlite.errors import NotFoundError
from transferlite.registry.local_bundle import CURRENT, find_bundle

Out = pytest.CaptureFixture[str]


@pytest.fixture
def photo(tmp_path: Path) -> str:
    (tmp_path / "photo.jpg").write_bytes(jpeg("red", 50))
    return str(tmp_path / "photo.jpg")


@pytest.fixture
def update(trained: Trained, tmp_path: Path) -> Callable[..., int]:
    """Function that runs ``edge run --once`` into the folder ``device``, without a key."""
    where = ["--registry", str(trained.registry), "--dest", str(tmp_path / "device"), "--once"]
    return lambda *words: run(["edge", "run", *where, *words])


# -- variants that are there ------------------------------------------------------------------------------------------


def test_the_variant_that_is_there_is_used_and_printed(
    update: Callable[..., int], photo: str, tmp_path: Path, capsys: Out
) -> None:
    assert update("--variant", "int8") == 0
    for words in (["predict", photo], ["explain", photo, "--out", str(tmp_path / "heat.png")]):
        capsys.readouterr()
        assert run([*words, "--bundle", str(tmp_path / "device")]) == 0
        out, err = capsys.readouterr()
        assert "red" in out
        assert "variant int8: float32 is not in the bundle\n" in err
    assert run(["predict", photo, "--registry", str(tmp_path / "device")]) == 0
    assert Predictor.load(tmp_path / "device").variant == "int8"
    assert run(["edge", "bench", "--bundle", str(tmp_path / "device"), "--threads", "1", "--starts", "1"]) == 0


def test_float32_is_used_without_a_note_if_it_is_there(trained: Trained, photo: str, capsys: Out) -> None:
    assert run(["predict", photo, "--bundle", str(trained.bundle)]) == 0
    assert "variant" not in capsys.readouterr().err
    assert Predictor.load(trained.bundle).variant == "float32"


def test_a_variant_that_was_not_pulled_is_named_with_those_that_were(
    update: Callable[..., int], photo: str, tmp_path: Path, capsys: Out
) -> None:
    assert update("--variant", "int8") == 0
    assert run(["predict", photo, "--bundle", str(tmp_path / "device"), "--variant", "float16"]) == 2
    err = capsys.readouterr().err
    assert "does not hold the variant float16; pull it, or use one that is there: int8" in err


# -- repairs ----------------------------------------------------------------------------------------------------------


def test_repaired_files_are_printed(update: Callable[..., int], tmp_path: Path, capsys: Out) -> None:
    def printed(variant: str = "int8") -> str:
        capsys.readouterr()
        assert update("--variant", variant) == 0
        return capsys.readouterr().out.splitlines()[-1]

    printed()
    bundle = find_bundle(tmp_path / "device")
    (bundle / "int8.tflite").write_bytes(b"worn")
    assert printed() == f"{bundle.name} is up to date; repaired int8.tflite"
    (bundle / "manifest.json").write_bytes(b"")
    (bundle / "labels.txt").write_bytes(b"")
    (tmp_path / "device" / "device.json").write_bytes(bytes(100))
    assert printed() == f"{bundle.name} is up to date; repaired device.json, labels.txt, manifest.json"
    (tmp_path / "device" / CURRENT).write_bytes(b"")
    assert printed() == f"production -> {bundle.name}; repaired current.json"
    assert printed("float16") == f"{bundle.name} is up to date; added float16.tflite"
    assert printed() == f"{bundle.name} is up to date"


# -- damaged pointers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"", b"\n", bytes(200), b"{", b"[]"])
def test_a_damaged_current_json_is_named_with_the_way_out(
    update: Callable[..., int], photo: str, tmp_path: Path, content: bytes, capsys: Out
) -> None:
    assert update("--variant", "int8") == 0
    device = tmp_path / "device"
    version = find_bundle(device).name
    (device / CURRENT).write_bytes(content)
    assert run(["predict", photo, "--bundle", str(device)]) == 1
    err = capsys.readouterr().err
    reason = "cannot be read" if content.strip(b"\0\n") else "the pointer is empty"
    assert f"{device}/current.json: " in err
    assert reason in err
    assert f"repair it with transferlite models pull or edge run, or give the folder of a version: {version}" in err
    assert run(["models", "pull", "--registry", str(device), "--dest", str(tmp_path / "copy")]) == 1
    err = capsys.readouterr().err
    assert f"{device}/current.json: " in err
    assert reason in err
    assert "on a device: pull again" in err
    assert run(["predict", photo, "--bundle", str(device / version)]) == 0


# -- other things than a registry -------------------------------------------------------------------------------------

READERS = [
    ["models", "list"],
    ["models", "show"],
    ["models", "pull", "--dest", "d"],
    ["edge", "run", "--dest", "d", "--once"],
    ["report"],
    ["predict", "photo.jpg"],
    ["drift", "--predictions", "."],
    ["serve", "--port", "0"],
]


@pytest.mark.parametrize("words", READERS)
def test_a_share_file_is_no_registry(words: list[str], tmp_path: Path, capsys: Out) -> None:
    (tmp_path / "share.json").write_text(json.dumps({"schema": 1, "channel": "production", "objects": {}}))
    assert run([*words, "--registry", str(tmp_path / "share.json")]) == 2
    assert (
        "share.json: is a share file, which is read over https only; put it on a web server" in capsys.readouterr().err
    )


@pytest.mark.parametrize("words", READERS[:-1])  # the function's settings are read once per process
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("model.tflite", "is a file, not a registry; use predict --model"),
        ("notes.txt", "is a file, not a registry; give the registry's folder"),
        ("not-mounted", "there is no such registry; correct the path, mount its disk, or train a first model"),
    ],
)
def test_another_file_or_a_disk_that_is_not_mounted_is_no_registry(
    words: list[str], name: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Out
) -> None:
    monkeypatch.chdir(tmp_path)
    for file in ("model.tflite", "notes.txt"):
        (tmp_path / file).write_bytes(b"TFL3")
    assert run([*words, "--registry", str(tmp_path / name)]) == 2
    out, err = capsys.readouterr()
    assert f"{name}: {message}" in out + err
    assert not (tmp_path / "not-mounted").exists()


def test_an_empty_mount_point_is_named(photo: str, tmp_path: Path, capsys: Out) -> None:
    (tmp_path / "stick").mkdir()
    assert run(["predict", photo, "--registry", str(tmp_path / "stick")]) == 2
    message = "there is no channel 'production'; the folder is empty: mount its disk, or train a first model"
    assert message in capsys.readouterr().err
    assert run(["predict", photo, "--registry", str(tmp_path / "gone"), "--model", "V1"]) == 2
    assert "gone: there is no such registry" in capsys.readouterr().err


def test_another_channel_than_the_one_on_a_stick_is_refused(
    update: Callable[..., int], photo: str, tmp_path: Path, capsys: Out
) -> None:
    assert update("--variant", "int8") == 0
    assert run(["predict", photo, "--registry", str(tmp_path / "device"), "--channel", "staging"]) == 2
    assert "there is no channel 'staging'; use --channel production" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("model.tflite", "is a file, not a bundle; use --model"),
        ("share.json", "is a file, not a bundle; give the bundle's folder"),
        ("registry", "is a registry, not a bundle; use --registry"),
        ("not-mounted", "does not exist; correct the path, or mount its disk"),
        ("empty", "holds no bundle (no manifest.json); fill it with transferlite models pull"),
    ],
)
@pytest.mark.parametrize(
    "words", [["predict", "x.jpg"], ["edge", "bench"], ["export", "web", "--dest", "d"], ["serve"]]
)
def test_another_thing_than_a_bundle_is_named(
    words: list[str], name: str, message: str, tmp_path: Path, capsys: Out
) -> None:
    for file in ("model.tflite", "share.json"):
        (tmp_path / file).write_bytes(b"{}")
    (tmp_path / "registry" / "models").mkdir(parents=True)
    (tmp_path / "empty").mkdir()
    assert run([*words, "--bundle", str(tmp_path / name)]) == 2
    assert f"{name}: {message}" in capsys.readouterr().err


def test_a_bundle_in_s3_needs_a_registry() -> None:
    with pytest.raises(NotFoundError, match="is not a local folder; use --registry"):
        Predictor.load("s3://bucket/models/v1")


# -- drift ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("out.jsonl", "is a file, not a folder of prediction records; give the folder of the records"),
        ("not-mounted", "there is no such folder; correct the path, or mount its disk"),
        ("empty", "has no predictions since 7d"),
    ],
)
def test_drift_names_another_thing_than_records(
    trained: Trained, name: str, message: str, tmp_path: Path, capsys: Out
) -> None:
    (tmp_path / "out.jsonl").write_text('{"image": "a.jpg"}\n')
    (tmp_path / "empty").mkdir()
    words = ["drift", "--predictions", str(tmp_path / name), "--registry", str(trained.registry)]
    assert run(words) == 2
    assert f"{name}: {message}" in capsys.readouterr().err


def test_a_stick_that_is_unplugged_while_it_is_followed_is_no_model_loss(
    trained: Trained, tmp_path: Path, photo: str, capsys: Out
) -> None:
    stick = Path(shutil.copytree(trained.registry, tmp_path / "stick"))
    words = ["edge", "run", "--registry", str(stick), "--dest", str(tmp_path / "device"), "--once"]
    assert run(words) == 0
    shutil.rmtree(stick)
    assert run(words) == 2
    assert "not installed" in capsys.readouterr().out
    assert run(["predict", photo, "--bundle", str(tmp_path / "device")]) == 0
