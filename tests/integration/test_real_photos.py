"""The seed's job on real photos: what accuracy a user can count on."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from runtime.folder import FolderStore
from runtime.locations import open_store
from runtime.s3 import s3_client
from transferlite.demo import local_s3

pytestmark = pytest.mark.photos


def train(*words: str) -> Any:
    """The JSON that ``transferlite train`` prints last."""
    done = subprocess.run(
        [sys.executable, "-m", "transferlite", "train", "--split", "100/0/0", "--json", *words],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ,
    )
    assert done.returncode == 0, done.stderr
    assert "Found 200 validated image filenames" in done.stdout or "Found 750" in done.stdout
    return json.loads(done.stdout.splitlines()[-1])


def check(result: Any, least: float) -> None:
    """Keras, SavedModel and float32 reach ``least``; int8 loses at most 0.01."""
    keras = result["metrics"]["test"]["accuracy"]
    variants = result["metrics"]["variants"]
    assert keras >= least
    assert variants["saved_model"] == variants["float32"] == keras
    assert variants["int8"] >= keras - 0.01


def test_cats_and_dogs_through_s3(photo_sets: Path) -> None:
    with local_s3():
        s3_client().create_bucket(Bucket="photos")
        source, target = FolderStore(photo_sets / "catsdogs"), open_store("s3://photos")
        for entry in source.entries():
            target.put(entry.key, source.get(entry.key).data)
        where = {name: f"s3://photos/{name}" for name in ("label-train.csv", "train_img", "test_img", "models")}
        words = ["--labels", where["label-train.csv"], "--images", where["train_img"], "--registry", where["models"]]
        result = train(*words, "--test-images", where["test_img"])
    check(result, 0.97)
    assert result["metrics"]["train"]["photos"] == 200
    assert result["metrics"]["test"]["photos"] == 200
    assert sum(result["seconds"].values()) <= 2 * result["seconds"]["total"]


def test_flowers_from_a_folder_a_class(photo_sets: Path, tmp_path: Path) -> None:
    flowers = photo_sets / "flowers"
    words = ["--images", str(flowers / "train"), "--test-images", str(flowers / "test")]
    result = train(*words, "--registry", str(tmp_path / "models"))
    check(result, 0.89)
    assert result["labels"] == ["daisy", "dandelion", "roses", "sunflowers", "tulips"]
