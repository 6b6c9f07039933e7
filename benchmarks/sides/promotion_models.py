"""Two simulated classifiers on the same test photos: correlated logits, calibrated probabilities, known recall.

A photo of C classes has logits ``strength * onehot(label) + noise``; its noise is standard normal. A part of the noise
is the photo's own and both versions share it. Probabilities are ``softmax(strength * logits)``, which is the exact
posterior, so both versions are calibrated. The strength sets the accuracy, and the shared part sets how many photos
are discordant; both are found by bisection on the pool of photos that test sets are drawn from.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

POOL_ELEMENTS = 2_000_000
_LEAST_PROBABILITY = 1e-7


@dataclass(frozen=True)
class Setting:
    """One row of the table: the test set, and how much worse the new version truly is.

    Attributes:
        name: what the table shows.
        classes: how many.
        photos: test photos of each class.
        accuracy: of the old version.
        discordant: the share of photos on which equally good versions differ.
        drop: what the new version loses of every class's recall.
        drop_in_one: what it loses of the first class's recall instead.
        power: the logits of the new version are multiplied by this, which changes no label.
        steps: number of steps that the new version's probabilities are rounded to; 0 for no rounding.
        mistake: whether one wrong label of the new version gets a probability of nearly 1.
        bound: the most, for equally good versions, or the least, for worse ones, that may be refused; None for neither.
    """

    name: str
    classes: int
    photos: int
    accuracy: float = 0.9
    discordant: float = 0.04
    drop: float = 0.0
    drop_in_one: float = 0.0
    power: float = 1.0
    steps: int = 0
    mistake: bool = False
    bound: float | None = None

    @property
    def equal(self) -> bool:
        """Whether both versions have the same recall in every class."""
        return not (self.drop or self.drop_in_one)


class Pool(NamedTuple):
    """Photos to draw from: which labels are right, ``[2, N]``, and the new version's loss minus the old one's, ``[N]``.

    The old version comes first. ``log_loss`` is in nats; ``brier`` is the sum of squared errors over the classes.
    """

    right: NDArray[np.bool_]
    log_loss: Floats
    brier: Floats


class Trials(NamedTuple):
    """Simulated test sets: ``[S, C, n]`` for S sets, C classes and n photos of each; see :class:`Pool`."""

    right: tuple[NDArray[np.bool_], NDArray[np.bool_]]
    log_loss: Floats
    brier: Floats

    @property
    def lost(self) -> NDArray[np.int64]:
        """Photos that only the old version gets right, ``[S, C]``."""
        return np.asarray((self.right[0] & ~self.right[1]).sum(-1))

    @property
    def won(self) -> NDArray[np.int64]:
        """Photos that only the new version gets right, ``[S, C]``."""
        return np.asarray((self.right[1] & ~self.right[0]).sum(-1))


def trials(setting: Setting, count: int, rng: np.random.Generator) -> Trials:
    """Draw ``count`` test sets."""
    usual = make_pool(setting, setting.drop, rng)
    parts = [_draw(usual, (count, setting.classes, setting.photos), rng)]
    if setting.drop_in_one:
        worse = _draw(make_pool(setting, setting.drop_in_one, rng), (count, 1, setting.photos), rng)
        rest = parts[0]
        parts = [worse, Pool(rest.right[..., 1:, :], rest.log_loss[..., 1:, :], rest.brier[..., 1:, :])]
    right, log_loss, brier = (np.concatenate(one, axis=-2) for one in zip(*parts, strict=True))
    if setting.mistake:
        one_confident_mistake(right[1], log_loss, brier)
    return Trials((right[0], right[1]), log_loss, brier)


def _draw(pool: Pool, shape: tuple[int, int, int], rng: np.random.Generator) -> Pool:
    places = rng.integers(0, len(pool.brier), shape, np.int32)
    return Pool(pool.right[:, places], pool.log_loss[places], pool.brier[places])


def one_confident_mistake(right: NDArray[np.bool_], log_loss: Floats, brier: Floats) -> None:
    """Give the first wrong label of the new version in each test set a probability of nearly 1, in place."""
    sets, size = len(right), right[0].size
    wrong = ~right.reshape(sets, size)
    where = np.flatnonzero(wrong.any(1)), wrong.argmax(1)[wrong.any(1)]
    log_loss.reshape(sets, size)[where] = -np.log(_LEAST_PROBABILITY)
    brier.reshape(sets, size)[where] = 2.0


def make_pool(setting: Setting, drop: float, rng: np.random.Generator) -> Pool:
    """Photos on which the old version has the setting's accuracy, and the new version ``drop`` less."""
    size = POOL_ELEMENTS // max(setting.classes, 20)
    shared, *own = (rng.standard_normal((size, setting.classes), np.float32) for _ in range(3))
    targets = setting.accuracy, setting.accuracy - drop

    def noises(correlation: float) -> list[Floats]:
        parts = np.float32(np.sqrt(correlation)), np.float32(np.sqrt(1 - correlation))
        return [parts[0] * shared + parts[1] * one for one in own]

    def margins(correlation: float) -> list[Floats]:
        """By how much the best other class exceeds the true one, without the strength, ``[N]`` of each version."""
        return [noise[:, 1:].max(1) - noise[:, 0] for noise in noises(correlation)]

    def agreement(correlation: float) -> float:
        old, new = (
            margin < np.quantile(margin, one) for margin, one in zip(margins(correlation), targets, strict=True)
        )
        return float((old == new).mean())

    correlation = _bisect(agreement, 1 - setting.discordant - drop, 0.0, 1.0)
    strengths = [float(np.quantile(margin, one)) for margin, one in zip(margins(correlation), targets, strict=True)]
    right = np.stack([margin < one for margin, one in zip(margins(correlation), strengths, strict=True)])
    old, new = noises(correlation)
    log_old, brier_old = _losses(old, strengths[0])
    log_new, brier_new = _losses(new, strengths[1], setting.power, setting.steps)
    return Pool(right, log_new - log_old, brier_new - brier_old)


def _losses(noise: Floats, strength: float, power: float = 1.0, steps: int = 0) -> tuple[Floats, Floats]:
    """The log loss and the Brier score of each photo, ``[N]``; the true class is the first."""
    logits = noise.copy()
    logits[:, 0] += np.float32(strength)
    logits *= np.float32(power * strength)
    logits -= logits.max(1, keepdims=True)
    probabilities = np.exp(logits)
    probabilities /= probabilities.sum(1, keepdims=True)
    if steps:
        probabilities = np.round(probabilities * steps) / np.float32(steps)
    brier = (probabilities**2).sum(1) - 2 * probabilities[:, 0] + 1
    least = np.float32(0.5 / steps if steps else _LEAST_PROBABILITY)
    return -np.log(np.maximum(probabilities[:, 0], least)), brier


def _bisect(increasing: Callable[[float], float], target: float, low: float, high: float) -> float:
    """Where an increasing function reaches the target, or the end of the interval next to it."""
    for _ in range(14):
        middle = (low + high) / 2
        low, high = (middle, high) if increasing(middle) < target else (low, middle)
    return high
