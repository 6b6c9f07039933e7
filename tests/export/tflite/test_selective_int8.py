from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.export.small import converted_of
from transferlite.images.decoder import RGB
from transferlite.images.input_spec import InputSpec

SPEC = InputSpec(16, 16)
LABELS = ("left", "right")
DEPTH = 20
LARGE = 9


def photos(count: int, seed: int = 0) -> list[RGB]:
    """Noise around a random colour per photo."""
    random = np.random.default_rng(seed)
    noisy = random.integers(0, 256, (count, 1, 1, 3)) + random.normal(0, 20, (count, 16, 16, 3))
    return list(np.clip(noisy, 0, 255).astype(np.uint8))


class NetworkWithLargeActivation:
    """Deep network in which result activation of the tenth layer is 1,000 times as large as the others."""

    def __init__(self) -> None:
        import keras
        from keras import layers

        keras.utils.set_random_seed(3)
        stack = [layers.Conv2D(8, 1, activation="relu6", name=f"layer{number}") for number in range(DEPTH)]
        scaled = layers.Rescaling(1 / 32, -4)
        self.backbone = keras.Sequential(
            [keras.Input((16, 16, 3)), scaled, layers.Conv2D(8, 5, strides=3), *stack, layers.GlobalAveragePooling2D()]
        )
        for number, layer in enumerate(stack):
            eye = np.eye(8, dtype=np.float32)[None, None] + np.random.default_rng(number).normal(0, 0.05, (1, 1, 8, 8))
            layer.set_weights([eye.astype(np.float32), np.full(8, 0.05, np.float32)])
        large, after = stack[LARGE], stack[LARGE + 1]
        large.activation = keras.activations.linear
        kernel, bias = large.get_weights()
        bias[7] = 5000
        large.set_weights([kernel, bias])
        kernel, bias = after.get_weights()
        kernel[:, :, 7] = 0
        after.set_weights([kernel, bias])
        features = np.asarray(self.backbone(np.stack(photos(64)).astype(np.float32)))
        hidden = layers.Dense(8, "relu", kernel_initializer="identity")  # features are not negative: it changes nothing
        self.head = keras.Sequential([keras.Input((8,)), hidden, layers.Dense(2, "softmax")])
        direction = np.linalg.svd(features - features.mean(axis=0))[2][0]
        kernel = np.stack([direction, -direction], axis=1) * 20
        self.head.layers[-1].set_weights(
            [kernel.astype(np.float32), -(features.mean(axis=0) @ kernel).astype(np.float32)]
        )
        self.calibration = photos(20)
        self.converted = converted_of(self.backbone, self.head, self.calibration)

    def predict(self, images: Any) -> Any:
        return np.asarray(self.head(self.backbone(images.astype(np.float32))))

    def tests(self) -> Iterator[tuple[RGB, int]]:
        """Photos that the network classifies with high confidence, with the label that it gives them."""
        images = photos(200, 1)
        probabilities = self.predict(np.stack(images))
        confident = np.flatnonzero(probabilities.max(axis=1) > 0.8)
        yield from ((images[i], int(probabilities[i].argmax())) for i in confident)


@pytest.fixture(scope="module")
def network() -> NetworkWithLargeActivation:
    return NetworkWithLargeActivation()


def gate_of(network: NetworkWithLargeActivation, limits: Any = None) -> Any:
    from export.gate.limits import ROUNDED_LIMITS
    from export.gate.run_gate import Gate

    return Gate(network.tests, LABELS, limits or ROUNDED_LIMITS, 1000)


def test_the_best_window_contains_the_layers_around_the_large_activation(network: NetworkWithLargeActivation) -> None:
    from export.tflite.selective_int8 import rank_by_gain

    assert network.converted.content_with_ranges is not None
    first = " ".join(rank_by_gain(network.converted.content_with_ranges, network.calibration)[0])
    assert f"layer{LARGE}/" in first
    assert f"layer{LARGE + 1}/" in first


def test_int8_passes_with_some_operations_in_float32(network: NetworkWithLargeActivation, tmp_path: Path) -> None:
    from export.gate.runtimes import tflite_predict
    from export.tflite.write_variants import write_variant

    gate = gate_of(network)
    files = write_variant(network.converted, ["float32", "int8"], tmp_path)
    outcome = gate.run(network.predict, files)
    assert set(outcome.left_out) == {"int8"}
    retried = gate.retry_int8(outcome, network.converted, network.calibration, tmp_path)
    assert retried.left_out == {}
    assert 2 <= len(retried.in_float) <= DEPTH / 2
    assert any(f"layer{LARGE}/" in name for name in retried.in_float)
    assert [result.variant for result in retried.results] == ["float32", "float32", "int8", "int8"]
    assert {result.failure for result in retried.results} == {""}
    images = np.stack([image for image, _ in network.tests()])
    np.testing.assert_array_equal(tflite_predict(files["int8"])(images), retried.predictions.by_variant["int8"])


def test_int8_that_fails_again_is_left_out_with_both_reasons(
    network: NetworkWithLargeActivation, tmp_path: Path
) -> None:
    from export.gate.limits import GateLimits
    from export.tflite.write_variants import write_variant

    gate = gate_of(network, GateLimits(1e-7, 0, 0, 0))
    files = write_variant(network.converted, ["float32", "int8"], tmp_path)
    outcome = gate.run(network.predict, files)
    refused = gate.retry_int8(outcome, network.converted, network.calibration, tmp_path).left_out["int8"]
    assert refused.startswith(outcome.left_out["int8"])
    assert "operations in float32, on ai-edge-litert" in refused


def test_a_failed_retry_leaves_the_files_that_the_gate_has_measured(
    network: NetworkWithLargeActivation, tmp_path: Path
) -> None:
    """The plain file passes and the batch file fails, as an accelerator's kernel may: both stay as they were."""
    from export.gate.limits import GateLimits
    from export.tflite.write_variants import write_variant

    folder = tmp_path / "bundle"
    folder.mkdir()
    gate = gate_of(network, GateLimits(1e-7, 0, 0, 0))
    files = write_variant(network.converted, ["float32", "int8"], folder, batch=2)
    before = {path.name: path.read_bytes() for path in files.values()}
    outcome = gate.run(network.predict, files)
    outcome = replace(outcome, left_out={"int8_batch2": outcome.left_out["int8_batch2"]})
    refused = gate.retry_int8(outcome, network.converted, network.calibration, folder, batch=2)
    assert set(refused.left_out) == {"int8_batch2"}
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]
    assert refused.results == outcome.results
