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

from train_job.head.checkpoint import Checkpoint
from train_job.head.row_sets import RowSet, ShuffledOrder
from transferlite.errors import InputError, StoppedError
from transferlite.storage.store import MemoryStore

WIDTH, CLASSES = 12, 3


def data(count: int = 120, seed: int = 0) -> tuple[Any, Any]:
    """Rows ``[count, 12]`` of three classes that a plane can part, and their labels."""
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
    history: list[Any] = fitted(
        head, row_set(rows, labels), row_set(*validation) if validation else None, **settings
    ).history
    return history


def uncompiled(**settings: Any) -> Any:
    """Limits without XLA, which takes a second for each program, where it makes no difference to the test."""
    from train_job.head.compiled_loop import ResourceLimits

    return ResourceLimits(compiled=False, **settings)


def fitted(head: Any, train: RowSet, validation: RowSet | None = None, /, **settings: Any) -> Any:
    from train_job.head.fit import fit_head
    from train_job.head.recipe import Recipe

    settings.setdefault("limits", uncompiled())
    of_fit = {name: settings.pop(name) for name in ("limits", "prepared", "checkpoint", "stop") if name in settings}
    nothing = RowSet(train.table, train.ids[:0], train.labels[:0])
    return fit_head(head, train, validation or nothing, Recipe(**settings), lambda _: None, **of_fit)


def test_the_head_is_relu_then_softmax_of_the_sizes_asked_for() -> None:
    head = make(hidden=20)
    hidden, last = head.layers
    assert (type(hidden).__name__, hidden.units, hidden.activation.__name__) == ("Dense", 20, "relu")
    assert (type(last).__name__, last.units, last.activation.__name__) == ("Dense", CLASSES, "softmax")
    assert head.output_shape == (None, CLASSES)
    assert head.count_params() == WIDTH * 20 + 20 + 20 * CLASSES + CLASSES


@pytest.mark.parametrize("optimizer", ["rmsprop", "Adam", "sgd"])
def test_it_learns_rows_that_can_be_told_apart(optimizer: str) -> None:
    from train_job.head.fit import predict_rows

    rows, labels = data()
    head = make()
    history = fit(head, rows, labels, data(seed=1), epochs=40, batch_size=20, optimizer=optimizer)
    assert [epoch.epoch for epoch in history] == list(range(1, 41))
    assert history[-1].loss < history[0].loss / 3
    assert history[-1].accuracy > 0.97
    assert history[-1].val_accuracy > 0.95
    assert (predict_rows(head, row_set(rows, labels)).argmax(axis=1) == labels).mean() > 0.97


def test_without_validation_rows_nothing_is_claimed_of_them() -> None:
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
    for one, other in zip(weights_after(0, 0), weights_after.__wrapped__(0, 0), strict=True):
        assert one.tobytes() == other.tobytes()


@pytest.mark.parametrize(("seed", "recipe_seed"), [(1, 0), (0, 1)])
def test_another_seed_gives_other_weights(seed: int, recipe_seed: int) -> None:
    pairs = zip(weights_after(0, 0), weights_after(seed, recipe_seed), strict=True)
    assert all(one.tobytes() != other.tobytes() for one, other in pairs)


def plain_keras(head: Any, rows: Any, labels: Any, recipe: Any) -> list[float]:
    """Each epoch's mean loss from Keras's own train_on_batch over the same batches."""
    import keras

    optimizer = recipe.new_optimizer(recipe.epochs * recipe.steps(len(rows)))
    if recipe.label_smoothing:
        head.compile(optimizer, keras.losses.CategoricalCrossentropy(label_smoothing=recipe.label_smoothing))
        targets = np.eye(CLASSES, dtype=np.float32)[labels]
    else:
        head.compile(optimizer, "sparse_categorical_crossentropy")
        targets = labels
    weights = recipe.weights_of(labels, CLASSES)[labels]
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
    from train_job.head.recipe import Recipe

    rows, labels = data()
    labels[labels == 2] = np.where(np.arange((labels == 2).sum()) % 3 == 0, 2, 1)  # classes of unequal size
    recipe = Recipe(epochs=4, batch_size=32, seed=3, **settings)
    mine, theirs = make(), make()
    limits = ResourceLimits(compiled=compiled)
    history = fit(mine, rows, labels, epochs=4, batch_size=32, seed=3, limits=limits, **settings)
    expected = plain_keras(theirs, rows, labels, recipe)
    np.testing.assert_allclose([epoch.loss for epoch in history], expected, atol=1e-4)
    for one, other in zip(mine.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)


