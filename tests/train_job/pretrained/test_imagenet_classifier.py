"""A pretrained network is split at its pooling without a change to its predictions."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from transferlite.errors import InputError, UnavailableError
from transferlite.images.input_spec import InputSpec


@pytest.mark.parametrize("name", ["mobilenet_v1_025", "mobilenet_v3_small"])
def test_the_split_network_predicts_what_the_network_predicts(name: str) -> None:
    from train_job.backbones.build import build_backbone
    from train_job.backbones.catalog import BACKBONES
    from train_job.backbones.input_scaling import normalise
    from train_job.pretrained.imagenet_classifier import split_at_pooling

    backbone, spec = BACKBONES[name], InputSpec(BACKBONES[name].size, BACKBONES[name].size)
    network = build_backbone(backbone, (spec.height, spec.width, 3), "none", include_top=True)
    features, head = split_at_pooling(network, backbone, spec)
    photos = np.random.default_rng(0).uniform(0, 255, (2, spec.height, spec.width, 3)).astype(np.float32)
    rows = features.predict_on_batch(photos)
    assert rows.shape == (2, backbone.width)
    expected = network(normalise(photos, backbone.normalisation), training=False)
    np.testing.assert_allclose(head.predict_on_batch(rows), expected, atol=1e-6)


def test_the_labels_are_those_of_imagenet_in_order() -> None:
    from train_job.pretrained.imagenet_classifier import imagenet_labels

    labels = imagenet_labels()
    assert len(labels) == len(set(labels)) == 1000
    assert (labels[0], labels[285], labels[967]) == ("tench", "Egyptian cat", "espresso")


def test_the_packaged_network_knows_a_cat(photo_sets: Path) -> None:
    from train_job.backbones.catalog import BACKBONES
    from train_job.pretrained.imagenet_classifier import imagenet_classifier
    from transferlite.images.decoder import decode

    classifier = imagenet_classifier(BACKBONES["efficientnet_lite0"])
    photos = sorted((photo_sets / "catsdogs" / "test_img" / "cat").iterdir())[:20]
    images = np.stack([decode(photo.read_bytes(), classifier.input) for photo in photos])
    best = classifier.model.predict_on_batch(images).argmax(axis=1)
    assert sum(281 <= label <= 287 for label in best) > 10  # the seven kinds of cats


def test_weights_without_the_top_are_refused(tmp_path: Path) -> None:
    from train_job.backbones.build import build_backbone
    from train_job.backbones.catalog import BACKBONES
    from train_job.pretrained.imagenet_classifier import imagenet_classifier

    backbone = BACKBONES["mobilenet_v1_025"]
    build_backbone(backbone, (128, 128, 3), "none").save_weights(tmp_path / "no_top.weights.h5")
    with pytest.raises(InputError, match="ImageNet classifier"):
        imagenet_classifier(backbone, str(tmp_path / "no_top.weights.h5"))


def test_a_failed_download_names_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    import keras

    from train_job.backbones.catalog import BACKBONES
    from train_job.pretrained.imagenet_classifier import imagenet_classifier

    def fail(**_arguments: Any) -> None:
        raise Exception("URL fetch failure on the weights file")  # what Keras raises

    monkeypatch.setattr(keras.applications, "MobileNetV2", fail)
    with pytest.raises(UnavailableError, match="could not be downloaded"):
        imagenet_classifier(BACKBONES["mobilenet_v2"])
