"""Small backbones for tests, whose normalisation layers have the weights that training leaves, not their initial ones.

Building a backbone takes seconds, so tests share them and must not change their weights.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
import pytest

from transferlite.images.input_spec import InputSpec


@cache
def _build_once(*arguments: Any) -> Any:
    from train_job.backbones.build import build_backbone

    return build_backbone(*arguments)


@contextmanager
def share_built_backbones() -> Iterator[None]:
    """Let jobs with equal backbones share one model, unless a test has replaced ``build_backbone`` itself."""
    from train_job.backbones import build
    from train_job.extraction import frozen_backbone

    with pytest.MonkeyPatch.context() as patch:
        if vars(frozen_backbone)["build_backbone"] is build.build_backbone:
            patch.setattr(frozen_backbone, "build_backbone", _build_once)
        yield


def with_random_statistics(backbone: Any) -> Any:
    """The backbone after drawing random weights for its normalisation and scaling layers, as training leaves them."""
    from keras import layers

    random = np.random.default_rng(0)
    for layer in backbone.layers:
        if isinstance(layer, layers.BatchNormalization):
            size = layer.moving_mean.shape
            layer.moving_mean.assign(random.normal(0, 0.1, size))
            layer.moving_variance.assign(random.uniform(0.5, 2, size))
            if layer.center:
                layer.beta.assign(random.normal(0, 0.1, size))
        elif type(layer).__name__ == "LayerScale":  # starts at 1e-6, which hides the rest of a ConvNeXt block
            layer.gamma.assign(random.uniform(0.5, 1, layer.gamma.shape))
        elif isinstance(layer, layers.LayerNormalization):
            layer.gamma.assign(random.uniform(0.5, 1.5, layer.gamma.shape))
            layer.beta.assign(random.normal(0, 0.1, layer.beta.shape))
    return backbone


@cache
def small_backbone(name: str, size: int) -> Any:
    """A backbone of the table with random weights and statistics."""
    from train_job.backbones.build import build_backbone
    from train_job.backbones.catalog import BACKBONES

    return with_random_statistics(build_backbone(BACKBONES[name], (size, size, 3), "none"))


def small_feature_model(name: str, size: int, cut_from: str | None = None) -> Any:
    """The feature model of :func:`small_backbone`, with a second output at the cut if ``cut_from`` names a layer."""
    from train_job.backbones.build import feature_model
    from train_job.backbones.catalog import BACKBONES
    from train_job.backbones.fine_tune_cut import find_cut

    backbone = small_backbone(name, size)
    cut = find_cut(backbone, cut_from) if cut_from else None
    return feature_model(backbone, BACKBONES[name], InputSpec(size, size), cut)


def random_images(count: int, size: int) -> list[Any]:
    """Random images, uint8 ``[size, size, 3]``."""
    random = np.random.default_rng(count)
    return list(random.integers(0, 256, (count, size, size, 3)).astype(np.uint8))
