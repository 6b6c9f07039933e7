import io
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from train_job.head.model import Classifier, head_model
from train_job.reporting.grad_cam import THUMBNAIL_SIDE, activation_maps, overlay, thumbnail
from transferlite.images.input_spec import InputSpec

SPEC = InputSpec(32, 48)


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    keras.utils.set_random_seed(3)
    pixels = keras.Input((32, 48, 3))
    maps = keras.layers.Conv2D(6, 8, strides=8, activation="relu", name="last")(pixels / 255.0)
    pool = keras.layers.GlobalAveragePooling2D(name="pool")
    return Classifier(("a", "b", "c"), SPEC, lambda: keras.Model(pixels, pool(maps)), head_model(6, 10, 3))


@pytest.fixture(scope="module")
def photos() -> Any:
    return np.random.default_rng(0).integers(0, 256, (20, 32, 48, 3), dtype=np.uint8)


def test_the_activation_maps_are_the_input_of_the_pooling(classifier: Classifier, photos: Any) -> None:
    maps = np.asarray(classifier.activation_maps(photos.astype(np.float32)))
    assert maps.shape == (20, 4, 6, 6)
    rows = np.asarray(classifier.feature_model(photos.astype(np.float32)))
    np.testing.assert_allclose(maps.mean(axis=(1, 2)), rows, atol=1e-6)
    np.testing.assert_allclose(classifier.head(rows), classifier.predict(photos), atol=1e-5)


def test_the_closed_form_equals_grad_cam_with_a_gradient_tape(classifier: Classifier, photos: Any) -> None:
    classes = np.arange(20) % 3
    actual = activation_maps(classifier.activation_maps, classifier.head, photos, classes)
    hidden, output = classifier.head.layers
    maps = tf.convert_to_tensor(classifier.activation_maps(photos.astype(np.float32)))
    with tf.GradientTape() as tape:
        tape.watch(maps)
        logits = hidden(tf.reduce_mean(maps, (1, 2))) @ output.kernel + output.bias
        chosen = tf.gather(logits, classes, batch_dims=1)
    weights = tf.reduce_mean(tape.gradient(chosen, maps), (1, 2))
    expected = np.maximum(np.einsum("nhwd,nd->nhw", maps, weights), 0)
    expected /= np.maximum(expected.max(axis=(1, 2), keepdims=True), 1e-30)
    np.testing.assert_allclose(actual, expected, atol=1e-4)
    assert actual.max() == 1


def test_no_evidence_gives_an_empty_map_and_no_photos_give_no_maps(classifier: Classifier, photos: Any) -> None:
    black = np.zeros_like(photos[:1])
    assert not activation_maps(classifier.activation_maps, classifier.head, black, np.array([0])).any()
    assert activation_maps(classifier.activation_maps, classifier.head, photos[:0], np.array([], int)).shape == (
        0,
        4,
        6,
    )


def test_the_map_is_brightest_where_the_class_is() -> None:
    keras.utils.set_random_seed(0)
    pixels = keras.Input((32, 48, 3))
    maps = keras.layers.AveragePooling2D(8)(pixels)  # each map is a colour channel
    head = head_model(3, 3, 2)
    head.set_weights([np.eye(3), np.zeros(3), np.array([[1, 0], [0, 0], [0, 1]]), np.zeros(2)])
    features = keras.Model(pixels, keras.layers.GlobalAveragePooling2D(name="pool")(maps))
    classifier = Classifier(("red", "blue"), SPEC, lambda: features, head)
    photo = np.zeros((1, 32, 48, 3), np.uint8)
    photo[0, :16, :16, 0] = photo[0, 16:, 32:, 2] = 255
    red, blue = activation_maps(classifier.activation_maps, head, np.repeat(photo, 2, axis=0), np.array([0, 1]))
    assert red[:2, :2].all()
    assert red.sum() == 4
    assert blue[2:, 4:].all()
    assert blue.sum() == 4


def test_thumbnails_are_small_jpegs_that_keep_the_shape_and_show_the_heat() -> None:
    photo = np.full((300, 400, 3), 128, np.uint8)
    heat = np.zeros((3, 4), np.float32)
    heat[0, 3] = 1
    for data in (thumbnail(photo), overlay(photo, heat)):
        image = Image.open(io.BytesIO(data))
        assert (image.format, image.size) == ("JPEG", (THUMBNAIL_SIDE, 120))
        assert len(data) < 10_000
    shown = np.asarray(Image.open(io.BytesIO(overlay(photo, heat))), int)
    assert abs(shown[110, 5] - 128).max() < 8
    assert shown[5, 155, 0] > 180
