"""Published files of backbones with unusual layers: padding before a valid convolution, GELU, LayerNormalization."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.export.small import converted_of
from tests.train_job.small_backbones import random_images, small_feature_model
from train_job.backbones.catalog import BACKBONES
from transferlite.inference.interpreter import TFLiteClassifier

SIZE = 32
MAX_DIFFERENCE = {"float32": 1e-5, "float16": 0.01, "dynamic": 0.15, "int8": 0.15}


@pytest.fixture(scope="module", params=["mobilenet_v1_025", "convnext_tiny"])
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Path], Any]:
    """The file of each variant, and the Keras model's probabilities for four images."""
    from export.tflite.write_variants import write_variant
    from train_job.head.model import head_model

    features, images = small_feature_model(request.param, SIZE), random_images(4, SIZE)
    head = head_model(BACKBONES[request.param].width, 8, 3)
    files = write_variant(converted_of(features, head, images), MAX_DIFFERENCE, tmp_path_factory.mktemp(request.param))
    return files, np.asarray(head(features(np.stack(images).astype(np.float32), training=False)))


@pytest.mark.parametrize("variant", MAX_DIFFERENCE)
def test_each_variant_predicts_what_keras_does(exported: tuple[dict[str, Path], Any], variant: str) -> None:
    files, expected = exported
    actual = TFLiteClassifier(files[variant], threads=1).predict_batch(np.stack(random_images(4, SIZE)))
    assert np.abs(actual - expected).max() <= MAX_DIFFERENCE[variant]
