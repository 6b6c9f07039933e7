import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest

from tests.train_job.small_backbones import random_images, small_feature_model

SIZE = 64


def source(images: list[Any]) -> Iterator[tuple[int, Any]]:
    for index, image in enumerate(images):
        yield index, partial(np.copy, image)


@pytest.fixture(scope="module")
def model() -> Any:
    return small_feature_model("mobilenet_v3_small", SIZE, "120")


def outputs(forward: Any, images: list[Any]) -> list[Any]:
    results = list(forward.run(source(images)))
    assert [name for name, _ in results] == list(range(len(images)))
    return [np.stack([rows[output] for _, rows in results]) for output in range(2)]


@pytest.mark.parametrize("count", [1, 4, 5])
def test_litert_gives_keras_feature_rows_in_order(model: Any, count: int) -> None:
    from export.keras_to_tflite.translate_model import translate_to_tflite
    from train_job.extraction.forward_pass import litert_forward_pass

    images = random_images(count, SIZE)
    expected = [np.asarray(output).reshape(count, -1) for output in model(np.stack(images).astype(np.float32))]
    forward = litert_forward_pass(translate_to_tflite(model), 2)
    assert forward.precision == "float32"
    for rows, exact in zip(outputs(forward, images), expected, strict=True):
        assert np.abs(rows - exact).max() <= np.spacing(np.float16(np.abs(exact).max())) / 4


def test_a_photos_row_does_not_depend_on_the_others(model: Any) -> None:
    from export.keras_to_tflite.translate_model import translate_to_tflite
    from train_job.extraction.forward_pass import litert_forward_pass

    images = random_images(6, SIZE)
    forward = litert_forward_pass(translate_to_tflite(model), 2)
    np.testing.assert_array_equal(outputs(forward, images)[0][3:4], outputs(forward, images[3:4])[0])


def test_time_without_an_image_is_counted_as_waiting() -> None:
    from train_job.extraction.forward_pass import BusyTime

    busy = BusyTime(2, seconds=3.0)
    assert busy.waiting(2.0) == pytest.approx(0.25)
    assert busy.waiting(0.0) == 0.0
    with busy():
        pass
    assert busy.seconds > 3.0


_TWO_DEVICES = """
import numpy as np, tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from tests.train_job.small_backbones import random_images, with_random_statistics
from tests.train_job.extraction.test_forward_pass import SIZE, outputs
from train_job.extraction.forward_pass import gpu_forward_pass
import keras
from keras import layers
def network():
    pixels = keras.Input((SIZE, SIZE, 3))
    low = layers.Conv2D(8, 3, 2)(layers.Rescaling(1 / 127.5, -1)(pixels))
    low = layers.Activation("hard_silu")(layers.BatchNormalization()(low))
    high = layers.BatchNormalization()(layers.DepthwiseConv2D(3, 2)(low))
    return with_random_statistics(keras.Model(pixels, [layers.GlobalAveragePooling2D(dtype="float32")(high), low]))
exact = network()
weights = exact.get_weights()
def build():
    mixed = network()
    mixed.set_weights(weights)
    return mixed
forward = gpu_forward_pass(build, ["CPU:0", "CPU:1"], batch=2)
assert keras.config.dtype_policy().name == "float32"
assert forward.precision == "mixed_float16", forward
images = random_images(7, SIZE)
expected_rows = [np.asarray(output).reshape(7, -1) for output in exact(np.stack(images).astype(np.float32))]
for rows, expected in zip(outputs(forward, images), expected_rows):
    assert rows.dtype == np.float32
    difference = np.abs(rows - expected).max() / np.abs(expected).max()
    assert 0 < difference < 0.02, difference
print("same rows in order")
"""


def test_several_devices_share_each_batch_in_mixed_precision() -> None:
    done = subprocess.run([sys.executable, "-c", _TWO_DEVICES], capture_output=True, text=True, check=False)
    assert done.stdout.endswith("same rows in order\n"), done.stderr[-3000:]
