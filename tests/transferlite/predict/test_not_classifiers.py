"""Files that are no image classifiers: every command refuses them with the same message."""

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import Trained
from tests.pictures import jpeg
from transferlite import Predictor
from transferlite.cli.main import run
from transferlite.errors import BundleError, NotClassifierError
from transferlite.registry.local_bundle import describe_files, read_manifest
from transferlite.registry.manifest import MANIFEST

Out = pytest.CaptureFixture[str]

SHAPES = {
    "segmentation": "input [1, 32, 32, 3] float32 and output [1, 32, 32, 3] float32",
    "yolo": "input [1, 32, 32, 3] float32 and output [1, 6, 512] float32",
    "two outputs": "input [1, 32, 32, 3] float32 and 2 outputs [1, 3] float32, [] float32",
    "two inputs": "2 inputs [1, 32, 32, 3] float32, [1, 3] float32 and output [1, 3] float32",
    "dynamic": "input [1, ?, ?, 3] float32 and output [1, 3] float32",
    "argmax": "input [1, 32, 32, 3] float32 and output [1] int64",
    "int32": "input [1, 32, 32, 3] float32 and output [1, 3] int32",
    "regression": "input [1, 32, 32, 3] float32 and output [1, 1] float32",
    "scalar": "input [1, 32, 32, 3] float32 and output [] float32",
    "channels first": "input [1, 3, 32, 32] float32 and output [1, 3] float32",
    "grey": "input [1, 32, 32, 1] float32 and output [1, 3] float32",
}
"""Shapes in the message about each model of ``files``."""

OTHER_FORMATS = {
    "page": (b"\r\n<!DOCTYPE html><html><body>404</body></html>", "is an HTML or XML page, not a TFLite file"),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "is a Git LFS pointer, not a TFLite file"),
    "keras": (b"PK\x03\x04" + bytes(99), "is a zip archive (.keras, .task), not a TFLite file"),
    "h5": (b"\x89HDF\r\n\x1a\n" + bytes(99), "is an HDF5 file (Keras .h5), not a TFLite file"),
    "empty": (b"", "is empty, not a TFLite file"),
    "noise": (b"\x08\x07\x12\x07pytorch", "is not a TFLite file"),
}


