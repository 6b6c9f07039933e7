"""MediaPipe Tasks loads the bundle's TFLite files unchanged."""

import json
import subprocess
from pathlib import Path

import click
import numpy as np
import pytest

from benchmarks.runtimes.environments import environment
from benchmarks.runtimes.runtime_side import __file__ as side
from tests.conftest import Trained
from transferlite import Predictor
from transferlite.images.decoder import decode
from transferlite.images.input_spec import InputSpec

CASES = (("float32", "pixels.npy", 1e-3), ("int8", "pixels.npy", 0.05), ("float32", "photos.txt", 0.5))
"""Variant, photos and tolerance. With photos.txt MediaPipe decodes and resizes itself, differently from our decoder."""


@pytest.fixture(scope="module")
def mediapipes_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    try:
        python = environment(tmp_path_factory.mktemp("mediapipe") / "venv", "mediapipe")
    except click.ClickException as error:
        pytest.skip(error.message)
    done = subprocess.run([python, "-c", "import mediapipe"], capture_output=True, text=True, check=False)
    if done.returncode:  # Debian: apt install libgl1 libegl1
        pytest.skip(f"MediaPipe does not run here: {done.stderr.strip().splitlines()[-1]}")
    return python


def test_mediapipe_predicts_as_the_predictor_and_reads_the_labels(
    mediapipes_python: Path, trained: Trained, tmp_path: Path
) -> None:
    photos = sorted(trained.photos.rglob("*.jpg"))
    (tmp_path / "photos.txt").write_text("\n".join(map(str, photos)))
    np.save(tmp_path / "pixels.npy", np.stack([decode(path.read_bytes(), InputSpec(64, 64)) for path in photos]))
    for variant, source, tolerance in CASES:
        predictor = Predictor.load(trained.bundle, variant)
        expected = np.stack([predictor.probabilities(photo) for photo in photos])
        model = trained.bundle / f"{variant}.tflite"
        command = [mediapipes_python, side, "mediapipe", model, tmp_path / source, tmp_path / "probabilities.npy"]
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout.splitlines()[-1])["labels"] == ["blue", "red"]
        probabilities = np.load(tmp_path / "probabilities.npy")
        np.testing.assert_allclose(probabilities, expected, atol=tolerance)
        assert (probabilities.argmax(1) == expected.argmax(1)).mean() >= 0.99
