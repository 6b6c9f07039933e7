from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.train_job.small_backbones import small_backbone
from transferlite.errors import InputError, NotFoundError

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras's writer

SIDES = {"mobilenet_v3_small": 32, "mobilenet_v1_025": 32, "convnext_tiny": 32, "inception_v3": 75}


def build(name: str, seed: int = 0, include_top: bool = False) -> Any:
    import keras

    from train_job.backbones.build import build_backbone
    from train_job.backbones.catalog import BACKBONES

    shape = (SIDES[name], SIDES[name], 3)
    if not include_top:
        return build_backbone(BACKBONES[name], shape, "none", seed)
    keras.utils.set_random_seed(seed)
    return getattr(keras.applications, str(BACKBONES[name].application))(weights=None, input_shape=shape)


@pytest.fixture(scope="module")
def small() -> Any:
    return build("mobilenet_v3_small")


def save_keras3(model: Any, path: Path) -> None:
    whole = path.with_name(f"{path.name}.weights.h5")
    model.save_weights(whole)
    whole.rename(path)


def save_legacy(model: Any, path: Path, group: str = "/") -> None:
    import h5py
    from keras.src.legacy.saving.legacy_h5_format import save_weights_to_hdf5_group

    with h5py.File(path, "w") as file:
        save_weights_to_hdf5_group(file.require_group(group), model)


def save_legacy_model(model: Any, path: Path) -> None:
    save_legacy(model, path, "model_weights")


Save = Callable[[Any, Path], None]
FORMATS = pytest.mark.parametrize("save", [save_keras3, save_legacy, save_legacy_model])


def load(model: Any, path: Path) -> None:
    from train_job.backbones.keras_weights_file import load_weights

    load_weights(model, path)


def set_to_nan(model: Any) -> None:
    for variable in model.weights:
        variable.assign(np.full(variable.shape, np.nan))


def assert_same(first: Any, second: Any) -> None:
    for mine, theirs in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)


@pytest.fixture(scope="module")
def later() -> Any:
    return build("mobilenet_v3_small", seed=1)


@FORMATS
@pytest.mark.parametrize("suffix", [".h5", ".weights.h5", ".bin"])
def test_a_file_loads_into_a_network_built_later_whatever_its_name(
    small: Any, later: Any, tmp_path: Path, save: Save, suffix: str
) -> None:
    path = tmp_path / f"backbone{suffix}"
    save(small, path)
    set_to_nan(later)
    load(later, path)
    assert_same(later, small)


@pytest.fixture(scope="module")
def inceptions() -> tuple[Any, Any]:
    return build("inception_v3"), build("inception_v3", seed=1)


@FORMATS
def test_layers_with_renumbered_names_are_paired_by_order(
    inceptions: tuple[Any, Any], tmp_path: Path, save: Save
) -> None:
    first, later = inceptions
    named = [{layer.name for layer in model.layers if layer.weights} for model in inceptions]
    assert named[0] != named[1]
    save(first, tmp_path / "backbone.h5")
    set_to_nan(later)
    load(later, tmp_path / "backbone.h5")
    assert_same(later, first)


@FORMATS
@pytest.mark.parametrize("name", ["mobilenet_v1_025", "convnext_tiny"])  # the latter nests layers in Sequentials
def test_scaled_and_nested_networks_load_their_own_file(name: str, tmp_path: Path, save: Save) -> None:
    first = small_backbone(name, SIDES[name])  # LayerNormalization and BatchNormalization differ from new ones
    later = build(name, seed=1)
    save(first, tmp_path / "backbone.h5")
    set_to_nan(later)
    load(later, tmp_path / "backbone.h5")
    assert_same(later, first)


def tiny(filters: int = 4, extra: bool = False, names: str = "ab") -> Any:
    import keras
    from keras import layers

    image = keras.Input((8, 8, 3))
    x = layers.Conv2D(filters, 3, name=f"{names[0]}_conv")(image)
    x = layers.BatchNormalization(name=f"{names[1]}_norm")(x)
    if extra:
        x = layers.DepthwiseConv2D(3, name="extra")(x)
    return keras.Model(image, x, name="tiny")