def _models() -> dict[str, tuple[Callable[..., Any], Sequence[tuple[int | None, ...]]]]:
    """Function and input shapes of each network: the classifiers ``good``, ``batch`` and ``flat``, and others."""
    import tensorflow as tf

    kernel = np.random.default_rng(0).normal(0, 1, (3, 3)).astype(np.float32)

    def scores(image: Any) -> Any:
        return tf.reduce_mean(image, axis=(1, 2)) @ kernel

    photo = [(1, 32, 32, 3)]
    return {
        "good": (lambda image: tf.nn.softmax(scores(image)), photo),
        "batch": (lambda image: tf.nn.softmax(scores(image)), [(None, 32, 32, 3)]),
        "flat": (lambda image: tf.reshape(scores(image), (1, 1, 1, 3)), photo),
        "segmentation": (tf.nn.softmax, photo),
        "yolo": (lambda image: tf.reshape(image, (1, 6, 512)), photo),
        "two outputs": (lambda image: (scores(image), tf.reduce_max(image)), photo),
        "two inputs": (lambda image, prior: scores(image) + prior, [*photo, (1, 3)]),
        "dynamic": (scores, [(1, None, None, 3)]),
        "argmax": (lambda image: tf.argmax(scores(image), -1), photo),
        "int32": (lambda image: tf.cast(scores(image), tf.int32), photo),
        "regression": (lambda image: scores(image)[:, :1], photo),
        "scalar": (lambda image: tf.reduce_mean(scores(image)), photo),
        "channels first": (lambda image: scores(tf.transpose(image, (0, 2, 3, 1))), [(1, 3, 32, 32)]),
        "grey": (lambda image: scores(tf.image.grayscale_to_rgb(image)), [(1, 32, 32, 1)]),
    }


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with each network as ``<name>.tflite``, ``labels.txt`` and ``photo.jpg``."""
    import tensorflow as tf

    folder = tmp_path_factory.mktemp("files")
    for name, (network, shapes) in _models().items():
        graph = tf.function(network).get_concrete_function(*(tf.TensorSpec(shape, tf.float32) for shape in shapes))
        content = tf.lite.TFLiteConverter.from_concrete_functions([graph]).convert()
        (folder / f"{name}.tflite").write_bytes(content)
    (folder / "labels.txt").write_text("a\nb\nc\n")
    (folder / "photo.jpg").write_bytes(jpeg("red", 5))
    return folder


def predict_words(folder: Path, file: Path) -> list[str]:
    options = ["--labels", str(folder / "labels.txt"), "--mean", "0", "--std", "255"]
    return ["predict", str(folder / "photo.jpg"), "--model", str(file), *options]


def bundle_with(trained: Trained, model: Path, folder: Path) -> Path:
    """Copy the trained bundle with another float32 file, and a manifest that fits it."""
    bundle = Path(shutil.copytree(trained.bundle, folder / "bundle"))
    shutil.copyfile(model, bundle / "float32.tflite")
    raw = json.loads(read_manifest(bundle).to_json())
    raw["files"]["float32.tflite"] = describe_files(bundle)["float32.tflite"].__dict__
    (bundle / MANIFEST).write_text(json.dumps(raw))
    return bundle


@pytest.mark.parametrize("name", ["good", "batch", "flat"])
def test_a_classifier_is_accepted(name: str, files: Path, capsys: Out) -> None:
    assert run(predict_words(files, files / f"{name}.tflite")) == 0
    assert run(["export", "check", str(files / f"{name}.tflite")]) == 0


@pytest.mark.parametrize("name", SHAPES)
def test_another_model_is_refused_with_its_shapes(name: str, files: Path) -> None:
    with pytest.raises(NotClassifierError) as raised:
        Predictor.from_file(files / f"{name}.tflite", files / "labels.txt", (0,), (255,))
    assert f"it has {SHAPES[name]}" in str(raised.value)


def test_every_command_refuses_another_model_alike(files: Path, trained: Trained, tmp_path: Path, capsys: Out) -> None:
    model, photo = files / "segmentation.tflite", str(files / "photo.jpg")
    bundle = str(bundle_with(trained, model, tmp_path))
    explain = ["explain", photo, "--out", str(tmp_path / "heat.png")]
    commands = [
        predict_words(files, model),
        [*explain, *predict_words(files, model)[2:]],
        ["export", "check", str(model)],
        ["predict", photo, "--bundle", bundle],
        [*explain, "--bundle", bundle],
        ["export", "web", "--bundle", bundle, "--dest", str(tmp_path / "page")],
        ["edge", "bench", "--bundle", bundle, "--variants", "float32", "--threads", "1", "--starts", "1"],
    ]
    for words in commands:
        assert run(words) in {1, 2}, words
        out, err = capsys.readouterr()
        message = "is not an image classifier, which has one input [1, height, width, 3] and one output [1, classes]: "
        assert message + f"it has {SHAPES['segmentation']}" in out + err, words
        assert "please report" not in err
    assert not (tmp_path / "heat.png").exists()
    assert not (tmp_path / "page").exists()


@pytest.mark.parametrize("name", OTHER_FORMATS)
def test_a_file_of_another_format_is_named(name: str, files: Path, tmp_path: Path, capsys: Out) -> None:
    content, message = OTHER_FORMATS[name]
    (tmp_path / "model.tflite").write_bytes(content)
    for words in (predict_words(files, tmp_path / "model.tflite"), ["export", "check", str(tmp_path / "model.tflite")]):
        assert run(words) == 2
        assert f"model.tflite: {message}; give the .tflite file" in capsys.readouterr().err


@pytest.mark.parametrize("share", [0.03, 0.1, 0.5, 0.9, 0.99])
def test_a_truncated_file_is_named(share: float, files: Path, tmp_path: Path, capsys: Out) -> None:
    content = (files / "good.tflite").read_bytes()
    (tmp_path / "model.tflite").write_bytes(content[: int(share * len(content))])
    for words in (predict_words(files, tmp_path / "model.tflite"), ["export", "check", str(tmp_path / "model.tflite")]):
        assert run(words) == 2
        assert "model.tflite: is a damaged or incomplete TFLite file; copy it again" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("mean", "std"), [("nan", "1"), ("inf", "1"), ("0", "0"), ("0", "nan"), ("0", "-1"), ("0", "inf"), ("0,nan,0", "1")]
)
def test_a_normalisation_that_is_no_number_is_refused(mean: str, std: str, files: Path, capsys: Out) -> None:
    words = predict_words(files, files / "good.tflite")[:-4]
    assert run([*words, "--mean", mean, "--std", std]) == 2
    assert "invalid normalisation" in capsys.readouterr().err


def test_a_normalisation_is_refused_by_a_model_of_raw_pixels(trained: Trained, files: Path, capsys: Out) -> None:
    words = ["predict", str(files / "photo.jpg"), "--model", str(trained.bundle / "float32.tflite")]
    assert run(words) == 0
    assert run([*words, "--mean", "127.5", "--std", "127.5"]) == 2
    assert "takes pixels of 0 to 255 as they are: mean and std do not apply" in capsys.readouterr().err


def test_scores_that_are_not_numbers_are_no_prediction(files: Path) -> None:
    predictor = Predictor.from_file(files / "good.tflite", files / "labels.txt", (0,), (255,))
    for scores in ([0.5, np.nan, 0.5], [np.nan] * 3, [np.inf, 0, 0]):
        with pytest.raises(BundleError, match="gives scores that are not finite numbers"):
            predictor.prediction_from(np.array(scores, np.float32))
