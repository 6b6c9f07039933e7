import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.train_job.recipes import make_recipe
from train_job.head.checkpoint import Checkpoint
from train_job.head.class_weights import class_weight_vector
from train_job.head.row_sets import RowSet, ShuffledOrder
from transferlite.errors import InputError, StoppedError
from transferlite.storage.store import MemoryStore

WIDTH, CLASSES = 12, 3


def data(count: int = 120, seed: int = 0) -> tuple[Any, Any]:
    """Feature rows ``[count, 12]`` of three linearly separable classes, and their labels."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, CLASSES, count).astype(np.int32)
    centres = np.random.default_rng(7).normal(0, 2, (CLASSES, WIDTH))
    return (centres[labels] + random.normal(0, 0.5, (count, WIDTH))).astype(np.float16), labels


def make(hidden: int = 16, seed: int = 0) -> Any:
    import keras

    from train_job.head.model import head_model

    keras.utils.set_random_seed(seed)
    return head_model(WIDTH, hidden, CLASSES)


def row_set(rows: Any, labels: Any) -> RowSet:
    return RowSet(rows, np.arange(len(rows)), labels)


def fit(head: Any, rows: Any, labels: Any, validation: Any = None, **settings: Any) -> list[Any]:
    history: list[Any] = fit_rows(
        head, row_set(rows, labels), row_set(*validation) if validation else None, **settings
    ).history
    return history


def uncompiled(**settings: Any) -> Any:
    """Limits without XLA, for tests that do not depend on it: compiling a program takes a second."""
    from train_job.head.compiled_loop import ResourceLimits

    return ResourceLimits(compiled=False, **settings)


def fit_rows(head: Any, train: RowSet, validation: RowSet | None = None, /, **settings: Any) -> Any:
    from train_job.head.fit import fit_head

    settings.setdefault("limits", uncompiled())
    fit_options = {
        name: settings.pop(name) for name in ("limits", "prepared", "checkpoint", "stop") if name in settings
    }
    empty = RowSet(train.table, train.ids[:0], train.labels[:0])
    return fit_head(head, train, validation or empty, make_recipe(**settings), lambda _: None, **fit_options)


def test_the_head_is_relu_then_softmax_of_the_given_sizes() -> None:
    head = make(hidden=20)
    hidden, last = head.layers
    assert (type(hidden).__name__, hidden.units, hidden.activation.__name__) == ("Dense", 20, "relu")
    assert (type(last).__name__, last.units, last.activation.__name__) == ("Dense", CLASSES, "softmax")
    assert head.output_shape == (None, CLASSES)
    assert head.count_params() == WIDTH * 20 + 20 + 20 * CLASSES + CLASSES


@pytest.mark.parametrize("optimizer", ["rmsprop", "Adam", "sgd"])
def test_separable_classes_are_learned(optimizer: str) -> None:
    from train_job.head.fit import predict_probabilities

    rows, labels = data()
    head = make()
    history = fit(head, rows, labels, data(seed=1), epochs=40, batch_size=20, optimizer=optimizer)
    assert [epoch.epoch for epoch in history] == list(range(1, 41))
    assert history[-1].loss < history[0].loss / 3
    assert history[-1].accuracy > 0.97
    assert history[-1].val_accuracy > 0.95
    assert (predict_probabilities(head, row_set(rows, labels)).argmax(axis=1) == labels).mean() > 0.97


def test_without_validation_rows_there_are_no_validation_metrics() -> None:
    (epoch,) = fit(make(), *data(), epochs=1)
    assert (epoch.val_loss, epoch.val_accuracy) == (None, None)


@cache
def weights_after(seed: int, recipe_seed: int) -> list[Any]:
    from train_job.head.compiled_loop import ResourceLimits

    head = make(seed=seed)
    fit(head, *data(), epochs=3, batch_size=25, seed=recipe_seed, limits=ResourceLimits())
    weights: list[Any] = head.get_weights()
    return weights


def test_the_same_seed_gives_the_same_weights_to_the_bit() -> None:
    for first, second in zip(weights_after(0, 0), weights_after.__wrapped__(0, 0), strict=True):
        assert first.tobytes() == second.tobytes()


@pytest.mark.parametrize(("seed", "recipe_seed"), [(1, 0), (0, 1)])
def test_another_seed_gives_other_weights(seed: int, recipe_seed: int) -> None:
    pairs = zip(weights_after(0, 0), weights_after(seed, recipe_seed), strict=True)
    assert all(first.tobytes() != second.tobytes() for first, second in pairs)


def fit_with_keras(head: Any, rows: Any, labels: Any, recipe: Any) -> list[float]:
    """Each epoch's mean loss from Keras's own train_on_batch over the same batches."""
    import keras

    optimizer = recipe.new_optimizer(recipe.epochs * recipe.steps(len(rows)))
    if recipe.label_smoothing:
        head.compile(optimizer, keras.losses.CategoricalCrossentropy(label_smoothing=recipe.label_smoothing))
        targets = np.eye(CLASSES, dtype=np.float32)[labels]
    else:
        head.compile(optimizer, "sparse_categorical_crossentropy")
        targets = labels
    weights = class_weight_vector(recipe.class_weights, labels, CLASSES)[labels]
    losses = []
    for epoch in orders(len(rows), recipe):
        steps = []
        for order in epoch:
            loss = head.train_on_batch(rows[order].astype(np.float32), targets[order], sample_weight=weights[order])
            steps.append(float(loss))
            head.reset_metrics()
        losses.append(float(np.mean(steps)))
    return losses


PLAIN = [{"optimizer": "rmsprop"}, {"optimizer": "adam"}, {"optimizer": "sgd", "momentum": 0.9, "learning_rate": 0.05}]
MORE = [{"schedule": "cosine"}, {"label_smoothing": 0.2}, {"class_weights": "balanced"}]


COMPILED_TOO = [PLAIN[0], {"label_smoothing": 0.1, "class_weights": "balanced"}]


@pytest.mark.parametrize(
    ("settings", "compiled"),
    [(settings, False) for settings in (*PLAIN, *MORE)] + [(settings, True) for settings in COMPILED_TOO],
)
def test_an_epochs_loss_and_weights_are_those_of_plain_keras(settings: dict[str, Any], compiled: bool) -> None:
    from train_job.head.compiled_loop import ResourceLimits

    rows, labels = data()
    labels[labels == 2] = np.where(np.arange((labels == 2).sum()) % 3 == 0, 2, 1)  # classes of unequal size
    recipe = make_recipe(epochs=4, batch_size=32, seed=3, **settings)
    mine, theirs = make(), make()
    limits = ResourceLimits(compiled=compiled)
    history = fit(mine, rows, labels, epochs=4, batch_size=32, seed=3, limits=limits, **settings)
    expected = fit_with_keras(theirs, rows, labels, recipe)
    np.testing.assert_allclose([epoch.loss for epoch in history], expected, atol=1e-4)
    for first, second in zip(mine.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(first, second, atol=1e-4)


def orders(count: int, recipe: Any) -> list[Any]:
    """The rows of each epoch's steps, ``[steps, batch]``."""
    order, size = ShuffledOrder(count, recipe.seed), recipe.steps(count) * recipe.batch_size
    return [
        order.row_indices(epoch * size, (epoch + 1) * size).reshape(-1, recipe.batch_size)
        for epoch in range(recipe.epochs)
    ]


