from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from transferlite.images.input_spec import InputSpec

SPEC = InputSpec(16, 16)


@pytest.fixture(scope="module")
def graph() -> Any:
    """Convolutions, a depthwise one and dense layers; some have fewer than 1,024 weights."""
    import keras
    from keras import layers

    from export.saved_model.graph import Graph

    keras.utils.set_random_seed(0)
    stack = [layers.Conv2D(8, 3), layers.Conv2D(128, 1), layers.DepthwiseConv2D(3), layers.Conv2D(64, 1)]
    base = keras.Sequential([keras.Input((16, 16, 3)), *stack, layers.GlobalAveragePooling2D()])
    head = keras.Sequential([keras.Input((64,)), layers.Dense(96, "relu"), layers.Dense(3, "softmax")])
    return Graph(base, head, SPEC)


def tensorflows(graph: Any, **settings: Any) -> Any:
    """The file that TensorFlow's converter makes with those settings, as an object."""
    import tensorflow as tf

    from export.tflite.tflite_file import read_tflite

    definition, image, answer = graph.definition()
    converter = tf.compat.v1.lite.TFLiteConverter(definition, None, None, [image], [answer])
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter._experimental_disable_per_channel_quantization_for_dense_layers = True
    for name, value in settings.items():
        setattr(converter.target_spec, name, value)
    return read_tflite(converter.convert())


def ours(graph: Any, change: Callable[[Any], None]) -> Any:
    from export.tflite.convert import convert
    from export.tflite.tflite_file import read_tflite

    model = read_tflite(convert(graph).content)
    change(model)
    return model


def stored(model: Any, kind: str) -> dict[tuple[int, ...], Any]:
    """The constants of a type by their shape, which no two of them share here, and their scales."""
    from ai_edge_litert import schema_py_generated as schema

    number, dtype = getattr(schema.TensorType, kind), np.dtype(kind.lower())
    found = {}
    for tensor in model.subgraphs[0].tensors:
        data = model.buffers[tensor.buffer].data
        if tensor.type == number and data is not None:
            scale = None if tensor.quantization is None else tensor.quantization.scale
            found[tuple(int(side) for side in tensor.shape)] = (np.asarray(data).view(dtype), scale)
    return found


def codes(model: Any) -> set[tuple[int, int]]:
    used = {operator.opcodeIndex for operator in model.subgraphs[0].operators}
    return {(code.builtinCode, code.version) for place, code in enumerate(model.operatorCodes) if place in used}


def test_dynamic_has_tensorflows_own_int8_weights_but_of_depthwise_convolutions(graph: Any) -> None:
    from export.tflite.fold_weights import quantise_weights

    model = ours(graph, quantise_weights)
    expected, found = stored(tensorflows(graph), "INT8"), stored(model, "INT8")
    assert expected.keys() == found.keys() | {(1, 3, 3, 128)}
    assert found.keys() == {(128, 1, 1, 8), (64, 1, 1, 128), (96, 64)}
    for shape, (values, scale) in found.items():
        apart = np.abs(values.astype(int) - expected[shape][0])
        assert apart.max() <= 1  # where a value is just between two whole numbers
        assert apart.mean() < 1e-3
        np.testing.assert_allclose(scale, expected[shape][1], rtol=1e-6)
        assert len(scale) == (1 if len(shape) == 2 else shape[0])
    assert (1, 3, 3, 128) in stored(model, "FLOAT32")


def test_dynamic_names_the_versions_of_operations_that_tensorflow_names(graph: Any) -> None:
    from ai_edge_litert.schema_py_generated import BuiltinOperator

    from export.tflite.fold_weights import quantise_weights

    known = {BuiltinOperator.CONV_2D, BuiltinOperator.FULLY_CONNECTED}
    expected = {one for one in codes(tensorflows(graph)) if one[0] in known}
    plain = {(BuiltinOperator.CONV_2D, 1), (BuiltinOperator.FULLY_CONNECTED, 1)}  # of few weights, which stay
    assert {one for one in codes(ours(graph, quantise_weights)) if one[0] in known} - plain == expected - plain


def test_float16_has_tensorflows_own_weights_but_of_small_tensors(graph: Any) -> None:
    import tensorflow as tf

    from export.tflite.fold_weights import FEWEST_WEIGHTS, halve_weights

    expected = stored(tensorflows(graph, supported_types=[tf.float16]), "FLOAT16")
    found = stored(ours(graph, halve_weights), "FLOAT16")
    assert found.keys() == {shape for shape in expected if np.prod(shape) >= FEWEST_WEIGHTS}
    for shape, (values, _) in found.items():
        np.testing.assert_array_equal(values, expected[shape][0])


def test_weights_beyond_float16_stay_float32() -> None:
    from export.tflite.tflite_file import constant, set_constant

    def spoil(model: Any) -> None:
        from ai_edge_litert import schema_py_generated as schema

        from export.tflite.fold_weights import halve_weights

        (kernel,) = [one for one in model.subgraphs[0].tensors if tuple(one.shape) == (1200, 2)[::-1]]
        values = constant(model, kernel)
        assert values is not None
        values = values.copy()
        values[0, 0] = 1e5
        set_constant(model, kernel, values, schema.TensorType.FLOAT32)
        halve_weights(model)

    import keras
    from keras import layers

    from export.saved_model.graph import Graph

    base = keras.Sequential([keras.Input((16, 16, 3)), layers.Flatten(), layers.Dense(1200)])
    wide = Graph(base, keras.Sequential([keras.Input((1200,)), layers.Dense(2)]), SPEC)
    model = ours(wide, spoil)
    assert (2, 1200) in stored(model, "FLOAT32")
    assert (1200, 768) in stored(model, "FLOAT16")


@pytest.mark.parametrize("variant", ["float16", "dynamic"])
def test_what_a_file_no_longer_needs_is_gone_from_it(graph: Any, tmp_path: Path, variant: str) -> None:
    from export.tflite.convert import convert, write_variant

    files = write_variant(convert(graph), ["float32", variant], tmp_path)
    weights = 4 * (8 * 128 + 128 * 64 + 64 * 96)
    saved = files["float32"].stat().st_size - files[variant].stat().st_size
    assert saved > {"float16": 0.45, "dynamic": 0.65}[variant] * weights


def test_no_weights_at_all_are_quantised_without_a_fault(tmp_path: Path) -> None:
    import keras
    from keras import layers

    from export.gate.runtimes import tflite_predict
    from export.saved_model.graph import Graph
    from export.tflite.convert import convert, write_variant

    base = keras.Sequential([keras.Input((16, 16, 3)), layers.GlobalAveragePooling2D()])
    head = keras.Sequential(
        [keras.Input((3,)), layers.Dense(512, kernel_initializer="zeros"), layers.Dense(2, "softmax")]
    )
    files = write_variant(convert(Graph(base, head, SPEC)), ["float16", "dynamic"], tmp_path)
    for path in files.values():
        np.testing.assert_allclose(tflite_predict(path)(np.zeros((1, 16, 16, 3), np.uint8)), [[0.5, 0.5]], atol=1e-6)
