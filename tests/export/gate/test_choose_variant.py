"""The variant that is served by default."""

from typing import Any

import numpy as np
import pytest

from transferlite.registry.manifest import Variant

PHOTOS = 400


def predictions(photos: int = PHOTOS, labelled: bool = True, **wrong: int) -> Any:
    """The gate's predictions for photos of two classes; ``wrong`` is each variant's number of mistakes."""
    from export.gate.compare_variants import GatePredictions
    from export.gate.limits import Candidate

    labels = (np.arange(photos) % 2).astype(np.int32)
    candidates = {}
    for name in ("float32", "float16", "dynamic", "int8"):
        predicted = labels.copy()
        predicted[: wrong.get(name, 0)] ^= 1
        candidates[Candidate(name, "here")] = np.eye(2, dtype=np.float32)[predicted]
    return GatePredictions(labels if labelled else None, np.eye(2, dtype=np.float32)[labels], candidates)


def variants(**milliseconds: float) -> dict[str, Variant]:
    sizes = {"float32": 100, "float16": 50, "dynamic": 26, "int8": 25}
    return {
        name: Variant(f"{name}.tflite", sizes[name], "here", PHOTOS, 1.0, 1.0, 0.0, time)
        for name, time in milliseconds.items()
    }


def choice(found: Any, **milliseconds: float) -> Any:
    from export.gate.choose_variant import choose_variant

    return choose_variant(found, variants(**milliseconds))


def test_the_fastest_variant_as_accurate_as_float32_is_chosen_with_its_reason() -> None:
    auto = choice(predictions(int8=1), float32=10.0, float16=10.0, dynamic=12.0, int8=4.0)
    assert auto.variant == "int8"
    assert auto.reason == (
        "int8 takes 0.40x float32's time and 0.25x its size; of 400 photos, only float32 is correct on 1 and only int8"
        " on 0: it loses less than 2% of accuracy with 95% confidence"
    )


def test_a_variant_that_loses_photos_is_not_chosen() -> None:
    assert choice(predictions(int8=8), float32=10.0, float16=10.0, dynamic=12.0, int8=4.0).variant == "float16"


def test_among_equally_fast_variants_the_smallest_is_chosen() -> None:
    assert choice(predictions(), float32=1.5, float16=1.5, int8=3.9).variant == "float16"


def test_few_photos_show_nothing_and_float32_stays() -> None:
    auto = choice(predictions(100), float32=10.0, int8=4.0)
    assert auto == ("float32", "100 photos do not show another variant to lose less than 2%")


def test_photos_without_labels_choose_float32() -> None:
    assert choice(predictions(labelled=False), float32=10.0, int8=4.0).variant == "float32"


@pytest.mark.parametrize(("lost", "won", "photos"), [(0, 0, 300), (3, 5, 100), (30, 2, 1000), (4, 0, 200)])
def test_the_statistic_is_tangos(lost: int, won: int, photos: int) -> None:
    """Against a search for the restricted maximum of the likelihood, which Tango solves in closed form."""
    from export.gate.choose_variant import MARGIN, score_statistic

    won_shares = np.linspace(1e-9, (1 - MARGIN) / 2 - 1e-9, 2_000_001)
    same = 1 - 2 * won_shares - MARGIN
    likelihood = lost * np.log(won_shares + MARGIN) + won * np.log(won_shares) + (photos - lost - won) * np.log(same)
    best = won_shares[likelihood.argmax()]
    expected = (lost - won - photos * MARGIN) / np.sqrt(photos * (2 * best + MARGIN - MARGIN**2))
    assert score_statistic(lost, won, photos) == pytest.approx(expected, abs=1e-3)


def test_a_variant_at_the_margin_passes_in_one_of_twenty_gates() -> None:
    from benchmarks.variant_choice import passed

    random = np.random.default_rng(1)
    assert passed(random, 0.02, 0.01, 500, 1500) < 0.065
    assert passed(random, 0.0, 0.002, 500, 300) > 0.97
