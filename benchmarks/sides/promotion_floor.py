"""Simulated first versions for the floor: is a version better than always predicting the most frequent class?

Each photo is predicted correctly with a probability that depends on its class only. The rule is that of a training:
the test photos decide, and if there are fewer than a hundred, all photos by cross-validation may decide as well.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from train_job.evaluation.majority_baseline import FEW_TEST_PHOTOS, compare_with_majority


@dataclass(frozen=True)
class FloorSetting:
    """One row of the table.

    Attributes:
        name: text of the row.
        tests: test photos of each class.
        others: other photos of each class, which cross-validation predicts.
        recalls: probability of a correct prediction for each class; wrong ones are drawn from the other classes.
        bound: limit of the share of promoted versions.
        at_most: whether the bound is an upper one, as for versions that are no better than the constant prediction.
    """

    name: str
    tests: tuple[int, ...]
    others: tuple[int, ...]
    recalls: tuple[float, ...]
    bound: float
    at_most: bool = False

    @property
    def accuracy(self) -> float:
        """True accuracy on the photos."""
        photos = np.add(self.tests, self.others)
        return float(np.average(self.recalls, weights=photos))

    @property
    def constant_accuracy(self) -> float:
        """Accuracy of always predicting the most frequent class."""
        photos = np.add(self.tests, self.others)
        return float(photos.max() / photos.sum())


def _balanced(name: str, classes: int, tests: int, others: int, recall: float, bound: float) -> FloorSetting:
    sizes = ((tests,) * classes, (others,) * classes)
    return FloorSetting(name, *sizes, (recall,) * classes, bound, at_most=recall * classes < 1.001)


MOST_PROMOTED, LEAST_PROMOTED = 0.05, 0.8

FLOOR_SETTINGS = (
    _balanced("random, 2 classes x 12 (2 test photos)", 2, 1, 11, 1 / 2, MOST_PROMOTED),
    _balanced("random, 2 x 50 (10 test photos)", 2, 5, 45, 1 / 2, MOST_PROMOTED),
    _balanced("random, 2 x 1000 (200 test photos)", 2, 100, 900, 1 / 2, MOST_PROMOTED),
    _balanced("random, 10 x 20 (20 test photos)", 10, 2, 18, 1 / 10, MOST_PROMOTED),
    _balanced("random, 40 x 2 (no test photos)", 40, 0, 2, 1 / 40, MOST_PROMOTED),
    FloorSetting(
        "equal to the constant, 90 + 10 (10 test photos)", (9, 1), (81, 9), (17 / 18, 0.5), 0.05, at_most=True
    ),
    FloorSetting("equal to the constant, 900 + 100 (100)", (90, 10), (810, 90), (17 / 18, 0.5), 0.05, at_most=True),
    FloorSetting("always the most frequent class, 90 + 10 (10)", (9, 1), (81, 9), (1.0, 0.0), 0.05, at_most=True),
    _balanced("good, 2 x 6 (2 test photos)", 2, 1, 5, 0.95, LEAST_PROMOTED),
    _balanced("good, 2 x 12 (2 test photos)", 2, 1, 11, 0.9, LEAST_PROMOTED),
    _balanced("fair, 2 x 50 (10 test photos)", 2, 5, 45, 0.65, LEAST_PROMOTED),
    _balanced("weak, 2 x 1000 (200 test photos)", 2, 100, 900, 0.65, LEAST_PROMOTED),
    _balanced("fair, 10 x 20 (20 test photos)", 10, 2, 18, 0.3, LEAST_PROMOTED),
    _balanced("weak, 40 x 2 (no test photos)", 40, 0, 2, 0.2, LEAST_PROMOTED),
    FloorSetting("good, 90 + 10 (10 test photos)", (9, 1), (81, 9), (0.99, 0.8), LEAST_PROMOTED),
)
"""What is simulated; a test holds the bounds."""


def share_promoted(setting: FloorSetting, count: int, random: np.random.Generator) -> float:
    """Share of ``count`` simulated first versions that the floor lets through."""
    return float(np.mean([_is_promoted(setting, random) for _ in range(count)]))


def _is_promoted(setting: FloorSetting, random: np.random.Generator) -> bool:
    tests, others = (_predict(setting, photos, random) for photos in (setting.tests, setting.others))
    names = [str(index) for index in range(len(setting.recalls))]
    if len(tests[0]) and compare_with_majority(*tests, names).is_better:
        return True
    if len(tests[0]) >= FEW_TEST_PHOTOS:
        return False
    predicted, labels = np.concatenate([tests[0], others[0]]), np.concatenate([tests[1], others[1]])
    return compare_with_majority(predicted, labels, names).is_better


def _predict(
    setting: FloorSetting, photos: tuple[int, ...], random: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Draw predictions for ``photos`` of each class; returns them with the true classes."""
    classes = len(photos)
    labels = np.repeat(np.arange(classes), photos)
    right = random.random(len(labels)) < np.array(setting.recalls)[labels]
    wrong = (labels + random.integers(1, classes, len(labels))) % classes
    return np.where(right, labels, wrong), labels.astype(np.int32)
