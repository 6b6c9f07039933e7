"""What a device installs, in an environment of its own: small, without TensorFlow, and able to predict."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from runtime import Predictor
from tests.conftest import Trained
from tests.pictures import jpeg

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("extra", ["edge", "edge-legacy"])
def test_an_edge_install_predicts_as_the_training_machine_does(extra: str, trained: Trained, tmp_path: Path) -> None:
    if extra == "edge-legacy" and sys.version_info >= (3, 12):
        pytest.skip("tflite-runtime has wheels up to Python 3.11")
    python = str(tmp_path / "venv" / "bin" / "python")
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    pip = [python, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    if subprocess.run([*pip, "download", "--no-deps", "click", "-d", str(tmp_path)], check=False).returncode:
        pytest.skip("no package index can be reached")
    subprocess.run([*pip, "install", f"{ROOT}[{extra}]"], check=True)
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(jpeg("blue", 33))
    for variant in ("float32", "int8"):
        words = ["predict", str(photo), "--bundle", str(trained.bundle), "--variant", variant, "--json"]
        done = subprocess.run([python, "-m", "transferlite", *words], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        answer = json.loads(done.stdout)
        expected = Predictor.load(trained.bundle, variant)(photo)
        assert answer["label"] == expected.label
        assert answer["score"] == pytest.approx(expected.score, abs=1e-4 if variant == "float32" else 0.02)
    packages = subprocess.run([python, "-m", "pip", "list", "--format", "json"], capture_output=True, check=True).stdout
    names = {package["name"].lower() for package in json.loads(packages)}
    assert not names & {"tensorflow", "keras", "pandas", "boto3"}
