import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.pictures import write_folders
from train_job.data.example import Example
from train_job.extraction.similar_photos import list_photos, similar_photos
from train_job.store.feature_store import FeatureSpace, FeatureStore
from transferlite.errors import InputError, NotFoundError
from transferlite.images.input_spec import InputSpec
from transferlite.storage.folder import FolderStore
from transferlite.storage.store import MemoryStore, Store

SPACE = FeatureSpace("small", "ab" * 32, InputSpec(32, 32), 2)


def photo(name: str, degrees: float, store: FeatureStore) -> Example:
    """Add a photo whose row points in a direction."""
    sha256 = hashlib.sha256(str(degrees).encode()).hexdigest()
    angle = np.deg2rad(degrees)
    store.add(SPACE, [sha256], np.array([[np.cos(angle), np.sin(angle)]], np.float16))
    return Example(name, "", sha256=sha256)


@pytest.fixture(params=["folder", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> FeatureStore:
    kind: Store = FolderStore(tmp_path / "features") if request.param == "folder" else MemoryStore()
    return FeatureStore(kind)


def test_photos_are_listed_by_similarity_with_copies_and_without_the_photo_itself(store: FeatureStore) -> None:
    query = photo("query", 0, store)
    photos = [query, photo("far", 80, store), photo("near", 10, store), photo("elsewhere", 1, store)]
    copy = replace(query, image="copy")
    found = similar_photos(query, [*photos[:3], copy], store, SPACE, 10)
    assert [neighbour.image for neighbour in found] == ["copy", "near", "far"]
    assert found[0].similarity == pytest.approx(1, abs=1e-3)
    assert found[1].similarity == pytest.approx(np.cos(np.deg2rad(10)), abs=1e-3)
    assert [neighbour.image for neighbour in similar_photos(query, photos, store, SPACE, 1)] == ["elsewhere"]


def test_a_row_in_two_parts_is_listed_once(store: FeatureStore) -> None:
    query, near = photo("query", 0, store), photo("near", 10, store)
    other = photo("other", 50, store)
    rows = np.empty((2, 2), np.float16)
    store.read(SPACE, [near.sha256, other.sha256], rows)
    store.add(SPACE, [near.sha256, other.sha256], rows)
    found = similar_photos(query, [near, other], store, SPACE, 10)
    assert [neighbour.image for neighbour in found] == ["near", "other"]


def test_a_sha256_that_ends_in_zero_is_found(store: FeatureStore) -> None:
    query = photo("query", 0, store)
    store.add(SPACE, ["ab" * 31 + "00"], np.ones((1, 2), np.float16))
    found = similar_photos(query, [Example("zero", "", sha256="ab" * 31 + "00")], store, SPACE, 1)
    assert [neighbour.image for neighbour in found] == ["zero"]


def test_a_photo_whose_row_was_removed_is_an_error(store: FeatureStore) -> None:
    near = photo("near", 10, store)
    with pytest.raises(InputError, match=r"lost\.jpg: has no row in the feature store"):
        similar_photos(Example("lost.jpg", "", sha256="cd" * 32), [near], store, SPACE, 1)


def test_a_location_is_listed_with_stamps(tmp_path: Path) -> None:
    folder = write_folders(tmp_path / "photos", count=1)
    (folder / "labels.csv").write_text("a")
    listed = list_photos(str(folder))
    assert {Path(example.image).suffix for example in listed} == {".jpg"}
    assert all(example.stamp for example in listed)
    (tmp_path / "empty").mkdir()
    with pytest.raises(NotFoundError, match="holds no photos"):
        list_photos(str(tmp_path / "empty"))
