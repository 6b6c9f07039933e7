import math
from typing import Any

import numpy as np
import pytest

from tests.train_job.recipes import make_recipe
from train_job.head.class_weights import class_weight_vector
from transferlite.errors import InputError


def test_the_defaults_are_those_of_the_keras_walk_through() -> None:
    optimizer = make_recipe().new_optimizer(1000)
    assert type(optimizer).__name__ == "RMSprop"
    assert float(optimizer.learning_rate) == pytest.approx(1e-3)
    assert make_recipe().epochs == 100
    assert not make_recipe().needs_validation


@pytest.mark.parametrize("optimizer", ["rmsprop", "adam", "sgd"])
def test_a_cosine_schedule_falls_from_the_learning_rate_to_zero_over_all_steps(optimizer: str) -> None:
    built = make_recipe(optimizer=optimizer, learning_rate=0.1, schedule="cosine").new_optimizer(200)
    for step in (0, 1, 50, 100, 199, 200):
        built.iterations.assign(step)
        assert float(built.learning_rate) == pytest.approx(0.05 * (1 + math.cos(math.pi * step / 200)), abs=1e-6)


def test_a_cosine_schedule_starts_at_the_optimizers_own_rate() -> None:
    assert float(make_recipe(optimizer="sgd", schedule="cosine").new_optimizer(10).learning_rate) == pytest.approx(0.01)


def test_balanced_classes_have_equal_total_weight() -> None:
    labels = np.array([0] * 6 + [1] * 3 + [2], np.int32)
    weights = class_weight_vector("balanced", labels, 3)
    np.testing.assert_allclose(weights, [10 / 18, 10 / 9, 10 / 3], rtol=1e-6)
    np.testing.assert_allclose(weights * np.bincount(labels), [10 / 3] * 3, rtol=1e-6)
    np.testing.assert_array_equal(class_weight_vector("none", labels, 3), [1, 1, 1])


def test_a_class_without_rows_has_a_finite_weight() -> None:
    assert np.isfinite(class_weight_vector("balanced", np.zeros(4, np.int32), 3)).all()


@pytest.mark.parametrize("settings", [{"keep_best": True}, {"early_stopping": 1}])
def test_choosing_the_best_epoch_needs_validation_rows(settings: dict[str, Any]) -> None:
    assert make_recipe(**settings).needs_validation


@pytest.mark.parametrize("settings", [{"optimizer": "nosuch"}, {"optimizer": "nosuch", "schedule": "cosine"}])
def test_an_unknown_optimizer_is_refused_at_once(settings: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="unknown optimizer 'nosuch'"):
        make_recipe(**settings)
