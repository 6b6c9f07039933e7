import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.pictures import jpeg, write_folders
from train_job.data.dataset import Dataset
from train_job.data.example import Split
from train_job.data.labels.read_labels import read_dataset
from train_job.data.photos import Photos
from train_job.extraction.prepare_export import ExportPreparation, PreparedExport
from train_job.options import TrainOptions
from train_job.progress import Reporter
from train_job.sigterm import StopRequest
from transferlite.images.input_spec import InputSpec


class KnownFiles:
    """Files of a backbone that an earlier job has converted."""

    spec, tflite = InputSpec(32, 32), b"file"

    def stored_saved_model(self, _head: Any) -> bytes:
        """The traced SavedModel."""
        return b"traced"


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """Six photos of each of two classes, with their hashes."""
    photos = read_dataset(str(write_folders(tmp_path / "photos", count=6)))
    hashed = tuple(
        replace(example, sha256=hashlib.sha256(Path(example.image).read_bytes()).hexdigest())
        for example in photos.examples
    )
    return replace(photos, examples=Photos.of(hashed))


def prepare(dataset: Dataset, tmp_path: Path) -> PreparedExport:
    options = TrainOptions("", "", features=str(tmp_path / "features"), variants=("float32",))
    splits = {example.sha256: Split.TEST for example in dataset.examples}
    files: Any = KnownFiles()
    return ExportPreparation(options, dataset, splits, files, None, True, Reporter(), StopRequest()).start().result()


@pytest.mark.parametrize("harm", [Path.unlink, lambda path: path.write_bytes(jpeg("red", 99))])
def test_gate_photos_that_are_gone_or_changed_are_replaced_by_the_next_and_counted(
    dataset: Dataset, tmp_path: Path, harm: Callable[[Path], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("train_job.extraction.prepare_export.MAX_GATE_PHOTOS", 4)
    blue = sorted((example for example in dataset.examples if example.label == "blue"), key=lambda photo: photo.sha256)
    for example in blue[:2]:
        harm(Path(example.image))
    prepared = prepare(dataset, tmp_path)
    assert prepared.replaced == 2
    assert [photo for photo in prepared.gate_photos if photo.label == "blue"] == blue[2:4]
    assert len(prepared.gate_photos) == 4
    assert (prepared.saved_model, prepared.proven) == (b"traced", True)


def test_photos_that_are_cached_may_be_deleted(dataset: Dataset, tmp_path: Path) -> None:
    first = prepare(dataset, tmp_path)
    for example in dataset.examples:
        Path(example.image).unlink()
    second = prepare(dataset, tmp_path)
    assert (second.replaced, second.gate_photos) == (0, first.gate_photos)
