from collections.abc import Callable
from typing import Any

import pytest

from tests.train_job.pipeline.test_training_csvs import EXAMPLES, SPLITS, read
from train_job.data.dataset import Split
from train_job.data.split import SplitShares
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
        registry.store.put(f"models/m1/{DATASET_CSV}", dataset_csv(EXAMPLES, SPLITS).encode())
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
    registry.store.put(f"models/m1/{DEPARTED_CSV}", departed_csv(departed, {}).encode())
    splits = read_previous_version(registry, "production", SHARES).splits
    assert splits == {**SPLITS, "c" * 64: Split.VALIDATION}
    assert read(departed_csv(splits, {"a" * 64: Split.TRAIN})) == [
        {"sha256": "b" * 64, "split": "test"},
        {"sha256": "c" * 64, "split": "validation"},
    ]


def test_an_empty_registry_and_a_new_channel_have_no_previous_version(published: Callable[..., Registry]) -> None:
    from train_job.pipeline.previous_version import PreviousVersion, read_previous_version

    assert read_previous_version(Registry(MemoryStore()), "production", SHARES) == PreviousVersion()
    assert read_previous_version(published(shares="80/10/10"), "staging", SHARES) == PreviousVersion()


@pytest.mark.parametrize("training", [{"split": "70/20/10"}, {}])
def test_splits_made_with_other_shares_are_ignored(
    published: Callable[..., Registry], training: dict[str, str]
) -> None:
    from train_job.pipeline.previous_version import read_previous_version

    previous = read_previous_version(published(**training), "production", SHARES)
    assert previous.splits == {}
    assert previous.manifest is not None


def test_known_classes_keep_their_order_and_new_classes_come_last(published: Callable[..., Registry]) -> None:
    from train_job.pipeline.previous_version import PreviousVersion, read_previous_version

    previous = read_previous_version(published(shares="80/10/10"), "production", SHARES)
    assert previous.ordered_labels(("ape", "cat", "dog")) == ("cat", "dog", "ape")
    assert previous.ordered_labels(("ape", "dog")) == ("dog", "ape")
    assert PreviousVersion().ordered_labels(("b", "a")) == ("b", "a")
