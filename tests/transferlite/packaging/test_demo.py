"""``transferlite demo`` as a newcomer runs it, in a process of its own."""

import json
import subprocess
import sys
from pathlib import Path

from tests.pictures import write_folders


def demo(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "transferlite", "demo", *words], capture_output=True, text=True, check=False
    )


def test_the_demo_trains_and_answers_rightly_on_the_users_own_folders(tmp_path: Path) -> None:
    photos = write_folders(tmp_path / "photos", 12)
    done = demo("--photos", str(photos), "--out", str(tmp_path / "out"), "--epochs", "10")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Found 22 validated image filenames belonging to 2 classes." in done.stdout
    assert "2 of 2 predictions are right" in done.stdout
    (bundle,) = (tmp_path / "out" / "registry" / "models").iterdir()
    assert {"manifest.json", "labels.txt", "float32.tflite", "int8.tflite"} <= {path.name for path in bundle.iterdir()}
    record = json.loads(
        (tmp_path / "out" / "predictions" / "demo-photos" / "uploads" / "red" / "red.0.jpg.json").read_bytes()
    )
    assert record["label"] == "red"
    assert record["image"] == "s3://demo-photos/uploads/red/red.0.jpg"


def test_the_demo_refuses_a_folder_that_has_too_little(tmp_path: Path) -> None:
    photos = write_folders(tmp_path / "photos", 2)
    done = demo("--photos", str(photos), "--out", str(tmp_path / "out"))
    assert done.returncode == 2
    assert "at least four photos" in done.stderr
