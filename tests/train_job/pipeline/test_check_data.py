import csv
import io
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.conftest import BUCKET
from tests.pictures import jpeg, write_folders
from tests.train_job.quality.test_near_duplicates import half, saved, scene
from transferlite.cli.main import run
from transferlite.storage.s3_boto3 import s3_client


def table(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text())))


def names_and_codes(path: Path) -> set[tuple[str, str]]:
    """Return the file names and codes in quarantine.csv or notes.csv."""
    return {(Path(row["uri"]).name, row["code"]) for row in table(path)}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return write_folders(tmp_path / "photos", 10)


def test_good_photos_leave_the_tables_empty_and_the_status_is_0(photos: Path, tmp_path: Path) -> None:
    assert run(["check", "--images", str(photos), "--out", str(tmp_path / "out")]) == 0
    assert table(tmp_path / "out" / "quarantine.csv") == table(tmp_path / "out" / "notes.csv") == []
    summary = json.loads((tmp_path / "out" / "check.json").read_text())
    assert summary["classes"]["red"] == {"photos": 10, "train": 8, "validation": 1, "test": 1}


def test_problems_are_found_and_printed(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    red, blue = photos / "red", photos / "blue"
    (red / "cut.jpg").write_bytes(jpeg("red", 50)[:700])
    (red / "none.jpg").write_bytes(b"")
    (red / "page.jpg").write_bytes(b"<html>")
    (red / "dot.png").write_bytes(saved(Image.new("RGB", (1, 1)), "PNG"))
    (red / "again.jpg").write_bytes(jpeg("red", 0))
    (red / "disputed.jpg").write_bytes(jpeg("red", 60))
    (blue / "disputed too.jpg").write_bytes(jpeg("red", 60))
    (blue / "scene.jpg").write_bytes(saved(scene(1)))
    (blue / "small scene.jpg").write_bytes(half(scene(1)))
    (red / "scene.png").write_bytes(saved(scene(2)))
    assert run(["check", "--images", str(photos), "--out", str(tmp_path), "--json"]) == 0
    assert names_and_codes(tmp_path / "quarantine.csv") == {
        ("cut.jpg", "truncated"),
        ("none.jpg", "empty"),
        ("page.jpg", "not-image"),
        ("dot.png", "too-small"),
        ("red.0.jpg", "duplicate"),
        ("disputed.jpg", "conflicting-labels"),
        ("disputed too.jpg", "conflicting-labels"),
    }
    notes = names_and_codes(tmp_path / "notes.csv")
    assert ("scene.png", "wrong-extension") in notes
    assert len(notes) == 2
    assert {code for _, code in notes} == {"wrong-extension", "near-duplicate"}
    assert all(row["what_to_do"] for row in table(tmp_path / "quarantine.csv"))
    out = capsys.readouterr().out
    assert "truncated: 1; upload it again" in out
    assert json.loads(out.splitlines()[-1])["rejects"]["conflicting-labels"] == 2


def test_more_bad_photos_than_allowed_are_status_2_and_still_listed(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(2):
        (photos / "red" / f"bad{number}.jpg").write_bytes(b"?")
    words = ["check", "--images", str(photos), "--out", str(tmp_path)]
    assert run([*words, "--fail-over", "10%"]) == 0
    assert run([*words, "--fail-over", "5%"]) == 2
    assert "2 of 22 photos cannot be used (limit 5%)" in capsys.readouterr().err
    assert len(table(tmp_path / "quarantine.csv")) == 2


def test_a_class_without_a_usable_photo_is_reported_in_full(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "green").mkdir()
    (photos / "green" / "bad.jpg").write_bytes(b"?")
    assert run(["check", "--images", str(photos), "--out", str(tmp_path)]) == 2
    assert "'green'" in capsys.readouterr().err
    assert names_and_codes(tmp_path / "quarantine.csv") == {("bad.jpg", "not-image")}


def test_near_duplicates_and_copies_across_the_users_own_test_set_are_leakage(photos: Path, tmp_path: Path) -> None:
    tests = write_folders(tmp_path / "tests", 1)  # copies of the first photo of each class
    (photos / "red" / "scene.jpg").write_bytes(saved(scene(1)))
    (tests / "red" / "small.jpg").write_bytes(half(scene(1)))
    assert run(["check", "--images", str(photos), "--test-images", str(tests), "--out", str(tmp_path)]) == 0
    assert {(Path(row["uri"]).name, row["code"]) for row in table(tmp_path / "notes.csv")} >= {
        ("blue.0.jpg", "leakage"),
        ("red.0.jpg", "leakage"),
        ("small.jpg", "leakage"),
    }
    assert Counter(row["code"] for row in table(tmp_path / "quarantine.csv")) == {"duplicate": 2}
    assert {Path(row["uri"]).parts[-3] for row in table(tmp_path / "quarantine.csv")} == {"photos"}


def test_photos_and_findings_may_be_on_s3(bucket: Any, tmp_path: Path) -> None:
    rows = ["File Name,Label"]
    for colour in ("blue", "red"):
        for number in range(3):
            bucket.put_object(Bucket=BUCKET, Key=f"in/{colour} {number}+.jpg", Body=jpeg(colour, number))
            rows.append(f"{colour} {number}+.jpg,{colour}")
    bucket.put_object(Bucket=BUCKET, Key="labels.csv", Body="\n".join([*rows, "gone.jpg,red"]))
    root = f"s3://{BUCKET}"
    assert run(["check", "--labels", f"{root}/labels.csv", "--images", f"{root}/in", "--out", f"{root}/out"]) == 0
    text = s3_client().get_object(Bucket=BUCKET, Key="out/quarantine.csv")["Body"].read().decode()
    (row,) = csv.DictReader(io.StringIO(text))
    assert (row["row"], row["uri"], row["code"]) == ("8", f"{root}/in/gone.jpg", "missing")


def test_a_folder_that_cannot_be_written_to_is_refused_before_the_photos_are_read(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["check", "--images", str(photos), "--out", str(tmp_path / "no" / "where")]) == 2
    assert "create it first" in capsys.readouterr().err


def test_checking_imports_no_tensorflow(photos: Path, tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules.update(tensorflow=None, keras=None); "
        "from transferlite.cli.main import run; sys.exit(run(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, "check", "--images", str(photos), "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
