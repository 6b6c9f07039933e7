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
from tests.train_job.small_backbones import share_built_backbones
from train_job.data.dataset import Dataset
from train_job.data.example import Example, Split
from train_job.data.labels.read_labels import read_dataset
from train_job.data.photos import Photos
from train_job.data.split import SplitShares
from train_job.options import TrainOptions
from train_job.progress import PhaseTimer, Reporter
from train_job.sigterm import StopRequest
from transferlite.errors import GateError, InputError, StoppedError
from transferlite.images.decoder import decode
from transferlite.registry.open_registry import Registry


def examples(counts: dict[str, int]) -> list[Example]:
    return [Example(f"{label}.{number}", label) for label, count in counts.items() for number in range(count)]


def names(chosen: Sequence[Example]) -> list[str]:
    return [example.image for example in chosen]


@pytest.mark.parametrize(
    ("max_photos", "expected"),
    [
        (0, []),
        (1, ["a.0"]),
        (4, ["a.0", "b.0", "c.0", "a.1"]),
        (7, ["a.0", "b.0", "c.0", "a.1", "c.1", "a.2", "a.3"]),
        (100, ["a.0", "b.0", "c.0", "a.1", "c.1", "a.2", "a.3"]),
    ],
)
def test_a_balanced_sample_takes_the_classes_in_turn(max_photos: int, expected: list[str]) -> None:
    from train_job.store.pixel_cache import balanced_sample

    assert names(balanced_sample(examples({"a": 4, "b": 1, "c": 2}), ("a", "b", "c"), max_photos)) == expected


def test_a_sample_of_no_photos_is_empty() -> None:
    from train_job.store.pixel_cache import balanced_sample

    assert balanced_sample([], ("a", "b"), 5) == []


def train(images: str, dataset: Dataset | None = None, **settings: Any) -> Any:
    from train_job.pipeline.prepare_data import JobContext
    from train_job.pipeline.train_classifier import train_classifier as run

    defaults: dict[str, Any] = {
        "backbone": "mobilenet_v3_small",
        "weights": "none",
        "image_size": 32,
        "epochs": 2,
        "hidden_units": 8,
        "promote": "never",
    }
    with tempfile.TemporaryDirectory() as folder:
        registry, stop = settings.pop("registry", folder), settings.pop("stop", StopRequest())
        options = TrainOptions(images=images, registry=registry, **defaults | settings)
        job = JobContext(options, Registry.open(registry), PhaseTimer(), Reporter(), stop)
        with nullcontext() if options.fine_tune_from else share_built_backbones():
            return run(job, dataset or read_dataset(images))


@pytest.mark.parametrize(
    ("right", "accuracy", "photos", "agrees"),
    [(95, 0.95, 100, True), (95, 0.94, 100, True), (95, 0.92, 100, False), (9, 0.8, 10, True), (95, 0.1, 90, True)],
)
def test_features_of_another_backbone_are_detected(right: int, accuracy: float, photos: int, agrees: bool) -> None:
    from train_job.pipeline.export_variants import check_features
    from train_job.scores import Scores
    from transferlite.registry.manifest import Variant

    total = 10 if right < 10 else 100
    scores = Scores(np.array([[right, total - right], [0, 0]]), 0.0)
    variant = Variant("saved_model", 1, "tensorflow", photos, accuracy, 1.0, 0.0)
    message = r"test accuracy is 95.00% on cached features but 92.00% on the photos"
    with nullcontext() if agrees else pytest.raises(GateError, match=message):
        check_features(scores, variant)


def test_a_split_without_test_photos_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no photo is left to test on.*--test-images"):
        train(str(write_folders(tmp_path, count=3)), split=SplitShares(1, 0, 0))


def test_a_class_without_training_photos_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no photo of 'blue' is left to train on.*--split"):
        train(str(write_folders(tmp_path, count=3)), split=SplitShares(1, 49, 50))


def test_a_class_with_all_photos_among_the_users_test_photos_is_named(tmp_path: Path) -> None:
    root = write_folders(tmp_path, count=3)
    photos = read_dataset(str(root))
    tests = [example for example in photos.examples if example.label == "red"]
    dataset = Dataset(photos.examples, photos.labels).with_test_photos(
        Dataset(Photos.of([*photos.examples[:1], *tests]), photos.labels)
    )
    with pytest.raises(InputError, match="no photo of 'red' is left to train on"):
        train(str(root), dataset)


@pytest.fixture
def trained_classifier(tmp_path: Path) -> Any:
    root = write_folders(tmp_path / "photos", count=6)
    (root / "red" / "copy.jpg").write_bytes(jpeg("red", 0))
    return train(str(root), split=SplitShares(2, 1, 1))


def test_photos_of_a_split_are_ordered_by_hash(trained_classifier: Any) -> None:
    by_split = {split: trained_classifier.examples(split) for split in Split}
    assert {split: len(photos) for split, photos in by_split.items()} == {
        split: trained_classifier.evaluation.scores[split].photos for split in Split
    }
    assert sum(map(len, by_split.values())) == 12  # the copy is used once
    for photos in by_split.values():
        assert [photo.sha256 for photo in photos] == sorted(photo.sha256 for photo in photos)


