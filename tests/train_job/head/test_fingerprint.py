from dataclasses import fields, replace

import numpy as np
import pytest

from train_job.head.fingerprint import TRAINING_OPTIONS, training_fingerprint
from train_job.options import TrainOptions

COVERED = {
    *("images", "labels", "test_images", "test_labels", "x_col", "y_col", "split_col", "classes", "merge_labels"),
    *("split", "fail_over"),  # by the photos with their labels and splits
    *("backbone", "weights", "image_size", "resize", "augment", "views"),  # by the feature spaces
    "warm_start",  # by the version that it starts from
}
OF_NO_INFLUENCE = {
    *("registry", "features", "folds", "precision", "channel", "promote", "tolerance", "signing_key"),
    *("reject_unlike", "negative_class"),  # the familiarity score and the manifest, after the training
    *("variants", "batch", "max_accuracy_drop", "max_recall_drop", "min_agreement", "max_difference", "legacy_python"),
}
PHOTOS = [np.array([b"a" * 32, b"b" * 32]), np.array([0, 1]), np.array([0, 2])]


def fingerprint(options: TrainOptions) -> str:
    return training_fingerprint(options, ("cat", "dog"), PHOTOS, ["space"], None)


def test_every_option_is_classified() -> None:
    names = {field.name for field in fields(TrainOptions)}
    assert names == {*TRAINING_OPTIONS} | COVERED | OF_NO_INFLUENCE


@pytest.mark.parametrize(
    "change",
    [
        {"variants": ("float32",)},
        {"max_accuracy_drop": 0.5},
        {"promote": "always"},
        {"tolerance": 0.5},
        {"batch": 8},
        {"reject_unlike": 0.05},
        {"negative_class": "other"},
    ],
)
def test_options_of_what_follows_the_training_do_not_change_it(change: dict[str, object]) -> None:
    options = TrainOptions("photos", "registry", legacy_python="python3.9")
    assert fingerprint(replace(options, **change)) == fingerprint(options)  # type: ignore[arg-type]


@pytest.mark.parametrize("change", [{"epochs": 7}, {"seed": 1}, {"schedule": "cosine"}, {"hidden_units": 3}])
def test_options_of_the_training_change_it(change: dict[str, object]) -> None:
    options = TrainOptions("photos", "registry")
    assert fingerprint(replace(options, **change)) != fingerprint(options)  # type: ignore[arg-type]