def test_ten_steps_of_fifty_go_over_two_hundred_rows_evenly() -> None:
    epochs = orders(200, make_recipe(epochs=6, steps_per_epoch=10, batch_size=50))
    assert {order.shape for order in epochs} == {(10, 50)}
    seen = np.concatenate([order.ravel() for order in epochs])
    for start in range(0, len(seen), 200):
        assert sorted(seen[start : start + 200]) == list(range(200))


@pytest.mark.parametrize(
    ("count", "batch", "steps"), [(100, 50, None), (101, 50, None), (7, 50, None), (30, 7, 3), (3, 2, 1)]
)
def test_every_row_is_seen_equally_often_over_whole_passes(count: int, batch: int, steps: int | None) -> None:
    epochs = orders(count, make_recipe(epochs=count, steps_per_epoch=steps, batch_size=batch))
    assert {order.shape for order in epochs} == {(steps or -(-count // batch), batch)}
    seen = Counter(int(row) for order in epochs for row in order.ravel())
    assert len(seen) == count
    assert len(set(seen.values())) == 1


def test_each_pass_is_shuffled_differently() -> None:
    first, second = orders(100, make_recipe(epochs=2, batch_size=100))
    assert (first != second).any()
    assert (first != np.arange(100)).any()


def test_a_batch_may_be_larger_than_the_rows() -> None:
    rows, labels = data(5)
    history = fit(make(), rows, labels, epochs=20, batch_size=50)
    assert history[-1].loss < history[0].loss
    assert 0 <= history[-1].accuracy <= 1


def test_steps_default_to_one_pass_rounded_up() -> None:
    assert [make_recipe(batch_size=50).steps(photos) for photos in (1, 50, 51, 200)] == [1, 1, 2, 4]
    assert make_recipe(batch_size=50, steps_per_epoch=10).steps(200) == 10


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


def test_a_loss_that_is_not_finite_stops_the_fit_with_a_hint() -> None:
    with pytest.raises(InputError, match="lower --learning-rate"):
        fit(make(), *data(), epochs=5, learning_rate=1e38, optimizer="sgd")


@pytest.mark.parametrize("rows_per_call", [20, 10_000])
def test_epochs_before_a_loss_that_is_not_finite_are_reported(rows_per_call: int) -> None:
    from train_job.head.fit import fit_head

    rows, labels = data(160)
    recipe = make_recipe(epochs=8, steps_per_epoch=1, batch_size=20)
    rows[ShuffledOrder(len(rows), recipe.seed).row_indices(3 * 20, 4 * 20)[0], 0] = np.inf  # in the fourth epoch
    train = row_set(rows, labels)
    empty = RowSet(train.table, train.ids[:0], train.labels[:0])
    reported: list[Any] = []
    with pytest.raises(InputError, match=r"the loss is .* in epoch 4"):
        fit_head(make(), train, empty, recipe, reported.append, limits=uncompiled(rows_per_call=rows_per_call))
    assert [epoch.epoch for epoch in reported] == [1, 2, 3]


def test_the_learning_rate_is_used() -> None:
    head = make()
    before = head.get_weights()
    fit(head, *data(), epochs=1, learning_rate=0.0)
    for first, second in zip(before, head.get_weights(), strict=True):
        np.testing.assert_array_equal(first, second)


def test_only_the_heads_variables_change() -> None:
    from train_job.backbones.build import build_backbone, feature_model, weights_sha256
    from train_job.backbones.catalog import BACKBONES
    from train_job.head.model import Classifier
    from transferlite.images.input_spec import InputSpec

    backbone = BACKBONES["mobilenet_v3_small"]
    spec = InputSpec(32, 32)
    model = build_backbone(backbone, (32, 32, 3), "none")
    head = make()
    classifier = Classifier(("a", "b", "c"), spec, lambda: feature_model(model, backbone, spec), head)
    before, head_before = weights_sha256(model), weights_sha256(head)
    assert len(classifier.feature_model.trainable_variables) == 0
    fit(head, *data(), epochs=2)
    assert weights_sha256(model) == before
    assert weights_sha256(head) != head_before


def test_each_epoch_is_reported_as_it_ends() -> None:
    from train_job.head.fit import fit_head

    some = row_set(*data(20))
    reported: list[Any] = []
    assert fit_head(make(), some, some, make_recipe(epochs=3), reported.append, limits=uncompiled()).history == reported


@pytest.mark.parametrize("count", [1, 4, 5, 11])
def test_every_row_is_predicted_whatever_the_chunks(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from train_job.head import fit as module

    monkeypatch.setattr(module, "PREDICT_BYTES", 4 * 4 * WIDTH)
    head, (rows, labels) = make(), data(12)
    for max_bytes in (2**30, 0):  # in memory, and in a temporary file
        found = module.predict_probabilities(head, row_set(rows[:count], labels[:count]), max_bytes)
        assert found.shape == (count, CLASSES)
        np.testing.assert_allclose(found, np.asarray(head(rows.astype(np.float32)))[:count], atol=1e-6)


# -- best epoch -------------------------------------------------------------------------------------------------------


def diverging() -> dict[str, Any]:
    """A recipe whose validation loss soon rises when the validation labels are wrong."""
    return {"epochs": 12, "batch_size": 30, "learning_rate": 0.02}


def with_wrong_labels(rows: Any, labels: Any) -> RowSet:
    return row_set(rows, np.where(np.arange(len(labels)) % 2, labels, (labels + 1) % CLASSES).astype(np.int32))


def test_keep_best_ends_with_the_weights_of_the_best_epoch() -> None:
    from train_job.head.fit import predict_probabilities
    from train_job.scores import score_predictions

    head, validation = make(), with_wrong_labels(*data(seed=1))
    result = fit_rows(head, row_set(*data()), validation, keep_best=True, **diverging())
    losses = [epoch.val_loss for epoch in result.history]
    assert len(losses) == 12
    assert result.epoch == int(np.argmin(losses)) + 1 < 12
    assert score_predictions(predict_probabilities(head, validation), validation.labels).log_loss == pytest.approx(
        min(losses), rel=1e-5
    )


def test_early_stopping_waits_for_its_number_of_epochs() -> None:
    result = fit_rows(make(), row_set(*data()), with_wrong_labels(*data(seed=1)), early_stopping=2, **diverging())
    assert len(result.history) == result.epoch + 2 < 12


@pytest.mark.parametrize("settings", [{"keep_best": True}, {"early_stopping": 3}])
def test_without_validation_rows_there_is_no_best_epoch(settings: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"no validation photo.*--split"):
        fit(make(), *data(), epochs=1, **settings)


# -- streaming -------------------------------------------------------------------------------------------------------


def test_ids_select_the_rows_of_the_table() -> None:
    rows, labels = data()
    shuffled = np.random.default_rng(5).permutation(len(rows))
    plain, mixed = make(), make()
    fit(plain, rows, labels, epochs=2)
    fit_rows(mixed, RowSet(rows[shuffled], np.argsort(shuffled), labels), epochs=2)
    for first, second in zip(plain.get_weights(), mixed.get_weights(), strict=True):
        np.testing.assert_array_equal(first, second)


def test_rows_beyond_the_limit_are_streamed_in_small_calls(tmp_path: Any) -> None:
    rows, labels = data(2000)
    table = np.lib.format.open_memmap(tmp_path / "rows.npy", "w+", np.float16, rows.shape)
    table[:] = rows
    taken: list[int] = []

    class RecordingRowSet(RowSet):
        def take(self, positions: Any) -> Any:
            taken.append(len(positions))
            return super().take(positions)

    head = make()
    train = RecordingRowSet(table, np.arange(len(rows)), labels)
    limits = uncompiled(max_bytes=rows.nbytes // 4)
    history = fit_rows(head, train, row_set(*data(seed=1)), epochs=5, batch_size=50, limits=limits).history
    assert max(taken) * WIDTH * 2 <= limits.max_bytes // 3
    assert 5 * 2000 <= sum(taken) <= 5 * 2000 * 1.1  # short calls are padded
    assert history[-1].val_accuracy > 0.95


_PEAKS = """
import sys
from pathlib import Path
import numpy as np
from train_job.head.fit import fit_head
from train_job.head.model import head_model
from train_job.head.compiled_loop import ResourceLimits
from tests.train_job.recipes import make_recipe
from train_job.head.row_sets import RowSet

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024

def fit(table, memory):
    labels = np.arange(len(table), dtype=np.int32) % 2
    rows = RowSet(table, np.arange(len(table)), labels)
    validation = RowSet(table, rows.ids[: len(table) // 4], labels[: len(table) // 4])
    head, recipe = head_model(2048, 4, 2), make_recipe(epochs=1, batch_size=512)
    fit_head(head, rows, validation, recipe, lambda _: None, limits=ResourceLimits(memory, compiled=False))
    return peak()

fit(np.zeros((4096, 2048), np.float16), 2**30)  # memory of TensorFlow itself
before = peak()
table = np.memmap(sys.argv[1], np.float16, "r", shape=(2**16, 2048))
print(fit(table, 2**24) - before, fit(table, 2**30) - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_a_table_beyond_the_limit_is_never_in_memory_and_a_smaller_one_once(tmp_path: Path) -> None:
    with (tmp_path / "rows.bin").open("wb") as file:
        file.truncate(2**28)  # 256 MiB of zeros as a sparse file
    done = subprocess.run(
        [sys.executable, "-c", _PEAKS, str(tmp_path / "rows.bin")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    streamed, resident = map(float, done.stdout.split())
    assert streamed < 96
    assert 256 <= resident < 2 * 256


@pytest.mark.parametrize(
    ("settings", "limits", "calls"),
    [
        ({}, {"rows_per_call": 80}, [(1, 3), (1, 3)] * 5),
        ({}, {"rows_per_call": 100}, [(1, 3), (1, 3)] * 5),
        ({}, {"rows_per_call": 19}, [(1, 1)] * 6 * 5),
        ({}, {"rows_per_call": 120}, [(1, 6)] * 5),
        ({}, {"rows_per_call": 240}, [(2, 6), (2, 6), (1, 6)]),
        ({}, {"rows_per_call": 480}, [(3, 6), (2, 6)]),  # not four and one
        ({}, {"rows_per_call": 10_000}, [(5, 6)]),
        ({"keep_best": True}, {"rows_per_call": 10_000}, [(1, 6)] * 5),
        ({"early_stopping": 9}, {"rows_per_call": 10_000}, [(1, 6)] * 5),
        ({"batch_size": 1, "steps_per_epoch": 1003}, {}, [(1, 502), (1, 501)] * 5),
        ({}, {"max_bytes": 1500}, [(1, 1)] * 6 * 5),
    ],
)
def test_calls_are_few_and_of_about_equal_size(
    settings: dict[str, Any],
    limits: dict[str, Any],
    calls: list[tuple[int, int]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from train_job.head import compiled_loop
    from train_job.head.compiled_loop import ResourceLimits

    found: list[tuple[int, int]] = []
    settings = {"batch_size": 20} | settings

    def counted(self: Any, epochs: int, count: int, rows: Any, _weights: Any, _validation: Any) -> Any:
        assert len(rows[0]) == len(rows[1]) == self.max_steps * settings["batch_size"]
        assert epochs * count <= self.max_steps
        found.append((epochs, count))
        return np.zeros((epochs, 4))

    monkeypatch.setattr(compiled_loop.EpochProgram, "__call__", counted)
    some = row_set(*data(40, seed=1))
    history = fit_rows(make(), row_set(*data()), some, epochs=5, limits=ResourceLimits(**limits), **settings).history
    assert found == calls
    assert [epoch.epoch for epoch in history] == [1, 2, 3, 4, 5]


def test_more_validation_rows_mean_fewer_epochs_per_call(monkeypatch: pytest.MonkeyPatch) -> None:
    from train_job.head import compiled_loop

    called: list[int] = []

    def counted(_self: Any, epochs: int, *_: Any) -> Any:
        called.append(epochs)
        return np.zeros((epochs, 4))

    monkeypatch.setattr(compiled_loop.EpochProgram, "__call__", counted)
    for validation in (0, 40, 240, 10_000):
        called.clear()
        fit(make(), *data(), data(validation, 1) if validation else None, epochs=5, batch_size=20)
        assert called == {0: [5], 40: [5], 240: [3, 2], 10_000: [1] * 5}[validation]


@pytest.mark.parametrize(
    ("width", "memory", "epochs"), [(1280, 2**30, 50), (2048, 2**30, 40), (100_000, 2**30, 1), (1280, 2**24, 10)]
)
def test_the_rows_of_one_call_are_bounded_in_bytes(width: int, memory: int, epochs: int) -> None:
    from train_job.head.compiled_loop import ResourceLimits, StepPlan

    plan = StepPlan.of(200, width, make_recipe(epochs=200), ResourceLimits(memory))
    assert (plan.steps_per_epoch, plan.steps_per_call, plan.shuffle_window) == (4, 4, None)
    assert plan.max_steps == 4 * epochs
    assert epochs == 1 or 2 * width * 50 * plan.max_steps <= min(2**25, memory // 3)


@pytest.mark.parametrize("compiled", [False, True])
def test_several_epochs_in_one_call_equal_single_epochs(compiled: bool) -> None:
    from train_job.head.compiled_loop import ResourceLimits

    results = []
    for rows_per_call in (40, 120, 300, 10_000):
        head = make()
        limits = ResourceLimits(rows_per_call=rows_per_call, compiled=compiled)
        results.append((fit(head, *data(), data(70, 1), epochs=7, batch_size=20, limits=limits), head.get_weights()))
    (parts, expected), *others = results
    for history, weights in others:
        for epoch, single in zip(history, parts, strict=True):
            assert epoch == replace(single, loss=pytest.approx(single.loss, rel=1e-5))  # summed in another order
        for first, second in zip(weights, expected, strict=True):
            assert first.tobytes() == second.tobytes()


@pytest.mark.parametrize("chunk_rows", [1, 20, 69, 70, 71, 10_000])
@pytest.mark.parametrize("settings", [{}, {"keep_best": True}])
def test_validation_measures_every_row_once_whatever_the_chunks(
    chunk_rows: int, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from train_job.head.fit import fit_head, predict_probabilities
    from train_job.scores import score_predictions

    monkeypatch.setattr("train_job.head.compiled_loop.VALIDATION_BYTES", chunk_rows * 2 * WIDTH)
    head, validation, after = make(), with_wrong_labels(*data(70, 1)), []

    def tell(epoch: Any) -> None:
        after.append((epoch, score_predictions(predict_probabilities(head, validation), validation.labels)))

    recipe = make_recipe(epochs=3, batch_size=20, **settings)
    fit_head(head, row_set(*data()), validation, recipe, tell, limits=uncompiled())
    last, scores = after[-1]
    assert last.epoch == 3
    assert last.val_loss == pytest.approx(scores.log_loss, rel=1e-5)
    assert last.val_accuracy == pytest.approx(scores.accuracy)
    if settings:  # the recipe needs validation, so each call ends with an epoch
        for epoch, then in after:
            assert (epoch.val_loss, epoch.val_accuracy) == pytest.approx((then.log_loss, then.accuracy), rel=1e-5)


@pytest.mark.parametrize(
    ("rows", "settings", "supported", "compiled"),
    [
        (120, {}, True, True),
        (200, {}, True, False),  # more rows were expected
        (60, {}, True, True),  # fewer rows were expected: fewer epochs per call
        (20, {}, False, False),
        (120, {"schedule": "cosine"}, True, True),
        (200, {"schedule": "cosine"}, True, False),  # the length of the schedule is set when the rows are known
        (200, {"schedule": "cosine", "optimizer": "adam"}, True, True),
        (200, {"schedule": "cosine", "steps_per_epoch": 4}, True, False),
    ],
)
def test_a_program_compiled_before_the_rows_were_known_trains_the_same_weights(
    rows: int, settings: dict[str, Any], supported: bool, compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from train_job.head import compiled_loop
    from train_job.head import fit as module

    settings = {"epochs": 2, "batch_size": 20} | settings
    limits = compiled_loop.ResourceLimits(compiled=compiled)
    expected, head = make(), make()
    history = fit_rows(expected, row_set(*data()), limits=limits, **settings).history
    prepared = compiled_loop.PreparedProgram(head, rows, make_recipe(**settings), limits)
    assert [weights.tolist() for weights in head.get_weights()] == [
        weights.tolist() for weights in make().get_weights()
    ]
    compiled_again: list[Any] = []
    new_program = compiled_loop.new_program

    def counted(*arguments: Any) -> Any:
        compiled_again.append(arguments)
        return new_program(*arguments)

    monkeypatch.setattr(module, "new_program", counted)
    assert fit_rows(head, row_set(*data()), prepared=prepared, limits=limits, **settings).history == history
    for actual, weights in zip(head.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_array_equal(actual, weights)
    assert bool(compiled_again) is not supported


# -- resuming --------------------------------------------------------------------------------------------------------

TASKS: dict[str, dict[str, Any]] = {
    "plain": {"epochs": 2},
    "cosine": {"epochs": 2, "schedule": "cosine", "optimizer": "adam"},
    "best": {"epochs": 4, "keep_best": True, "learning_rate": 0.05},
    "early": {"epochs": 12, "early_stopping": 1, "learning_rate": 0.05},
    "streamed": {"epochs": 1, "max_bytes": 2000},
    "together": {"epochs": 5, "rows_per_call": 400},
}
COMPILED = {"plain"}
"""Tasks that run with XLA; the others save the same state without it."""


def run_task(name: str, checkpoint: Any, stop: Any = lambda: False) -> tuple[Any, list[Any]]:
    from train_job.head.compiled_loop import ResourceLimits

    settings = dict(TASKS[name])
    max_bytes, rows_per_call = settings.pop("max_bytes", 2**30), settings.pop("rows_per_call", 60)
    limits = ResourceLimits(max_bytes, rows_per_call, compiled=name in COMPILED)
    head = make()
    result = fit_rows(
        head,
        row_set(*data()),
        with_wrong_labels(*data(seed=1)),
        batch_size=20,
        limits=limits,
        checkpoint=checkpoint,
        stop=stop,
        **settings,
    )
    return result, head.get_weights()


def stop_after_each_call(name: str, checkpoint: Checkpoint) -> tuple[Any, list[Any], int]:
    """The final result, weights and number of stops."""
    for stops in range(20):
        try:
            return *run_task(name, checkpoint, stop=lambda: True), stops
        except StoppedError:
            continue
    pytest.fail("the fit never ends")


@pytest.mark.parametrize("name", TASKS)
def test_a_fit_stopped_repeatedly_ends_like_one_that_was_not(name: str) -> None:
    store = MemoryStore()
    whole, expected = run_task(name, None)
    checkpoint = Checkpoint(store, "state.npz", "this job")
    result, weights, stops = stop_after_each_call(name, checkpoint)
    assert stops >= 1
    assert result == whole
    for first, second in zip(weights, expected, strict=True):
        assert first.tobytes() == second.tobytes()


def test_a_killed_fit_resumes_from_its_last_checkpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    from train_job.head import fit as module

    monkeypatch.setattr(module, "SAVE_SECONDS", -1.0)
    checkpoint = Checkpoint(MemoryStore(), "state.npz", "this job")
    calls = 0

    def killed() -> bool:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        return False

    with pytest.raises(KeyboardInterrupt):
        run_task("plain", checkpoint, stop=killed)
    again = 0

    def counted() -> bool:
        nonlocal again
        again += 1
        return False

    _, weights = run_task("plain", checkpoint, stop=counted)
    assert again == 1  # two of four calls were saved, and stop is not called after the last
    for first, second in zip(weights, run_task("plain", None)[1], strict=True):
        assert first.tobytes() == second.tobytes()


def test_a_resumed_fit_reports_the_earlier_epochs() -> None:
    from train_job.head.fit import fit_head

    some, limits = row_set(*data(40)), uncompiled(rows_per_call=50)
    kept: dict[str, Any] = {"checkpoint": Checkpoint(MemoryStore(), "state.npz", "this job"), "limits": limits}
    asked: list[None] = []

    def third_time() -> bool:
        asked.append(None)
        return len(asked) == 3

    with pytest.raises(StoppedError):
        fit_head(make(), some, some, make_recipe(epochs=5), lambda _: None, **kept, stop=third_time)
    reported: list[Any] = []
    result = fit_head(make(), some, some, make_recipe(epochs=5), reported.append, **kept)
    assert [epoch.epoch for epoch in reported] == [1, 2, 3, 4, 5]
    assert reported == result.history


def test_a_fit_stopped_within_an_epoch_resumes_with_calls_of_several() -> None:
    from train_job.head.compiled_loop import ResourceLimits

    def run(checkpoint: Checkpoint | None, rows_per_call: int, stop: bool) -> tuple[Any, list[Any]]:
        head, limits = make(), ResourceLimits(rows_per_call=rows_per_call, compiled=False)
        settings: dict[str, Any] = {"epochs": 4, "batch_size": 20, "limits": limits, "checkpoint": checkpoint}
        result = fit_rows(head, row_set(*data()), with_wrong_labels(*data(seed=1)), stop=lambda: stop, **settings)
        return result, head.get_weights()

    checkpoint = Checkpoint(MemoryStore(), "state.npz", "this job")
    with pytest.raises(StoppedError):
        run(checkpoint, 80, True)
    result, weights = run(checkpoint, 10_000, False)
    whole, expected = run(None, 80, False)
    assert [epoch.val_loss for epoch in result.history] == [epoch.val_loss for epoch in whole.history]
    for first, second in zip(weights, expected, strict=True):
        assert first.tobytes() == second.tobytes()


def test_a_finished_fit_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("train_job.head.fit.SHORT_SECONDS", 0.0)
    checkpoint = Checkpoint(MemoryStore(), "state.npz", "this job")
    first, expected = run_task("early", checkpoint)
    again, weights = run_task("early", checkpoint, stop=lambda: pytest.fail("it trained"))
    assert again == first
    for first, second in zip(weights, expected, strict=True):
        assert first.tobytes() == second.tobytes()


def test_a_short_fit_is_not_checkpointed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("train_job.head.fit.SHORT_SECONDS", 3600.0)
    checkpoint = Checkpoint(MemoryStore(), "state.npz", "this job")
    run_task("plain", checkpoint)
    assert checkpoint.load() is None


def test_programs_compile_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """XLA has crashed on two compilations at once, as when a job follows a failed one in the same process."""
    from train_job.head.compiled_loop import EpochProgram

    running: list[int] = []
    running_at_once: list[int] = []

    def run(*_: Any) -> None:
        running.append(1)
        running_at_once.append(len(running))
        time.sleep(0.05)
        running.pop()

    programs = [EpochProgram(make(), make_recipe(), 1, False) for _ in range(3)]
    for program in programs:
        monkeypatch.setattr(program, "_run", run)
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(EpochProgram.compile, programs))
    assert running_at_once == [1, 1, 1]
