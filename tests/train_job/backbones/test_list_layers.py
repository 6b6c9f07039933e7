import json
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
from click.testing import CliRunner

from train_job.cli.inspect import inspect
from transferlite.errors import InputError


@pytest.fixture(scope="module", autouse=True)
def _cache_backbones() -> Iterator[None]:
    """Build each backbone once for all tests."""
    from train_job.backbones import build, list_layers

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(list_layers, "build_backbone", cache(build.build_backbone))
        yield


@pytest.fixture(scope="module")
def inception() -> list[dict[str, Any]]:
    from train_job.backbones.list_layers import list_layers

    return list_layers("inception_v3")


def test_inception_has_its_311_layers_in_order(inception: list[dict[str, Any]]) -> None:
    assert [row["index"] for row in inception] == list(range(311))
    assert inception[0]["type"] == "InputLayer"
    assert (inception[-1]["name"], inception[-1]["type"]) == ("mixed10", "Concatenate")
    assert inception[-1]["shape"] == [None, 8, 8, 2048]


def test_every_layer_has_a_name_a_shape_and_is_frozen(inception: list[dict[str, Any]]) -> None:
    assert {tuple(row) for row in inception} == {("index", "name", "type", "shape", "trainable")}
    assert len({row["name"] for row in inception}) == 311
    assert {row["trainable"] for row in inception} == {False}
    assert {len(row["shape"]) for row in inception} == {4}


def test_the_image_size_sets_the_shapes() -> None:
    from train_job.backbones.list_layers import list_layers

    assert list_layers("mobilenet_v3_small", 64)[-1]["shape"] == [None, 2, 2, 576]


def test_a_layers_configuration_is_found_by_name_and_by_index() -> None:
    from train_job.backbones.list_layers import layer_config, list_layers

    index = next(row["index"] for row in list_layers("mobilenet_v3_small", 32) if row["name"] == "conv")
    by_name = layer_config("mobilenet_v3_small", 32, "conv")
    assert by_name["filters"] == 16
    assert by_name == layer_config("mobilenet_v3_small", 32, str(index))


@pytest.mark.parametrize("layer", ["mixed99", "157", "-1", ""])
def test_an_unknown_layer_is_refused_with_the_range(layer: str) -> None:
    from train_job.backbones.list_layers import layer_config

    with pytest.raises(InputError, match=rf"mobilenet_v3_small has no layer '{layer}'; its layers are 0 to 156"):
        layer_config("mobilenet_v3_small", 32, layer)


def test_every_layers_configuration_can_be_written_as_json() -> None:
    from train_job.backbones.list_layers import _layers

    for name in ("mobilenet_v3_small", "efficientnet_v2_b0"):
        for layer in _layers(name, 32):
            assert json.loads(json.dumps(layer.get_config()))["name"] == layer.name


def test_the_command_prints_a_configuration_as_json() -> None:
    result = CliRunner().invoke(inspect, ["--backbone", "mobilenet_v3_small", "--image-size", "32", "--config", "conv"])
    assert json.loads(result.output)["name"] == "conv"


def test_the_command_prints_a_line_per_layer_and_the_count() -> None:
    result = CliRunner().invoke(inspect, ["--backbone", "mobilenet_v3_small", "--image-size", "32"])
    lines = result.output.splitlines()
    assert lines[-1] == "157 layers"
    assert len(lines) == 158
    assert "conv_bn" in result.output
    assert "?x16x16x16" in result.output
    assert "trainable=False" in lines[0]


def test_the_command_prints_the_layers_as_json() -> None:
    result = CliRunner().invoke(inspect, ["--backbone", "mobilenet_v3_small", "--image-size", "32", "--json"])
    printed = json.loads(result.output)
    assert [row["index"] for row in printed] == list(range(157))
    assert printed[0]["shape"] == [None, 32, 32, 3]
