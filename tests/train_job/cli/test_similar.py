import json
from pathlib import Path

import pytest

from tests.conftest import Trained
from transferlite.cli.main import run


def test_similar_photos_of_a_trained_store_are_found_without_fetching_them(
    trained: Trained, capsys: pytest.CaptureFixture[str]
) -> None:
    photo = min(trained.photos.rglob("*.jpg"))
    options = ["--features", str(trained.registry / "features"), "--image-size", "64", "--count", "3"]
    assert run(["similar", str(photo), "--images", str(trained.photos), *options, "--json"]) == 0
    captured = capsys.readouterr()
    assert " 0 photos fetched, 0 images run" in captured.out + captured.err
    (line,) = [json.loads(line) for line in captured.out.splitlines() if line.startswith("{")]
    assert line["image"] == str(photo)
    assert len(line["similar"]) == 3
    assert {Path(found["image"]).parent.name for found in line["similar"]} == {photo.parent.name}


def test_a_photo_that_cannot_be_used_is_an_error_with_its_name(
    trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.jpg").write_bytes(b"%PDF")
    command = ["similar", str(tmp_path / "a.jpg"), "--images", str(trained.photos), "--image-size", "64"]
    assert run([*command, "--features", str(tmp_path / "features")]) == 2
    assert f"error: {tmp_path / 'a.jpg'}: " in capsys.readouterr().err
