"""User errors and refused requests: one error line, the right exit status, and nothing published."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import BUCKET
from tests.pictures import jpeg, write_folders
from transferlite.cli.main import run


def train(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    """Run ``transferlite train``; returns the exit status and standard error."""
    status = run(["train", *words])
    return status, capsys.readouterr().err


def one_error(text: str) -> str:
    """The only error line of a text without a traceback."""
    assert "Traceback" not in text
    (line,) = [line for line in text.splitlines() if line.startswith("error: ")]
    return line


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return write_folders(tmp_path / "photos", 3)


def test_a_missing_csv_is_named(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = str(tmp_path / "no.csv")
    status, text = train(capsys, "--images", str(photos), "--labels", missing, "--registry", str(tmp_path / "models"))
    assert status == 2
    assert missing in one_error(text)
    assert not (tmp_path / "models").exists()


def test_a_missing_column_is_named_with_the_existing_ones(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "labels.csv"
    table.write_text("when,where,Label\n1,2,blue\n")
    status, text = train(capsys, "--images", str(photos), "--labels", str(table), "--registry", str(tmp_path / "m"))
    assert status == 2
    line = one_error(text)
    assert "'File Name'" in line
    assert "'when', 'where', 'Label'" in line
    assert "--x-col" in line


def test_a_csv_of_missing_photos_names_the_first(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "labels.csv"
    table.write_text("File Name,Label\nnowhere.jpg,cat\nnothing.jpg,dog\n")
    status, text = train(capsys, "--images", str(photos), "--labels", str(table), "--registry", str(tmp_path / "m"))
    assert status == 2
    assert "nowhere.jpg" in one_error(text)
    assert "row 2" in one_error(text)


@pytest.mark.parametrize("make", ["empty", "absent", "flat"])
def test_a_folder_without_classes_is_rejected(make: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "photos"
    if make != "absent":
        folder.mkdir()
    if make == "flat":
        (folder / "cat.jpg").write_bytes(jpeg("red"))
    status, text = train(capsys, "--images", str(folder), "--registry", str(tmp_path / "m"))
    assert status == 2
    assert str(folder) in one_error(text)


def test_a_single_class_is_rejected(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos = write_folders(tmp_path / "photos", 3, ("red",))
    status, text = train(capsys, "--images", str(photos), "--registry", str(tmp_path / "m"))
    assert status == 2
    assert "1 class ('red')" in one_error(text)


def test_a_registry_in_a_missing_folder_is_rejected(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    registry = tmp_path / "no" / "such" / "registry"
    status, text = train(capsys, "--images", str(photos), "--registry", str(registry))
    assert status == 2
    assert str(registry) in one_error(text)
    assert not (tmp_path / "no").exists()


def test_a_registry_in_a_missing_bucket_is_rejected(
    photos: Path, bucket: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    status, text = train(capsys, "--images", str(photos), "--registry", "s3://no-such-bucket/models")
    assert status == 2
    assert "no bucket no-such-bucket" in one_error(text)


def test_a_registry_without_permission_to_write_fails_before_the_training(
    photos: Path, bucket: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    statement = {"Effect": "Deny", "Principal": "*", "Action": "s3:PutObject", "Resource": f"arn:aws:s3:::{BUCKET}/*"}
    bucket.put_bucket_policy(Bucket=BUCKET, Policy=json.dumps({"Version": "2012-10-17", "Statement": [statement]}))
    status, text = train(capsys, "--images", str(photos), "--registry", f"s3://{BUCKET}/models")
    assert status == 1
    assert "access denied" in one_error(text)


def test_photos_without_permission_to_read_fail_the_job(
    photos: Path, tmp_path: Path, bucket: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in photos.rglob("*.jpg"):
        bucket.put_object(Bucket=BUCKET, Key=path.relative_to(tmp_path).as_posix(), Body=path.read_bytes())
    statement = {"Effect": "Deny", "Principal": "*", "Action": "s3:GetObject", "Resource": f"arn:aws:s3:::{BUCKET}/*"}
    bucket.put_bucket_policy(Bucket=BUCKET, Policy=json.dumps({"Version": "2012-10-17", "Statement": [statement]}))
    words = ["--images", f"s3://{BUCKET}/photos", "--registry", str(tmp_path / "models"), "--image-size", "32"]
    status, text = train(capsys, *words)
    assert status == 1
    assert "no photo may be read: access denied" in one_error(text)
    assert not (tmp_path / "models").exists()


def test_an_unknown_url_scheme_is_rejected(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, text = train(capsys, "--images", "gs://bucket/photos", "--registry", str(tmp_path / "m"))
    assert status == 2
    assert "gs://" in one_error(text)


@pytest.mark.parametrize(
    "words", [["--split", "80-20"], ["--fail-over", "many"], ["--backbone", "vgg"], ["--epochs", "0"]]
)
def test_an_invalid_option_is_rejected(words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, text = train(capsys, "--images", str(tmp_path), "--registry", str(tmp_path / "m"), *words)
    assert status == 2
    assert words[1].replace("vgg", "'vgg'") in text
    assert "Traceback" not in text


def test_weights_that_do_not_fit_name_the_layer_and_publish_nothing(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import keras

    other = keras.Sequential([keras.Input((32, 32, 3)), keras.layers.Conv2D(4, 3, name="other")])
    other.save_weights(tmp_path / "other.weights.h5")
    words = ["--images", str(photos), "--registry", str(tmp_path / "m"), "--backbone", "mobilenet_v2"]
    status, text = train(capsys, *words, "--image-size", "32", "--weights", str(tmp_path / "other.weights.h5"))
    assert status == 2
    assert "Conv1" in one_error(text)
    assert not (tmp_path / "m").exists()


def test_debug_shows_the_traceback(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["train", "--images", str(tmp_path / "no"), "--registry", str(tmp_path / "m"), "--debug"]) == 2
    assert "Traceback" in capsys.readouterr().err
