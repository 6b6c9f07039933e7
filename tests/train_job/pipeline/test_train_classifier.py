import tempfile
import threading
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import BUCKET
from tests.pictures import jpeg, write_folders
from tests.train_job.bases import bases_built_once
from train_job.data.dataset import Dataset, Example, Split
from train_job.data.labels.read_labels import read_dataset
from train_job.data.split import Shares
from train_job.options import TrainOptions
from train_job.progress import Phases, Reporter
from train_job.sigterm import StopRequest
from transferlite.errors import GateError, InputError, StoppedError
from transferlite.images.decoder import decode
from transferlite.registry.open_registry import Registry


def examples(counts: dict[str, int]) -> list[Example]:
    return [Example(f"{label}.{number}", label) for label, count in counts.items() for number in range(count)]


def names(chosen: Sequence[Example]) -> list[str]:
    return [example.image for example in chosen]


@pytest.mark.parametrize(
    ("most", "expected"),
    [
        (0, []),
        (1, ["a.0"]),
        (4, ["a.0", "b.0", "c.0", "a.1"]),
        (7, ["a.0", "b.0", "c.0", "a.1", "c.1", "a.2", "a.3"]),
        (100, ["a.0", "b.0", "c.0", "a.1", "c.1", "a.2", "a.3"]),
    ],
)
def test_a_sample_takes_the_classes_in_turn(most: int, expected: list[str]) -> None:
    from train_job.store.pixel_cache import balanced_sample

    assert names(balanced_sample(examples({"a": 4, "b": 1, "c": 2}), ("a", "b", "c"), most)) == expected


def test_a_sample_of_nothing_is_nothing() -> None:
    from train_job.store.pixel_cache import balanced_sample

    assert balanced_sample([], ("a", "b"), 5) == []


def learn(images: str, dataset: Dataset | None = None, **settings: Any) -> Any:
    from train_job.pipeline.prepare_data import JobContext
    from train_job.pipeline.train_classifier import train_classifier as run

    defaults: dict[str, Any] = {
        "backbone": "mobilenet_v3_small",
        "weights": "none",
        "image_size": 32,
        "epochs": 2,
        "hidden_units": 8,
    }
    with tempfile.TemporaryDirectory() as folder:
        registry, stop = settings.pop("registry", folder), settings.pop("stop", StopRequest())
        options = TrainOptions(images=images, registry=registry, **defaults | settings)
        job = JobContext(options, Registry.open(registry), Phases(), Reporter(), stop)
        with nullcontext() if options.fine_tune_from else bases_built_once():
            return run(job, dataset or read_dataset(images))


@pytest.mark.parametrize(
    ("right", "accuracy", "photos", "agrees"),
    [(95, 0.95, 100, True), (95, 0.94, 100, True), (95, 0.92, 100, False), (9, 0.8, 10, True), (95, 0.1, 90, True)],
)
def test_rows_that_are_not_what_the_base_makes_of_the_photos_stop_the_publishing(
    right: int, accuracy: float, photos: int, agrees: bool
) -> None:
    from train_job.pipeline.export_variants import check_rows
    from train_job.scores import Scores
    from transferlite.registry.manifest import Variant

    total = 10 if right < 10 else 100
    scores = Scores(np.array([[right, total - right], [0, 0]]), 0.0)
    variant = Variant("saved_model", 1, "tensorflow", photos, accuracy, 1.0, 0.0)
    with nullcontext() if agrees else pytest.raises(GateError, match=r"95.00% of the rows.*92.00% of the photos"):
        check_rows(scores, variant)


