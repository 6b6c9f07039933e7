"""Foreign TFLite classifiers: files of TensorFlow's converter, without a manifest and without metadata."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import Trained
from tests.pictures import COLOURS, jpeg
from transferlite import Predictor
from transferlite.cli.main import run
from transferlite.errors import BundleError, InputError
from transferlite.images.decoder import decode
from transferlite.images.input_spec import InputSpec

SPEC = InputSpec(32, 40)
MEAN, STD = (123.7, 116.3, 103.5), (58.4, 57.1, 57.4)
KINDS = ("float32", "uint8", "int8", "float32 to uint8", "float16", "logits")


def photos(count: int = 9) -> list[bytes]:
    return [jpeg(tuple(COLOURS)[number % 3], number) for number in range(count)]


def normalised(pixels: Any) -> Any:
    return ((pixels - np.array(MEAN)) / np.array(STD)).astype(np.float32)


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Folder with a small network as ``<kind>.tflite``, and its probabilities and logits ``[N, 3]`` of the photos."""
    import tensorflow as tf

    random = np.random.default_rng(0)
    samples = normalised(np.stack([decode(photo, SPEC) for photo in photos()]))
    kernel, dense = (random.normal(0, 0.5, shape).astype(np.float32) for shape in ((3, 3, 3, 8), (8, 3)))

    def features(image: Any) -> Any:
        return tf.reduce_mean(tf.nn.relu(tf.nn.conv2d(image, kernel, 2, "SAME")), axis=(1, 2))

    bias = -np.asarray(features(samples)).mean(axis=0) @ dense
    networks = {"logits": lambda image: features(image) @ dense + bias}
    networks["probabilities"] = lambda image: tf.nn.softmax(networks["logits"](image))
    folder = tmp_path_factory.mktemp("others")
    for kind in KINDS:
        network = tf.function(networks.get(kind, networks["probabilities"]))
        graph = network.get_concrete_function(tf.TensorSpec((1, 32, 40, 3), tf.float32))
        converter = tf.lite.TFLiteConverter.from_concrete_functions([graph])
        if "int" in kind:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.representative_dataset = lambda: ([sample[None]] for sample in samples)
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
            input_type, _, output_type = kind.partition(" to ")
            converter.inference_input_type = getattr(tf, input_type)
            converter.inference_output_type = getattr(tf, output_type or input_type)
        if kind == "float16":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.target_spec.supported_types = [tf.float16]
        (folder / f"{kind}.tflite").write_bytes(converter.convert())
    (folder / "labels.txt").write_bytes("one\r\nzwei\r\n三\r\n".encode())
    return folder, np.asarray(networks["probabilities"](samples)), np.asarray(networks["logits"](samples))


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_of_any_type_predicts_as_its_network_does(kind: str, converted: Any) -> None:
    folder, probabilities, logits = converted
    expected = logits if kind == "logits" else probabilities
    predictor = Predictor.from_file(folder / f"{kind}.tflite", folder / "labels.txt", MEAN, STD)
    predicted = np.stack([predictor.probabilities(photo) for photo in photos()])
    np.testing.assert_allclose(predicted, expected, atol=0.03 if "int" in kind else 2e-3)
    assert len(set(expected.argmax(axis=1))) > 1
    assert predictor.manifest.labels == ("one", "zwei", "三")
    assert predictor.manifest.model_id.startswith(f"{kind.replace(' ', '-')}-")


def test_logits_below_zero_are_not_unknown(converted: Any) -> None:
    folder, _, logits = converted
    predictor = Predictor.from_file(folder / "logits.tflite", folder / "labels.txt", MEAN, STD)
    below = predictor.prediction_from(np.array([-3.0, -1.0, -2.0], np.float32))
    assert (below.label, below.score) == ("zwei", -1.0)
    assert (logits.min(axis=1) < 0).any()


