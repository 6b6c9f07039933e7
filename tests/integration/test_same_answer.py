"""The command line, the Lambda handler, the Python API and the export gate give the same prediction for a photo."""

import base64
import io
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from export.gate.runtimes import LoadedSavedModel, tflite_predict
from inference_lambda import handler
from tests.conftest import Trained
from tests.pictures import jpeg
from tests.transferlite.damage import write
from tests.transferlite.images.heic_files import heic
from transferlite import Predictor
from transferlite.cli.main import run
from transferlite.images.decoder import decode
from transferlite.inference.variants import TFLITE_VARIANTS
from transferlite.registry.local_bundle import read_manifest
from transferlite.registry.manifest import MANIFEST


def encoded(content: bytes, extension: str) -> bytes:
    """Encode a JPEG photo in another format."""
    image = Image.open(io.BytesIO(content)).convert("RGB")
    return {"jpg": lambda: content, "heic": lambda: heic(image), "jxl": lambda: write(image, "JXL")}[extension]()


@pytest.mark.parametrize(
    ("variant", "extension"), [*((variant, "jpg") for variant in TFLITE_VARIANTS), ("float32", "heic"), ("int8", "jxl")]
)
def test_every_interface_gives_the_same_prediction(
    variant: str,
    extension: str,
    trained: Trained,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    photo = tmp_path / f"photo.{extension}"
    photo.write_bytes(encoded(jpeg("blue", 77, (301, 200)), extension))
    predictor = Predictor.load(trained.bundle, variant)
    expected = predictor(photo).to_dict()

    words = ["predict", str(photo), "--registry", str(trained.registry), "--variant", variant, "--json"]
    assert run(words) == 0
    assert json.loads(capsys.readouterr().out) == {"image": str(photo), **expected}

    monkeypatch.setenv("TRANSFERLITE_REGISTRY", str(trained.registry))
    monkeypatch.setenv("TRANSFERLITE_VARIANT", variant)
    handler._service.cache_clear()
    event = {"image": base64.b64encode(photo.read_bytes()).decode()}
    assert handler.lambda_handler(event, None) == expected
    handler._service.cache_clear()

    image = decode(photo.read_bytes(), predictor.manifest.input)
    (gate,) = tflite_predict(trained.bundle / f"{variant}.tflite")(image[None])
    np.testing.assert_array_equal(gate, predictor.probabilities(photo))


def test_the_same_photos_are_unknown_in_every_interface(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    registry, photos = tmp_path / "registry", tmp_path / "photos"
    shutil.copytree(trained.registry, registry)
    photos.mkdir()
    for number in range(9):  # from blue to red
        mixed = Image.blend(Image.new("RGB", (64, 64), "blue"), Image.new("RGB", (64, 64), "red"), number / 8)
        mixed.save(photos / f"{number}.png")
    bundle = registry / "models" / trained.bundle.name
    scores = sorted(Predictor.load(bundle)(path).score for path in photos.iterdir())
    manifest = replace(read_manifest(bundle), threshold=(scores[3] + scores[4]) / 2)
    (bundle / MANIFEST).write_bytes(manifest.to_json())

    predictor = Predictor.load(bundle)
    expected = {str(path): predictor(path).label for path in photos.iterdir()}
    assert list(expected.values()).count("unknown") == 4

    assert run(["predict", str(photos), "--registry", str(registry), "--json"]) == 0
    printed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {record["image"]: record["label"] for record in printed} == expected
    assert run(["predict", str(photos), "--registry", str(registry)]) == 0
    assert capsys.readouterr().out.count(": unknown, unsure (") == 4

    monkeypatch.setenv("TRANSFERLITE_REGISTRY", str(registry))
    handler._service.cache_clear()
    for path, label in expected.items():
        event = {"image": base64.b64encode(Path(path).read_bytes()).decode()}
        assert handler.lambda_handler(event, None)["label"] == label
    handler._service.cache_clear()


def test_saved_model_and_float32_agree_within_1e_4_on_every_training_photo(trained: Trained) -> None:
    predictor = Predictor.load(trained.bundle)
    photos = np.stack([decode(path.read_bytes(), predictor.manifest.input) for path in trained.photos.rglob("*.jpg")])
    served = LoadedSavedModel(trained.bundle / "saved_model").predict(photos)
    np.testing.assert_allclose(served, [predictor.probabilities(photo) for photo in photos], atol=1e-4)
