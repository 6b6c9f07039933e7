"""The floor of a promotion: is a version better than always predicting the most frequent class?

The constant prediction is right for the share of that class. A one-sided binomial test with the mid-p value compares
the version's correct predictions with that share. It is also valid if some classes are easier than others, because the
number of correct predictions then varies less (Hoeffding, On the distribution of the number of successes, 1956).

The test photos alone may show the advantage. If there are few of them, out-of-fold predictions of a cross-validation
for the other photos count as well. Both tests have the level :data:`FLOOR_LEVEL`, so together at most twice that.
``python -m benchmarks.promotion`` measures it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

FLOOR_LEVEL = 0.02
"""Significance level of each of the two tests."""
FEW_TEST_PHOTOS = 100
"""With fewer test photos, cross-validation may show that a version is better than the constant prediction."""


@dataclass(frozen=True)
class MajorityBaseline:
    """A version's predictions compared with the constant prediction of the most frequent class.

    Attributes:
        label: the most frequent class among the photos.
        photos: number of photos.
        right: photos that the version predicts correctly.
        constant_right: photos of the most frequent class.
        cross_validated: photos among them with an out-of-fold prediction of a cross-validation.
    """

    label: str
    photos: int
    right: int
    constant_right: int
    cross_validated: int = 0

    @property
    def p_value(self) -> float:
        """One-sided mid-p value; small if the version is better than the constant prediction, 1 without photos."""
        if not self.photos:
            return 1.0
        chance = binom(self.photos, self.constant_right / self.photos)
        return float(chance.sf(self.right) + 0.5 * chance.pmf(self.right))

    @property
    def is_better(self) -> bool:
        """Whether the version is shown to be better than the constant prediction."""
        return self.p_value <= FLOOR_LEVEL

    def reasons(self) -> list[str]:
        """The reason against promotion; empty if the version is better than the constant prediction."""
        if self.is_better:
            return []
        source = "test photos"
        if self.cross_validated:
            source = f"photos ({self.photos - self.cross_validated} test photos, the others by cross-validation)"
        return [
            f"not shown to be better than always predicting {self.label!r}: {self.right} of {self.photos} {source} are"
            f" right, {self.constant_right} with that prediction (p = {self.p_value:.2g}, limit {FLOOR_LEVEL});"
            " add photos, or pass --promote always"
        ]

    def to_dict(self) -> dict[str, Any]:
        """The entry ``baseline`` of evaluation.json."""
        return vars(self) | {"p_value": self.p_value, "level": FLOOR_LEVEL, "is_better": self.is_better}


def compare_with_majority(
    predicted: NDArray[np.int64], labels: NDArray[np.int32], names: Sequence[str], cross_validated: int = 0
) -> MajorityBaseline:
    """Compare predicted classes ``[N]`` with the most frequent of the true classes ``labels`` ``[N]``."""
    counts = np.bincount(labels, minlength=len(names))
    majority = int(counts.argmax())
    return MajorityBaseline(
        label=names[majority],
        photos=len(labels),
        right=int((predicted == labels).sum()),
        constant_right=int(counts[majority]),
        cross_validated=cross_validated,
    )
