"""Training on real photos reaches the accuracy that users can expect."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from train_job.evaluation.metrics import wilson_interval
from transferlite.inference.variants import TFLITE_VARIANTS
from transferlite.packaging.demo import local_s3
from transferlite.registry.open_registry import Registry
from transferlite.storage.folder import FolderStore
from transferlite.storage.locations import open_store
from transferlite.storage.s3_boto3 import s3_client

pytestmark = pytest.mark.photos


def train(*words: str, status: int = 0) -> Any:
    """Run ``transferlite train`` and return its JSON."""
    done = subprocess.run(
        [sys.executable, "-m", "transferlite", "train", "--json", *words],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ,
    )
    assert done.returncode == status, done.stderr
    assert "validated image filenames belonging to" in done.stdout
    return json.loads(done.stdout.splitlines()[-1])


def assert_accuracy(result: Any, minimum: float) -> None:
    """Keras, SavedModel and float32 reach ``minimum``; the other variants lose at most 0.01.

    The gate may leave out ``dynamic``, and says why: on flowers it is at the limit, where a rounding error decides.
    """
    keras = result["metrics"]["test"]["accuracy"]
    variants = result["metrics"]["variants"]
    assert keras >= minimum
    assert variants["saved_model"] == variants["float32"] == keras
    left_out = result["metrics"]["left_out"]
    assert left_out.keys() <= {"dynamic"}
    assert all("photos right where Keras has" in reason for reason in left_out.values())
    assert variants.keys() | left_out.keys() == {"saved_model", *TFLITE_VARIANTS}
    assert min(variants.values()) >= keras - 0.01


def test_cats_and_dogs_from_s3(photo_sets: Path) -> None:
    with local_s3():
        s3_client().create_bucket(Bucket="photos")
        source, target = FolderStore(photo_sets / "catsdogs"), open_store("s3://photos")
        for entry in source.entries():
            target.put(entry.key, source.get(entry.key).data)
        where = {name: f"s3://photos/{name}" for name in ("label-train.csv", "train_img", "test_img", "models")}
        words = ["--labels", where["label-train.csv"], "--images", where["train_img"], "--registry", where["models"]]
        result = train(*words, "--test-images", where["test_img"], "--split", "100/0/0")
    assert_accuracy(result, 0.97)
    assert result["metrics"]["train"]["photos"] == 200
    assert result["metrics"]["test"]["photos"] == 200
    assert sum(result["seconds"].values()) <= 2 * result["seconds"]["total"]


def test_flowers_from_a_folder_per_class(photo_sets: Path, tmp_path: Path) -> None:
    flowers = photo_sets / "flowers"
    words = ["--images", str(flowers / "train"), "--test-images", str(flowers / "test"), "--split", "85/15/0"]
    result = train(*words, "--registry", str(tmp_path / "models"), "--precision", "95%")
    assert_accuracy(result, 0.89)
    assert result["labels"] == ["daisy", "dandelion", "roses", "sunflowers", "tulips"]
    assert_calibrated(tmp_path / "models", result)
    assert_a_poor_challenger_is_not_promoted(flowers, tmp_path, result)


def assert_calibrated(registry: Path, result: Any) -> None:
    """Calibration lowers the test error, and the threshold for 95% precision reaches it within sampling error."""
    path = registry / "models" / result["model_id"] / "training" / "evaluation.json"
    found = json.loads(path.read_text(encoding="utf-8"))
    assert found["calibration"]["test"]["after"] < found["calibration"]["test"]["before"]
    assert found["abstention"]["precision"] == 0.95
    kept = next(choice["test"] for choice in found["abstention"]["choices"] if choice["precision"] == 0.95)
    assert kept["answered"] >= 0.6 * kept["photos"]
    assert wilson_interval(kept["right"], kept["answered"])[1] >= 0.95


def assert_a_poor_challenger_is_not_promoted(flowers: Path, folder: Path, champion: Any) -> None:
    """Four photos a class against all of them, on the same test photos."""
    rows = [f"{label}/{path.name},{label}" for label in champion["labels"] for path in four(flowers / "train" / label)]
    (folder / "few.csv").write_text("\n".join(["File Name,Label", *rows]))
    words = ["--images", str(flowers / "train"), "--labels", str(folder / "few.csv"), "--split", "100/0/0"]
    words += ["--test-images", str(flowers / "test"), "--registry", str(folder / "models"), "--steps-per-epoch", "1"]
    refused = train(*words, status=3)
    assert not refused["promoted"]
    named = [label for label in champion["labels"] if any(label in reason for reason in refused["refused"])]
    assert len(named) >= 2
    pointer = Registry.open(str(folder / "models")).channel("production")
    assert pointer.model_id == champion["model_id"]


def four(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())[:4]