def test_without_a_share_for_testing_nothing_can_be_judged(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no photo is left to test on.*--test-images"):
        learn(str(write_folders(tmp_path, count=3)), split=Shares(1, 0, 0))


def test_a_class_with_nothing_left_to_train_on_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no photo of 'blue' is left to train on.*--split"):
        learn(str(write_folders(tmp_path, count=3)), split=Shares(1, 49, 50))


def test_a_class_whose_photos_are_all_the_users_test_photos_is_named(tmp_path: Path) -> None:
    root = write_folders(tmp_path, count=3)
    whole = read_dataset(str(root))
    tests = [example for example in whole.examples if example.label == "red"]
    dataset = Dataset(whole.examples, whole.labels).tested_on(Dataset((*whole.examples[:1], *tests), whole.labels))
    with pytest.raises(InputError, match="no photo of 'red' is left to train on"):
        learn(str(root), dataset)


@pytest.fixture
def learned(tmp_path: Path) -> Any:
    root = write_folders(tmp_path / "photos", count=6)
    (root / "red" / "copy.jpg").write_bytes(jpeg("red", 0))
    return learn(str(root), split=Shares(2, 1, 1))


def test_photos_of_a_split_come_in_the_order_of_their_hash(learned: Any) -> None:
    found = {split: learned.examples(split) for split in Split}
    assert {split: len(chosen) for split, chosen in found.items()} == {
        split: learned.evaluation.scores[split].photos for split in Split
    }
    assert sum(map(len, found.values())) == 12  # the copy is used once
    for chosen in found.values():
        assert [one.sha256 for one in chosen] == sorted(one.sha256 for one in chosen)


def test_without_a_validation_share_the_history_has_none(tmp_path: Path) -> None:
    learned = learn(str(write_folders(tmp_path, count=4)), split=Shares(3, 0, 1))
    assert {(epoch.val_loss, epoch.val_accuracy) for epoch in learned.history} == {(None, None)}
    assert learned.evaluation.scores.keys() == {Split.TRAIN, Split.TEST}


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras's writer
def test_weights_are_fetched_from_s3(bucket: Any, tmp_path: Path) -> None:
    from train_job.backbones.build import build_backbone, weights_sha256
    from train_job.backbones.catalog import BACKBONES

    base = build_backbone(BACKBONES["mobilenet_v3_small"], (32, 32, 3), "none", seed=9)
    base.save_weights(tmp_path / "base.weights.h5")
    bucket.upload_file(str(tmp_path / "base.weights.h5"), BUCKET, "weights/base.weights.h5")
    weights = f"s3://{BUCKET}/weights/base.weights.h5"
    images = str(write_folders(tmp_path / "photos", count=3))
    learned = learn(images, weights=weights, split=Shares(2, 0, 1))
    assert learned.backbone == {
        "name": "mobilenet_v3_small",
        "weights": weights,
        "weights_sha256": weights_sha256(base),
    }


def test_a_missing_weights_file_on_s3_is_named(bucket: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"s3://{BUCKET}/nowhere"):
        learn(str(write_folders(tmp_path, count=2)), weights=f"s3://{BUCKET}/nowhere.h5")


def test_augmented_views_are_cached_and_trained_on_and_nothing_else(tmp_path: Path) -> None:
    images, registry = str(write_folders(tmp_path / "photos", count=10)), str(tmp_path / "registry")
    plain = learn(images, registry=registry)
    views = learn(images, registry=registry, augment="standard", views=3)
    assert views.counts.forwarded == 60
    assert learn(images, registry=registry, augment="standard", views=3).counts.fetched == 0
    assert {split: one.photos for split, one in views.evaluation.scores.items()} == {
        split: one.photos for split, one in plain.evaluation.scores.items()
    }
    assert [epoch.loss for epoch in views.history] != [epoch.loss for epoch in plain.history]


def test_the_second_stage_trains_the_top_of_the_base_and_never_ends_worse_on_the_validation_photos(
    tmp_path: Path,
) -> None:
    from train_job.backbones.build import weights_sha256

    images, registry = str(write_folders(tmp_path / "photos", count=12)), str(tmp_path / "registry")
    settings: dict[str, Any] = {"backbone": "efficientnet_lite0", "weights": "default", "image_size": 32, "epochs": 1}
    settings |= {"split": Shares(2, 1, 1), "registry": registry, "learning_rate": 1e-5}
    frozen = learn(images, **settings)
    tuned = learn(
        images, **settings, fine_tune_from="block15_expand_conv", fine_tune_epochs=3, fine_tune_learning_rate=0.01
    )
    assert tuned.counts.forwarded == 24
    assert len(tuned.history) == 4
    assert tuned.backbone["fine_tuned_from"] > 100
    assert tuned.evaluation.scores[Split.VALIDATION].log_loss < frozen.evaluation.scores[Split.VALIDATION].log_loss
    assert weights_sha256(tuned.classifier.features) != weights_sha256(frozen.classifier.features)
    for name, array in frozen.head.items():
        assert (tuned.head[name] == array).all()

    photo = tuned.examples(Split.TEST)[0]
    decoded = decode(Path(photo.image).read_bytes(), tuned.classifier.input)
    whole = tuned.classifier.model(decoded[None]).numpy()
    assert whole.sum() == pytest.approx(1, abs=1e-5)

    useless = learn(
        images, **settings, fine_tune_from="block15_expand_conv", fine_tune_epochs=1, fine_tune_learning_rate=1e6
    )
    assert "fine_tuned_from" not in useless.backbone
    assert weights_sha256(useless.classifier.features) == weights_sha256(frozen.classifier.features)


def test_a_job_that_is_stopped_as_it_learns_ends_as_one_that_was_not(tmp_path: Path) -> None:
    images = str(write_folders(tmp_path / "photos", count=8))
    settings: dict[str, Any] = {"epochs": 6, "keep_best": True}
    whole = learn(images, registry=str(tmp_path / "whole"), **settings)
    registry = tmp_path / "stopped"
    asked = 0

    class Impatient(StopRequest):
        def __call__(self) -> bool:
            nonlocal asked
            asked += 1
            return asked % 4 == 0

    stopped_as_it_learnt: list[bool] = []
    while True:
        try:
            again = learn(images, registry=str(registry), stop=Impatient(), **settings)
            break
        except StoppedError:
            stopped_as_it_learnt.append((registry / "checkpoints" / "production.head.npz").exists())
    assert stopped_as_it_learnt.count(False) >= 1
    assert stopped_as_it_learnt.count(True) >= 1
    assert again.history == whole.history
    for name, array in whole.head.items():
        assert again.head[name].tobytes() == array.tobytes()


def test_a_head_starts_warm_only_once_its_program_is_compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from train_job.head.compiled_loop import Program
    from train_job.pipeline import train_classifier as module
    from train_job.pipeline.prepare_data import prepare_data

    divided, done = threading.Event(), []
    compile_now = Program.compile

    def slowly(self: Program) -> None:
        divided.wait(60)
        compile_now(self)
        done.append("compiled")

    def divide_and_tell(*arguments: Any) -> Any:
        result = prepare_data(*arguments)
        divided.set()
        return result

    def warm_start(*_: Any) -> str:
        done.append("started warm")
        return "warm start"

    monkeypatch.setattr(Program, "compile", slowly)
    monkeypatch.setattr(module, "prepare_data", divide_and_tell)
    monkeypatch.setattr(module, "warm_start", warm_start)
    learn(str(write_folders(tmp_path / "photos", 10)), warm_start=True)
    assert done == ["compiled", "started warm"]