def test_without_validation_photos_the_history_has_no_validation_metrics(tmp_path: Path) -> None:
    trained = train(str(write_folders(tmp_path, count=4)), split=SplitShares(3, 0, 1))
    assert {(epoch.val_loss, epoch.val_accuracy) for epoch in trained.history} == {(None, None)}
    assert trained.evaluation.scores.keys() == {Split.TRAIN, Split.TEST}


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras's writer
def test_weights_are_downloaded_from_s3(bucket: Any, tmp_path: Path) -> None:
    from train_job.backbones.build import build_backbone, weights_sha256
    from train_job.backbones.catalog import BACKBONES

    base = build_backbone(BACKBONES["mobilenet_v3_small"], (32, 32, 3), "none", seed=9)
    base.save_weights(tmp_path / "base.weights.h5")
    bucket.upload_file(str(tmp_path / "base.weights.h5"), BUCKET, "weights/base.weights.h5")
    weights = f"s3://{BUCKET}/weights/base.weights.h5"
    images = str(write_folders(tmp_path / "photos", count=3))
    trained = train(images, weights=weights, split=SplitShares(2, 0, 1))
    assert trained.backbone == {
        "name": "mobilenet_v3_small",
        "weights": weights,
        "weights_sha256": weights_sha256(base),
        "weights_source": weights,
        "weights_licence": "NOASSERTION",
    }


def test_a_missing_weights_file_on_s3_is_named(bucket: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"s3://{BUCKET}/nowhere"):
        train(str(write_folders(tmp_path, count=2)), weights=f"s3://{BUCKET}/nowhere.h5")


def test_augmented_views_are_cached_and_used_for_training_only(tmp_path: Path) -> None:
    images, registry = str(write_folders(tmp_path / "photos", count=10)), str(tmp_path / "registry")
    plain = train(images, registry=registry)
    views = train(images, registry=registry, augment="standard", views=3)
    assert views.extraction_counts.forwarded == 60
    assert train(images, registry=registry, augment="standard", views=3).extraction_counts.fetched == 0
    assert {split: scores.photos for split, scores in views.evaluation.scores.items()} == {
        split: scores.photos for split, scores in plain.evaluation.scores.items()
    }
    assert [epoch.loss for epoch in views.history] != [epoch.loss for epoch in plain.history]


def test_fine_tuning_trains_the_top_of_the_backbone_and_never_raises_the_validation_loss(
    tmp_path: Path,
) -> None:
    from train_job.backbones.build import weights_sha256

    images, registry = str(write_folders(tmp_path / "photos", count=12)), str(tmp_path / "registry")
    settings: dict[str, Any] = {"backbone": "efficientnet_lite0", "weights": "default", "image_size": 32, "epochs": 1}
    settings |= {"split": SplitShares(2, 1, 1), "registry": registry, "learning_rate": 1e-5}
    frozen = train(images, **settings)
    tuned = train(
        images, **settings, fine_tune_from="block15_expand_conv", fine_tune_epochs=3, fine_tune_learning_rate=0.01
    )
    assert tuned.extraction_counts.forwarded == 24
    assert len(tuned.history) == 4
    assert tuned.backbone["fine_tuned_from"] > 100
    assert tuned.evaluation.scores[Split.VALIDATION].log_loss < frozen.evaluation.scores[Split.VALIDATION].log_loss
    assert weights_sha256(tuned.classifier.feature_model) != weights_sha256(frozen.classifier.feature_model)
    for name, array in frozen.head_weights.items():
        assert (tuned.head_weights[name] == array).all()

    photo = tuned.examples(Split.TEST)[0]
    decoded = decode(Path(photo.image).read_bytes(), tuned.classifier.input)
    probabilities = tuned.classifier.model(decoded[None]).numpy()
    assert probabilities.sum() == pytest.approx(1, abs=1e-5)

    useless = train(
        images, **settings, fine_tune_from="block15_expand_conv", fine_tune_epochs=1, fine_tune_learning_rate=1e6
    )
    assert "fine_tuned_from" not in useless.backbone
    assert weights_sha256(useless.classifier.feature_model) == weights_sha256(frozen.classifier.feature_model)


def test_a_training_stopped_and_resumed_gives_the_same_head(tmp_path: Path) -> None:
    images = str(write_folders(tmp_path / "photos", count=8))
    settings: dict[str, Any] = {"epochs": 6, "keep_best": True}
    uninterrupted = train(images, registry=str(tmp_path / "uninterrupted"), **settings)
    registry = tmp_path / "stopped"
    calls = 0

    class StopsEveryFourthCall(StopRequest):
        def __call__(self) -> bool:
            nonlocal calls
            calls += 1
            return calls % 4 == 0

    checkpoint_existed: list[bool] = []
    while True:
        try:
            resumed = train(images, registry=str(registry), stop=StopsEveryFourthCall(), **settings)
            break
        except StoppedError:
            checkpoint_existed.append((registry / "checkpoints" / "production.head.npz").exists())
    assert checkpoint_existed.count(False) >= 1
    assert checkpoint_existed.count(True) >= 1
    assert resumed.history == uninterrupted.history
    for name, array in uninterrupted.head_weights.items():
        assert resumed.head_weights[name].tobytes() == array.tobytes()


def test_a_warm_start_waits_for_the_compilation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from train_job.head.compiled_loop import EpochProgram
    from train_job.pipeline import train_classifier as module
    from train_job.pipeline.prepare_data import prepare_data

    prepared, order = threading.Event(), []
    compile_program = EpochProgram.compile

    def compile_after_preparation(self: EpochProgram) -> None:
        prepared.wait(60)
        compile_program(self)
        order.append("compiled")

    def prepare_and_signal(*arguments: Any) -> Any:
        result = prepare_data(*arguments)
        prepared.set()
        return result

    def warm_start(*_: Any) -> str:
        order.append("started warm")
        return "warm start"

    monkeypatch.setattr(EpochProgram, "compile", compile_after_preparation)
    monkeypatch.setattr(module, "prepare_data", prepare_and_signal)
    monkeypatch.setattr(module, "warm_start", warm_start)
    train(str(write_folders(tmp_path / "photos", 10)), warm_start=True)
    assert order == ["compiled", "started warm"]
