import csv
import io

from train_job.data.example import Example, RejectedPhoto, Split
from train_job.data.photos import Photos
from train_job.data.split import SplitShares
from train_job.data.split_table import SplitTable
from transferlite.registry.open_registry import Registry
from transferlite.storage.store import MemoryStore

SHARES = SplitShares(80, 10, 10)
EXAMPLES = (
    Example('a "quoted", name.jpg', "cat", 2, "a" * 64),
    Example("s3://bucket/ü.jpg", "dog, big", 3, "b" * 64),
)
SPLITS = {"a" * 64: Split.TRAIN, "b" * 64: Split.TEST}


def read(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_dataset_csv_has_a_line_per_photo() -> None:
    from train_job.pipeline.training_csvs import dataset_csv

    assert read(dataset_csv(Photos.of(EXAMPLES), SplitTable.of(SPLITS))) == [
        {"image": 'a "quoted", name.jpg', "label": "cat", "sha256": "a" * 64, "split": "train"},
        {"image": "s3://bucket/ü.jpg", "label": "dog, big", "sha256": "b" * 64, "split": "test"},
    ]


def test_quarantine_csv_leaves_the_row_empty_for_photos_without_one() -> None:
    from train_job.pipeline.training_csvs import quarantine_csv

    text = quarantine_csv(
        [RejectedPhoto("x.jpg", 4, "missing", "no such file"), RejectedPhoto("y.jpg", None, "empty", "no bytes")]
    )
    assert [list(row.values())[:4] for row in read(text)] == [
        ["4", "x.jpg", "missing", "no such file"],
        ["", "y.jpg", "empty", "no bytes"],
    ]


def test_quarantine_csv_says_what_to_do() -> None:
    from train_job.pipeline.training_csvs import quarantine_csv

    rows = read(
        quarantine_csv(
            [RejectedPhoto("x.jpg", 4, "missing", "no such file"), RejectedPhoto("y", 5, "a later code", "?")]
        )
    )
    assert list(rows[0]) == ["row", "uri", "code", "reason", "what_to_do"]
    assert rows[0]["what_to_do"] == "upload the photo, repair the link, or remove the row"
    assert rows[1]["what_to_do"]


def test_history_csv_leaves_validation_empty_without_validation_photos() -> None:
    from train_job.head.recipe import Epoch
    from train_job.pipeline.training_csvs import history_csv

    text = history_csv([Epoch(1, 0.5, 0.75, 0.6, 1.0), Epoch(2, 0.25, 1.0)])
    assert text == "epoch,loss,accuracy,val_loss,val_accuracy\n1,0.5,0.75,0.6,1.0\n2,0.25,1.0,,\n"


def test_dataset_sha256_depends_on_contents_and_labels_only() -> None:
    from train_job.pipeline.training_csvs import dataset_sha256

    same = [Example("other.jpg", example.label, None, example.sha256, Split.TEST) for example in reversed(EXAMPLES)]
    assert dataset_sha256(Photos.of(same)) == dataset_sha256(Photos.of(EXAMPLES))
    relabelled = [Example(EXAMPLES[0].image, "dog", 2, EXAMPLES[0].sha256), EXAMPLES[1]]
    assert dataset_sha256(Photos.of(relabelled)) != dataset_sha256(Photos.of(EXAMPLES))
    assert dataset_sha256(Photos.of(EXAMPLES[:1])) != dataset_sha256(Photos.of(EXAMPLES))


def test_names_that_are_not_utf_8_come_back() -> None:
    from train_job.pipeline.previous_version import read_dataset_csv
    from train_job.pipeline.training_csvs import dataset_csv

    photos = Photos.of([Example('caf\udce9, "2".jpg', "cat", sha256="a" * 64)])
    registry = Registry(MemoryStore())
    text = dataset_csv(photos, SplitTable.of({"a" * 64: Split.TRAIN}))
    registry.store.put("models/m1/training/dataset.csv", text.encode(errors="surrogateescape"))
    assert [photo.image for photo in read_dataset_csv(registry, "m1")] == ['caf\udce9, "2".jpg']
