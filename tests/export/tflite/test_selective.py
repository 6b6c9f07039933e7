from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from transferlite.images.decoder import RGB
from transferlite.images.input_spec import InputSpec

SPEC = InputSpec(16, 16)
LABELS = ("left", "right")
DEPTH = 20
SPOILT = 9


def photos(count: int, seed: int = 0) -> list[RGB]:
    """Noise about a colour, each of its own."""
    random = np.random.default_rng(seed)
    noisy = random.integers(0, 256, (count, 1, 1, 3)) + random.normal(0, 20, (count, 16, 16, 3))
    return list(np.clip(noisy, 0, 255).astype(np.uint8))


class Spoilt:
    """A deep network whose tenth layer has one activation a thousand times as large as the others, which hides them."""

    def __init__(self) -> None:
        import keras
        from keras import layers

        from export.saved_model.graph import Graph
        from export.tflite.convert import convert

        keras.utils.set_random_seed(3)
        stack = [layers.Conv2D(8, 1, activation="relu6", name=f"layer{number}") for number in range(DEPTH)]
        scaled = layers.Rescaling(1 / 32, -4)
        self.base = keras.Sequential(
            [keras.Input((16, 16, 3)), scaled, layers.Conv2D(8, 5, strides=3), *stack, layers.GlobalAveragePooling2D()]
        )
        for number, layer in enumerate(stack):
            eye = np.eye(8, dtype=np.float32)[None, None] + np.random.default_rng(number).normal(0, 0.05, (1, 1, 8, 8))
            layer.set_weights([eye.astype(np.float32), np.full(8, 0.05, np.float32)])
        large, after = stack[SPOILT], stack[SPOILT + 1]
        large.activation = keras.activations.linear
        kernel, bias = large.get_weights()
        bias[7] = 5000
        large.set_weights([kernel, bias])
        kernel, bias = after.get_weights()
        kernel[:, :, 7] = 0
        after.set_weights([kernel, bias])
        rows = np.asarray(self.base(np.stack(photos(64)).astype(np.float32)))
        self.head = keras.Sequential([keras.Input((8,)), layers.Dense(2, "softmax")])
        direction = np.linalg.svd(rows - rows.mean(axis=0))[2][0]
        kernel = np.stack([direction, -direction], axis=1) * 20
        self.head.set_weights([kernel.astype(np.float32), -(rows.mean(axis=0) @ kernel).astype(np.float32)])
        self.calibration = photos(20)
        self.converted = convert(Graph(self.base, self.head, SPEC), self.calibration)

    def answers(self, images: Any) -> Any:
        return np.asarray(self.head(self.base(images.astype(np.float32))))

    def tests(self) -> Iterator[tuple[RGB, int]]:
        """Photos of which the network is sure, with the label that it gives them."""
        several = photos(200, 1)
        said = self.answers(np.stack(several))
        yield from ((several[place], int(said[place].argmax())) for place in np.flatnonzero(said.max(axis=1) > 0.8))


@pytest.fixture(scope="module")
def spoilt() -> Spoilt:
    return Spoilt()


def gate_of(network: Spoilt, limits: Any = None) -> Any:
    from export.gate.compare_variants import REDUCED
    from export.gate.run_gate import Gate

    return Gate(network.tests, LABELS, limits or REDUCED, 1000)


def test_the_window_that_helps_most_has_both_sides_of_what_was_lost(spoilt: Spoilt) -> None:
    from export.tflite.selective import rank_by_gain

    assert spoilt.converted.ranged is not None
    first = " ".join(rank_by_gain(spoilt.converted.ranged, spoilt.calibration)[0])
    assert f"layer{SPOILT}_" in first
    assert f"layer{SPOILT + 1}_" in first


def test_int8_that_fails_passes_with_some_operations_in_float(spoilt: Spoilt, tmp_path: Path) -> None:
    from export.gate.runtimes import tflite_predict
    from export.tflite.convert import write_variant

    gate = gate_of(spoilt)
    files = write_variant(spoilt.converted, ["float32", "int8"], tmp_path)
    verdict = gate.ask(spoilt.answers, files)
    assert set(verdict.refused) == {"int8"}
    rescued = gate.rescue_int8(verdict, spoilt.converted, spoilt.calibration, tmp_path)
    assert rescued.refused == {}
    assert 2 <= len(rescued.in_float) <= DEPTH / 2
    assert any(f"layer{SPOILT}_" in name for name in rescued.in_float)
    assert [one.variant for one in rescued.proofs] == ["float32", "float32", "int8", "int8"]
    assert {one.failure for one in rescued.proofs} == {""}
    images = np.stack([image for image, _ in spoilt.tests()])
    np.testing.assert_array_equal(tflite_predict(files["int8"])(images), rescued.answered.variants["int8"])


def test_int8_that_fails_all_the_same_is_refused_with_both_reasons(spoilt: Spoilt, tmp_path: Path) -> None:
    from export.gate.compare_variants import GateLimits
    from export.tflite.convert import write_variant

    gate = gate_of(spoilt, GateLimits(1e-7, 0, 0, 0))
    files = write_variant(spoilt.converted, ["float32", "int8"], tmp_path)
    verdict = gate.ask(spoilt.answers, files)
    refused = gate.rescue_int8(verdict, spoilt.converted, spoilt.calibration, tmp_path).refused["int8"]
    assert refused.startswith(verdict.refused["int8"])
    assert "operations in float32, on ai-edge-litert" in refused
