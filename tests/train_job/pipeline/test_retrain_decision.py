"""Counts of ``plan`` when some photos are known."""

import json
from pathlib import Path

import pytest

from tests.train_job.known_rows import SPACE, add, hashes_of
from train_job.store.feature_store import FeatureStore
from train_job.store.photo_index import PhotoRecord
from transferlite.cli.main import run
from transferlite.images.input_spec import DECODER_VERSION
from transferlite.storage.folder import FolderStore
from transferlite.storage.store import join_uri

SEEN, BROKEN, UNSEEN = ["blue/0.jpg", "blue/1.jpg", "red/2.jpg"], "red/broken.jpg", "red/3.jpg"


@pytest.fixture
def planned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, int]:
    """Plan for three photos that have rows, a known unusable one, and one that no job has seen."""
    images, features = FolderStore(tmp_path / "photos"), FeatureStore.open(str(tmp_path / "features"))
    for name in [*SEEN, BROKEN, UNSEEN]:
        images.put(name, name.encode())
    for number, name in enumerate(SEEN):
        sha256 = hashes_of([number])[0]
        features.add_photos([PhotoRecord(join_uri(images.uri, name), images.head(name).stamp, sha256, DECODER_VERSION)])
    stamp = images.head(BROKEN).stamp
    features.add_photos([PhotoRecord(join_uri(images.uri, BROKEN), stamp, "", DECODER_VERSION, "not-image", "a bill")])
    add(features, range(len(SEEN)))
    locations = ["--images", images.uri, "--features", features.store.uri, "--registry", str(tmp_path / "registry")]
    assert run(["plan", *locations, "--backbone", SPACE.backbone, "--json"]) == 0
    plan: dict[str, int] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return plan


def test_a_photo_that_is_known_to_be_unusable_is_no_new_label(planned: dict[str, int]) -> None:
    """Otherwise such photos would start a training whenever labels are written."""
    assert planned["photos"] == 5
    assert planned["new_labels"] == 4


def test_a_photo_whose_row_is_there_or_never_will_be_is_not_new(planned: dict[str, int]) -> None:
    assert planned["new_photos"] == 1
