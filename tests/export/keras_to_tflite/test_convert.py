"""A head joined to a converted backbone computes what both compute in Keras, for every backbone."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.train_job.small_backbones import random_images, small_feature_model
from train_job.backbones.catalog import BACKBONES


@pytest.mark.parametrize("name", BACKBONES)
def test_each_backbone_with_a_joined_head_passes_the_gate_on_every_runtime(name: str, tmp_path: Path) -> None:
    from export.gate.limits import EXACT_LIMITS
    from export.gate.run_gate import Gate
    from export.keras_to_tflite.convert import convert
    from export.keras_to_tflite.translate_model import translate_to_tflite
    from export.tflite.write_variants import write_variant
    from train_job.head.model import head_model

    size = 96 if name == "inception_v3" else 64  # as in test_translate_model.py, which shares the backbones
    features, images = small_feature_model(name, size), random_images(3, size)
    head = head_model(BACKBONES[name].width, 8, 3)
    files = write_variant(convert(translate_to_tflite(features), head), ["float32"], tmp_path)

    def keras(photos: Any) -> Any:
        return np.asarray(head(features(photos.astype(np.float32), training=False)))

    labels = keras(np.stack(images)).argmax(axis=1)
    gate = Gate(lambda: zip(images, labels, strict=True), ("a", "b", "c"), EXACT_LIMITS, max_photos=3)
    results = gate.run(keras, files).results
    assert {(result.variant, result.failure) for result in results} == {("float32", "")}
    assert len(results) == 2


def test_a_joined_file_is_the_backbones_file_with_the_heads_operations_behind() -> None:
    from export.keras_to_tflite.translate_model import append_head, translate_to_tflite
    from export.tflite.tflite_file import read_tflite
    from train_job.head.model import head_model

    backbone = translate_to_tflite(small_feature_model("mobilenet_v1_025", 32))
    heads = [head_model(256, 8, classes) for classes in (2, 5)]
    first, second = (read_tflite(append_head(backbone, head)) for head in heads)
    assert append_head(backbone, heads[0]) == append_head(backbone, heads[0])
    alone = read_tflite(backbone)
    count = len(alone.buffers)
    for joined, classes in ((first, 2), (second, 5)):
        assert len(joined.subgraphs[0].operators) == len(alone.subgraphs[0].operators) + 3
        for old, new in zip(alone.buffers, joined.buffers[:count], strict=True):
            np.testing.assert_array_equal(old.data, new.data)
        output = joined.subgraphs[0].outputs[0]
        assert joined.subgraphs[0].tensors[output].shape.tolist() == [1, classes]
