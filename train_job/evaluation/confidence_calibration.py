"""Confidence calibration by temperature scaling: predictions with a probability of 0.8 should be 80% correct.

Source: Guo et al., On Calibration of Modern Neural Networks, ICML 2017, https://arxiv.org/abs/1706.04599
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

BINS = 15
"""Number of confidence bins of the calibration error, as in the paper."""

_PRIOR = 0.5
"""Standard deviation of the prior of the temperature's logarithm.

Without a prior, a few validation photos that are all correct would give a temperature near 0: full confidence.
"""
_LIMIT = math.log(20)
_SMALLEST = 1e-30
_BLOCK_BYTES = 2**25


def fit_temperature(probabilities: NDArray[np.float32], labels: NDArray[np.int32]) -> float:
    """Fit the temperature that makes the labels ``[N]`` most likely, given uncalibrated probabilities ``[N, C]``.

    It is the maximum a posteriori under a log-normal prior around 1, and so 1 without photos.
    """
    rows = max(1, _BLOCK_BYTES // (8 * probabilities.shape[1]))
    blocks = [slice(start, start + rows) for start in range(0, len(labels), rows)]

    def log_loss(block: slice, temperature: float) -> float:
        scaled = np.log(np.maximum(probabilities[block], _SMALLEST)).astype(np.float64) / temperature
        scaled -= scaled.max(axis=1, keepdims=True)
        of_label = scaled[np.arange(len(scaled)), labels[block]]
        return float((np.log(np.exp(scaled).sum(axis=1)) - of_label).sum())

    def cost(log_temperature: float) -> float:
        total = sum(log_loss(block, math.exp(log_temperature)) for block in blocks)
        return total + (log_temperature / _PRIOR) ** 2 / 2

    if not len(labels):
        return 1.0
    return math.exp(minimize_scalar(cost, bounds=(-_LIMIT, _LIMIT), method="bounded").x)


def apply_temperature(head: Any, temperature: float) -> None:
    """Divide the weights of a Keras head's last Dense layer by the temperature, so that every export is calibrated."""
    last = head.layers[-1]
    last.set_weights([weights / temperature for weights in last.get_weights()])


def reliability(probabilities: NDArray[np.float32], labels: NDArray[np.int32]) -> list[dict[str, float]]:
    """Mean confidence, accuracy and number of photos of each confidence bin that has photos."""
    confidence, correct = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    return [
        {
            "confidence": float(confidence[bins == index].mean()),
            "accuracy": float(correct[bins == index].mean()),
            "photos": int((bins == index).sum()),
        }
        for index in np.unique(bins)
    ]


def calibration_error(probabilities: NDArray[np.float32], labels: NDArray[np.int32]) -> float:
    """The expected calibration error over :data:`BINS` equal bins; 0 without photos."""
    bins = reliability(probabilities, labels)
    gaps = sum(abs(group["confidence"] - group["accuracy"]) * group["photos"] for group in bins)
    return gaps / max(len(labels), 1)
