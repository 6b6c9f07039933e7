import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtime.imaging import InputSpec, decode
from tests.conftest import Trained
from tests.pictures import COLOURS, jpeg

SPEC = InputSpec(32, 40)


@dataclass(frozen=True)
class Exported:
    keras: Any
    saved_model: Path
    tflite: dict[str, Path]


def pictures(count: int) -> list[Any]:
    colours = tuple(COLOURS)
    return [decode(jpeg(colours[number % 3], number), SPEC) for number in range(count)]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """A small network with random weights, written in every form; its answers to the pictures differ widely."""
    import keras
    from keras import layers

    from export.convert import Graph, write_saved_model, write_tflite

    keras.utils.set_random_seed(0)
    scaled = [layers.Rescaling(1 / 127.5, -1), layers.Normalization(mean=[0.1, 0.0, -0.1], variance=[1.2, 1.0, 0.8])]
    stack = [*scaled, layers.Conv2D(8, 3, 2), layers.BatchNormalization(), layers.ReLU(6.0)]
    features = keras.Sequential([keras.Input((32, 40, 3)), *stack, layers.GlobalAveragePooling2D()])
    head = keras.Sequential([keras.Input((8,)), layers.Dense(16, "relu"), layers.Dense(3, "softmax")])
    kernel = head.layers[-1].get_weights()[0] * 30
    hidden = head.layers[0](features(np.stack(pictures(9)).astype(np.float32)))
    head.layers[-1].set_weights([kernel, -np.asarray(hidden).mean(axis=0) @ kernel])
    folder = tmp_path_factory.mktemp("exported")
    graph = Graph((features, head), SPEC)
    saved_model = write_saved_model(graph, folder)
    tflite = write_tflite(graph, SPEC, pictures(12), folder)
    return Exported(keras.Sequential([features, head]), saved_model, tflite)


def interpreter(path: Path) -> Any:
    from ai_edge_litert.interpreter import Interpreter

    loaded = Interpreter(model_path=str(path))
    loaded.allocate_tensors()
    return loaded


def test_the_files_are_named_for_their_variant(exported: Exported) -> None:
    assert {name: path.name for name, path in exported.tflite.items()} == {
        "float32": "float32.tflite",
        "int8": "int8.tflite",
    }
    assert exported.saved_model.name == "saved_model"
    assert (exported.saved_model / "1" / "saved_model.pb").is_file()


@pytest.mark.parametrize("name", ["float32", "int8"])
def test_a_tflite_file_takes_one_uint8_photo(exported: Exported, name: str) -> None:
    loaded = interpreter(exported.tflite[name])
    (image,) = loaded.get_input_details()
    (answer,) = loaded.get_output_details()
    assert (image["shape"].tolist(), image["dtype"]) == ([1, 32, 40, 3], np.uint8)
    assert (answer["shape"].tolist(), answer["dtype"]) == ([1, 3], np.float32 if name == "float32" else np.uint8)


@pytest.mark.parametrize("name", ["float32", "int8"])
def test_a_tflite_file_answers_by_its_signature(exported: Exported, name: str) -> None:
    from export.verify import tflite_answers

    loaded = interpreter(exported.tflite[name])
    signature = {"inputs": ["image"], "outputs": ["probabilities"]}
    assert loaded.get_signature_list() == {"serving_default": signature}
    assert [one["name"] for one in (*loaded.get_input_details(), *loaded.get_output_details())] == [
        "image",
        "probabilities",
    ]
    runner, photo = loaded.get_signature_runner(), pictures(1)[0]
    (output,) = runner.get_output_details().values()
    scale, zero = output["quantization"]
    answer = runner(image=photo[None])["probabilities"]
    answer = answer if name == "float32" else (answer.astype(np.float32) - zero) * np.float32(scale)
    np.testing.assert_array_equal(answer, tflite_answers(exported.tflite[name])(photo[None]))


