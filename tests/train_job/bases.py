"""Small bases for tests, whose BatchNormalization has statistics far from those of any batch.

To build one takes seconds: tests share them, and leave their weights as they are.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
import pytest

from transferlite.images.input_spec import InputSpec


@cache
def _built(*arguments: Any) -> Any:
    from train_job.backbones.build import build_backbone

    return build_backbone(*arguments)


@contextmanager
def bases_built_once() -> Iterator[None]:
    """Meanwhile, jobs that ask for the same base share it. A test that has put its own in the place is left alone."""
    from train_job.backbones import build as bases
    from train_job.extraction import frozen_backbone as embed

    with pytest.MonkeyPatch.context() as patch:
        if vars(embed)["build_backbone"] is bases.build_backbone:
            patch.setattr(embed, "build_backbone", _built)
        yield


def shaken(base: Any) -> Any:
    """The base with random statistics in its BatchNormalization, as training leaves them."""
    from keras import layers

    random = np.random.default_rng(0)
    for layer in base.layers:
        if isinstance(layer, layers.BatchNormalization):
            size = layer.moving_mean.shape
            layer.moving_mean.assign(random.normal(0, 0.1, size))
            layer.moving_variance.assign(random.uniform(0.5, 2, size))
            if layer.center:
                layer.beta.assign(random.normal(0, 0.1, size))
    return base


@cache
def backbone_base(name: str, size: int) -> Any:
    """A backbone of the table with random weights, shaken."""
    from train_job.backbones.build import build_backbone
    from train_job.backbones.catalog import BACKBONES

    return shaken(build_backbone(BACKBONES[name], (size, size, 3), "none"))


def backbone_features(name: str, size: int, cut_from: str | None = None) -> Any:
    """The feature model of such a base, with a second output at the cut if one is named."""
    from train_job.backbones.build import feature_model
    from train_job.backbones.catalog import BACKBONES
    from train_job.backbones.fine_tune_cut import find_cut

    base = backbone_base(name, size)
    cut = find_cut(base, cut_from) if cut_from else None
    return feature_model(base, BACKBONES[name], InputSpec(size, size), cut)


def pictures(count: int, size: int) -> list[Any]:
    """Random pictures, uint8 ``[size, size, 3]``."""
    random = np.random.default_rng(count)
    return list(random.integers(0, 256, (count, size, size, 3)).astype(np.uint8))