@pytest.mark.parametrize("kind", ["uint8", "int8"])
def test_without_a_normalisation_an_integer_input_gets_raw_pixels(
    kind: str, converted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _, _ = converted
    predictor = Predictor.from_file(folder / f"{kind}.tflite", folder / "labels.txt")
    inputs: list[Any] = []
    interpreter = predictor._model._interpreter
    monkeypatch.setattr(interpreter, "set_tensor", lambda index, value: inputs.append(value))
    image = decode(photos()[0], SPEC)
    predictor.probabilities(image)
    np.testing.assert_array_equal(inputs[0][0].astype(int), image.astype(int) - (128 if kind == "int8" else 0))


def test_the_command_line_takes_a_foreign_file(
    converted: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, probabilities, _ = converted
    (tmp_path / "photo.jpg").write_bytes(photos()[4])
    words = ["predict", str(tmp_path / "photo.jpg"), "--model", str(folder / "float32.tflite"), "--json"]
    words += ["--labels", str(folder / "labels.txt"), "--mean", "123.7,116.3,103.5", "--std", "58.4,57.1,57.4"]
    assert run(words) == 0
    prediction = json.loads(capsys.readouterr().out)
    assert prediction["label"] == ("one", "zwei", "三")[probabilities[4].argmax()]
    assert prediction["score"] == pytest.approx(probabilities[4].max(), abs=1e-3)


@pytest.mark.parametrize("variant", ["float32", "int8"])
def test_a_file_of_ours_alone_predicts_as_its_bundle(variant: str, trained: Trained, tmp_path: Path) -> None:
    path = shutil.copy(trained.bundle / f"{variant}.tflite", tmp_path / "taken.tflite")
    for number in range(3):
        photo = jpeg("red", 50 + number)
        assert Predictor.from_file(path)(photo) == Predictor.load(trained.bundle, variant)(photo)


def test_duplicate_labels_get_their_index(converted: Any, tmp_path: Path) -> None:
    folder, _, _ = converted
    (tmp_path / "labels.txt").write_text("crane\nmaillot\ncrane")
    predictor = Predictor.from_file(folder / "uint8.tflite", tmp_path / "labels.txt")
    assert predictor.manifest.labels == ("crane (0)", "maillot", "crane (2)")


BAD = [
    ("float32", ["--labels", "labels.txt"], "takes float pixels"),
    ("float32", ["--labels", "labels.txt", "--mean", "0"], "mean and std must be given together"),
    ("float32", ["--labels", "labels.txt", "--mean", "0", "--std", "0"], "invalid normalisation"),
    ("float32", ["--labels", "labels.txt", "--mean", "0,0", "--std", "1"], "invalid normalisation"),
    ("float32", ["--labels", "labels.txt", "--mean", "zero", "--std", "1"], "is not a list such as 123.7,116.3,103.5"),
    ("uint8", [], "contains no labels"),
    ("uint8", ["--labels", "two.txt"], "the model has 3 outputs but 2 labels"),
    ("uint8", ["--labels", "none.txt"], "there is no such file"),
    ("uint8", ["--labels", "latin.txt"], "is not UTF-8"),
    ("none", ["--labels", "labels.txt"], "there is no such file"),
    ("uint8", ["--labels", "labels.txt", "--registry", "here"], "Give one of --registry, --bundle or --model"),
]


@pytest.mark.parametrize(("kind", "words", "reason"), BAD)
def test_missing_or_wrong_options_are_reported(
    kind: str, words: list[str], reason: str, converted: Any, monkeypatch: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(converted[0])
    Path("two.txt").write_text("one\ntwo\n")
    Path("latin.txt").write_bytes(b"caf\xe9\n")
    assert run(["predict", "photo.jpg", "--model", f"{kind}.tflite", *words]) == 2
    assert reason in capsys.readouterr().err


def test_normalisation_options_are_refused_with_a_bundle(trained: Trained, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["predict", "photo.jpg", "--bundle", str(trained.bundle), "--mean", "0", "--std", "1"]) == 2
    assert "--mean needs --model FILE.tflite" in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"", b"TFL3", b"\x00" * 64, b"\x1c\x00\x00\x00TFL3" + b"\xff" * 64])
def test_a_file_that_is_no_model_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "model.tflite").write_bytes(content)
    with pytest.raises(BundleError, match=r"model\.tflite"):
        Predictor.from_file(tmp_path / "model.tflite")


def test_a_model_that_takes_no_photo_is_refused(tmp_path: Path) -> None:
    import tensorflow as tf

    graph = tf.function(tf.nn.softmax).get_concrete_function(tf.TensorSpec((1, 7), tf.float32))
    (tmp_path / "rows.tflite").write_bytes(tf.lite.TFLiteConverter.from_concrete_functions([graph]).convert())
    with pytest.raises(BundleError, match=r"it has input \[1, 7\] float32"):
        Predictor.from_file(tmp_path / "rows.tflite")


def test_a_file_of_an_incompatible_decoder_is_refused(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = shutil.copy(trained.bundle / "float32.tflite", tmp_path)
    monkeypatch.setattr("transferlite.predict.foreign_tflite.COMPATIBLE_DECODERS", frozenset({99}))
    with pytest.raises(BundleError, match="was trained with photo decoder"):
        Predictor.from_file(path)


def test_a_threshold_in_the_metadata_makes_predictions_unknown(trained: Trained, tmp_path: Path) -> None:
    from export.tflite.metadata import ModelInfo, add_metadata
    from export.tflite.tflite_file import read_tflite, write_tflite

    model = read_tflite((trained.bundle / "float32.tflite").read_bytes())
    model.metadata = []
    (tmp_path / "sure.tflite").write_bytes(write_tflite(model))
    add_metadata(tmp_path / "sure.tflite", ModelInfo("m-1", "", "", ("blue", "red"), InputSpec(64, 64), 0.9))
    predictor = Predictor.from_file(tmp_path / "sure.tflite")
    assert predictor.prediction_from(np.array([0.8, 0.2], np.float32)).label == "unknown"


def test_a_normalisation_needs_both_halves_in_python_too(converted: Any) -> None:
    with pytest.raises(InputError, match="must be given together"):
        Predictor.from_file(converted[0] / "float32.tflite", converted[0] / "labels.txt", mean=(0,))
