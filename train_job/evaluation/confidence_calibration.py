"""Temperature scaling: a probability of 0.8 should be right four times in five.

Source: Guo et al., On Calibration of Modern Neural Networks, ICML 2017, https://arxiv.org/abs/1706.04599
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

BINS = 15
"""Bins of confidence for the calibration error, as in the paper."""

_PRIOR = 0.5
"""Standard deviation of the temperature's logarithm before any photo was seen.

Without it a few validation photos, all right, would ask for a temperature of zero: certainty about everything.
"""
_LIMIT = math.log(20)
_SMALLEST = 1e-30


def fit_temperature(probabilities: NDArray[np.float32], labels: NDArray[np.int32]) -> float:
    """The temperature that makes the labels ``[N]`` most probable, given uncalibrated probabilities ``[N, C]``.

    It is the maximum a posteriori under a log-normal prior around 1, and so is 1 without photos.
    """
    logits = np.log(np.maximum(probabilities, _SMALLEST)).astype(np.float64)

    def cost(log_temperature: float) -> float:
        scaled = logits / math.exp(log_temperature)
        scaled -= scaled.max(axis=1, keepdims=True)
        nats = np.log(np.exp(scaled).sum(axis=1)) - scaled[np.arange(len(labels)), labels]
        return float(nats.sum()) + (log_temperature / _PRIOR) ** 2 / 2

    if not len(labels):
        return 1.0
    return math.exp(minimize_scalar(cost, bounds=(-_LIMIT, _LIMIT), method="bounded").x)


def scaled(probabilities: NDArray[np.float32], temperature: float) -> NDArray[np.float32]:
    """The probabilities ``[N, C]`` that the same model gives at this temperature."""
    logits = np.log(np.maximum(probabilities, _SMALLEST)).astype(np.float64) / temperature
    powers = np.exp(logits - logits.max(axis=1, keepdims=True, initial=-np.inf))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), np.float32)


def apply_temperature(head: Any, temperature: float) -> None:
    """Put the temperature into a Keras head's last Dense layer, in place: every export then answers calibrated."""
    last = head.layers[-1]
    last.set_weights([weights / temperature for weights in last.get_weights()])


def reliability(probabilities: NDArray[np.float32], labels: NDArray[np.int32]) -> list[dict[str, float]]:
    """By bin of confidence that has photos: their mean confidence, their accuracy and how many they are."""
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    return [
        {
            "confidence": float(confidence[bins == one].mean()),
            "accuracy": float(right[bins == one].mean()),
            "photos": int((bins == one).sum()),
        }
        for one in np.unique(bins)
    ]


def calibration_error(probabilities: NDArray[np.float32], labels: NDArray[np.int32]) -> float:
    """The expected calibration error over :data:`BINS` equal bins; 0 of nothing."""
    bins = reliability(probabilities, labels)
    gaps = sum(abs(one["confidence"] - one["accuracy"]) * one["photos"] for one in bins)
    return gaps / max(len(labels), 1)
