import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import BUCKET, Trained
from tests.permissions import unreadable
from tests.pictures import jpeg
from tests.transferlite.faults import refuse
from transferlite.cli.main import run
from transferlite.storage.locations import open_store

Out = pytest.CaptureFixture[str]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two good photos, a truncated one, an empty one, and a text file."""
    folder = tmp_path / "photos"
    (folder / "deep").mkdir(parents=True)
    (folder / "a red one.jpg").write_bytes(jpeg("red", 50))
    (folder / "deep" / "z.JPG").write_bytes(jpeg("blue", 50))
    (folder / "bad.jpg").write_bytes(jpeg("red", 51)[:-9])
    (folder / "empty.png").write_bytes(b"")
    (folder / "notes.txt").write_bytes(b"no photo")
    return folder


def lines(text: str) -> list[Any]:
    return [json.loads(line) for line in text.splitlines()]


def test_a_photo_is_labelled(trained: Trained, photos: Path, capsys: Out) -> None:
    photo = str(photos / "a red one.jpg")
    assert run(["predict", photo, "--bundle", str(trained.bundle)]) == 0
    out, err = capsys.readouterr()
    assert out.startswith(f"{photo}: red 1.000, blue 0.000")
    assert "error" not in err


def test_a_registry_and_its_bundle_give_the_same_predictions(trained: Trained, photos: Path, capsys: Out) -> None:
    photo = str(photos / "a red one.jpg")
    records = []
    for source in (["--bundle", str(trained.bundle)], ["--registry", str(trained.registry)]):
        assert run(["predict", photo, *source, "--json"]) == 0
        records.append(lines(capsys.readouterr().out))
    assert records[0] == records[1]


def test_json_has_one_object_per_photo(trained: Trained, photos: Path, capsys: Out) -> None:
    names = [str(photos / "a red one.jpg"), str(photos / "deep" / "z.JPG")]
    assert run(["predict", *names, "--bundle", str(trained.bundle), "--json"]) == 0
    records = lines(capsys.readouterr().out)
    assert [(record["image"], record["label"]) for record in records] == list(zip(names, ["red", "blue"], strict=True))
    assert all(list(record) == ["image", "model_id", "label", "score", "top"] for record in records)
    assert records[0]["model_id"] == trained.result.manifest.model_id


@pytest.mark.parametrize("top", [1, 2, 9])
def test_top_limits_the_labels(trained: Trained, photos: Path, capsys: Out, top: int) -> None:
    words = ["predict", str(photos / "a red one.jpg"), "--bundle", str(trained.bundle), "--top", str(top), "--json"]
    assert run(words) == 0
    (record,) = lines(capsys.readouterr().out)
    assert [entry["label"] for entry in record["top"]] == ["red", "blue"][:top]


@pytest.mark.parametrize("words", [["--top", "0"], ["--top", "x"], ["--threads", "0"]])
def test_a_count_below_one_is_refused(trained: Trained, capsys: Out, words: list[str]) -> None:
    assert run(["predict", "x.jpg", "--bundle", str(trained.bundle), *words]) == 2
    assert words[0] in capsys.readouterr().err


def test_the_int8_variant_predicts(trained: Trained, photos: Path, capsys: Out) -> None:
    words = ["predict", str(photos / "a red one.jpg"), "--bundle", str(trained.bundle), "--variant", "int8"]
    assert run([*words, "--threads", "1"]) == 0
    assert ": red 0.9" in capsys.readouterr().out


def test_rejected_photos_are_reported_and_the_others_labelled(trained: Trained, photos: Path, capsys: Out) -> None:
    run(["predict", str(photos), "--bundle", str(trained.bundle)])
    out, err = capsys.readouterr()
    assert [line.split(": ")[0] for line in out.splitlines()] == [f"{photos}/a red one.jpg", f"{photos}/deep/z.JPG"]
    assert err.count("error: ") == 2
    assert f"error: {photos}/bad.jpg: cannot be decoded (image file is truncated" in err
    assert f"error: {photos}/empty.png: the file is empty; replace or remove it" in err
    assert "Traceback" not in err


def test_rejected_photos_are_in_the_json(trained: Trained, photos: Path, capsys: Out) -> None:
    run(["predict", str(photos), "--bundle", str(trained.bundle), "--json"])
    records = {Path(record["image"]).name: record for record in lines(capsys.readouterr().out)}
    assert list(records) == ["a red one.jpg", "bad.jpg", "z.JPG", "empty.png"]
    assert records["empty.png"]["error"] == {"code": "empty", "message": "the file is empty"}
    assert records["bad.jpg"]["error"]["code"] == "truncated"
    assert "error" not in records["z.JPG"]


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_rejected_photo_ends_with_status_2(trained: Trained, photos: Path, options: list[str]) -> None:
    assert run(["predict", str(photos), "--bundle", str(trained.bundle), *options]) == 2


def test_a_pattern_is_labelled_and_written_to_a_file(
    trained: Trained, photos: Path, tmp_path: Path, capsys: Out
) -> None:
    out = tmp_path / "predictions.jsonl"
    words = ["predict", f"{photos}/**/*[ze]*.[jJ][pP][gG]", "--bundle", str(trained.bundle), "--out", str(out)]
    assert run(words) == 0
    assert [line.split(": ")[1][:4] for line in capsys.readouterr().out.splitlines()] == ["red ", "blue"]
    assert run([*words, "--json"]) == 0
    assert out.read_text() == 2 * capsys.readouterr().out


@pytest.mark.parametrize("location", ["", "/**", "/**/*"])
def test_what_cannot_be_listed_is_reported_and_the_others_are_labelled(
    trained: Trained, tmp_path: Path, capsys: Out, location: str
) -> None:
    photos = tmp_path / "photos"
    (photos / "private").mkdir(parents=True)
    (photos / "1.jpg").write_bytes(jpeg("red", 50))
    (photos / "2.jpg").symlink_to("annex/2.jpg")
    (photos / "loop").symlink_to(".")
    os.mkfifo(photos / "3.jpg")
    with unreadable(photos / "private"):
        assert run(["predict", f"{photos}{location}", "--bundle", str(trained.bundle)]) == 1
    out, err = capsys.readouterr()
    assert out.startswith(f"{photos}/1.jpg: red")
    assert len(out.splitlines()) == 1
    assert [line for line in err.splitlines() if line.startswith("error: ")] == [
        f"error: {photos}/2.jpg: is a broken symbolic link to 'annex/2.jpg'",
        f"error: {photos}/3.jpg: is a named pipe",
        f"error: {photos}/private: cannot be read (Permission denied)",
    ]
    assert run(["predict", f"{photos}{location}", "--bundle", str(trained.bundle), "--json"]) == 2
    records = {record["image"]: record.get("error") for record in lines(capsys.readouterr().out)}
    assert records[f"{photos}/2.jpg"]["code"] == "NotFoundError"
    assert records[f"{photos}/1.jpg"] is None


def test_a_folder_of_broken_links_alone_has_status_2(trained: Trained, tmp_path: Path, capsys: Out) -> None:
    (tmp_path / "1.jpg").symlink_to("nowhere")
    assert run(["predict", str(tmp_path), "--bundle", str(trained.bundle)]) == 2
    err = capsys.readouterr().err
    assert "1.jpg: is a broken symbolic link to 'nowhere'" in err
    assert "holds no photos" in err


@pytest.mark.parametrize("words", [[], ["photo.jpg", "--camera", "0"]])
def test_photos_or_a_camera_are_required(capsys: Out, words: list[str]) -> None:
    assert run(["predict", *words, "--bundle", "b"]) == 2
    assert "Give either PHOTO... or --camera." in capsys.readouterr().err


@pytest.mark.parametrize("location", ["photo.jpg", "s3://bucket/prefix"])
def test_only_local_folders_are_watched(trained: Trained, capsys: Out, location: str) -> None:
    assert run(["predict", location, "--watch", "--bundle", str(trained.bundle)]) == 2
    assert "is not a local folder to watch" in capsys.readouterr().err


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
        records = lines(capsys.readouterr().out)
        expected = [("a red one.jpg", "red"), ("deep/z.JPG", "blue")][:count]
        root = f"s3://{BUCKET}/in coming"
        assert [(record["image"], record["label"]) for record in records] == [
            (f"{root}/{name}", label) for name, label in expected
        ]


def test_a_photo_that_s3_denies_ends_with_status_1(trained: Trained, bucket: Any) -> None:
    refuse("GetObject", "AccessDenied", 403)
    assert run(["predict", f"s3://{BUCKET}/x.jpg", "--bundle", str(trained.bundle)]) == 1


@pytest.mark.parametrize("source", [[], ["--registry", "r", "--bundle", "b"]])
def test_exactly_one_source_of_the_model_is_required(capsys: Out, source: list[str]) -> None:
    assert run(["predict", "x.jpg", *source]) == 2
    assert "Give one of --registry, --bundle or --model FILE.tflite." in capsys.readouterr().err


def test_predict_needs_a_photo(capsys: Out) -> None:
    assert run(["predict", "--bundle", "b"]) == 2
    assert "PHOTO" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (["--registry", "/no/such/registry"], "there is no such registry; correct the path, mount its disk"),
        (["--registry", "s3://no-such-bucket"], "there is no bucket no-such-bucket"),
        (["--bundle", "/no/such/bundle"], "/no/such/bundle: does not exist"),
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


def test_a_model_is_selected_by_id(trained: Trained, photos: Path, capsys: Out) -> None:
    words = ["predict", str(photos / "a red one.jpg"), "--registry", str(trained.registry)]
    assert run([*words, "--model", trained.result.manifest.model_id]) == 0
    assert run([*words, "--model", "other"]) == 2
    assert "there is no model other" in capsys.readouterr().err


def test_a_pulled_model_predicts(trained: Trained, photos: Path, tmp_path: Path, capsys: Out) -> None:
    assert run(["models", "pull", "--registry", str(trained.registry), "--dest", str(tmp_path / "device")]) == 0
    assert run(["predict", str(photos / "a red one.jpg"), "--bundle", str(tmp_path / "device")]) == 0
    assert ": red 1.000" in capsys.readouterr().out
