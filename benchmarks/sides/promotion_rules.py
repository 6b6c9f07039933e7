"""Rules that decide whether a new version is refused: the one in use, and alternatives.

Each takes simulated test sets and returns for each whether it refuses. The alternatives have the levels 0.05 over all
photos and 0.05 over all classes, the latter by Holm. The smallest p-value decides whether Holm finds any class, so
:func:`_any_class` compares that one.
"""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom, norm, t

from benchmarks.sides.promotion_models import Floats, Trials
from train_job.evaluation.mcnemar_test import check, mid_p

TOLERANCE = 0.02
LEVEL = 0.05

Refused = NDArray[np.bool_]
Rule = Callable[[Trials], Refused]


def in_use(trials: Trials) -> Refused:
    """The code that decides at the end of a training."""
    return check(trials.log_loss.shape[-1], trials.lost, trials.won, TOLERANCE).refused


def uncorrected(trials: Trials) -> Refused:
    """McNemar's exact test, 0.05 over all, 0.25 for each class beyond the tolerance: the rule of earlier releases."""
    lost, won, photos = trials.lost, trials.won, trials.log_loss.shape[-1]
    overall = _exact(lost.sum(-1), won.sum(-1)) < 0.05
    one = (lost - won > TOLERANCE * photos) & (_exact(lost, won) <= 0.25)
    return np.asarray(overall | one.any(-1))


def mcnemar(trials: Trials) -> Refused:
    """McNemar's mid-p value alone, without a tolerance."""
    lost, won = trials.lost, trials.won
    return (mid_p(lost.sum(-1), won.sum(-1)) <= LEVEL) | _any_class(mid_p(lost, won))


def drop_beyond_tolerance(trials: Trials) -> Refused:
    """Refuses where a drop larger than the tolerance is proven (Wald's test, the null hypothesis is the tolerance)."""
    photos = trials.log_loss.shape[-1]
    overall = _wald(trials.lost.sum(-1), trials.won.sum(-1), photos * trials.lost.shape[-1])
    return (overall <= LEVEL) | _any_class(_wald(trials.lost, trials.won, photos))


def not_proven_as_good(trials: Trials) -> Refused:
    """Refuses unless an overall drop of the tolerance is ruled out: classical non-inferiority, without class checks."""
    photos = trials.log_loss.shape[-1] * trials.lost.shape[-1]
    return np.asarray(1 - _wald(trials.lost.sum(-1), trials.won.sum(-1), photos) > LEVEL)


def log_loss(trials: Trials) -> Refused:
    """A paired t-test on the log loss of each photo."""
    return _paired(trials.log_loss)


def brier(trials: Trials) -> Refused:
    """A paired t-test on the Brier score of each photo."""
    return _paired(trials.brier)


RULES: Mapping[str, Rule] = {
    "in use": in_use,
    "0.25 a class": uncorrected,
    "McNemar mid-p": mcnemar,
    "drop > tolerance proven": drop_beyond_tolerance,
    "not proven as good": not_proven_as_good,
    "log loss": log_loss,
    "Brier": brier,
}


def _exact(lost: NDArray[np.int64], won: NDArray[np.int64]) -> NDArray[np.float64]:
    """McNemar's exact one-sided p-value; 1 without discordant photos."""
    return np.asarray(binom.sf(lost - 1, lost + won, 0.5))


def _wald(lost: NDArray[np.int64], won: NDArray[np.int64], photos: int) -> NDArray[np.float64]:
    """The one-sided p-value of a drop larger than the tolerance; a variance of 0 counts as that of one photo."""
    variance = np.maximum(lost + won - (lost - won) ** 2 / photos, 1)
    return np.asarray(norm.sf((lost - won - TOLERANCE * photos) / np.sqrt(variance)))


def _paired(added: Floats) -> Refused:
    """Whether added losses ``[S, C, n]`` are above zero, over all or in any class."""
    return (_t_test(added.reshape(len(added), -1)) <= LEVEL) | _any_class(_t_test(added))


def _t_test(added: Floats) -> NDArray[np.float64]:
    """The one-sided p-value that the mean along the last axis is above zero."""
    photos = added.shape[-1]
    deviation = np.maximum(added.std(-1, ddof=1), 1e-9)
    return np.asarray(t.sf(added.mean(-1) / deviation * np.sqrt(photos), photos - 1))


def _any_class(p_values: NDArray[np.float64]) -> Refused:
    """Whether Holm's procedure finds any of the classes ``[S, C]`` significant."""
    return np.asarray(p_values.min(-1) <= LEVEL / p_values.shape[-1])
