from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.train_job.pipeline.test_training_csvs import EXAMPLES, SPLITS, read
from train_job.data.example import Example, Split
from train_job.data.photos import Photos
from train_job.data.split import SplitShares
from train_job.data.split_table import SplitTable
from train_job.store.facts_index import FactsIndex
from transferlite.images.input_spec import InputSpec
from transferlite.registry.manifest import Manifest
from transferlite.registry.open_registry import Registry
from transferlite.storage.store import MemoryStore

SHARES = SplitShares(80, 10, 10)


@pytest.fixture
def published() -> Callable[..., Registry]:
    """Function that makes a registry whose channel points to a version; the keywords are its manifest's ``dataset``."""

    def publish(**dataset: Any) -> Registry:
        from train_job.pipeline.training_csvs import DATASET_CSV, dataset_csv

        registry = Registry(MemoryStore())
        spec = InputSpec(32, 32)
        manifest = Manifest("m1", "now", ("cat", "dog"), spec, {}, {}, dataset, {}, {}, {}, {})
        registry.store.put("models/m1/manifest.json", manifest.to_json())
        registry.store.put(f"models/m1/{DATASET_CSV}", dataset_csv(Photos.of(EXAMPLES), SplitTable.of(SPLITS)).encode())
        registry.promote("m1", "production")
        return registry

    return publish


def test_the_splits_of_the_channels_version_are_read(published: Callable[..., Registry]) -> None:
    from train_job.pipeline.previous_version import read_previous_version

    previous = read_previous_version(published(shares="80/10/10"), "production", SHARES)
    assert previous.splits == SPLITS
    assert previous.manifest is not None
    assert previous.manifest.model_id == "m1"


def test_the_splits_of_removed_photos_are_kept_from_version_to_version(published: Callable[..., Registry]) -> None:
    from train_job.pipeline.previous_version import read_previous_version
    from train_job.pipeline.training_csvs import DEPARTED_CSV, departed_csv

    registry = published(shares="80/10/10")
    departed = {"c" * 64: Split.VALIDATION, "a" * 64: Split.TEST}
    registry.store.put(f"models/m1/{DEPARTED_CSV}", departed_csv(SplitTable.of(departed), SplitTable()).encode())
    splits = read_previous_version(registry, "production", SHARES).splits
    assert splits == {**SPLITS, "c" * 64: Split.VALIDATION}
    assert read(departed_csv(splits, SplitTable.of({"a" * 64: Split.TRAIN}))) == [
        {"sha256": "b" * 64, "split": "test"},
        {"sha256": "c" * 64, "split": "validation"},
    ]


def test_an_empty_registry_and_a_new_channel_have_no_previous_version(published: Callable[..., Registry]) -> None:
    from train_job.pipeline.previous_version import PreviousVersion, read_previous_version

    assert read_previous_version(Registry(MemoryStore()), "production", SHARES) == PreviousVersion()
    assert read_previous_version(published(shares="80/10/10"), "staging", SHARES) == PreviousVersion()


@pytest.mark.parametrize("dataset", [{"shares": "70/20/10"}, {}])
def test_splits_made_with_other_shares_are_ignored_but_not_what_was_learnt(
    published: Callable[..., Registry], dataset: dict[str, str]
) -> None:
    from train_job.pipeline.previous_version import read_previous_version

    previous = read_previous_version(published(**dataset), "production", SHARES)
    assert previous.splits == {}
    assert previous.manifest is not None
    assert previous.learnt == {"a" * 64: Split.TRAIN}


def read_version(registry: Registry) -> Any:
    from train_job.pipeline.previous_version import read_previous_version

    return read_previous_version(registry, "production", SHARES)


def obstacle(previous: Any, splits: dict[str, Split]) -> str:
    """Reason against a warm start for photos with these splits and without known near-duplicates."""
    examples = Photos.of(Example(f"{sha256[0]}.jpg", "cat", sha256=sha256) for sha256 in splits)
    return str(previous.warm_start_obstacle(examples, SplitTable.of(splits), FactsIndex.of({})))


def test_what_ancestors_learnt_is_read_and_passed_on(published: Callable[..., Registry]) -> None:
    from train_job.pipeline.training_csvs import LEARNT_CSV, learnt_csv

    registry = published(shares="80/10/10")
    ancestors = {"c" * 64: Split.TRAIN, "d" * 64: Split.VALIDATION, "a" * 64: Split.VALIDATION}
    registry.store.put(f"models/m1/{LEARNT_CSV}", learnt_csv(SplitTable.of(ancestors), SplitTable.of(SPLITS)).encode())
    learnt = read_version(registry).learnt
    assert learnt == {"a" * 64: Split.TRAIN, "c" * 64: Split.TRAIN, "d" * 64: Split.VALIDATION}
    assert read(learnt_csv(learnt, SplitTable.of({"a" * 64: Split.TRAIN, "c" * 64: Split.TRAIN}))) == [
        {"sha256": "d" * 64, "split": "validation"}
    ]


@pytest.mark.parametrize(
    ("splits", "allowed"),
    [
        ({"a" * 64: Split.TRAIN, "b" * 64: Split.TEST}, True),
        ({"b" * 64: Split.VALIDATION, "e" * 64: Split.TEST}, True),
        ({"a" * 64: Split.TEST}, False),
        ({"a" * 64: Split.VALIDATION}, False),
        ({"c" * 64: Split.TEST}, False),
    ],
)
def test_a_head_never_starts_from_one_that_learnt_a_held_out_photo(
    published: Callable[..., Registry], splits: dict[str, Split], allowed: bool
) -> None:
    from train_job.pipeline.training_csvs import LEARNT_CSV, learnt_csv

    registry = published(shares="80/10/10")
    registry.store.put(
        f"models/m1/{LEARNT_CSV}", learnt_csv(SplitTable.of({"c" * 64: Split.TRAIN}), SplitTable.of(SPLITS)).encode()
    )
    reason = obstacle(read_version(registry), splits)
    assert (not reason) is allowed
    if not allowed:
        assert reason.startswith("cold start: 1 validation or test photos, or near-duplicates of them, were learnt by")
        assert "m1 or by a version that it started from; the first is" in reason


@pytest.mark.parametrize("content", [None, b"damaged", b"sha256,split\n00,nonsense\n"])
def test_a_version_that_started_warm_without_a_readable_record_is_no_source(
    published: Callable[..., Registry], content: bytes | None
) -> None:
    from train_job.pipeline.training_csvs import LEARNT_CSV

    registry = published(shares="80/10/10")
    manifest = replace(registry.manifest("m1"), training={"warm_start": True})
    registry.store.put("models/m1/manifest.json", manifest.to_json())
    if content is not None:
        registry.store.put(f"models/m1/{LEARNT_CSV}", content)
    previous = read_version(registry)
    assert previous.splits == SPLITS
    assert "no record of the photos" in obstacle(previous, {"b" * 64: Split.TEST})


def test_known_classes_keep_their_order_and_new_classes_come_last(published: Callable[..., Registry]) -> None:
    from train_job.pipeline.previous_version import PreviousVersion, read_previous_version

    previous = read_previous_version(published(shares="80/10/10"), "production", SHARES)
    assert previous.ordered_labels(("ape", "cat", "dog")) == ("cat", "dog", "ape")
    assert previous.ordered_labels(("ape", "dog")) == ("dog", "ape")
    assert PreviousVersion().ordered_labels(("b", "a")) == ("b", "a")
