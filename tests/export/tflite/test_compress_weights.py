from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.export.small import converted_of
from transferlite.images.input_spec import InputSpec

SPEC = InputSpec(16, 16)


@pytest.fixture(scope="module")
def network() -> Any:
    """Backbone and head: convolutions, one of them depthwise, and dense layers; some have fewer than 1,024 weights."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(0)
    stack = [layers.Conv2D(8, 3), layers.Conv2D(128, 1), layers.DepthwiseConv2D(3), layers.Conv2D(64, 1)]
    backbone = keras.Sequential([keras.Input((16, 16, 3)), *stack, layers.GlobalAveragePooling2D()])
    head = keras.Sequential([keras.Input((64,)), layers.Dense(96, "relu"), layers.Dense(3, "softmax")])
    return backbone, head


def converted_by_tensorflow(network: Any, **settings: Any) -> Any:
    """The file that TensorFlow's converter makes with these settings, parsed."""
    import keras
    import tensorflow as tf

    from export.tflite.tflite_file import read_tflite

    converter = tf.lite.TFLiteConverter.from_keras_model(keras.Sequential(network))
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter._experimental_disable_per_channel_quantization_for_dense_layers = True
    for name, value in settings.items():
        setattr(converter.target_spec, name, value)
    return read_tflite(converter.convert())


def converted_by_us(network: Any, change: Callable[[Any], None]) -> Any:
    from export.tflite.tflite_file import read_tflite

    model = read_tflite(converted_of(*network).content)
    change(model)
    return model


def constants(model: Any, kind: str) -> dict[tuple[int, ...], Any]:
    """Constants of a type with their scales, by shape; no two of them have the same shape here."""
    from ai_edge_litert import schema_py_generated as schema

    number, dtype = getattr(schema.TensorType, kind), np.dtype(kind.lower())
    ours = {}
    for tensor in model.subgraphs[0].tensors:
        data = model.buffers[tensor.buffer].data
        if tensor.type == number and data is not None:
            scale = None if tensor.quantization is None else tensor.quantization.scale
            ours[tuple(int(side) for side in tensor.shape)] = (np.asarray(data).view(dtype), scale)
    return ours


def codes(model: Any) -> set[tuple[int, int]]:
    used = {operator.opcodeIndex for operator in model.subgraphs[0].operators}
    return {(code.builtinCode, code.version) for index, code in enumerate(model.operatorCodes) if index in used}


def test_dynamic_has_tensorflows_int8_weights_except_for_depthwise_convolutions(network: Any) -> None:
    from export.tflite.compress_weights import store_weights_as_int8

    model = converted_by_us(network, store_weights_as_int8)
    tensorflows, ours = constants(converted_by_tensorflow(network), "INT8"), constants(model, "INT8")
    assert tensorflows.keys() == ours.keys() | {(1, 3, 3, 128)}
    assert ours.keys() == {(128, 1, 1, 8), (64, 1, 1, 128), (96, 64)}
    for shape, (values, scale) in ours.items():
        difference = np.abs(values.astype(int) - tensorflows[shape][0])
        assert difference.max() <= 1  # values halfway between two integers
        assert difference.mean() < 1e-3
        np.testing.assert_allclose(scale, tensorflows[shape][1], rtol=1e-6)
        assert len(scale) == (1 if len(shape) == 2 else shape[0])
    assert (1, 3, 3, 128) in constants(model, "FLOAT32")


def test_dynamic_has_tensorflows_operator_versions(network: Any) -> None:
    from ai_edge_litert.schema_py_generated import BuiltinOperator

    from export.tflite.compress_weights import store_weights_as_int8

    known = {BuiltinOperator.CONV_2D, BuiltinOperator.FULLY_CONNECTED}
    tensorflows = {code for code in codes(converted_by_tensorflow(network)) if code[0] in known}
    plain = {(BuiltinOperator.CONV_2D, 1), (BuiltinOperator.FULLY_CONNECTED, 1)}  # small tensors stay float32
    assert {
        code for code in codes(converted_by_us(network, store_weights_as_int8)) if code[0] in known
    } - plain == tensorflows - plain


def test_float16_has_tensorflows_weights_except_for_small_tensors(network: Any) -> None:
    import tensorflow as tf

    from export.tflite.compress_weights import MIN_WEIGHTS, store_weights_as_float16

    tensorflows = constants(converted_by_tensorflow(network, supported_types=[tf.float16]), "FLOAT16")
    ours = constants(converted_by_us(network, store_weights_as_float16), "FLOAT16")
    assert ours.keys() == {shape for shape in tensorflows if np.prod(shape) >= MIN_WEIGHTS}
    for shape, (values, _) in ours.items():
        np.testing.assert_array_equal(values, tensorflows[shape][0])


def test_weights_beyond_the_range_of_float16_stay_float32() -> None:
    from export.tflite.tflite_file import constant, set_constant

    def exceed_float16(model: Any) -> None:
        from ai_edge_litert import schema_py_generated as schema

        from export.tflite.compress_weights import store_weights_as_float16

        (kernel,) = [code for code in model.subgraphs[0].tensors if tuple(code.shape) == (1200, 2)[::-1]]
        values = constant(model, kernel)
        assert values is not None
        values = values.copy()
        values[0, 0] = 1e5
        set_constant(model, kernel, values, schema.TensorType.FLOAT32)
        store_weights_as_float16(model)

    import keras
    from keras import layers

    backbone = keras.Sequential([keras.Input((16, 16, 3)), layers.GlobalAveragePooling2D()])
    head = keras.Sequential([keras.Input((3,)), layers.Dense(1200, "relu"), layers.Dense(2, "softmax")])
    model = converted_by_us((backbone, head), exceed_float16)
    assert (2, 1200) in constants(model, "FLOAT32")
    assert (1200, 3) in constants(model, "FLOAT16")


@pytest.mark.parametrize("variant", ["float16", "dynamic"])
def test_unused_float32_weights_are_removed_from_the_file(network: Any, tmp_path: Path, variant: str) -> None:
    from export.tflite.write_variants import write_variant

    files = write_variant(converted_of(*network), ["float32", variant], tmp_path)
    weights = 4 * (8 * 128 + 128 * 64 + 64 * 96)
    saved = files["float32"].stat().st_size - files[variant].stat().st_size
    assert saved > {"float16": 0.45, "dynamic": 0.65}[variant] * weights


def test_all_zero_weights_are_quantised_without_errors(tmp_path: Path) -> None:
    import keras
    from keras import layers

    from export.gate.runtimes import tflite_predict
    from export.tflite.write_variants import write_variant

    backbone = keras.Sequential([keras.Input((16, 16, 3)), layers.GlobalAveragePooling2D()])
    head = keras.Sequential(
        [keras.Input((3,)), layers.Dense(512, "relu", kernel_initializer="zeros"), layers.Dense(2, "softmax")]
    )
    files = write_variant(converted_of(backbone, head), ["float16", "dynamic"], tmp_path)
    for path in files.values():
        np.testing.assert_allclose(tflite_predict(path)(np.zeros((1, 16, 16, 3), np.uint8)), [[0.5, 0.5]], atol=1e-6)
