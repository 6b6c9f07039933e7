import csv
import io
from collections.abc import Callable
from typing import Any

import pytest

from train_job.data.dataset import Example, RejectedPhoto, Split
from train_job.data.split import Shares
from transferlite.images.input_spec import InputSpec
from transferlite.registry.manifest import Manifest
from transferlite.registry.open_registry import Registry
from transferlite.storage.store import MemoryStore

SHARES = Shares(80, 10, 10)
EXAMPLES = (
    Example('a "quoted", name.jpg', "cat", 2, "a" * 64),
    Example("s3://bucket/ü.jpg", "dog, big", 3, "b" * 64),
)
SPLITS = {"a" * 64: Split.TRAIN, "b" * 64: Split.TEST}


def read(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_the_data_sets_table_has_a_line_a_photo() -> None:
    from train_job.pipeline.csv_records import dataset_csv

    assert read(dataset_csv(EXAMPLES, SPLITS)) == [
        {"image": 'a "quoted", name.jpg', "label": "cat", "sha256": "a" * 64, "split": "train"},
        {"image": "s3://bucket/ü.jpg", "label": "dog, big", "sha256": "b" * 64, "split": "test"},
    ]


def test_the_quarantines_table_leaves_the_row_empty_where_there_is_none() -> None:
    from train_job.pipeline.csv_records import quarantine_csv

    text = quarantine_csv(
        [RejectedPhoto("x.jpg", 4, "missing", "no such file"), RejectedPhoto("y.jpg", None, "empty", "no bytes")]
    )
    assert [list(row.values())[:4] for row in read(text)] == [
        ["4", "x.jpg", "missing", "no such file"],
        ["", "y.jpg", "empty", "no bytes"],
    ]


def test_the_quarantines_table_says_what_to_do() -> None:
    from train_job.pipeline.csv_records import quarantine_csv

    rows = read(
        quarantine_csv(
            [RejectedPhoto("x.jpg", 4, "missing", "no such file"), RejectedPhoto("y", 5, "a later code", "?")]
        )
    )
    assert list(rows[0]) == ["row", "uri", "code", "reason", "what_to_do"]
    assert rows[0]["what_to_do"] == "upload the photo or remove the row"
    assert rows[1]["what_to_do"]


def test_the_historys_table_leaves_validation_empty_where_there_is_none() -> None:
    from train_job.head.recipe import Epoch
    from train_job.pipeline.csv_records import history_csv

    text = history_csv([Epoch(1, 0.5, 0.75, 0.6, 1.0), Epoch(2, 0.25, 1.0)])
    assert text == "epoch,loss,accuracy,val_loss,val_accuracy\n1,0.5,0.75,0.6,1.0\n2,0.25,1.0,,\n"


def test_the_data_sets_hash_is_of_contents_and_labels_alone() -> None:
    from train_job.pipeline.csv_records import dataset_sha256

    same = [Example("elsewhere.jpg", one.label, None, one.sha256, Split.TEST) for one in reversed(EXAMPLES)]
    assert dataset_sha256(same) == dataset_sha256(EXAMPLES)
    relabelled = [Example(EXAMPLES[0].image, "dog", 2, EXAMPLES[0].sha256), EXAMPLES[1]]
    assert dataset_sha256(relabelled) != dataset_sha256(EXAMPLES)
    assert dataset_sha256(EXAMPLES[:1]) != dataset_sha256(EXAMPLES)


@pytest.fixture
def published() -> Callable[..., Registry]:
    """A function that makes a registry whose channel names a version made with ``SHARES``."""

    def publish(**dataset: Any) -> Registry:
        from train_job.pipeline.csv_records import DATASET_CSV, dataset_csv

        registry = Registry(MemoryStore())
        spec = InputSpec(32, 32)
        manifest = Manifest("m1", "now", ("cat", "dog"), spec, {}, {}, dataset, {}, {}, {}, {})
        registry.store.put("models/m1/manifest.json", manifest.to_json())
        registry.store.put(f"models/m1/{DATASET_CSV}", dataset_csv(EXAMPLES, SPLITS).encode())
        registry.promote("m1", "production")
        return registry

    return publish


def test_the_splits_of_the_channels_version_are_found(published: Callable[..., Registry]) -> None:
    from train_job.pipeline.csv_records import read_previous_version

    found = read_previous_version(published(shares="80/10/10"), "production", SHARES)
    assert found.splits == SPLITS
    assert found.manifest is not None
    assert found.manifest.model_id == "m1"


def test_photos_that_left_are_remembered_from_version_to_version(published: Callable[..., Registry]) -> None:
    from train_job.pipeline.csv_records import DEPARTED_CSV, departed_csv, read_previous_version

    registry = published(shares="80/10/10")
    earlier = {"c" * 64: Split.VALIDATION, "a" * 64: Split.TEST}
    registry.store.put(f"models/m1/{DEPARTED_CSV}", departed_csv(earlier, {}).encode())
    found = read_previous_version(registry, "production", SHARES).splits
    assert found == {**SPLITS, "c" * 64: Split.VALIDATION}
    assert read(departed_csv(found, {"a" * 64: Split.TRAIN})) == [
        {"sha256": "b" * 64, "split": "test"},
        {"sha256": "c" * 64, "split": "validation"},
    ]


def test_there_is_nothing_earlier_in_an_empty_registry_or_another_channel(published: Callable[..., Registry]) -> None:
    from train_job.pipeline.csv_records import PreviousVersion, read_previous_version

    assert read_previous_version(Registry(MemoryStore()), "production", SHARES) == PreviousVersion()
    assert read_previous_version(published(shares="80/10/10"), "staging", SHARES) == PreviousVersion()


@pytest.mark.parametrize("training", [{"split": "70/20/10"}, {}])
def test_a_version_with_other_shares_does_not_bind(
    published: Callable[..., Registry], training: dict[str, str]
) -> None:
    from train_job.pipeline.csv_records import read_previous_version

    found = read_previous_version(published(**training), "production", SHARES)
    assert found.splits == {}
    assert found.manifest is not None


def test_classes_keep_their_place_and_new_ones_follow(published: Callable[..., Registry]) -> None:
    from train_job.pipeline.csv_records import PreviousVersion, read_previous_version

    earlier = read_previous_version(published(shares="80/10/10"), "production", SHARES)
    assert earlier.order(("ape", "cat", "dog")) == ("cat", "dog", "ape")
    assert earlier.order(("ape", "dog")) == ("dog", "ape")
    assert PreviousVersion().order(("b", "a")) == ("b", "a")
