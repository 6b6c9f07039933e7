from typing import Any

import numpy as np
import pytest

from transferlite.errors import GateError
from transferlite.images.input_spec import InputSpec

SPEC = InputSpec(8, 8)


def photos(count: int) -> list[Any]:
    return list(np.random.default_rng(0).integers(0, 256, (count, 8, 8, 3), np.uint8))


def residual() -> Any:
    """Network in which TFLite writes a sum over one of its terms; float RGB ``[N, 8, 8, 3]`` to ``[N, 2]``."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(0)
    pixels = keras.Input((8, 8, 3))
    first = layers.Conv2D(4, 3, padding="same", name="first")(pixels)
    second = layers.Conv2D(4, 3, padding="same", name="second")(first)
    third = layers.Conv2D(4, 3, padding="same", name="third")(layers.Add(name="sum")([first, second]))
    features = layers.GlobalAveragePooling2D()(third)
    return keras.Model(pixels, layers.Dense(2, "softmax", name="last")(features))


def converted(model: Any) -> bytes:
    import keras

    from export.saved_model.graph import Graph
    from export.tflite.convert import convert

    return convert(Graph(model, keras.layers.Identity(), SPEC)).content


def test_ranges_are_those_of_the_layers_outputs_over_all_photos() -> None:
    import keras

    from export.tflite.quantise import observe_ranges
    from export.tflite.tflite_file import activation_tensors, read_tflite

    model, images = residual(), photos(7)
    content = converted(model)
    tensors = activation_tensors(read_tflite(content))
    found = observe_ranges(content, tensors, images)
    layers = keras.Model(model.input, [model.get_layer(name).output for name in ("first", "second", "sum", "third")])
    for values in map(np.asarray, layers(np.stack(images).astype(np.float32))):
        expected = np.array([values.min(), values.max()])
        assert np.abs(found - expected).max(axis=1).min() < 1e-3


def test_nan_in_one_photo_stays_in_the_merged_range() -> None:
    from export.tflite.quantise import _merge

    ranges = [np.array([[0, 1], [0, 1]], np.float32), np.array([[np.nan, np.nan], [-1, 5]], np.float32)]
    for order in (ranges, ranges[::-1]):
        merged = _merge(order)
        assert np.isnan(merged[0]).all()
        assert merged[1].tolist() == [-1, 5]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_network_that_has_diverged_is_rejected(value: float) -> None:
    from export.tflite.quantise import add_ranges

    model = residual()
    kernel, bias = model.get_layer("third").get_weights()
    model.get_layer("third").set_weights([kernel, bias + np.float32(value)])
    with pytest.raises(GateError, match=r"^int8: the model's activations are not finite numbers"):
        add_ranges(converted(model), photos(2))


def test_weights_are_aligned_to_16_bytes() -> None:
    from ai_edge_litert import schema_py_generated as schema

    from export.tflite.tflite_file import read_tflite, write_tflite

    content = write_tflite(read_tflite(converted(residual())))
    model = schema.Model.GetRootAs(content, 0)
    table = np.frombuffer(content, np.uint8)
    buffers = [model.Buffers(number).DataAsNumpy() for number in range(model.BuffersLength())]
    starts = [buffer.ctypes.data - table.ctypes.data for buffer in buffers if isinstance(buffer, np.ndarray)]
    assert len(starts) > 5
    assert [start for start in starts if start % 16] == []