def int8_files(exported: Exported, trained: Trained) -> dict[str, Path]:
    return {"small": exported.tflite["int8"], "EfficientNet-Lite0": trained.bundle / "int8.tflite"}


def test_the_int8_files_take_raw_pixels(exported: Exported, trained: Trained) -> None:
    for name, path in int8_files(exported, trained).items():
        (image,) = interpreter(path).get_input_details()
        assert image["quantization"] == (1.0, 0), name


def test_the_int8_files_are_integer_throughout(exported: Exported, trained: Trained) -> None:
    for name, path in int8_files(exported, trained).items():
        tensors = interpreter(path).get_tensor_details()
        assert [one["name"] for one in tensors if not np.issubdtype(one["dtype"], np.integer)] == [], name


def keras_answers(exported: Exported, photos: list[Any]) -> Any:
    return np.asarray(exported.keras(np.stack(photos).astype(np.float32), training=False))


@pytest.mark.parametrize(("name", "tolerance"), [("float32", 1e-5), ("int8", 0.05)])
def test_a_tflite_file_answers_as_keras_does(exported: Exported, name: str, tolerance: float) -> None:
    from export.verify import tflite_answers

    photos = pictures(9)
    expected = keras_answers(exported, photos)
    assert np.ptp(expected, axis=0).max() > 0.2
    np.testing.assert_allclose(tflite_answers(exported.tflite[name])(np.stack(photos)), expected, atol=tolerance)


@pytest.mark.parametrize("count", [1, 2, 7])
def test_the_saved_model_takes_any_batch(exported: Exported, count: int) -> None:
    from export.verify import saved_model_answers

    photos = pictures(count)
    answers = saved_model_answers(exported.saved_model)(np.stack(photos))
    np.testing.assert_allclose(answers, keras_answers(exported, photos), atol=1e-5)


LOAD = """
import sys
for name in ("keras", "tf_keras", "tensorflow.keras"):
    sys.modules[name] = None
import numpy as np
import tensorflow as tf
serve = tf.saved_model.load(sys.argv[1]).signatures["serving_default"]
image = serve.structured_input_signature[1]["image"]
print(image.shape.as_list(), image.dtype.name, list(serve.structured_outputs))
photos = np.load(sys.argv[2])
np.save(sys.argv[3], serve(image=tf.constant(photos))["probabilities"].numpy())
"""


def test_the_saved_model_loads_in_a_process_without_keras(exported: Exported, tmp_path: Path) -> None:
    photos = pictures(3)
    np.save(tmp_path / "photos.npy", np.stack(photos))
    arguments = [exported.saved_model / "1", tmp_path / "photos.npy", tmp_path / "answers.npy"]
    done = subprocess.run(
        [sys.executable, "-c", LOAD, *map(str, arguments)], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[None, 32, 40, 3] uint8 ['probabilities']\n"
    np.testing.assert_allclose(np.load(tmp_path / "answers.npy"), keras_answers(exported, photos), atol=1e-5)


def test_the_exported_weights_do_not_follow_the_model_afterwards(exported: Exported) -> None:
    from export.verify import saved_model_answers

    photos = pictures(2)
    before = saved_model_answers(exported.saved_model)(np.stack(photos))
    last = exported.keras.layers[-1].weights[-1]
    value = last.numpy()
    last.assign(value + np.arange(3))
    after = saved_model_answers(exported.saved_model)(np.stack(photos))
    last.assign(value)
    np.testing.assert_array_equal(before, after)


def test_converting_writes_nothing_on_the_terminal(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    import keras
    from keras import layers

    from export.convert import Graph, write_saved_model, write_tflite

    model = keras.Sequential([keras.Input((32, 40, 3)), layers.GlobalAveragePooling2D(), layers.Dense(2, "softmax")])
    graph = Graph((model,), SPEC)
    write_saved_model(graph, tmp_path)
    write_tflite(graph, SPEC, pictures(2), tmp_path)
    captured = capfd.readouterr()
    assert captured.err == ""
    assert captured.out == ""
