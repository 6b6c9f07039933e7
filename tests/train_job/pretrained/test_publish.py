"""``transferlite publish --pretrained``, with a small network whose weights are a file."""

import json
from pathlib import Path

import pytest

from tests.pictures import jpeg, write_folders
from transferlite import Predictor
from transferlite.cli.main import run
from transferlite.registry.open_registry import Registry

Printed = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A weights file of MobileNetV1-0.25 with its top."""
    from train_job.backbones.build import build_backbone
    from train_job.backbones.catalog import BACKBONES

    path = tmp_path_factory.mktemp("weights") / "whole.weights.h5"
    build_backbone(BACKBONES["mobilenet_v1_025"], (128, 128, 3), "none", include_top=True).save_weights(path)
    return path


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve photos and one damaged one, without labels."""
    folder = write_folders(tmp_path_factory.mktemp("unlabelled"), 6)
    (folder / "damaged.jpg").write_bytes(jpeg("blue")[:100])
    return folder


@pytest.fixture(scope="module")
def registry(weights: Path, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry with a version published with photos."""
    folder = tmp_path_factory.mktemp("pretrained")
    assert publish(folder, weights, "--images", str(photos)) == 0
    return folder


def publish(registry: Path, weights: Path, *options: str) -> int:
    words = ["publish", "--pretrained", "mobilenet_v1_025", "--weights", str(weights), "--registry", str(registry)]
    return run([*words, *options])


def test_the_version_is_served_like_a_trained_one(registry: Path, capsys: Printed) -> None:
    opened = Registry.open(str(registry))
    manifest = opened.manifest(opened.resolve("production"))
    assert len(manifest.labels) == 1000
    assert set(manifest.variants) == {"saved_model", "float32", "float16", "dynamic", "int8"}
    assert all(variant.photos == 12 and variant.accuracy is None for variant in manifest.variants.values())
    for variant in manifest.tflite_variants():
        assert Predictor.from_registry(str(registry), variant=variant)(jpeg("red")).label in manifest.labels
    assert run(["models", "list", "--registry", str(registry)]) == 0
    assert run(["models", "show", "--registry", str(registry)]) == 0
    printed = capsys.readouterr().out
    assert f"{manifest.model_id}  pretrained" in printed
    assert "accuracy" not in printed
    card = (registry / "models" / manifest.model_id / "MODEL_CARD.md").read_text()
    assert "published without training" in card


def test_the_report_command_names_the_model_card(registry: Path, capsys: Printed) -> None:
    assert run(["report", "--registry", str(registry)]) == 2
    assert "MODEL_CARD.md" in capsys.readouterr().err


def test_a_second_version_leaves_the_channel_unless_told(registry: Path, weights: Path, capsys: Printed) -> None:
    first = Registry.open(str(registry)).resolve("production")
    assert publish(registry, weights, "--variants", "int8", "--json") == 0
    printed = capsys.readouterr()
    second = json.loads(printed.out.splitlines()[-1])
    assert not second["promoted"]
    assert second["left_out"] == {"int8": "it needs photos to set its ranges: pass --images"}
    assert f"still points to {first}" in printed.err
    assert publish(registry, weights, "--variants", "float32", "--promote", "always", "--json") == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["promoted"]


def test_a_training_replaces_a_pretrained_version(registry: Path, tmp_path: Path, capsys: Printed) -> None:
    images = write_folders(tmp_path / "photos", 30)
    words = ["--images", str(images), "--registry", str(registry), "--backbone", "efficientnet_lite0"]
    assert run(["plan", *words]) == 0
    assert run(["train", *words, "--image-size", "64", "--epochs", "10", "--variants", "float32"]) == 0
    assert "production ->" in capsys.readouterr().out
    assert Predictor.from_registry(str(registry))(jpeg("red", 99)).label == "red"


def test_a_folder_without_usable_photos_is_refused(weights: Path, tmp_path: Path, capsys: Printed) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "bad.jpg").write_bytes(b"no photo")
    assert publish(tmp_path / "registry", weights, "--images", str(tmp_path / "photos")) == 2
    assert "holds no usable photo" in capsys.readouterr().err
