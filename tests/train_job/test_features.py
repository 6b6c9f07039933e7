from typing import Any

import numpy as np
import pytest

from runtime.imaging import InputSpec
from train_job.dataset import Example, Reject
from train_job.loading import Photo

SPEC = InputSpec(32, 32)
WIDTH = 8


def photos(count: int) -> list[Photo]:
    random = np.random.default_rng(count)
    images = random.integers(0, 256, (count, 32, 32, 3)).astype(np.uint8)
    return [Photo(Example(f"{number}.jpg", "cat"), image) for number, image in enumerate(images)]


@pytest.fixture(scope="module")
def model() -> Any:
    """A small base whose BatchNormalization has statistics far from those of any batch."""
    import keras
    from keras import layers

    from train_job.backbones import Backbone, Normalisation
    from train_job.model import feature_model

    keras.utils.set_random_seed(0)
    norm = layers.BatchNormalization()
    base = keras.Sequential([keras.Input((32, 32, 3)), layers.Conv2D(WIDTH, 5, 4), norm, layers.ReLU()])
    norm.set_weights([np.linspace(low, 2, WIDTH) for low in (0.5, -1, -3, 0.1)])
    base.trainable = False
    return feature_model(base, Backbone("small", None, 32, Normalisation.TF), SPEC)


def extract(model: Any, items: list[Any]) -> Any:
    from train_job.features import extract as run

    return run(model, iter(items), lambda: None)


@pytest.mark.parametrize("count", [1, 31, 32, 33, 70])
def test_rows_are_the_models_own_in_the_photos_order(model: Any, count: int) -> None:
    items = photos(count)
    found = extract(model, items)
    direct = model(np.stack([photo.image for photo in items]).astype(np.float32), training=False)
    assert found.examples == tuple(photo.example for photo in items)
    assert found.rows.dtype == np.float32
    assert found.rows.std() > 0.01
    np.testing.assert_allclose(found.rows, np.asarray(direct), rtol=1e-4, atol=1e-5)


def test_a_photos_row_does_not_depend_on_its_batch(model: Any) -> None:
    items = photos(40)
    alone = extract(model, items[35:36]).rows[0]
    np.testing.assert_allclose(extract(model, items).rows[35], alone, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(extract(model, items[30:40]).rows[5], alone, rtol=1e-4, atol=1e-5)


def test_no_photo_gives_no_row_of_the_right_width(model: Any) -> None:
    assert extract(model, []).rows.shape == (0, WIDTH)


def test_rejects_are_passed_over_and_reported(model: Any) -> None:
    items = photos(34)
    rejects = [Reject(f"bad{number}", number, "empty", "the file is empty") for number in (3, 33)]
    mixed: list[Any] = [*items[:3], rejects[0], *items[3:], rejects[1]]
    found = extract(model, mixed)
    assert found.rejects == tuple(rejects)
    assert found.examples == tuple(photo.example for photo in items)
    np.testing.assert_array_equal(found.rows, extract(model, items).rows)


def test_progress_advances_once_an_item(model: Any) -> None:
    from train_job.features import extract as run

    steps: list[None] = []
    reject = Reject("bad", None, "empty", "the file is empty")
    run(model, [*photos(2), reject], lambda: steps.append(None))
    assert len(steps) == 3


class Counting:
    """A feature model that writes down the first pixel of each photo it is run on."""

    input_shape = (None, 32, 32, 3)
    output_shape = (None, 1)

    def __init__(self) -> None:
        self.batches: list[list[int]] = []

    def __call__(self, images: Any, training: bool) -> Any:
        import tensorflow as tf

        def note(firsts: Any) -> Any:
            self.batches.append(firsts[:, 0].astype(int).tolist())
            return firsts

        return tf.ensure_shape(tf.numpy_function(note, [images[:, 0, 0, :1]], tf.float32), (None, 1))


def test_each_photo_runs_through_the_base_once() -> None:
    model = Counting()
    items = [Photo(Example(f"{number}.jpg", "cat"), np.full((32, 32, 3), number, np.uint8)) for number in range(1, 71)]
    found = extract(model, items)
    assert found.rows[:, 0].tolist() == list(range(1, 71))
    assert [batch[: 70 - 32 * place] for place, batch in enumerate(model.batches)] == [
        list(range(1, 33)),
        list(range(33, 65)),
        list(range(65, 71)),
    ]


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "mobilenet_v2"])
def test_the_feature_model_takes_plain_pixels_and_trains_nothing(name: str) -> None:
    import keras

    from train_job.backbones import BACKBONES
    from train_job.bases import build_base
    from train_job.model import feature_model

    base = build_base(BACKBONES[name], (32, 32, 3), "none")
    model = feature_model(base, BACKBONES[name], SPEC)
    pixels = np.random.default_rng(1).uniform(0, 255, (2, 32, 32, 3)).astype(np.float32)
    prepared = getattr(keras.applications, name.removesuffix("_small")).preprocess_input(pixels.copy())
    expected = np.asarray(base(prepared, training=False)).mean(axis=(1, 2))
    np.testing.assert_allclose(np.asarray(model(pixels)), expected, rtol=1e-4, atol=1e-5)
    assert model.trainable_variables == []