def orders(count: int, recipe: Any) -> list[Any]:
    """The rows of each epoch's steps, ``[steps, batch]``."""
    order, size = ShuffledOrder(count, recipe.seed), recipe.steps(count) * recipe.batch_size
    return [
        order.places(epoch * size, (epoch + 1) * size).reshape(-1, recipe.batch_size) for epoch in range(recipe.epochs)
    ]


def test_ten_steps_of_fifty_go_over_two_hundred_rows_evenly() -> None:
    from train_job.head.recipe import Recipe

    epochs = orders(200, Recipe(epochs=6, steps_per_epoch=10, batch_size=50))
    assert {order.shape for order in epochs} == {(10, 50)}
    seen = np.concatenate([order.ravel() for order in epochs])
    for start in range(0, len(seen), 200):
        assert sorted(seen[start : start + 200]) == list(range(200))


@pytest.mark.parametrize(
    ("count", "batch", "steps"), [(100, 50, None), (101, 50, None), (7, 50, None), (30, 7, 3), (3, 2, 1)]
)
def test_every_row_is_seen_equally_often_over_whole_passes(count: int, batch: int, steps: int | None) -> None:
    from train_job.head.recipe import Recipe

    epochs = orders(count, Recipe(epochs=count, steps_per_epoch=steps, batch_size=batch))
    assert {order.shape for order in epochs} == {(steps or -(-count // batch), batch)}
    seen = Counter(int(row) for order in epochs for row in order.ravel())
    assert len(seen) == count
    assert len(set(seen.values())) == 1


def test_passes_are_shuffled_anew() -> None:
    from train_job.head.recipe import Recipe

    first, second = orders(100, Recipe(epochs=2, batch_size=100))
    assert (first != second).any()
    assert (first != np.arange(100)).any()


def test_a_batch_may_be_larger_than_the_rows() -> None:
    rows, labels = data(5)
    history = fit(make(), rows, labels, epochs=20, batch_size=50)
    assert history[-1].loss < history[0].loss
    assert 0 <= history[-1].accuracy <= 1


def test_steps_default_to_one_pass_rounded_up() -> None:
    from train_job.head.recipe import Recipe

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


@pytest.mark.parametrize("chunk_rows", [20, 10_000])
def test_epochs_before_a_loss_that_is_no_number_are_told(chunk_rows: int) -> None:
    from train_job.head.fit import fit_head
    from train_job.head.recipe import Recipe

    rows, labels = data(160)
    recipe = Recipe(epochs=8, steps_per_epoch=1, batch_size=20)
    rows[ShuffledOrder(len(rows), recipe.seed).places(3 * 20, 4 * 20)[0], 0] = np.inf  # of the fourth epoch
    train = row_set(rows, labels)
    nothing = RowSet(train.table, train.ids[:0], train.labels[:0])
    told: list[Any] = []
    with pytest.raises(InputError, match=r"the loss is .* in epoch 4"):
        fit_head(make(), train, nothing, recipe, told.append, limits=uncompiled(chunk_rows=chunk_rows))
    assert [epoch.epoch for epoch in told] == [1, 2, 3]


def test_the_learning_rate_is_used() -> None:
    head = make()
    before = head.get_weights()
    fit(head, *data(), epochs=1, learning_rate=0.0)
    for one, other in zip(before, head.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_only_the_heads_variables_change() -> None:
    from train_job.backbones.build import build_backbone, feature_model, weights_sha256
    from train_job.backbones.catalog import BACKBONES
    from train_job.head.model import Classifier
    from transferlite.images.input_spec import InputSpec

    backbone = BACKBONES["mobilenet_v3_small"]
    spec = InputSpec(32, 32)
    base = build_backbone(backbone, (32, 32, 3), "none")
    head = make()
    classifier = Classifier(("a", "b", "c"), spec, feature_model(base, backbone, spec), head)
    before, head_before = weights_sha256(base), weights_sha256(head)
    assert len(classifier.features.trainable_variables) == 0
    fit(head, *data(), epochs=2)
    assert weights_sha256(base) == before
    assert weights_sha256(head) != head_before


def test_each_epoch_is_told_as_it_ends() -> None:
    from train_job.head.fit import fit_head
    from train_job.head.recipe import Recipe

    some = row_set(*data(20))
    told: list[Any] = []
    assert fit_head(make(), some, some, Recipe(epochs=3), told.append, limits=uncompiled()).history == told


@pytest.mark.parametrize("count", [1, 4, 5, 11])
def test_every_row_is_predicted_whatever_the_chunks(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from train_job.head import fit as module

    monkeypatch.setattr(module, "PREDICT_BYTES", 4 * 4 * WIDTH)
    head, (rows, labels) = make(), data(12)
    found = module.predict_rows(head, row_set(rows[:count], labels[:count]))
    assert found.shape == (count, CLASSES)
    np.testing.assert_allclose(found, np.asarray(head(rows.astype(np.float32)))[:count], atol=1e-6)


# -- the best epoch ---------------------------------------------------------------------------------------------------


def diverging() -> dict[str, Any]:
    """A recipe that soon does worse on validation rows whose labels are wrong."""
    return {"epochs": 12, "batch_size": 30, "learning_rate": 0.02}


def wrong(rows: Any, labels: Any) -> RowSet:
    return row_set(rows, np.where(np.arange(len(labels)) % 2, labels, (labels + 1) % CLASSES).astype(np.int32))


def test_keeping_the_best_ends_with_the_weights_of_the_best_epoch() -> None:
    from train_job.head.fit import predict_rows
    from train_job.scores import score_predictions

    head, validation = make(), wrong(*data(seed=1))
    result = fitted(head, row_set(*data()), validation, keep_best=True, **diverging())
    losses = [epoch.val_loss for epoch in result.history]
    assert len(losses) == 12
    assert result.epoch == int(np.argmin(losses)) + 1 < 12
    assert score_predictions(predict_rows(head, validation), validation.labels).log_loss == pytest.approx(
        min(losses), rel=1e-5
    )


def test_early_stopping_waits_so_many_epochs_for_a_better_one() -> None:
    result = fitted(make(), row_set(*data()), wrong(*data(seed=1)), early_stopping=2, **diverging())
    assert len(result.history) == result.epoch + 2 < 12


@pytest.mark.parametrize("asked", [{"keep_best": True}, {"early_stopping": 3}])
def test_without_validation_rows_there_is_no_best_epoch(asked: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"no validation photo.*--split"):
        fit(make(), *data(), epochs=1, **asked)


# -- rows that do not fit memory --------------------------------------------------------------------------------------


def test_rows_are_those_of_the_table_that_the_ids_name() -> None:
    rows, labels = data()
    shuffled = np.random.default_rng(5).permutation(len(rows))
    plain, mixed = make(), make()
    fit(plain, rows, labels, epochs=2)
    fitted(mixed, RowSet(rows[shuffled], np.argsort(shuffled), labels), epochs=2)
    for one, other in zip(plain.get_weights(), mixed.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_rows_beyond_the_limit_are_streamed_in_small_programs_and_learnt_as_well(tmp_path: Any) -> None:
    rows, labels = data(2000)
    table = np.lib.format.open_memmap(tmp_path / "rows.npy", "w+", np.float16, rows.shape)
    table[:] = rows
    taken: list[int] = []

    class Watched(RowSet):
        def take(self, places: Any) -> Any:
            taken.append(len(places))
            return super().take(places)

    head = make()
    train = Watched(table, np.arange(len(rows)), labels)
    limits = uncompiled(memory=rows.nbytes // 4)
    history = fitted(head, train, row_set(*data(seed=1)), epochs=5, batch_size=50, limits=limits).history
    assert max(taken) * WIDTH * 2 <= limits.memory // 3
    assert 5 * 2000 <= sum(taken) <= 5 * 2000 * 1.1  # a chunk that is shorter than the others is filled up
    assert history[-1].val_accuracy > 0.95


_PEAKS = """
import sys
from pathlib import Path
import numpy as np
from train_job.head.fit import fit_head
from train_job.head.model import head_model
from train_job.head.compiled_loop import Limits
from train_job.head.recipe import Recipe
from train_job.head.row_sets import RowSet

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024

def fit(table, memory):
    labels = np.arange(len(table), dtype=np.int32) % 2
    rows = RowSet(table, np.arange(len(table)), labels)
    validation = RowSet(table, rows.ids[: len(table) // 4], labels[: len(table) // 4])
    limits = Limits(memory, compiled=False)
    fit_head(head_model(2048, 4, 2), rows, validation, Recipe(1, batch_size=512), lambda _: None, limits=limits)
    return peak()

fit(np.zeros((4096, 2048), np.float16), 2**30)  # what TensorFlow itself takes
before = peak()
table = np.memmap(sys.argv[1], np.float16, "r", shape=(2**16, 2048))
print(fit(table, 2**24) - before, fit(table, 2**30) - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_a_table_far_larger_than_the_limit_is_never_in_memory_and_a_smaller_one_once(tmp_path: Path) -> None:
    with (tmp_path / "rows.bin").open("wb") as file:
        file.truncate(2**28)  # 256 MiB of zeros that take no disk
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
        ({}, {"chunk_rows": 80}, [(1, 3), (1, 3)] * 5),
        ({}, {"chunk_rows": 100}, [(1, 3), (1, 3)] * 5),
        ({}, {"chunk_rows": 19}, [(1, 1)] * 6 * 5),
        ({}, {"chunk_rows": 120}, [(1, 6)] * 5),
        ({}, {"chunk_rows": 240}, [(2, 6), (2, 6), (1, 6)]),
        ({}, {"chunk_rows": 480}, [(3, 6), (2, 6)]),  # not four and one
        ({}, {"chunk_rows": 10_000}, [(5, 6)]),
        ({"keep_best": True}, {"chunk_rows": 10_000}, [(1, 6)] * 5),
        ({"early_stopping": 9}, {"chunk_rows": 10_000}, [(1, 6)] * 5),
        ({"batch_size": 1, "steps_per_epoch": 1003}, {}, [(1, 502), (1, 501)] * 5),
        ({}, {"memory": 1500}, [(1, 1)] * 6 * 5),
    ],
)
def test_a_program_is_called_for_few_steps_of_about_the_same_number(
    settings: dict[str, Any],
    limits: dict[str, Any],
    calls: list[tuple[int, int]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from train_job.head import compiled_loop as steps
    from train_job.head.compiled_loop import ResourceLimits

    found: list[tuple[int, int]] = []
    settings = {"batch_size": 20} | settings

    def counted(self: Any, epochs: int, count: int, rows: Any, _weights: Any, _held_out: Any) -> Any:
        assert len(rows[0]) == len(rows[1]) == self.most * settings["batch_size"]
        assert epochs * count <= self.most
        found.append((epochs, count))
        return np.zeros((epochs, 4))

    monkeypatch.setattr(steps.Program, "__call__", counted)
    some = row_set(*data(40, seed=1))
    history = fitted(make(), row_set(*data()), some, epochs=5, limits=ResourceLimits(**limits), **settings).history
    assert found == calls
    assert [epoch.epoch for epoch in history] == [1, 2, 3, 4, 5]


def test_epochs_that_measure_many_rows_are_fewer_to_a_call(monkeypatch: pytest.MonkeyPatch) -> None:
    from train_job.head import compiled_loop as steps

    called: list[int] = []

    def counted(_self: Any, epochs: int, *_: Any) -> Any:
        called.append(epochs)
        return np.zeros((epochs, 4))

    monkeypatch.setattr(steps.Program, "__call__", counted)
    for validation in (0, 40, 240, 10_000):
        called.clear()
        fit(make(), *data(), data(validation, 1) if validation else None, epochs=5, batch_size=20)
        assert called == {0: [5], 40: [5], 240: [3, 2], 10_000: [1] * 5}[validation]


@pytest.mark.parametrize(
    ("width", "memory", "epochs"), [(1280, 2**30, 50), (2048, 2**30, 40), (100_000, 2**30, 1), (1280, 2**24, 10)]
)
def test_the_rows_of_one_call_are_bounded_in_bytes(width: int, memory: int, epochs: int) -> None:
    from train_job.head.compiled_loop import ResourceLimits, StepPlan
    from train_job.head.recipe import Recipe

    plan = StepPlan.of(200, width, Recipe(epochs=200), ResourceLimits(memory))
    assert (plan.steps, plan.chunk, plan.window) == (4, 4, None)
    assert plan.most == 4 * epochs
    assert epochs == 1 or 2 * width * 50 * plan.most <= min(2**25, memory // 3)


@pytest.mark.parametrize("compiled", [False, True])
def test_several_epochs_in_one_call_are_what_they_are_one_by_one(compiled: bool) -> None:
    from train_job.head.compiled_loop import ResourceLimits

    results = []
    for chunk_rows in (40, 120, 300, 10_000):
        head = make()
        limits = ResourceLimits(chunk_rows=chunk_rows, compiled=compiled)
        results.append((fit(head, *data(), data(70, 1), epochs=7, batch_size=20, limits=limits), head.get_weights()))
    (parts, expected), *others = results
    for history, weights in others:
        for epoch, wanted in zip(history, parts, strict=True):
            assert epoch == replace(wanted, loss=pytest.approx(wanted.loss, rel=1e-5))  # sums of parts of an epoch
        for one, other in zip(weights, expected, strict=True):
            assert one.tobytes() == other.tobytes()


@pytest.mark.parametrize("held_out", [1, 20, 69, 70, 71, 10_000])
@pytest.mark.parametrize("asked", [{}, {"keep_best": True}])
def test_validation_measures_every_row_once_whatever_the_pieces(
    held_out: int, asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from train_job.head.fit import fit_head, predict_rows
    from train_job.head.recipe import Recipe
    from train_job.scores import score_predictions

    monkeypatch.setattr("train_job.head.compiled_loop.HELD_OUT_BYTES", held_out * 2 * WIDTH)
    head, validation, after = make(), wrong(*data(70, 1)), []

    def tell(epoch: Any) -> None:
        after.append((epoch, score_predictions(predict_rows(head, validation), validation.labels)))

    recipe = Recipe(epochs=3, batch_size=20, **asked)
    fit_head(head, row_set(*data()), validation, recipe, tell, limits=uncompiled())
    last, scores = after[-1]
    assert last.epoch == 3
    assert last.val_loss == pytest.approx(scores.log_loss, rel=1e-5)
    assert last.val_accuracy == pytest.approx(scores.accuracy)
    if asked:  # the head is told of at each epoch's end
        for epoch, then in after:
            assert (epoch.val_loss, epoch.val_accuracy) == pytest.approx((then.log_loss, then.accuracy), rel=1e-5)


@pytest.mark.parametrize(
    ("rows", "settings", "suits", "compiled"),
    [
        (120, {}, True, True),
        (200, {}, True, False),  # more were expected than came
        (60, {}, True, True),  # fewer were: fewer epochs go into a call
        (20, {}, False, False),
        (120, {"schedule": "cosine"}, True, True),
        (200, {"schedule": "cosine"}, False, False),  # it would end at another rate
        (200, {"schedule": "cosine", "steps_per_epoch": 4}, True, False),
    ],
)
def test_a_program_compiled_before_the_rows_were_known_trains_the_same_weights(
    rows: int, settings: dict[str, Any], suits: bool, compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from train_job.head import compiled_loop as prepare
    from train_job.head import fit as module
    from train_job.head.recipe import Recipe

    settings = {"epochs": 2, "batch_size": 20} | settings
    limits = prepare.ResourceLimits(compiled=compiled)
    expected, head = make(), make()
    history = fitted(expected, row_set(*data()), limits=limits, **settings).history
    prepared = prepare.PreparedProgram(head, rows, Recipe(**settings), limits)
    assert [each.tolist() for each in head.get_weights()] == [each.tolist() for each in make().get_weights()]
    compiled_again: list[Any] = []
    new_program = prepare.new_program

    def counted(*arguments: Any) -> Any:
        compiled_again.append(arguments)
        return new_program(*arguments)

    monkeypatch.setattr(module, "new_program", counted)
    assert fitted(head, row_set(*data()), prepared=prepared, limits=limits, **settings).history == history
    for found, wanted in zip(head.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_array_equal(found, wanted)
    assert bool(compiled_again) is not suits


# -- going on ---------------------------------------------------------------------------------------------------------

TASKS: dict[str, dict[str, Any]] = {
    "plain": {"epochs": 2},
    "cosine": {"epochs": 2, "schedule": "cosine", "optimizer": "adam"},
    "best": {"epochs": 4, "keep_best": True, "learning_rate": 0.05},
    "early": {"epochs": 12, "early_stopping": 1, "learning_rate": 0.05},
    "streamed": {"epochs": 1, "memory": 2000},
    "together": {"epochs": 5, "chunk_rows": 400},
}
COMPILED = {"plain"}
"""For the others XLA, which takes a second for each attempt, makes no difference to what is saved."""


def run_task(name: str, checkpoint: Any, stop: Any = lambda: False) -> tuple[Any, list[Any]]:
    from train_job.head.compiled_loop import ResourceLimits

    settings = dict(TASKS[name])
    memory, chunk_rows = settings.pop("memory", 2**30), settings.pop("chunk_rows", 60)
    limits = ResourceLimits(memory, chunk_rows, compiled=name in COMPILED)
    head = make()
    result = fitted(
        head,
        row_set(*data()),
        wrong(*data(seed=1)),
        batch_size=20,
        limits=limits,
        checkpoint=checkpoint,
        stop=stop,
        **settings,
    )
    return result, head.get_weights()


def stopped_at_each_program(name: str, checkpoint: Checkpoint) -> tuple[Any, list[Any], int]:
    """What comes out in the end, and after how many stops."""
    for stops in range(20):
        try:
            return *run_task(name, checkpoint, stop=lambda: True), stops
        except StoppedError:
            continue
    pytest.fail("it never ends")


@pytest.mark.parametrize("name", TASKS)
def test_a_training_stopped_again_and_again_ends_as_one_that_was_not(name: str) -> None:
    store = MemoryStore()
    whole, expected = run_task(name, None)
    checkpoint = Checkpoint(store, "state.npz", "this job")
    result, weights, stops = stopped_at_each_program(name, checkpoint)
    assert stops >= 1
    assert result == whole
    for one, other in zip(weights, expected, strict=True):
        assert one.tobytes() == other.tobytes()


def test_a_killed_training_goes_on_from_what_was_saved_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
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
    assert again == 1  # of 4 programs 2 were saved, and after the last nobody is asked
    for one, other in zip(weights, run_task("plain", None)[1], strict=True):
        assert one.tobytes() == other.tobytes()


def test_a_training_that_goes_on_tells_of_the_epochs_that_were_done() -> None:
    from train_job.head.fit import fit_head
    from train_job.head.recipe import Recipe

    some, limits = row_set(*data(40)), uncompiled(chunk_rows=50)
    kept: dict[str, Any] = {"checkpoint": Checkpoint(MemoryStore(), "state.npz", "this job"), "limits": limits}
    asked: list[None] = []

    def third_time() -> bool:
        asked.append(None)
        return len(asked) == 3

    with pytest.raises(StoppedError):
        fit_head(make(), some, some, Recipe(epochs=5), lambda _: None, **kept, stop=third_time)
    told: list[Any] = []
    result = fit_head(make(), some, some, Recipe(epochs=5), told.append, **kept)
    assert [epoch.epoch for epoch in told] == [1, 2, 3, 4, 5]
    assert told == result.history


def test_a_training_stopped_within_an_epoch_goes_on_with_calls_of_several() -> None:
    from train_job.head.compiled_loop import ResourceLimits

    def run(checkpoint: Checkpoint | None, chunk_rows: int, stop: bool) -> tuple[Any, list[Any]]:
        head, limits = make(), ResourceLimits(chunk_rows=chunk_rows, compiled=False)
        settings: dict[str, Any] = {"epochs": 4, "batch_size": 20, "limits": limits, "checkpoint": checkpoint}
        result = fitted(head, row_set(*data()), wrong(*data(seed=1)), stop=lambda: stop, **settings)
        return result, head.get_weights()

    checkpoint = Checkpoint(MemoryStore(), "state.npz", "this job")
    with pytest.raises(StoppedError):
        run(checkpoint, 80, True)
    result, weights = run(checkpoint, 10_000, False)
    whole, expected = run(None, 80, False)
    assert [epoch.val_loss for epoch in result.history] == [epoch.val_loss for epoch in whole.history]
    for one, other in zip(weights, expected, strict=True):
        assert one.tobytes() == other.tobytes()


def test_a_finished_training_is_not_done_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("train_job.head.fit.SHORT_SECONDS", 0.0)
    checkpoint = Checkpoint(MemoryStore(), "state.npz", "this job")
    first, expected = run_task("early", checkpoint)
    again, weights = run_task("early", checkpoint, stop=lambda: pytest.fail("it trained"))
    assert again == first
    for one, other in zip(weights, expected, strict=True):
        assert one.tobytes() == other.tobytes()


def test_of_a_short_training_nothing_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("train_job.head.fit.SHORT_SECONDS", 3600.0)
    checkpoint = Checkpoint(MemoryStore(), "state.npz", "this job")
    run_task("plain", checkpoint)
    assert checkpoint.load() is None


def test_programs_are_compiled_one_after_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two at once, as of a job that failed early and the next in its process, have ended it by a segmentation fault."""
    from train_job.head.compiled_loop import Program
    from train_job.head.recipe import Recipe

    running: list[int] = []
    most: list[int] = []

    def compiling(*_: Any) -> None:
        running.append(1)
        most.append(len(running))
        time.sleep(0.05)
        running.pop()

    programs = [Program(make(), Recipe(), 1, 1, False) for _ in range(3)]
    for program in programs:
        monkeypatch.setattr(program, "_run", compiling)
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(Program.compile, programs))
    assert most == [1, 1, 1]
