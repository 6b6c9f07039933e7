"""Warm starts and comparisons never use a photo that an ancestor of the head learnt.

The labels are drawn at random: no honest accuracy is far from 0.5.
"""

import csv
import io
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.pictures import jpeg
from tests.train_job.small_backbones import share_built_backbones
from train_job.data.split import SplitShares

PHOTOS = 100


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos of one colour in two folders, chosen at random."""
    root = tmp_path_factory.mktemp("random") / "photos"
    labels = np.random.default_rng(5).permutation(["cat", "dog"] * (PHOTOS // 2))
    for label in ("cat", "dog"):
        (root / label).mkdir(parents=True)
    for number, label in enumerate(labels):
        (root / label / f"{number}.jpg").write_bytes(jpeg("green", number, (32, 32)))
    return root


def train(images: Path, registry: Path, split: str, **settings: Any) -> Any:
    from train_job.options import TrainOptions
    from train_job.pipeline.train_job import train as run
    from train_job.progress import Reporter

    options: dict[str, Any] = {
        "image_size": 64,
        "epochs": 60,
        "hidden_units": 128,
        "split": SplitShares.parse(split),
        "features": str(images.parent / "features"),
        "promote": "always",
        "variants": ("float32",),
    }
    with share_built_backbones():
        return run(TrainOptions(images=str(images), registry=str(registry), **options | settings), Reporter())


def accuracy_of(result: Any) -> float:
    return float(result.manifest.metrics["test"]["accuracy"])


def training_file(registry: Path, result: Any, name: str) -> str:
    return (registry / "models" / str(result.manifest.model_id) / "training" / name).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def registry(photos: Path) -> Path:
    """A registry whose channel has a version that learnt 80 of the 100 photos."""
    train(photos, photos.parent / "registry", "80/10/10")
    return photos.parent / "registry"


def test_a_warm_start_with_another_split_starts_cold(
    photos: Path, registry: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Random labels cannot be predicted, so a leak would show as an accuracy above 0.5."""
    copy = Path(shutil.copytree(registry, tmp_path / "registry"))
    result = train(photos, copy, "40/10/50", warm_start=True)
    assert accuracy_of(result) < 0.66  # 50 photos: above 0.64 in 2% of cases
    assert re.search(r"warning: cold start: \d+ validation or test photos.* were learnt by", capsys.readouterr().err)
    assert json.loads(training_file(copy, result, "evaluation.json"))["warnings"][0].startswith("cold start: ")
    assert "Cold start: " in (copy / "models" / result.manifest.model_id / "report.html").read_text()
    assert training_file(copy, result, "learnt.csv") == "sha256,split\n"


def test_without_the_check_such_a_warm_start_would_have_looked_accurate(
    photos: Path, registry: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from train_job.pipeline import train_classifier

    monkeypatch.setattr(train_classifier, "warm_start_obstacle", lambda *_: "")
    copy = Path(shutil.copytree(registry, tmp_path / "registry"))
    assert accuracy_of(train(photos, copy, "40/10/50", warm_start=True)) > 0.7


QUICK: dict[str, Any] = {"backbone": "mobilenet_v3_small", "weights": "none", "image_size": 32, "epochs": 1}


def test_a_photo_that_an_ancestor_learnt_is_remembered_after_it_left_the_data(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = Path(shutil.copytree(photos, tmp_path / "photos"))
    settings = QUICK | {"features": str(tmp_path / "features")}
    first = train(images, tmp_path / "registry", "80/10/10", **settings)
    rows = csv.DictReader(io.StringIO(training_file(tmp_path / "registry", first, "dataset.csv")))
    learnt = next(row for row in rows if row["split"] == "train")
    tests = tmp_path / "tests" / learnt["label"]
    tests.mkdir(parents=True)
    Path(learnt["image"]).rename(tests / "photo.jpg")
    second = train(images, tmp_path / "registry", "80/10/10", warm_start=True, **settings)
    assert training_file(tmp_path / "registry", second, "learnt.csv") == f"sha256,split\n{learnt['sha256']},train\n"
    assert "warm start from" in capsys.readouterr().out
    for number, label in enumerate(("cat", "dog")):
        (tests.parent / label).mkdir(exist_ok=True)
        (tests.parent / label / "new.jpg").write_bytes(jpeg("green", 1000 + number, (32, 32)))
    third = train(images, tmp_path / "registry", "80/10/10", warm_start=True, test_images=str(tests.parent), **settings)
    assert json.loads(training_file(tmp_path / "registry", third, "evaluation.json"))["warnings"][0].startswith("cold")
