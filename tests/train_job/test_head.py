from collections import Counter
from functools import cache
from typing import Any

import numpy as np
import pytest

from runtime.errors import InputError

WIDTH, CLASSES = 12, 3


def data(count: int = 120, seed: int = 0) -> tuple[Any, Any]:
    """Rows ``[count, 12]`` of three classes that a plane can part, and their labels."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, CLASSES, count).astype(np.int32)
    centres = np.random.default_rng(7).normal(0, 2, (CLASSES, WIDTH))
    return (centres[labels] + random.normal(0, 0.5, (count, WIDTH))).astype(np.float32), labels


def make(hidden: int = 16, seed: int = 0) -> Any:
    import keras

    from train_job.model import head_model

    keras.utils.set_random_seed(seed)
    return head_model(WIDTH, hidden, CLASSES)


def fit(head: Any, rows: Any, labels: Any, validation: Any = None, **settings: Any) -> list[Any]:
    from train_job.head import Recipe, fit_head

    return fit_head(head, rows, labels, validation or (rows[:0], labels[:0]), Recipe(**settings), lambda _: None)


def test_the_head_is_relu_then_softmax_of_the_sizes_asked_for() -> None:
    head = make(hidden=20)
    hidden, last = head.layers
    assert (type(hidden).__name__, hidden.units, hidden.activation.__name__) == ("Dense", 20, "relu")
    assert (type(last).__name__, last.units, last.activation.__name__) == ("Dense", CLASSES, "softmax")
    assert head.output_shape == (None, CLASSES)
    assert head.count_params() == WIDTH * 20 + 20 + 20 * CLASSES + CLASSES


@pytest.mark.parametrize("optimizer", ["rmsprop", "Adam", "sgd"])
def test_it_learns_rows_that_can_be_told_apart(optimizer: str) -> None:
    from train_job.head import predict_rows

    rows, labels = data()
    head = make()
    history = fit(head, rows, labels, data(seed=1), epochs=40, batch_size=20, optimizer=optimizer)
    assert [epoch.epoch for epoch in history] == list(range(1, 41))
    assert history[-1].loss < history[0].loss / 3
    assert history[-1].accuracy > 0.97
    assert history[-1].val_accuracy > 0.95
    assert (predict_rows(head, rows).argmax(axis=1) == labels).mean() > 0.97


def test_without_validation_rows_nothing_is_claimed_of_them() -> None:
    (epoch,) = fit(make(), *data(), epochs=1)
    assert (epoch.val_loss, epoch.val_accuracy) == (None, None)


@cache
def weights_after(seed: int, recipe_seed: int) -> list[Any]:
    head = make(seed=seed)
    fit(head, *data(), epochs=3, batch_size=25, seed=recipe_seed)
    weights: list[Any] = head.get_weights()
    return weights


def test_the_same_seed_gives_the_same_weights_to_the_bit() -> None:
    for one, other in zip(weights_after(0, 0), weights_after.__wrapped__(0, 0), strict=True):
        assert one.tobytes() == other.tobytes()


@pytest.mark.parametrize(("seed", "recipe_seed"), [(1, 0), (0, 1)])
def test_another_seed_gives_other_weights(seed: int, recipe_seed: int) -> None:
    pairs = zip(weights_after(0, 0), weights_after(seed, recipe_seed), strict=True)
    assert all(one.tobytes() != other.tobytes() for one, other in pairs)


def plain_keras(head: Any, rows: Any, labels: Any, recipe: Any) -> list[float]:
    """Each epoch's mean loss from Keras's own train_on_batch over the same batches."""
    import keras

    from train_job.head import _batches

    head.compile(keras.optimizers.get(recipe.optimizer), "sparse_categorical_crossentropy")
    losses, batches = [], _batches(len(rows), recipe)
    for _ in range(recipe.epochs):
        steps = []
        for order in next(batches):
            steps.append(float(head.train_on_batch(rows[order], labels[order])))
            head.reset_metrics()
        losses.append(float(np.mean(steps)))
    return losses


@pytest.mark.parametrize("optimizer", ["rmsprop", "adam"])
def test_an_epochs_loss_and_weights_are_those_of_plain_keras(optimizer: str) -> None:
    from train_job.head import Recipe, fit_head

    rows, labels = data()
    recipe = Recipe(epochs=4, batch_size=32, optimizer=optimizer, seed=3)
    mine, theirs = make(), make()
    history = fit_head(mine, rows, labels, (rows[:0], labels[:0]), recipe, lambda _: None)
    expected = plain_keras(theirs, rows, labels, recipe)
    np.testing.assert_allclose([epoch.loss for epoch in history], expected, atol=1e-4)
    for one, other in zip(mine.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)


def orders(count: int, epochs: int, **settings: Any) -> list[Any]:
    from train_job.head import Recipe, _batches

    batches = _batches(count, Recipe(**settings))
    return [next(batches) for _ in range(epochs)]


def test_ten_steps_of_fifty_go_over_two_hundred_rows_evenly() -> None:
    epochs = orders(200, 6, steps_per_epoch=10, batch_size=50)
    assert {order.shape for order in epochs} == {(10, 50)}
    seen = np.concatenate([order.ravel() for order in epochs])
    for start in range(0, len(seen), 200):
        assert sorted(seen[start : start + 200]) == list(range(200))


@pytest.mark.parametrize(
    ("count", "batch", "steps"), [(100, 50, None), (101, 50, None), (7, 50, None), (30, 7, 3), (3, 2, 1)]
)
def test_every_row_is_seen_equally_often_over_whole_passes(count: int, batch: int, steps: int | None) -> None:
    epochs = orders(count, count, steps_per_epoch=steps, batch_size=batch)
    assert {order.shape for order in epochs} == {(steps or -(-count // batch), batch)}
    seen = Counter(int(row) for order in epochs for row in order.ravel())
    assert len(seen) == count
    assert len(set(seen.values())) == 1


def test_passes_are_shuffled_anew() -> None:
    first, second = orders(100, 2, batch_size=100)
    assert (first != second).any()
    assert (first != np.arange(100)).any()


def test_a_batch_may_be_larger_than_the_rows() -> None:
    rows, labels = data(5)
    history = fit(make(), rows, labels, epochs=20, batch_size=50)
    assert history[-1].loss < history[0].loss
    assert 0 <= history[-1].accuracy <= 1


def test_steps_default_to_one_pass_rounded_up() -> None:
    from train_job.head import Recipe

    assert [Recipe(batch_size=50).steps(photos) for photos in (1, 50, 51, 200)] == [1, 1, 2, 4]
    assert Recipe(batch_size=50, steps_per_epoch=10).steps(200) == 10


@pytest.mark.parametrize(
    "name",
    [
        "nosuch",
        "",
        "Dense",
        "lossscaleoptimizer",
    ],
)
def test_an_unknown_optimizer_is_refused_by_name(name: str) -> None:
    with pytest.raises(InputError, match=f"unknown optimizer '{name}'"):
        fit(make(), *data(20), epochs=1, optimizer=name)


def test_a_loss_that_is_no_number_stops_the_training_with_advice() -> None:
    with pytest.raises(InputError, match="lower --learning-rate"):
        fit(make(), *data(), epochs=5, learning_rate=1e38, optimizer="sgd")


def test_the_learning_rate_is_used() -> None:
    head = make()
    before = head.get_weights()
    fit(head, *data(), epochs=1, learning_rate=0.0)
    for one, other in zip(before, head.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_only_the_heads_variables_change() -> None:
    from runtime.imaging import InputSpec
    from train_job.backbones import BACKBONES
    from train_job.bases import build_base, weights_sha256
    from train_job.model import Classifier, feature_model

    backbone = BACKBONES["mobilenet_v3_small"]
    spec = InputSpec(32, 32)
    base = build_base(backbone, (32, 32, 3), "none")
    head = make()
    classifier = Classifier(("a", "b", "c"), spec, feature_model(base, backbone, spec), head)
    before, head_before = weights_sha256(base), weights_sha256(head)
    assert len(classifier.features.trainable_variables) == 0
    fit(head, *data(), epochs=2)
    assert weights_sha256(base) == before
    assert weights_sha256(head) != head_before


def test_each_epoch_is_told_as_it_ends() -> None:
    from train_job.head import Recipe, fit_head

    rows, labels = data(20)
    told: list[Any] = []
    history = fit_head(make(), rows, labels, (rows, labels), Recipe(epochs=3), told.append)
    assert told == history


@pytest.mark.parametrize("count", [0, 1, 4, 5, 11])
def test_every_row_is_predicted_whatever_the_chunks(count: int) -> None:
    from train_job.head import predict_rows

    head, (rows, _) = make(), data(12)
    found = predict_rows(head, rows[:count], batch=4)
    assert found.shape == (count, CLASSES)
    np.testing.assert_allclose(found, np.asarray(head(rows))[:count], atol=1e-6)
