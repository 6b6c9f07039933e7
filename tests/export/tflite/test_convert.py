from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import Trained
from tests.export.small import SPEC, Exported, converted_of, pictures, saved_model_of
from transferlite.inference.variants import TFLITE_VARIANTS


def interpreter(path: Path) -> Any:
    from ai_edge_litert.interpreter import Interpreter

    loaded = Interpreter(model_path=str(path))
    loaded.allocate_tensors()
    return loaded


def test_files_are_named_after_their_variant(exported: Exported) -> None:
    assert {name: path.name for name, path in exported.tflite.items()} == {
        "float32": "float32.tflite",
        "float16": "float16.tflite",
        "dynamic": "dynamic.tflite",
        "int8": "int8.tflite",
    }
    assert exported.saved_model.name == "saved_model"
    assert (exported.saved_model / "1" / "saved_model.pb").is_file()


@pytest.mark.parametrize("name", TFLITE_VARIANTS)
def test_the_input_of_a_tflite_file_is_one_uint8_photo(exported: Exported, name: str) -> None:
    loaded = interpreter(exported.tflite[name])
    (image,) = loaded.get_input_details()
    probabilities, features = loaded.get_output_details()
    assert (image["shape"].tolist(), image["dtype"]) == ([1, 32, 40, 3], np.uint8)
    assert (probabilities["shape"].tolist(), probabilities["dtype"]) == (
        [1, 3],
        np.uint8 if name == "int8" else np.float32,
    )
    assert (features["shape"].tolist(), features["dtype"]) == ([1, 8], probabilities["dtype"])


@pytest.mark.parametrize("name", TFLITE_VARIANTS)
def test_the_second_output_is_the_feature_row_of_the_backbone(exported: Exported, name: str) -> None:
    from transferlite.inference.interpreter import TFLiteClassifier

    photos = pictures(3)
    expected = np.asarray(exported.feature_model(np.stack(photos).astype(np.float32)))
    model = TFLiteClassifier(exported.tflite[name])
    for photo, row in zip(photos, expected, strict=True):
        probabilities, features = model.with_features(photo)
        np.testing.assert_array_equal(probabilities, model(photo))
        assert features is not None
        np.testing.assert_allclose(features, row, atol=0.02 if name == "int8" else 1e-5)


@pytest.mark.parametrize("name", TFLITE_VARIANTS)
def test_a_tflite_file_can_be_run_through_its_signature(exported: Exported, name: str) -> None:
    from export.gate.runtimes import tflite_predict

    loaded = interpreter(exported.tflite[name])
    signature = {"inputs": ["image"], "outputs": ["features", "probabilities"]}
    assert loaded.get_signature_list() == {"serving_default": signature}
    assert [tensor["name"] for tensor in (*loaded.get_input_details(), *loaded.get_output_details())] == [
        "image",
        "probabilities",
        "features",
    ]
    runner, photo = loaded.get_signature_runner(), pictures(1)[0]
    output = runner.get_output_details()["probabilities"]
    scale, zero = output["quantization"]
    probabilities = runner(image=photo[None])["probabilities"]
    probabilities = probabilities if name != "int8" else (probabilities.astype(np.float32) - zero) * np.float32(scale)
    np.testing.assert_array_equal(probabilities, tflite_predict(exported.tflite[name])(photo[None]))


def int8_files(exported: Exported, trained: Trained) -> dict[str, Path]:
    return {"small": exported.tflite["int8"], "EfficientNet-Lite0": trained.bundle / "int8.tflite"}


def test_the_input_of_int8_files_is_raw_pixels(exported: Exported, trained: Trained) -> None:
    for name, path in int8_files(exported, trained).items():
        (image,) = interpreter(path).get_input_details()
        assert image["quantization"] == (1.0, 0), name


def test_int8_files_have_integer_tensors_only(exported: Exported, trained: Trained) -> None:
    for name, path in int8_files(exported, trained).items():
        tensors = interpreter(path).get_tensor_details()
        assert [tensor["name"] for tensor in tensors if not np.issubdtype(tensor["dtype"], np.integer)] == [], name


def test_int8_files_have_a_scale_per_channel_of_a_convolution(exported: Exported, trained: Trained) -> None:
    for name, path in int8_files(exported, trained).items():
        kernels = [tensor for tensor in interpreter(path).get_tensor_details() if len(tensor["shape"]) == 4]
        scales = {tuple(tensor["shape"]): tensor["quantization_parameters"]["scales"] for tensor in kernels}
        each = [shape for shape, found in scales.items() if len(found) > 1]
        assert each, name
        for shape in each:
            assert len(scales[shape]) in (shape[0], shape[3]), name
            assert len(set(scales[shape])) > 1, name


def keras_probabilities(exported: Exported, photos: list[Any]) -> Any:
    return np.asarray(exported.keras(np.stack(photos).astype(np.float32), training=False))


@pytest.mark.parametrize(
    ("name", "tolerance"), [("float32", 1e-5), ("float16", 0.01), ("dynamic", 0.05), ("int8", 0.05)]
)
def test_a_tflite_file_predicts_as_keras(exported: Exported, name: str, tolerance: float) -> None:
    from export.gate.runtimes import tflite_predict

    photos = pictures(9)
    expected = keras_probabilities(exported, photos)
    assert np.ptp(expected, axis=0).max() > 0.2
    np.testing.assert_allclose(tflite_predict(exported.tflite[name])(np.stack(photos)), expected, atol=tolerance)


def test_exported_weights_are_independent_of_the_model(exported: Exported) -> None:
    from export.gate.runtimes import LoadedSavedModel

    photos = pictures(2)
    before = LoadedSavedModel(exported.saved_model).predict(np.stack(photos))
    last = exported.keras.layers[-1].weights[-1]
    value = last.numpy()
    last.assign(value + np.arange(3))
    after = LoadedSavedModel(exported.saved_model).predict(np.stack(photos))
    last.assign(value)
    np.testing.assert_array_equal(before, after)


def test_converting_prints_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    import keras
    from keras import layers

    from export.tflite.write_variants import write_variant

    backbone = keras.Sequential([keras.Input((32, 40, 3)), layers.GlobalAveragePooling2D()])
    head = keras.Sequential([keras.Input((3,)), layers.Dense(4, "relu"), layers.Dense(2, "softmax")])
    saved_model_of(backbone, head, SPEC, tmp_path)
    write_variant(converted_of(backbone, head, pictures(2)), TFLITE_VARIANTS, tmp_path)
    captured = capfd.readouterr()
    assert captured.err == ""
    assert captured.out == ""


@pytest.mark.parametrize("batch", [2, 5])
@pytest.mark.parametrize("variant", TFLITE_VARIANTS)
def test_a_batch_file_predicts_the_same_as_the_single_photo_file(
    exported: Exported, tmp_path: Path, variant: str, batch: int
) -> None:
    from export.gate.runtimes import tensorflow_predict, tflite_predict
    from export.tflite.write_variants import write_variant

    files = write_variant(exported.converted, [variant], tmp_path, batch)
    assert list(files) == [variant, f"{variant}_batch{batch}"]
    assert interpreter(files[f"{variant}_batch{batch}"]).get_input_details()[0]["shape"].tolist() == [batch, 32, 40, 3]
    photos = np.stack(pictures(7))
    for load in (tflite_predict, tensorflow_predict):
        expected = load(files[variant])(photos)
        np.testing.assert_allclose(load(files[f"{variant}_batch{batch}"])(photos), expected, atol=1e-6)
        np.testing.assert_allclose(load(files[f"{variant}_batch{batch}"])(photos[:1]), expected[:1], atol=1e-6)
