"""An edge installation in an environment of its own: without TensorFlow, with the same predictions."""

import json
import os
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path

import numpy as np
import pytest

from export.gate.other_python import other_python, runtime_of
from tests.conftest import Trained
from tests.installed import pip
from tests.pictures import jpeg
from transferlite import Predictor
from transferlite.images.decoder import decode
from transferlite.inference.interpreter import TFLiteClassifier
from transferlite.inference.variants import TFLITE_VARIANTS

NO_PATH = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
"""Environment in which only installed packages can be imported."""


@pytest.mark.parametrize("extra", ["edge", "edge-legacy"])
def test_an_edge_install_predicts_as_the_training_machine_does(
    extra: str, wheel: Path, trained: Trained, tmp_path: Path
) -> None:
    if extra == "edge-legacy" and sys.version_info >= (3, 12):
        pytest.skip("tflite-runtime has wheels up to Python 3.11")
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "venv")], check=True)
    assert pip("--python", python, "install", "--no-compile", f"{wheel}[{extra}]") == 0
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(jpeg("blue", 33))
    for variant in TFLITE_VARIANTS:
        words = ["predict", str(photo), "--bundle", str(trained.bundle), "--variant", variant, "--json"]
        done = subprocess.run(
            [python, "-m", "transferlite", *words],
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
            env=NO_PATH,
        )
        assert done.returncode == 0, done.stderr
        prediction = json.loads(done.stdout)
        expected = Predictor.load(trained.bundle, variant)(photo)
        assert prediction["label"] == expected.label
        assert prediction["score"] == pytest.approx(expected.score, abs=1e-4 if variant == "float32" else 0.02)
    assert_the_gate_can_use(python, extra, trained)
    installed = distributions(path=[str(next((tmp_path / "venv").glob("lib/python*/site-packages")))])
    names = {package.name.lower() for package in installed}
    assert names >= {"transferlite", "numpy", "pillow"}
    assert not names & {"tensorflow", "keras", "pandas", "boto3"}


def assert_the_gate_can_use(python: Path, extra: str, trained: Trained) -> None:
    """Check that the gate, on a machine with TensorFlow, can run files in the edge installation's runtime."""
    name = {"edge": "ai-edge-litert", "edge-legacy": "tflite-runtime 2.14.0"}[extra]
    assert runtime_of(str(python)).startswith(name)
    paths = sorted(trained.photos.rglob("*.jpg"))
    photos = np.stack([decode(path.read_bytes(), trained.result.manifest.input) for path in paths])
    for variant in TFLITE_VARIANTS:
        path = trained.bundle / f"{variant}.tflite"
        with other_python(str(python), path) as predict:
            np.testing.assert_allclose(predict(photos), TFLiteClassifier(path).predict_batch(photos), atol=0.05)
