"""Rows of the compatibility table, with this Python in the role of the other one."""

import shlex
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.runtimes import environments
from benchmarks.runtimes.compatibility import Photos, load_photos, other_rows, predictor_row, wrong_labels
from tests.conftest import Trained

PYTHON = "{}.{}.{}".format(*sys.version_info)
PIXELS = np.zeros((2, 4, 4, 3), np.uint8)


def two_photos(labels: tuple[str, ...] = ("blue", "red")) -> Photos:
    """Two photos: float32 predicts the first label, then the second."""
    return Photos(["one", "two"], PIXELS, {"float32": np.array([[0.9, 0.1], [0.3, 0.7]], np.float32)}, labels)


def test_a_cell_has_the_number_of_equal_labels_and_the_largest_difference() -> None:
    probabilities = np.array([[0.8, 0.2], [0.6, 0.4]], np.float32)
    assert two_photos().cell("float32", probabilities) == "1/2, 3e-01"


def test_our_predictor_in_another_python_predicts_the_same(trained: Trained, tmp_path: Path) -> None:
    photos = load_photos(trained.bundle, str(trained.photos))
    assert photos.labels == ("blue", "red")
    count = len(photos.paths)
    runtime, python, cpu, *cells = predictor_row(shlex.quote(sys.executable), trained.bundle, photos, tmp_path)
    assert runtime.startswith("our predictor on ai-edge-litert 2.")
    assert (python, bool(cpu)) == (PYTHON, True)
    assert len(cells) == len(photos.expected) == 4
    for cell in cells:
        same, _, tested, pixels = cell.split(", ")
        assert (same, pixels) == (f"{count}/{count}", "pixels 0")
        assert float(tested.removeprefix("test pictures ")) < 0.05


def test_different_pixels_in_another_python_are_reported(trained: Trained, tmp_path: Path) -> None:
    photos = load_photos(trained.bundle, str(next(trained.photos.rglob("*.jpg"))))
    other = Photos(photos.paths, photos.pixels ^ np.uint8(1), {"int8": photos.expected["int8"]}, photos.labels)
    (cell,) = predictor_row(shlex.quote(sys.executable), trained.bundle, other, tmp_path)[3:]
    assert cell.endswith("pixels 1")


@pytest.mark.parametrize(
    ("command", "cell"),
    [
        ("/no/such/python", "not run: No such file or directory"),
        (f"{shlex.quote(sys.executable)} -c 'raise SystemExit(\"a reason\")'", "no: a reason"),
        (f"{shlex.quote(sys.executable)} -c 'raise SystemExit(3)'", "no: status 3"),
    ],
)
def test_a_python_that_fails_has_the_reason_in_each_cell(command: str, cell: str, tmp_path: Path) -> None:
    assert predictor_row(command, tmp_path, two_photos(), tmp_path) == [f"our predictor on {command}", "", "", cell]


def test_each_further_python_has_a_row_with_cells_or_the_reason(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def environment(folder: Path, *requirements: str, version: str | None = None) -> Path:
        if version != "3.11":
            return environments.environment(folder, *requirements, version=version)
        return Path(sys.executable)

    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("benchmarks.runtimes.compatibility.environment", environment)
    monkeypatch.setattr("benchmarks.runtimes.compatibility.OTHER_PYTHONS", {"ai-edge-litert": ("3.11", "3.99")})
    photos = load_photos(trained.bundle, str(next(trained.photos.rglob("*.jpg"))))
    np.save(tmp_path / "pixels.npy", photos.pixels)
    there, not_there = other_rows("ai-edge-litert", trained.bundle, photos, tmp_path)
    assert (there[1], there[3:]) == (PYTHON, ["1/1, 0e+00"] * 4)
    assert not_there == ["ai-edge-litert", "3.99", "", *["not run: no python3.99 on PATH"] * 4]
    assert list(other_rows("tflite-runtime", trained.bundle, photos, tmp_path)) == []


def test_a_runtime_that_reads_other_labels_is_reported() -> None:
    assert wrong_labels(None, ("blue", "red")) == wrong_labels([], ("blue", "red")) == ""
    assert wrong_labels(["blue", "red"], ("blue", "red")) == ""
    assert wrong_labels(["red", "blue"], ("blue", "red")) == ", labels red, blue"
