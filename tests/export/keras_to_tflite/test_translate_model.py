from typing import Any

import numpy as np
import pytest

from tests.train_job.small_backbones import random_images, small_feature_model
from train_job.backbones.catalog import BACKBONES


def run(content: bytes, images: list[Any]) -> list[np.ndarray[Any, Any]]:
    """Run the file on LiteRT; returns each of its outputs, ``[N, D]``."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=content)
    interpreter.allocate_tensors()
    rows: list[list[Any]] = [[] for _ in interpreter.get_output_details()]
    for image in images:
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image[None].astype(np.float32))
        interpreter.invoke()
        for found, output in zip(rows, interpreter.get_output_details(), strict=True):
            found.append(interpreter.get_tensor(output["index"])[0])
    return [np.stack(found) for found in rows]


def assert_close(actual: Any, expected: Any) -> None:
    """Assert equality within a quarter of a float16 step at the largest value."""
    expected = np.asarray(expected).reshape(actual.shape)
    assert expected.std() > 0
    assert np.abs(actual - expected).max() <= np.spacing(np.float16(np.abs(expected).max())) / 4


@pytest.mark.parametrize("name", BACKBONES)
def test_each_backbones_file_computes_what_keras_does(name: str) -> None:
    from export.keras_to_tflite.translate_model import translate_to_tflite

    size = 96 if name == "inception_v3" else 64
    model, images = small_feature_model(name, size), random_images(3, size)
    (rows,) = run(translate_to_tflite(model), images)
    assert_close(rows, model(np.stack(images).astype(np.float32), training=False))


CUTS = [("efficientnet_lite0", "block13_expand_conv"), ("mobilenet_v3_small", "120"), ("resnet50", "150")]


@pytest.mark.parametrize(("name", "layer"), CUTS)
def test_the_activation_at_a_cut_is_a_second_output(name: str, layer: str) -> None:
    from export.keras_to_tflite.translate_model import translate_to_tflite

    model, images = small_feature_model(name, 64, layer), random_images(2, 64)
    found = run(translate_to_tflite(model), images)
    expected = model(np.stack(images).astype(np.float32), training=False)
    assert len(found) == 2
    for rows, values in zip(found, expected, strict=True):
        assert_close(rows, values)


def small(*layers: Any) -> Any:
    import keras

    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((12, 10, 3)), *layers])


def test_layers_that_cannot_be_folded_become_their_own_operations() -> None:
    from keras import layers

    from export.keras_to_tflite.translate_model import translate_to_tflite

    norm = layers.BatchNormalization()
    model = small(
        layers.BatchNormalization(),
        layers.Activation("relu"),
        layers.Conv2D(4, 3, strides=2, padding="same", activation="silu"),
        layers.MaxPooling2D(2, padding="same"),
        norm,
        layers.ReLU(6.0),
        layers.DepthwiseConv2D(3, padding="valid", depth_multiplier=2, use_bias=True),
        layers.Activation("sigmoid"),
    )
    norm.set_weights([np.array([1.0, 2, 3, 4]), np.zeros(4), np.array([0.1, -0.2, 0, 0]), np.array([1, 2, 0.5, 1])])
    images = random_images(2, 12)
    images = [image[:, :10] for image in images]
    (rows,) = run(translate_to_tflite(model), images)
    np.testing.assert_allclose(rows, np.asarray(model(np.stack(images).astype(np.float32))).reshape(2, -1), atol=1e-5)


def test_a_layer_with_two_consumers_is_not_folded() -> None:
    import keras
    from keras import layers

    from export.keras_to_tflite.translate_model import translate_to_tflite

    keras.utils.set_random_seed(1)
    pixels = keras.Input((8, 8, 3))
    conv = layers.Conv2D(3, 1)(pixels)
    norm = layers.BatchNormalization()
    joined = layers.Add()([conv, layers.ReLU()(norm(conv))])
    model = keras.Model(pixels, joined)
    norm.set_weights([np.ones(3) * 2, np.ones(3), np.ones(3) * 5, np.ones(3) * 3])
    images = random_images(2, 8)
    (rows,) = run(translate_to_tflite(model), images)
    expected = np.asarray(model(np.stack(images).astype(np.float32))).reshape(2, -1)
    np.testing.assert_allclose(rows, expected, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("kind", ["layer", "activation", "groups", "dense", "axis"])
def test_unsupported_layers_raise(kind: str) -> None:
    import keras
    from keras import layers

    from export.keras_to_tflite.layers import UnsupportedLayerError
    from export.keras_to_tflite.translate_model import translate_to_tflite

    layer = {
        "layer": layers.GaussianNoise(0.1),
        "activation": layers.Activation("selu"),
        "groups": keras.Sequential([layers.Conv2D(4, 1), layers.Conv2D(4, 1, groups=2)]),
        "dense": keras.Sequential([layers.Reshape((120, 3)), layers.Dense(2)]),
        "axis": layers.LayerNormalization(axis=1),
    }[kind]
    with pytest.raises(UnsupportedLayerError):
        translate_to_tflite(small(layer))
