"""One photo, one answer: from the command line, the Lambda handler, the Python API and the export gate."""

import base64
import json
from pathlib import Path

import numpy as np
import pytest

from export.verify import saved_model_answers, tflite_answers
from inference_lambda import handler
from runtime import Predictor
from runtime.imaging import decode
from tests.conftest import Trained
from tests.pictures import jpeg
from transferlite.__main__ import run


@pytest.mark.parametrize("variant", ["float32", "int8"])
def test_every_way_gives_the_same_answer(
    variant: str,
    trained: Trained,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(jpeg("blue", 77, (301, 200)))
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
    (gate,) = tflite_answers(trained.bundle / f"{variant}.tflite")(image[None])
    np.testing.assert_array_equal(gate, predictor.probabilities(photo))


def test_saved_model_and_float32_agree_within_1e_4_on_every_training_photo(trained: Trained) -> None:
    predictor = Predictor.load(trained.bundle)
    photos = np.stack([decode(path.read_bytes(), predictor.manifest.input) for path in trained.photos.rglob("*.jpg")])
    served = saved_model_answers(trained.bundle / "saved_model")(photos)
    np.testing.assert_allclose(served, [predictor.probabilities(photo) for photo in photos], atol=1e-4)
