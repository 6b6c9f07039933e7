from typing import Any

import numpy as np
import pytest

from tests.train_job.small_backbones import random_images, small_backbone
from train_job.backbones.catalog import BACKBONES
from transferlite.errors import InputError
from transferlite.images.input_spec import InputSpec


@pytest.fixture(scope="module")
def backbone() -> Any:
    return small_backbone("mobilenet_v2", 64)


def test_a_layer_is_named_or_numbered(backbone: Any) -> None:
    from train_job.backbones.fine_tune_cut import find_cut

    index = [layer.name for layer in backbone.layers].index("block_14_expand")
    assert find_cut(backbone, "block_14_expand") == find_cut(backbone, str(index))
    assert find_cut(backbone, "block_14_expand").first == index


def test_inside_a_residual_block_the_cut_is_before_the_block(backbone: Any) -> None:
    from train_job.backbones.fine_tune_cut import find_cut

    cut = find_cut(backbone, "block_14_project")
    assert backbone.operations[cut.below].name == "block_13_project_BN"
    assert backbone.layers[cut.first].name == "block_14_project"


def test_inception_is_cut_where_the_keras_example_cuts_it() -> None:
    from train_job.backbones.build import build_backbone
    from train_job.backbones.fine_tune_cut import find_cut

    backbone = build_backbone(BACKBONES["inception_v3"], (96, 96, 3), "none")
    assert backbone.operations[find_cut(backbone, "249").below].name == "mixed8"


def test_a_cut_at_a_layer_is_named_by_its_index_and_any_other_by_its_operation(backbone: Any) -> None:
    from train_job.backbones.fine_tune_cut import find_cut

    layer = [layer.name for layer in backbone.layers].index("block_13_project_BN")
    assert find_cut(backbone, "block_14_project").space_name(backbone) == f"layer-{layer}"
    convnext = small_backbone("convnext_tiny", 64)
    cut = find_cut(convnext, "convnext_tiny_stage_3_block_1_gelu")
    assert type(convnext.operations[cut.below]).__name__ == "Add"
    assert cut.space_name(convnext) == f"operation-{cut.below}"


@pytest.mark.parametrize("layer", ["0", "-1", "154", "9999", "nothing", "1.5", "out_relu", ""])
def test_a_layer_that_cannot_be_trained_from_is_refused(backbone: Any, layer: str) -> None:
    from train_job.backbones.fine_tune_cut import find_cut

    with pytest.raises(InputError, match=r"cannot fine-tune.*transferlite inspect"):
        find_cut(backbone, layer)


@pytest.mark.parametrize("name", BACKBONES)
def test_the_models_below_and_above_the_cut_compose_to_the_whole(name: str) -> None:
    from train_job.backbones.build import feature_model
    from train_job.backbones.fine_tune_cut import find_cut, top_model
    from train_job.head.model import head_model

    size = 96 if name == "inception_v3" else 64
    backbone = small_backbone(name, size)
    cut = find_cut(backbone, str(len(backbone.layers) * 4 // 5))
    features = feature_model(backbone, BACKBONES[name], InputSpec(size, size), cut)
    pooled, at_cut = features(np.stack(random_images(2, size)).astype(np.float32), training=False)
    head = head_model(pooled.shape[-1], 8, 3)
    top = top_model(backbone, cut, head)
    actual = np.asarray(top(np.asarray(at_cut).reshape(2, -1), training=False))
    np.testing.assert_allclose(actual, np.asarray(head(pooled)), atol=1e-5)


def test_only_layers_from_the_named_one_on_are_trained_and_batch_normalization_is_not(backbone: Any) -> None:
    from keras import layers

    from train_job.backbones.fine_tune_cut import find_cut, top_model
    from train_job.head.model import head_model

    cut = find_cut(backbone, "block_15_project")
    top = top_model(backbone, cut, head_model(1280, 4, 2))
    trained = {id(variable) for variable in top.trainable_variables}
    for index, layer in enumerate(backbone.layers):
        expected = index >= cut.first and not isinstance(layer, layers.BatchNormalization)
        assert all((id(weight) in trained) is expected for weight in layer.trainable_weights), layer.name
    assert {variable.path.split("/")[0] for variable in top.trainable_variables} >= {"block_15_project", "Conv_1"}