@FORMATS
def test_a_layer_of_another_shape_is_named_with_both_shapes(tmp_path: Path, save: Save) -> None:
    save(tiny(filters=5), tmp_path / "backbone.h5")
    with pytest.raises(InputError, match=r"backbone\.h5.*'a_conv'.*\(3, 3, 3, 4\).*\(3, 3, 3, 5\)"):
        load(tiny(), tmp_path / "backbone.h5")


@FORMATS
def test_a_layer_that_the_file_lacks_is_named(tmp_path: Path, save: Save) -> None:
    save(tiny(), tmp_path / "backbone.h5")
    with pytest.raises(InputError, match="'extra'"):
        load(tiny(extra=True), tmp_path / "backbone.h5")


@pytest.mark.parametrize("save", [save_legacy, save_legacy_model])
def test_a_layer_that_the_network_lacks_is_named(tmp_path: Path, save: Save) -> None:
    save(tiny(extra=True), tmp_path / "backbone.h5")
    with pytest.raises(InputError, match=r"backbone\.h5.*'extra'.*without its top"):
        load(tiny(), tmp_path / "backbone.h5")


@FORMATS
def test_layers_of_other_names_fit_by_their_order(tmp_path: Path, save: Save) -> None:
    first, other = tiny(names="cd"), tiny()
    save(first, tmp_path / "backbone.h5")
    load(other, tmp_path / "backbone.h5")
    assert_same(other, first)


@FORMATS
def test_a_file_of_another_network_is_refused_by_a_layers_name(small: Any, tmp_path: Path, save: Save) -> None:
    save(tiny(), tmp_path / "backbone.h5")
    with pytest.raises(InputError) as caught:
        load(small, tmp_path / "backbone.h5")
    assert any(repr(layer.name) in str(caught.value) for layer in small.layers)


@pytest.mark.parametrize(
    "save",
    [
        save_keras3,
        save_legacy,
        save_legacy_model,
    ],
)
def test_every_refusal_names_the_file(small: Any, tmp_path: Path, save: Save) -> None:
    save(tiny(), tmp_path / "backbone.h5")
    with pytest.raises(InputError, match=r"backbone\.h5"):
        load(small, tmp_path / "backbone.h5")


@pytest.mark.parametrize("save", [save_legacy, save_legacy_model])
def test_a_legacy_file_with_a_top_is_refused(small: Any, tmp_path: Path, save: Save) -> None:
    save(build("mobilenet_v3_small", include_top=True), tmp_path / "top.h5")
    with pytest.raises(InputError, match=r"top\.h5.*holds.*without its top"):
        load(small, tmp_path / "top.h5")


def test_a_keras3_file_with_a_top_loads_the_backbones_weights(tmp_path: Path) -> None:
    with_top = build("mobilenet_v3_small", seed=3, include_top=True)
    save_keras3(with_top, tmp_path / "top.h5")
    backbone = build("mobilenet_v3_small")
    load(backbone, tmp_path / "top.h5")
    for layer in backbone.layers:
        if layer.weights:
            assert_same(layer, with_top.get_layer(layer.name))


def test_a_missing_file_is_named(small: Any, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"nowhere\.h5"):
        load(small, tmp_path / "nowhere.h5")


def test_a_folder_is_not_a_file(small: Any, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        load(small, tmp_path)


@pytest.mark.parametrize("content", [b"", b"weights\n", b"PK\x03\x04" + bytes(100), b"\x89HDF\r\n\x1a\n" + bytes(100)])
def test_a_file_that_is_not_hdf5_is_refused(small: Any, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "backbone.h5").write_bytes(content)
    with pytest.raises(InputError, match=r"backbone\.h5: is not an HDF5 weights file"):
        load(small, tmp_path / "backbone.h5")


def test_a_truncated_file_is_refused(small: Any, tmp_path: Path) -> None:
    path = tmp_path / "backbone.h5"
    save_keras3(small, path)
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(InputError, match=r"backbone\.h5"):
        load(small, path)


@pytest.mark.parametrize("group", ["elsewhere", "model_weights"])
def test_an_hdf5_file_of_something_else_is_refused(small: Any, tmp_path: Path, group: str) -> None:
    import h5py

    with h5py.File(tmp_path / "backbone.h5", "w") as file:
        file.create_dataset(f"{group}/numbers", data=np.arange(3))
    with pytest.raises(InputError, match=r"backbone\.h5"):
        load(small, tmp_path / "backbone.h5")
