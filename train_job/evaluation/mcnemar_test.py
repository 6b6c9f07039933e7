"""The promotion check: did a new version lose more recall than is tolerated, and more than chance explains?

Both versions label the same test photos. A photo counts when one version is right and the other is wrong: it is
discordant. A photo is lost when only the old version is right, and won when only the new version is right.

The null hypothesis is that both versions are equally good in every class. The check refuses a version for two reasons
together: the observed drop exceeds the tolerance, and McNemar's mid-p value is at most the significance level.

The overall check has the level :data:`OVERALL_LEVEL`, and all class checks together have :data:`CLASS_LEVEL`. Their sum
bounds how often an equally good version is refused. ``python -m benchmarks.promotion`` measures that.

Sources: Fagerland, Lydersen, Laake, The McNemar test for binary matched-pairs data, 2013 (mid-p); Holm, A simple
sequentially rejective multiple test procedure, 1979; Tarone, A modified Bonferroni method for discrete data, 1990
(tests that can never be significant do not count); Roychoudhury et al., Beyond p-values: a phase II dual-criterion
design, 2018 (an observed effect and a significance level together).
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binom

OVERALL_LEVEL = 0.04
"""The significance level of the check over all photos."""
CLASS_LEVEL = 0.02
"""The significance level of all class checks together."""
MIN_PHOTOS = math.ceil(-math.log2(CLASS_LEVEL)) - 1
"""A class with fewer photos has no check of its own: even a loss of all photos is not significant."""
POWER = 0.8
"""The probability with which a drop is found that :func:`detectable_drop` returns."""
DISCORDANT = 0.04
"""The share of photos on which two equally good versions differ, as :func:`detectable_drop` assumes."""

_STEPS = np.arange(1, 101) / 100


@dataclass(frozen=True)
class Verdict:
    """The result of the promotion check. Shapes: ``[...]`` for comparisons, ``[..., C]`` for their classes.

    Attributes:
        p_value: McNemar's one-sided mid-p value over all photos, ``[...]``.
        worse: whether the overall check refuses, ``[...]``.
        class_p_values: the mid-p value of each class, without correction, ``[..., C]``.
        worse_classes: which classes are refused, after Holm's correction, ``[..., C]``.
        checked: which classes have a check of their own, ``[..., C]``.
    """

    p_value: NDArray[np.float64]
    worse: NDArray[np.bool_]
    class_p_values: NDArray[np.float64]
    worse_classes: NDArray[np.bool_]
    checked: NDArray[np.bool_]

    @property
    def refused(self) -> NDArray[np.bool_]:
        """Whether any check refuses, ``[...]``."""
        return np.asarray(self.worse | self.worse_classes.any(-1))


def check(photos: ArrayLike, lost: ArrayLike, won: ArrayLike, tolerance: float) -> Verdict:
    """Check every class and all photos together; many comparisons at once where there are leading axes.

    Args:
        photos: the test photos of each class, ``[..., C]``.
        lost: how many of them only the old version got right, ``[..., C]``.
        won: how many of them only the new version got right, ``[..., C]``.
        tolerance: the drop in recall, or in accuracy, that is never a reason; a share from 0 to 1.

    Raises:
        ValueError: a count is negative, or more photos are discordant than there are.
    """
    photos, lost, won = np.broadcast_arrays(*(np.asarray(one, np.int64) for one in (photos, lost, won)))
    discordant = lost + won
    if (lost < 0).any() or (won < 0).any() or (discordant > photos).any():
        raise ValueError("lost and won must not be negative, and their sum must not exceed photos")
    totals = [one.sum(-1) for one in (photos, lost, won)]
    p_value, class_p_values = mid_p(totals[1], totals[2]), mid_p(lost, won)
    checked = photos >= MIN_PHOTOS
    possible = checked & (mid_p(discordant, 0) <= CLASS_LEVEL) & _exceeds(discordant, photos, tolerance)
    return Verdict(
        p_value=p_value,
        worse=(p_value <= OVERALL_LEVEL) & _exceeds(totals[1] - totals[2], totals[0], tolerance),
        class_p_values=class_p_values,
        worse_classes=holm(class_p_values, possible, CLASS_LEVEL) & _exceeds(lost - won, photos, tolerance),
        checked=checked,
    )


def mid_p(lost: ArrayLike, won: ArrayLike) -> NDArray[np.float64]:
    """McNemar's one-sided mid-p value, element by element; small where more photos were lost than won.

    It is the probability that more than ``lost`` of ``lost + won`` fair coins show heads, plus half the probability of
    exactly ``lost``. Without discordant photos it is 0.5.
    """
    count = np.add(lost, won)
    return np.asarray(binom.sf(lost, count, 0.5) + 0.5 * binom.pmf(lost, count, 0.5), np.float64)


def holm(p_values: NDArray[np.float64], family: NDArray[np.bool_], level: float) -> NDArray[np.bool_]:
    """Which tests are significant after Holm's correction along the last axis, ``[..., C]``.

    Args:
        p_values: one for each test, ``[..., C]``.
        family: which tests count, ``[..., C]``; the others are never significant. The choice must not depend on which
            of the discordant photos were lost.
        level: the family-wise error rate.
    """
    ordered = np.where(family, p_values, np.inf)
    order = np.argsort(ordered, axis=-1, kind="stable")
    left = family.sum(-1, keepdims=True) - np.arange(family.shape[-1])
    below = np.take_along_axis(ordered, order, -1) * np.maximum(left, 1) <= level
    significant = np.zeros_like(family)
    np.put_along_axis(significant, order, np.logical_and.accumulate(below, axis=-1), -1)
    return significant


@lru_cache(maxsize=1024)
def detectable_drop(photos: int, level: float, tolerance: float) -> float | None:
    """The smallest drop, in whole points, that one check finds with probability :data:`POWER`; None if none is.

    It assumes that :data:`DISCORDANT` of the photos are discordant besides the drop. Several significant classes at
    once, or other classes with many discordant photos, need a larger drop through Holm's correction.

    Args:
        photos: the test photos of the check.
        level: its significance level.
        tolerance: the drop that is never a reason, a share.
    """
    discordant = np.arange(photos + 1)
    least = _least_lost(discordant, photos, level, tolerance)
    won = np.minimum(DISCORDANT, 1 - _STEPS) / 2
    lost = _STEPS + won
    found = binom.sf(least - 1, discordant, (lost / (lost + won))[:, None])
    power = (binom.pmf(discordant, photos, np.minimum(lost + won, 1)[:, None]) * found).sum(-1)
    enough = np.flatnonzero(power >= POWER - 1e-9)
    return float(_STEPS[enough[0]]) if len(enough) else None


def _least_lost(discordant: NDArray[np.int64], photos: int, level: float, tolerance: float) -> NDArray[np.int64]:
    """The fewest lost photos that are a reason, for each number of discordant photos; more than those if none is."""
    least = binom.isf(level, discordant, 0.5).astype(np.int64)
    least += mid_p(least, discordant - least) > level
    more_than_tolerated = np.floor((discordant + tolerance * photos + 1e-9) / 2).astype(np.int64) + 1
    return np.asarray(np.maximum(least, more_than_tolerated))


def _exceeds(drop: NDArray[np.int64], photos: NDArray[np.int64], tolerance: float) -> NDArray[np.bool_]:
    """Whether a drop, in photos, is larger than the tolerated share of the photos."""
    return np.asarray(drop > tolerance * photos + 1e-9)
