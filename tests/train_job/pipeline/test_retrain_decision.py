"""Counts of ``plan``: a new label is one that a training would learn and that the newest version has not learnt."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.train_job.known_rows import SPACE, add, hashes_of
from train_job.data.example import Example, RejectedPhoto, Split
from train_job.data.photos import Photos
from train_job.data.split_table import SplitTable
from train_job.store.feature_store import FeatureStore
from train_job.store.photo_index import PhotoRecord
from transferlite.cli.main import run
from transferlite.images.input_spec import DECODER_VERSION, InputSpec
from transferlite.registry.manifest import Manifest
from transferlite.registry.open_registry import Registry
from transferlite.storage.folder import FolderStore
from transferlite.storage.store import join_uri


class Project:
    """Photos, a feature store and a registry; the content of a photo is a number."""

    def __init__(self, folder: Path) -> None:
        self.images = FolderStore(folder / "photos")
        self.features = str(folder / "features")
        self.registry = str(folder / "registry")

    def put(self, **contents: int) -> None:
        """Write photos, named such as ``red_0`` for ``red/0.jpg``, with their content."""
        for name, content in contents.items():
            self.images.put(key_of(name), b"%d" % content)

    def index(self, **contents: int) -> None:
        """Record the contents of photos in the feature store, as a training or an extraction does."""
        store = FeatureStore.open(self.features)
        uris = {name: join_uri(self.images.uri, key_of(name)) for name in contents}
        stamps = {name: self.images.head(key_of(name)).stamp for name in contents}
        hashes = {name: hashes_of([content])[0] for name, content in contents.items()}
        store.add_photos([PhotoRecord(uris[name], stamps[name], hashes[name], DECODER_VERSION) for name in contents])
        add(store, set(contents.values()))

    def reject(self, name: str, code: str) -> None:
        """Record in the feature store that a photo is unusable."""
        key = key_of(name)
        record = PhotoRecord(
            join_uri(self.images.uri, key), self.images.head(key).stamp, "", DECODER_VERSION, code, "?"
        )
        FeatureStore.open(self.features).add_photos([record])

    def publish(self, learnt: Mapping[str, int], quarantine: Mapping[str, str] | None = None) -> None:
        """Publish a version that learnt photos, given their content, and quarantined others, given their code."""
        from train_job.pipeline.training_csvs import DATASET_CSV, QUARANTINE_CSV, dataset_csv, quarantine_csv

        uri = self.images.uri
        examples = [
            Example(join_uri(uri, key_of(name)), name.split("_")[0], sha256=hashes_of([content])[0])
            for name, content in learnt.items()
        ]
        rejected = [
            RejectedPhoto(join_uri(uri, key_of(name)), None, code, "?") for name, code in (quarantine or {}).items()
        ]
        registry = Registry.open(self.registry)
        splits = {example.sha256: Split.TRAIN for example in examples}
        registry.store.put(f"models/m1/{DATASET_CSV}", dataset_csv(Photos.of(examples), SplitTable.of(splits)).encode())
        registry.store.put(f"models/m1/{QUARANTINE_CSV}", quarantine_csv(rejected).encode())
        manifest = Manifest("m1", "now", ("blue", "red"), InputSpec(32, 32), {}, {}, {}, {}, {}, {}, {})
        registry.store.put("models/m1/manifest.json", manifest.to_json())

    def plan(self, capsys: pytest.CaptureFixture[str], *options: str) -> Any:
        """Run ``plan`` and return its numbers."""
        locations = ["--images", self.images.uri, "--features", self.features, "--registry", self.registry]
        assert run(["plan", *locations, "--backbone", SPACE.backbone, "--json", *options]) == 0
        return json.loads(capsys.readouterr().out.splitlines()[-1])


def key_of(name: str) -> str:
    return name.replace("_", "/") + ".jpg"


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


@pytest.fixture
def trained(project: Project) -> Project:
    """A project whose newest version learnt two red and two blue photos that have not changed since."""
    photos = {"red_0": 0, "red_1": 1, "blue_2": 2, "blue_3": 3}
    project.put(**photos)
    project.index(**photos)
    project.publish(photos)
    return project


Capsys = pytest.CaptureFixture[str]


def test_before_the_first_version_every_label_of_a_usable_photo_is_new(project: Project, capsys: Capsys) -> None:
    project.put(blue_0=0, blue_1=1, red_2=2, red_3=3, red_broken=9)
    project.index(blue_0=0, blue_1=1, red_2=2)
    project.reject("red_broken", "not-image")
    plan = project.plan(capsys)
    assert (plan["photos"], plan["new_photos"], plan["new_labels"]) == (5, 1, 4)


def test_photos_that_have_not_changed_since_the_newest_version_are_not_new(trained: Project, capsys: Capsys) -> None:
    assert trained.plan(capsys)["new_labels"] == 0


def test_exact_copies_are_never_new_labels(trained: Project, capsys: Capsys) -> None:
    copies = {f"red_copy{number}": number % 2 for number in range(6)}
    trained.put(**copies)
    trained.index(**copies)
    assert trained.plan(capsys)["new_labels"] == 0


def test_a_copy_in_place_of_the_photo_itself_is_not_new(trained: Project, capsys: Capsys) -> None:
    trained.images.delete(key_of("red_0"))
    trained.put(red_moved=0)
    trained.index(red_moved=0)
    assert trained.plan(capsys)["new_labels"] == 0


def test_a_new_photo_with_copies_is_one_new_label(trained: Project, capsys: Capsys) -> None:
    trained.put(red_7=7, red_8=7, red_9=7)
    trained.index(red_7=7, red_8=7, red_9=7)
    assert trained.plan(capsys)["new_labels"] == 1


def test_photos_under_conflicting_labels_are_never_new(trained: Project, capsys: Capsys) -> None:
    conflicts = {"red_a": 11, "blue_a": 11, "red_b": 12, "blue_b": 12, "blue_c": 0}
    trained.put(**conflicts)
    trained.index(**conflicts)
    assert trained.plan(capsys)["new_labels"] == 0


def test_a_settled_conflict_is_a_new_label(trained: Project, capsys: Capsys) -> None:
    trained.put(red_a=11)
    trained.index(red_a=11)
    trained.publish(
        {"red_0": 0, "red_1": 1, "blue_2": 2, "blue_3": 3},
        {"red_a": "conflicting-labels", "blue_a": "conflicting-labels"},
    )
    assert trained.plan(capsys)["new_labels"] == 1


@pytest.mark.parametrize("code", ["forbidden", "unusable", "missing-decoder"])
def test_photos_that_every_training_rejects_again_are_not_new(trained: Project, capsys: Capsys, code: str) -> None:
    trained.put(red_9=9)
    trained.publish({"red_0": 0, "red_1": 1, "blue_2": 2, "blue_3": 3}, {"red_9": code})
    assert trained.plan(capsys)["new_labels"] == 0


def test_a_photo_that_was_missing_and_is_there_now_is_new(trained: Project, capsys: Capsys) -> None:
    trained.put(red_9=9)
    trained.publish({"red_0": 0, "red_1": 1, "blue_2": 2, "blue_3": 3}, {"red_9": "missing"})
    assert trained.plan(capsys)["new_labels"] == 1


def test_an_unusable_photo_is_not_new_and_an_unseen_one_is(trained: Project, capsys: Capsys) -> None:
    trained.put(red_8=8, red_9=9)
    trained.reject("red_8", "truncated")
    assert trained.plan(capsys)["new_labels"] == 1


def test_a_changed_label_is_new(trained: Project, capsys: Capsys) -> None:
    trained.publish({"blue_0": 0, "red_1": 1, "blue_2": 2, "blue_3": 3})
    assert trained.plan(capsys)["new_labels"] == 1


def test_a_photo_replaced_in_place_is_new(trained: Project, capsys: Capsys) -> None:
    trained.put(red_0=123456)
    assert trained.plan(capsys)["new_labels"] == 1


def test_a_lost_feature_store_makes_no_label_new(trained: Project, tmp_path: Path, capsys: Capsys) -> None:
    trained.features = str(tmp_path / "empty")
    plan = trained.plan(capsys)
    assert (plan["new_photos"], plan["new_labels"]) == (4, 0)


def test_a_conflict_with_the_users_test_photos_is_not_new(trained: Project, tmp_path: Path, capsys: Capsys) -> None:
    trained.put(red_9=9)
    trained.index(red_9=9)
    tests = FolderStore(tmp_path / "tests")
    for key in ("blue/9.jpg", "red/8.jpg"):
        tests.put(key, b"9")
    record = PhotoRecord(
        join_uri(tests.uri, "blue/9.jpg"), tests.head("blue/9.jpg").stamp, hashes_of([9])[0], DECODER_VERSION
    )
    FeatureStore.open(trained.features).add_photos([record])
    assert trained.plan(capsys)["new_labels"] == 1
    assert trained.plan(capsys, "--test-images", tests.uri)["new_labels"] == 1  # red/8.jpg, which nobody has fetched


def test_after_a_training_nothing_is_new_whatever_it_rejected(trained: Project, capsys: Capsys) -> None:
    photos = {"red_0": 0, "red_1": 1, "blue_2": 2, "blue_3": 3}
    more = {"red_copy": 0, "red_x": 20, "blue_x": 20, "red_bad": 21}
    trained.put(**more)
    trained.index(red_copy=0, red_x=20, blue_x=20)
    trained.reject("red_bad", "truncated")
    quarantine = {"red_copy": "duplicate", "red_x": "conflicting-labels", "blue_x": "conflicting-labels"}
    trained.publish(photos, quarantine | {"red_bad": "truncated"})
    assert trained.plan(capsys)["new_labels"] == 0
