from typing import Any

import numpy as np
import pytest

from transferlite.errors import GateError


def photos(count: int) -> list[Any]:
    return list(np.random.default_rng(0).integers(0, 256, (count, 8, 8, 3), np.uint8))


def residual() -> Any:
    """Network in which TFLite writes a sum over one of its terms; float RGB ``[N, 8, 8, 3]`` to ``[N, 4]``."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(0)
    pixels = keras.Input((8, 8, 3))
    first = layers.Conv2D(4, 3, padding="same", name="first")(pixels)
    second = layers.Conv2D(4, 3, padding="same", name="second")(first)
    third = layers.Conv2D(4, 3, padding="same", name="third")(layers.Add(name="sum")([first, second]))
    return keras.Model(pixels, layers.GlobalAveragePooling2D()(third))


def translated(model: Any) -> bytes:
    from export.keras_to_tflite.translate_model import translate_to_tflite

    return translate_to_tflite(model)


def head(bias: float) -> bytes:
    """File of a head on four features whose last bias is ``bias``."""
    import keras
    from keras import layers

    from export.keras_to_tflite.translate_model import translate_head

    model = keras.Sequential([keras.Input((4,)), layers.Dense(6, "relu"), layers.Dense(2, "softmax")])
    model.layers[-1].bias.assign(np.array([0, bias], np.float32))
    return translate_head(model)


def test_ranges_are_those_of_the_layers_outputs_over_all_photos() -> None:
    import keras

    from export.tflite.quantise import merge_ranges, observe

    model, images = residual(), photos(7)
    ranges, rows = zip(*observe(translated(model), images), strict=True)
    found = merge_ranges(ranges)
    np.testing.assert_allclose(np.stack(rows), model(np.stack(images).astype(np.float32)), rtol=1e-4, atol=1e-3)
    layers = keras.Model(model.input, [model.get_layer(name).output for name in ("first", "second", "sum", "third")])
    for values in map(np.asarray, layers(np.stack(images).astype(np.float32))):
        expected = np.array([values.min(), values.max()])
        assert np.abs(found - expected).max(axis=1).min() < 1e-3


def test_nan_in_one_photo_stays_in_the_merged_range() -> None:
    from export.tflite.quantise import merge_ranges

    ranges = [np.array([[0, 1], [0, 1]], np.float32), np.array([[np.nan, np.nan], [-1, 5]], np.float32)]
    for order in (ranges, ranges[::-1]):
        merged = merge_ranges(order)
        assert np.isnan(merged[0]).all()
        assert merged[1].tolist() == [-1, 5]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_network_that_has_diverged_is_rejected(value: float) -> None:
    from export.tflite.quantise import Calibration

    calibration = Calibration(np.zeros((3, 2), np.float32), np.ones((2, 4), np.float32))
    assert calibration.with_head(head(0)).shape == (6, 2)
    with pytest.raises(GateError, match=r"^int8: the model's activations are not finite numbers"):
        calibration.with_head(head(value))


def test_weights_are_aligned_to_16_bytes() -> None:
    from ai_edge_litert import schema_py_generated as schema

    from export.tflite.tflite_file import read_tflite, write_tflite

    content = write_tflite(read_tflite(translated(residual())))
    model = schema.Model.GetRootAs(content, 0)
    table = np.frombuffer(content, np.uint8)
    buffers = [model.Buffers(number).DataAsNumpy() for number in range(model.BuffersLength())]
    starts = [buffer.ctypes.data - table.ctypes.data for buffer in buffers if isinstance(buffer, np.ndarray)]
    assert len(starts) > 5
    assert [start for start in starts if start % 16] == []
