"""Choose the variant that Lambda and devices serve by default: fast and small, and shown to be as accurate as float32.

A variant is acceptable if it loses less than :data:`MARGIN` of accuracy against float32 on the gate's photos, by the
score test for paired proportions of Tango, Equivalence test and confidence interval for the difference in proportions
for the paired-sample design (1998). ``python -m benchmarks.variant_choice`` prints its error rates.
"""

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from export.gate.compare_variants import GatePredictions
from transferlite.inference.variants import FLOAT32, TFLITE_VARIANTS
from transferlite.registry.manifest import AutoVariant, Variant

MARGIN = 0.02
"""Drop in accuracy that a variant must be shown to stay below."""
SIGNIFICANCE = 0.05
"""Probability that a variant that loses :data:`MARGIN` passes."""
SIMILAR_TIME = 1.1
"""Variants that take up to this multiple of the fastest one's time count as equally fast; the smallest is chosen."""

_CRITICAL_VALUE = 1.6448536269514722
"""The standard normal distribution's quantile of 1 - :data:`SIGNIFICANCE`."""


def choose_variant(predictions: GatePredictions, variants: Mapping[str, Variant]) -> AutoVariant:
    """Choose among the published TFLite variants. ``predictions`` are the gate's, for labelled photos or others."""
    if predictions.labels is None:
        return AutoVariant(FLOAT32, "the photos had no labels to compare accuracies on")
    labels = predictions.labels
    right = {name: values.argmax(axis=1) == labels for name, values in predictions.by_variant.items()}
    acceptable = {
        name: variants[name]
        for name in TFLITE_VARIANTS
        if name in variants and (name == FLOAT32 or loses_less_than_margin(right[FLOAT32], right[name]))
    }
    limit = SIMILAR_TIME * min(_milliseconds(variant) for variant in acceptable.values())
    fast = {name: variant for name, variant in acceptable.items() if _milliseconds(variant) <= limit}
    chosen = min(fast, key=lambda name: fast[name].size)
    if chosen != FLOAT32:
        return AutoVariant(chosen, _reason(chosen, variants, right[FLOAT32], right[chosen]))
    if len(acceptable) > 1:
        return AutoVariant(FLOAT32, "no other variant is both as accurate and faster or smaller")
    return AutoVariant(FLOAT32, f"{len(labels)} photos do not show another variant to lose less than {MARGIN:.0%}")


def loses_less_than_margin(reference: NDArray[np.bool_], candidate: NDArray[np.bool_]) -> bool:
    """Test whether the candidate's accuracy is less than :data:`MARGIN` below the reference's, ``[N]`` correct or not.

    The first of them is compared on as many photos as the second has.
    """
    reference = reference[: len(candidate)]
    lost, won = int((reference & ~candidate).sum()), int((candidate & ~reference).sum())
    return score_statistic(lost, won, len(candidate)) < -_CRITICAL_VALUE


def score_statistic(lost: int, won: int, photos: int, margin: float = MARGIN) -> float:
    """Tango's score statistic of a drop of ``margin``: standard normal if the true drop is the margin.

    ``lost`` photos are correct with the reference only, ``won`` with the candidate only.
    """
    a = 2 * photos
    b = (2 * photos - lost + won) * margin - lost - won
    c = -won * margin * (1 - margin)
    won_share = (math.sqrt(b * b - 4 * a * c) - b) / (2 * a)  # of the photos, if the true drop is the margin
    variance = photos * (2 * won_share + margin * (1 - margin))
    return (lost - won - photos * margin) / math.sqrt(variance) if variance > 0 else 0.0


def _milliseconds(variant: Variant) -> float:
    return math.inf if variant.milliseconds is None else variant.milliseconds


def _reason(
    name: str, variants: Mapping[str, Variant], reference: NDArray[np.bool_], candidate: NDArray[np.bool_]
) -> str:
    lost, won = int((reference & ~candidate).sum()), int((candidate & ~reference).sum())
    time = _milliseconds(variants[name]) / _milliseconds(variants[FLOAT32])
    size = variants[name].size / variants[FLOAT32].size
    return (
        f"{name} takes {time:.2f}x float32's time and {size:.2f}x its size; of {len(candidate)} photos, only float32 is"
        f" correct on {lost} and only {name} on {won}: it loses less than {MARGIN:.0%} of accuracy with"
        f" {1 - SIGNIFICANCE:.0%} confidence"
    )
