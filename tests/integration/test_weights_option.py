"""The option ``--weights``: files in both formats, an S3 object, and ImageNet without a network."""

from pathlib import Path
from typing import Any

import pytest

from tests.conftest import BUCKET
from tests.pictures import write_folders
from transferlite.cli.main import run


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """InceptionV3 without its top, saved in both file formats, and the sha256 of its weights."""
    import keras

    from train_job.backbones.build import weights_sha256

    folder = tmp_path_factory.mktemp("weights")
    backbone = keras.applications.InceptionV3(include_top=False, weights=None, input_shape=(75, 75, 3))
    backbone.save_weights(folder / "backbone.weights.h5")
    backbone.save(folder / "backbone.h5")
    return {"new": folder / "backbone.weights.h5", "legacy": folder / "backbone.h5", "sha256": weights_sha256(backbone)}


def weights_used(folder: Path, weights: str) -> str:
    """Extract features of two photos with these weights; returns the hash of the weights."""
    from train_job.store.feature_store import FeatureStore

    photos, rows = str(write_folders(folder / "photos", 1)), str(folder / "rows")
    quick = ["--backbone", "inception_v3", "--image-size", "75", "--weights", weights]
    assert run(["features", "extract", "--images", photos, "--features", rows, *quick]) == 0
    (space,) = FeatureStore.open(rows).spaces()
    return space.weights_sha256


def test_a_file_saved_by_save_weights_is_loaded(saved: dict[str, Any], tmp_path: Path) -> None:
    assert weights_used(tmp_path, str(saved["new"])) == saved["sha256"]


def test_a_legacy_file_in_s3_is_loaded(saved: dict[str, Any], tmp_path: Path, bucket: Any) -> None:
    bucket.upload_file(str(saved["legacy"]), BUCKET, "weights/backbone.h5")
    assert weights_used(tmp_path, f"s3://{BUCKET}/weights/backbone.h5") == saved["sha256"]


def test_imagenet_without_network_says_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    words = ["train", "--images", str(write_folders(tmp_path / "photos", 5)), "--registry", str(tmp_path / "models")]
    assert run([*words, "--backbone", "inception_v3", "--image-size", "75", "--weights", "imagenet"]) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert "ImageNet weights of inception_v3 could not be downloaded" in line
    assert "--weights FILE" in line
    assert not (tmp_path / "models").exists()
