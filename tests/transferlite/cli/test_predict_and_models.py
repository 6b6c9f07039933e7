import json
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import BUCKET, Trained
from tests.pictures import jpeg
from tests.transferlite.bundles import manifest_of, write_bundle
from tests.transferlite.faults import refuse
from transferlite.cli.main import run
from transferlite.registry.manifest import Manifest
from transferlite.registry.open_registry import Registry
from transferlite.storage.locations import open_store


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two good photos, one that is cut short, one that is none, and a text file that is not asked about."""
    folder = tmp_path / "photos"
    (folder / "deep").mkdir(parents=True)
    (folder / "a red one.jpg").write_bytes(jpeg("red", 50))
    (folder / "deep" / "z.JPG").write_bytes(jpeg("blue", 50))
    (folder / "bad.jpg").write_bytes(jpeg("red", 51)[:-9])
    (folder / "empty.png").write_bytes(b"")
    (folder / "notes.txt").write_bytes(b"no photo")
    return folder


@pytest.fixture
def registry(tmp_path: Path) -> str:
    """A local registry with the models one, two and three; production names two, and one before."""
    location = str(tmp_path / "registry")
    opened = Registry.open(location)
    for model_id in ("one", "two", "three"):
        manifest: Manifest = write_bundle(tmp_path / "bundles" / model_id, model_id)
        opened.publish(tmp_path / "bundles" / model_id, manifest)
    opened.promote("one", "production")
    opened.promote("two", "production")
    return location


Out = pytest.CaptureFixture[str]


def lines(text: str) -> list[Any]:
    return [json.loads(line) for line in text.splitlines()]


# -- predict ---------------------------------------------------------------------------------------------------------


def test_a_photo_is_labelled(trained: Trained, photos: Path, capsys: Out) -> None:
    photo = str(photos / "a red one.jpg")
    assert run(["predict", photo, "--bundle", str(trained.bundle)]) == 0
    out, err = capsys.readouterr()
    assert out.startswith(f"{photo}: red 1.000, blue 0.000")
    assert "error" not in err


def test_the_registry_s_model_answers_like_its_bundle(trained: Trained, photos: Path, capsys: Out) -> None:
    photo = str(photos / "a red one.jpg")
    answers = []
    for source in (["--bundle", str(trained.bundle)], ["--registry", str(trained.registry)]):
        assert run(["predict", photo, *source, "--json"]) == 0
        answers.append(lines(capsys.readouterr().out))
    assert answers[0] == answers[1]


def test_json_holds_one_object_a_photo(trained: Trained, photos: Path, capsys: Out) -> None:
    names = [str(photos / "a red one.jpg"), str(photos / "deep" / "z.JPG")]
    assert run(["predict", *names, "--bundle", str(trained.bundle), "--json"]) == 0
    found = lines(capsys.readouterr().out)
    assert [(one["image"], one["label"]) for one in found] == list(zip(names, ["red", "blue"], strict=True))
    assert all(list(one) == ["image", "model_id", "label", "score", "top"] for one in found)
    assert found[0]["model_id"] == trained.result.manifest.model_id


@pytest.mark.parametrize("top", [1, 2, 9])
def test_top_limits_the_labels(trained: Trained, photos: Path, capsys: Out, top: int) -> None:
    words = ["predict", str(photos / "a red one.jpg"), "--bundle", str(trained.bundle), "--top", str(top), "--json"]
    assert run(words) == 0
    (answer,) = lines(capsys.readouterr().out)
    assert [one["label"] for one in answer["top"]] == ["red", "blue"][:top]


@pytest.mark.parametrize("words", [["--top", "0"], ["--top", "x"], ["--threads", "0"]])
def test_a_count_below_one_is_refused(trained: Trained, capsys: Out, words: list[str]) -> None:
    assert run(["predict", "x.jpg", "--bundle", str(trained.bundle), *words]) == 2
    assert words[0] in capsys.readouterr().err


def test_int8_answers_too(trained: Trained, photos: Path, capsys: Out) -> None:
    words = ["predict", str(photos / "a red one.jpg"), "--bundle", str(trained.bundle), "--variant", "int8"]
    assert run([*words, "--threads", "1"]) == 0
    assert ": red 0.9" in capsys.readouterr().out


def test_bad_photos_are_reported_and_the_others_labelled(trained: Trained, photos: Path, capsys: Out) -> None:
    run(["predict", str(photos), "--bundle", str(trained.bundle)])
    out, err = capsys.readouterr()
    assert [line.split(": ")[0] for line in out.splitlines()] == [f"{photos}/a red one.jpg", f"{photos}/deep/z.JPG"]
    assert err.count("error: ") == 2
    assert f"error: {photos}/bad.jpg: cannot be decoded (image file is truncated" in err
    assert f"error: {photos}/empty.png: the file is empty; replace or remove it" in err
    assert "Traceback" not in err


def test_bad_photos_are_in_the_json(trained: Trained, photos: Path, capsys: Out) -> None:
    run(["predict", str(photos), "--bundle", str(trained.bundle), "--json"])
    found = {Path(one["image"]).name: one for one in lines(capsys.readouterr().out)}
    assert list(found) == ["a red one.jpg", "bad.jpg", "z.JPG", "empty.png"]
    assert found["empty.png"]["error"] == {"code": "empty", "message": "the file is empty"}
    assert found["bad.jpg"]["error"]["code"] == "truncated"
    assert "error" not in found["z.JPG"]


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_a_bad_photo_among_good_ones_ends_with_status_2(trained: Trained, photos: Path, form: list[str]) -> None:
    assert run(["predict", str(photos), "--bundle", str(trained.bundle), *form]) == 2


def test_a_pattern_is_labelled_and_kept_in_a_file(trained: Trained, photos: Path, tmp_path: Path, capsys: Out) -> None:
    out = tmp_path / "answers.jsonl"
    words = ["predict", f"{photos}/**/*[ze]*.[jJ][pP][gG]", "--bundle", str(trained.bundle), "--out", str(out)]
    assert run(words) == 0
    assert [line.split(": ")[1][:4] for line in capsys.readouterr().out.splitlines()] == ["red ", "blue"]
    assert run([*words, "--json"]) == 0
    assert out.read_text() == 2 * capsys.readouterr().out


@pytest.mark.parametrize("words", [[], ["photo.jpg", "--camera", "0"]])
def test_either_photos_or_a_camera_is_named(capsys: Out, words: list[str]) -> None:
    assert run(["predict", *words, "--bundle", "b"]) == 2
    assert "Give either IMAGE... or --camera." in capsys.readouterr().err


@pytest.mark.parametrize("place", ["photo.jpg", "s3://bucket/prefix"])
def test_only_local_folders_are_watched(trained: Trained, capsys: Out, place: str) -> None:
    assert run(["predict", place, "--watch", "--bundle", str(trained.bundle)]) == 2
    assert "is no local folder to watch" in capsys.readouterr().err


def test_a_missing_photo_ends_with_status_2(trained: Trained, photos: Path) -> None:
    assert run(["predict", str(photos / "none.jpg"), "--bundle", str(trained.bundle)]) == 2


def test_a_missing_photo_is_reported_and_the_next_labelled(trained: Trained, photos: Path, capsys: Out) -> None:
    names = [str(photos / "none.jpg"), str(photos / "a red one.jpg")]
    run(["predict", *names, "--bundle", str(trained.bundle)])
    out, err = capsys.readouterr()
    assert out.startswith(f"{names[1]}: red")
    assert f"error: {names[0]}: does not exist" in err


def test_a_folder_without_photos_is_reported(trained: Trained, tmp_path: Path, capsys: Out) -> None:
    (tmp_path / "empty").mkdir()
    assert run(["predict", str(tmp_path / "empty"), "--bundle", str(trained.bundle)]) == 2
    assert f"error: {tmp_path}/empty: holds no photos" in capsys.readouterr().err


def test_a_folder_without_photos_does_not_stop_the_next(
    trained: Trained, photos: Path, tmp_path: Path, capsys: Out
) -> None:
    (tmp_path / "empty").mkdir()
    words = ["predict", str(tmp_path / "empty"), str(photos / "a red one.jpg")]
    assert run([*words, "--bundle", str(trained.bundle)]) == 2
    assert ": red 1.000" in capsys.readouterr().out


def test_photos_in_s3_are_labelled(trained: Trained, photos: Path, bucket: Any, capsys: Out) -> None:
    store = open_store(f"s3://{BUCKET}/in coming")
    for name in ("a red one.jpg", "deep/z.JPG", "notes.txt"):
        store.put(name, (photos / name).read_bytes())
    for location, count in ((f"s3://{BUCKET}/in coming", 2), (f"s3://{BUCKET}/in coming/a red one.jpg", 1)):
        assert run(["predict", location, "--bundle", str(trained.bundle), "--json"]) == 0
        found = lines(capsys.readouterr().out)
        expected = [("a red one.jpg", "red"), ("deep/z.JPG", "blue")][:count]
        root = f"s3://{BUCKET}/in coming"
        assert [(one["image"], one["label"]) for one in found] == [
            (f"{root}/{name}", label) for name, label in expected
        ]


def test_a_photo_that_s3_does_not_give_ends_with_status_1(trained: Trained, bucket: Any) -> None:
    refuse("GetObject", "AccessDenied", 403)
    assert run(["predict", f"s3://{BUCKET}/x.jpg", "--bundle", str(trained.bundle)]) == 1


@pytest.mark.parametrize("source", [[], ["--registry", "r", "--bundle", "b"]])
def test_one_registry_bundle_or_file_is_named(capsys: Out, source: list[str]) -> None:
    assert run(["predict", "x.jpg", *source]) == 2
    assert "Give one of --registry, --bundle or --model FILE.tflite." in capsys.readouterr().err


def test_predict_needs_a_photo(capsys: Out) -> None:
    assert run(["predict", "--bundle", "b"]) == 2
    assert "IMAGE" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (["--registry", "/no/such/registry"], "there is no channel 'production'"),
        (["--registry", "s3://no-such-bucket"], "there is no bucket no-such-bucket"),
        (["--bundle", "/no/such/bundle"], "/no/such/bundle: holds no bundle"),
        (["--registry", "ftp://example.org"], "ftp:// is not supported"),
    ],
)
def test_a_missing_model_ends_with_status_2_and_one_line(
    bucket: Any, capsys: Out, source: list[str], message: str
) -> None:
    assert run(["predict", "x.jpg", *source]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("error: ")
    assert message in err


def test_a_model_asked_for_by_id_is_used(trained: Trained, photos: Path, capsys: Out) -> None:
    words = ["predict", str(photos / "a red one.jpg"), "--registry", str(trained.registry), "--channel", "nothing"]
    assert run([*words, "--model", trained.result.manifest.model_id]) == 0
    assert run([*words, "--model", "other"]) == 2
    assert "there is no model other" in capsys.readouterr().err


# -- models ----------------------------------------------------------------------------------------------------------


def test_list_shows_each_version_and_its_channel(registry: str, capsys: Out) -> None:
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


@pytest.mark.parametrize(("form", "expected"), [([], "holds no models yet"), (["--json"], "[]")])
def test_an_empty_registry_lists_nothing(tmp_path: Path, capsys: Out, form: list[str], expected: str) -> None:
    assert run(["models", "list", "--registry", str(tmp_path), *form]) == 0
    assert expected in capsys.readouterr().out


@pytest.mark.parametrize(
    "words", [["list"], ["show"], ["promote", "one"], ["rollback"], ["pull", "--dest", "somewhere"]]
)
def test_a_registry_that_is_not_there_ends_with_status_2(tmp_path: Path, capsys: Out, words: list[str]) -> None:
    assert run(["models", *words, "--registry", str(tmp_path / "none")]) == 2
    assert "none: there is no such registry; mend the path" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_show_tells_how_a_version_was_proven(registry: str, capsys: Out) -> None:
    assert run(["models", "show", "--registry", registry]) == 0
    out = capsys.readouterr().out
    assert out.startswith("two, made 2026-01-31T23:59:59+00:00 from efficientnet_lite0\nlabels: blue, red\n")
    assert "input: uint8 RGB 64x48" in out
    assert "int8            0.0 MiB  accuracy 1.000  agreement 1.000  largest difference 4.0e-03" in out
    assert "dynamic      left out: agreement 0.50 is below 0.95" in out


def test_show_tells_of_a_threshold(registry: str, capsys: Out) -> None:
    path = Path(registry, "models", "two", "manifest.json")
    path.write_bytes(manifest_of("two", threshold=0.5851).to_json())
    assert run(["models", "show", "--registry", registry]) == 0
    assert "below 0.585 the answer is unknown\n" in capsys.readouterr().out


def test_show_in_json_is_the_manifest(registry: str, capsys: Out) -> None:
    assert run(["models", "show", "one", "--registry", registry, "--json"]) == 0
    stored = Path(registry, "models", "one", "manifest.json").read_bytes()
    assert json.loads(capsys.readouterr().out) == json.loads(stored)


def test_show_of_an_unknown_version_ends_with_status_2(registry: str, capsys: Out) -> None:
    assert run(["models", "show", "four", "--registry", registry]) == 2
    assert "there is no model four; transferlite models list shows them" in capsys.readouterr().err


def test_promote_and_rollback_say_what_the_channel_names(registry: str, capsys: Out) -> None:
    assert run(["models", "promote", "three", "--registry", registry]) == 0
    assert run(["models", "rollback", "--registry", registry]) == 0
    assert run(["models", "promote", "one", "--registry", registry, "--channel", "staging"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "production -> three (was two), not signed",
        "production -> two, not signed",
        "staging -> one, not signed",
    ]
    assert Registry.open(registry).channel("production").model_id == "two"


def test_rollback_without_a_model_before_ends_with_status_2(registry: str, capsys: Out) -> None:
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
def test_pull_copies_a_model_and_prints_where_it_is(
    registry: str, tmp_path: Path, capsys: Out, words: list[str], model_id: str, files: set[str]
) -> None:
    dest = tmp_path / "device"
    assert run(["models", "pull", "--registry", registry, "--dest", str(dest), *words]) == 0
    assert capsys.readouterr().out == f"{dest / model_id}\n"
    assert {path.name for path in (dest / model_id).iterdir()} == files
    assert (dest / "current.json").exists() == (model_id == "two")


def test_a_pulled_model_predicts(trained: Trained, photos: Path, tmp_path: Path, capsys: Out) -> None:
    assert run(["models", "pull", "--registry", str(trained.registry), "--dest", str(tmp_path / "device")]) == 0
    assert run(["predict", str(photos / "a red one.jpg"), "--bundle", str(tmp_path / "device")]) == 0
    assert ": red 1.000" in capsys.readouterr().out


# -- errors ----------------------------------------------------------------------------------------------------------


def test_an_error_is_one_line_and_debug_shows_the_traceback(capsys: Out) -> None:
    words = ["predict", "x.jpg", "--bundle", "/no/such/bundle"]
    assert run(words) == 2
    plain = capsys.readouterr().err
    assert plain == "error: /no/such/bundle: holds no bundle (no manifest.json)\n"
    assert run([*words, "--debug"]) == 2
    debug = capsys.readouterr().err
    assert debug.startswith("Traceback")
    assert debug.endswith(plain)


def test_debug_may_be_set_in_the_environment(monkeypatch: pytest.MonkeyPatch, capsys: Out) -> None:
    monkeypatch.setenv("TRANSFERLITE_DEBUG", "1")
    assert run(["predict", "x.jpg", "--bundle", "/no/such/bundle"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_a_damaged_registry_ends_with_status_1(registry: str, capsys: Out) -> None:
    Path(registry, "channels", "production.json").write_bytes(b"{")
    assert run(["models", "show", "--registry", registry]) == 1
    assert "production.json: the pointer cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize(("words", "status"), [(["--version"], 0), (["--help"], 0), (["predict", "-h"], 0), (["x"], 2)])
def test_help_ends_well_and_an_unknown_command_does_not(capsys: Out, words: list[str], status: int) -> None:
    assert run(words) == status
    assert "transferlite" in "".join(capsys.readouterr())
