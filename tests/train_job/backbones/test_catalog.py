import re
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from train_job.backbones.catalog import BACKBONES
from transferlite.errors import InputError, NotFoundError, UnavailableError

SMALLEST = {"inception_v3": 75}


def build(name: str, weights: str = "none", seed: int = 0, side: int | None = None) -> Any:
    from train_job.backbones.build import build_backbone

    chosen = side or SMALLEST.get(name, 32)
    return build_backbone(BACKBONES[name], (chosen, chosen, 3), weights, seed)


@cache
def random_backbone(name: str) -> Any:
    """A backbone with random weights, shared by tests that do not change it."""
    return build(name)


def hash_of(backbone: Any) -> str:
    from train_job.backbones.build import weights_sha256

    return weights_sha256(backbone)


def test_each_backbone_is_found_by_its_own_name() -> None:
    assert all(name == backbone.name for name, backbone in BACKBONES.items())


def test_the_template_offers_every_backbone() -> None:
    template = Path(__file__).parents[3].joinpath("template.yaml").read_text(encoding="utf-8")
    offered = re.search(r"\n  Backbone:\n.*?AllowedValues:\n((?: +- \w+\n)+)", template, re.DOTALL)
    assert offered is not None
    assert {line.split()[-1] for line in offered[1].splitlines()} == set(BACKBONES)


@pytest.mark.parametrize("name", BACKBONES)
def test_each_backbone_builds_without_its_top_and_frozen(name: str) -> None:
    backbone = random_backbone(name)
    assert len(backbone.output_shape) == 4
    assert backbone.output_shape[-1] == BACKBONES[name].width
    assert backbone.trainable_variables == []
    assert not any(layer.trainable for layer in backbone.layers)


@pytest.mark.parametrize("name", [name for name, entry in BACKBONES.items() if entry.application])
def test_an_image_too_small_for_the_network_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=rf"{name}.*--image-size"):
        build(name, side=SMALLEST.get(name, 32) - 1)


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("inception_v3", "inception_v3"),
        ("mobilenet_v1_025", "mobilenet"),
        ("mobilenet_v2_035", "mobilenet_v2"),
        ("resnet50", "resnet50"),
    ],
)
def test_pixels_are_normalised_as_keras_does(name: str, module: str) -> None:
    import keras

    from train_job.backbones.input_scaling import normalise

    pixels = np.random.default_rng(0).uniform(0, 255, (2, 8, 8, 3)).astype(np.float32)
    preprocess = getattr(keras.applications, module).preprocess_input
    image = keras.Input((8, 8, 3))
    model = keras.Model(image, normalise(image, BACKBONES[name].normalisation))
    np.testing.assert_allclose(np.asarray(model(pixels)), preprocess(pixels.copy()), rtol=1e-5, atol=1e-5)


def test_resnet_normalisation_accepts_tensors_as_well_as_symbolic_inputs() -> None:
    import keras

    from train_job.backbones.catalog import InputScaling
    from train_job.backbones.input_scaling import normalise

    pixels = np.full((1, 2, 2, 3), 128, np.float32)
    expected = keras.applications.resnet50.preprocess_input(pixels.copy())
    mine = normalise(keras.ops.convert_to_tensor(pixels), InputScaling.CAFFE)
    np.testing.assert_allclose(np.asarray(mine), expected, rtol=1e-5)


def test_lite_pixels_lie_around_zero() -> None:
    import keras

    from train_job.backbones.catalog import InputScaling
    from train_job.backbones.input_scaling import normalise

    pixels = keras.ops.convert_to_tensor(np.full((1, 1, 1, 3), [[[[0, 127, 255]]]], np.float32))
    expected = [[[[-127 / 128, 0, 1]]]]
    np.testing.assert_allclose(np.asarray(normalise(pixels, InputScaling.LITE)), expected, atol=1e-6)


@pytest.mark.parametrize("name", [name for name, entry in BACKBONES.items() if entry.normalisation.name == "INSIDE"])
def test_a_network_with_its_own_scaling_gets_unscaled_pixels(name: str) -> None:
    from train_job.backbones.catalog import InputScaling
    from train_job.backbones.input_scaling import normalise

    assert normalise(pixels := object(), InputScaling.INSIDE) is pixels
    assert any(type(layer).__name__ in {"Rescaling", "Normalization"} for layer in random_backbone(name).layers)


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "inception_v3"])
def test_a_failed_download_error_suggests_a_weights_file(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise Exception("URL fetch failure on https://storage.googleapis.com/x.h5: None -- nodename nor servname")

    monkeypatch.setattr("keras.src.utils.file_utils.get_file", refuse)
    with pytest.raises(UnavailableError) as caught:
        build(name, "imagenet", side=224)
    for part in (name, "--weights FILE", "efficientnet_lite0"):
        assert part in str(caught.value)
    assert caught.value.retryable


def test_other_keras_errors_are_not_reported_as_downloads(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("something else")

    monkeypatch.setattr("keras.src.utils.file_utils.get_file", fail)
    with pytest.raises(RuntimeError, match="something else"):
        build("mobilenet_v3_small", "imagenet", side=224)


@pytest.mark.parametrize("name", ["efficientnet_lite0", "mobilenet_v3_small"])
def test_random_weights_depend_on_the_seed_alone(name: str) -> None:
    assert hash_of(build(name)) == hash_of(random_backbone(name))
    assert hash_of(build(name, seed=1)) != hash_of(random_backbone(name))


def test_the_hash_of_weights_changes_with_any_one_of_them() -> None:
    backbone = build("mobilenet_v3_small")
    before = hash_of(backbone)
    last = backbone.weights[-1]
    value = last.numpy()
    last.assign(value + np.eye(1, len(value), dtype=np.float32)[0])
    assert hash_of(backbone) != before
    last.assign(value)
    assert hash_of(backbone) == before


def test_efficientnet_lite_has_its_weights_without_a_network() -> None:
    hashes = {
        hash_of(build("efficientnet_lite0", weights, seed)) for seed, weights in enumerate(("default", "imagenet"))
    }
    assert len(hashes) == 1
    assert hash_of(random_backbone("efficientnet_lite0")) not in hashes


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras's writer
def test_a_weights_file_is_loaded(tmp_path: Path) -> None:
    saved = build("mobilenet_v3_small", seed=5)
    saved.save_weights(tmp_path / "backbone.weights.h5")
    loaded = build("mobilenet_v3_small", str(tmp_path / "backbone.weights.h5"))
    assert hash_of(loaded) == hash_of(saved)
    assert loaded.trainable_variables == []


def test_a_missing_weights_file_is_named() -> None:
    with pytest.raises(NotFoundError, match="nowhere/backbone"):
        build("mobilenet_v3_small", "nowhere/backbone.h5")
