import math
from typing import Any

import numpy as np
import pytest

from transferlite.errors import InputError


def test_the_defaults_are_those_of_the_walk_through() -> None:
    from train_job.head.recipe import Recipe

    optimizer = Recipe().new_optimizer(1000)
    assert type(optimizer).__name__ == "RMSprop"
    assert float(optimizer.learning_rate) == pytest.approx(1e-3)
    assert Recipe().epochs == 100
    assert not Recipe().needs_validation


@pytest.mark.parametrize("optimizer", ["rmsprop", "adam", "sgd"])
def test_a_cosine_schedule_falls_from_the_learning_rate_to_zero_over_all_steps(optimizer: str) -> None:
    from train_job.head.recipe import Recipe

    made = Recipe(optimizer=optimizer, learning_rate=0.1, schedule="cosine").new_optimizer(200)
    for step in (0, 1, 50, 100, 199, 200):
        made.iterations.assign(step)
        assert float(made.learning_rate) == pytest.approx(0.05 * (1 + math.cos(math.pi * step / 200)), abs=1e-6)


def test_a_cosine_schedule_begins_at_the_optimizers_own_rate() -> None:
    from train_job.head.recipe import Recipe

    assert float(Recipe(optimizer="sgd", schedule="cosine").new_optimizer(10).learning_rate) == pytest.approx(0.01)


def test_balanced_classes_count_the_same_in_all() -> None:
    from train_job.head.recipe import Recipe

    labels = np.array([0] * 6 + [1] * 3 + [2], np.int32)
    weights = Recipe(class_weights="balanced").weights_of(labels, 3)
    np.testing.assert_allclose(weights, [10 / 18, 10 / 9, 10 / 3], rtol=1e-6)
    np.testing.assert_allclose(weights * np.bincount(labels), [10 / 3] * 3, rtol=1e-6)
    np.testing.assert_array_equal(Recipe().weights_of(labels, 3), [1, 1, 1])


def test_a_class_without_rows_has_a_finite_weight() -> None:
    from train_job.head.recipe import Recipe

    assert np.isfinite(Recipe(class_weights="balanced").weights_of(np.zeros(4, np.int32), 3)).all()


@pytest.mark.parametrize("asked", [{"keep_best": True}, {"early_stopping": 1}])
def test_who_wants_the_best_epoch_needs_validation_rows(asked: dict[str, Any]) -> None:
    from train_job.head.recipe import Recipe

    assert Recipe(**asked).needs_validation


@pytest.mark.parametrize("settings", [{"optimizer": "nosuch"}, {"optimizer": "nosuch", "schedule": "cosine"}])
def test_an_optimizer_that_keras_does_not_have_is_refused_at_once(settings: dict[str, Any]) -> None:
    from train_job.head.recipe import Recipe

    with pytest.raises(InputError, match="unknown optimizer 'nosuch'"):
        Recipe(**settings)
