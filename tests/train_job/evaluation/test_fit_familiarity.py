from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from train_job.evaluation.fit_familiarity import count_rejected, fit_familiarity, threshold_for
from transferlite.errors import BundleError
from transferlite.predict.familiarity import Familiarity

WIDTH = 40


def rows(count: int, seed: int, where: int = 0) -> Any:
    """Rows of photos that look alike: positive, and large in eight features from ``where`` on."""
    random = np.random.default_rng(seed)
    values = random.random((count, WIDTH)) * 0.3
    values[:, where : where + 8] += 1 + random.random((count, 8))
    return values.astype(np.float16)


def probabilities(count: int, highest: float = 0.9) -> Any:
    random = np.random.default_rng(count)
    best = np.clip(highest + 0.05 * random.standard_normal(count), 0.5, 1)
    return np.stack([best, 1 - best], axis=1).astype(np.float32)


@pytest.fixture(scope="module")
def fitted() -> Familiarity:
    return fit_familiarity(rows(300, 0), rows(100, 1), probabilities(100), 0.05)


def test_the_share_of_familiar_photos_that_is_rejected_is_the_chosen_one(fitted: Familiarity) -> None:
    scores = fitted.scores(rows(100, 1).astype(np.float32), probabilities(100))
    assert (scores < fitted.threshold).sum() == 5
    fresh = fitted.scores(rows(2000, 2).astype(np.float32), probabilities(2000))
    assert (fresh < fitted.threshold).mean() == pytest.approx(0.05, abs=0.04)


def test_rows_of_another_kind_are_rejected_however_certain_the_model_is(fitted: Familiarity) -> None:
    scores = fitted.scores(rows(50, 3, where=20).astype(np.float32), probabilities(50, 1.0))
    assert (scores < fitted.threshold).all()


def test_an_uncertain_prediction_lowers_the_score(fitted: Familiarity) -> None:
    row = rows(1, 4)[0].astype(np.float32)
    certain, torn = (fitted.score(row, np.array([p, 1 - p], np.float32)) for p in (0.9, 0.5))
    assert torn < certain - 2


def test_the_distance_is_that_of_whole_rows(fitted: Familiarity) -> None:
    """All 40 features fit into the components here, so that nothing is lost but float16's precision."""
    train, new = (values.astype(np.float32) for values in (rows(300, 0), rows(20, 5)))
    whole = [values / np.linalg.norm(values, axis=1, keepdims=True) for values in (new, train)]
    expected = -((whole[0][:, None] - whole[1][None]) ** 2).sum(axis=2).min(axis=1)
    np.testing.assert_allclose(fitted.nearest(new), expected, atol=2e-3)


def test_the_stored_form_gives_the_same_scores(fitted: Familiarity) -> None:
    again = Familiarity.from_bytes(fitted.to_bytes())
    new = rows(10, 6).astype(np.float32)
    np.testing.assert_array_equal(again.scores(new, probabilities(10)), fitted.scores(new, probabilities(10)))
    assert (again.threshold, again.rejected, again.photos) == (fitted.threshold, 0.05, 100)
    np.testing.assert_allclose(
        again.score(new[0], probabilities(10)[0]), again.scores(new, probabilities(10))[0], atol=1e-5
    )


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-2], lambda data: b"x" + data, lambda data: b"{}\n", bytes.upper]
)
def test_a_damaged_file_is_an_error(fitted: Familiarity, damage: Any) -> None:
    with pytest.raises(BundleError, match=r"b\.bin: the familiarity score cannot be read"):
        Familiarity.from_bytes(damage(fitted.to_bytes()), "b.bin")


def test_equal_validation_photos_do_not_make_every_other_photo_unfamiliar() -> None:
    same = np.repeat(rows(1, 7), 30, axis=0)
    fitted = fit_familiarity(same, same, np.repeat(probabilities(1, 1.0), 30, axis=0), 0.02)
    near = same[:1].astype(np.float32) + 0.01
    assert np.isfinite(fitted.scores(near, probabilities(1, 1.0))).all()
    assert fitted.scores(near, probabilities(1, 1.0))[0] > -3


@pytest.mark.parametrize(
    ("scores", "rejected", "expected"),
    [([1, 2, 3, 4], 0.25, 1.5), ([4, 3, 2, 1], 0.5, 2.5), ([1, 2, 3], 0.1, 0.5), ([5], 0.02, 5), ([1, 2], 1.0, 2)],
)
def test_the_threshold_lies_between_two_scores(scores: list[float], rejected: float, expected: float) -> None:
    assert threshold_for(np.array(scores, np.float32), rejected) == expected


def test_accepted_photos_are_counted_apart(fitted: Familiarity) -> None:
    mixed = np.concatenate([rows(10, 8), rows(10, 9, where=20)]).astype(np.float32)
    labels = np.array([0] * 10 + [1] * 10, np.int32)
    counts = count_rejected(replace(fitted, threshold=-20), mixed, probabilities(20), labels)
    assert (counts.photos, counts.rejected, counts.right, counts.right_of_accepted) == (20, 10, 10, 10)
    assert counts.summary() == "10 (50.0%; accuracy 1.0000 of the others, 0.5000 of all) of 20"
