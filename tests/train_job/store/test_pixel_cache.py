from pathlib import Path

import numpy as np
import pytest

from tests.pictures import jpeg, write_folders
from train_job.data import load_photos as loading
from train_job.data.example import Example
from train_job.store import pixel_cache
from train_job.store.feature_store import FeatureStore
from transferlite.errors import UnavailableError
from transferlite.images.decoder import decode
from transferlite.images.input_spec import InputSpec
from transferlite.storage.store import MemoryStore

SPEC = InputSpec(32, 40)


@pytest.fixture
def examples(tmp_path: Path) -> list[Example]:
    paths = sorted(write_folders(tmp_path, 5).rglob("*.jpg"))
    loaded = [loading._load(Example(str(path), path.parent.name), SPEC, lambda _: True) for path in paths]
    return [photo.example for photo in loaded if isinstance(photo, loading.SkippedPhoto)]


def expected(examples: list[Example]) -> list[np.ndarray[tuple[int, ...], np.dtype[np.uint8]]]:
    return [decode(Path(example.image).read_bytes(), SPEC) for example in examples]


def test_photos_come_decoded_in_order_and_repeatedly_without_being_fetched_again(
    examples: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pixel_cache, "_PART_BYTES", 3 * 2 * 3 * SPEC.height * SPEC.width)
    store, right = FeatureStore(MemoryStore()), expected(examples)
    order = [examples[index] for index in (7, 0, 0, 9, 3, 5)]
    for images in (pixel_cache.decoded_photos(order, SPEC, store), pixel_cache.decoded_photos(order, SPEC, store)):
        for image, index in zip(images, (7, 0, 0, 9, 3, 5), strict=True):
            assert image.dtype == np.uint8
            np.testing.assert_array_equal(image, right[index])
        monkeypatch.setattr(loading, "fetch", lambda *_: pytest.fail("a cached photo was fetched"))


def test_no_photos_give_no_images() -> None:
    assert list(pixel_cache.decoded_photos([], SPEC, FeatureStore(MemoryStore()))) == []


@pytest.mark.parametrize("change", ["gone", "other"])
def test_a_photo_that_is_gone_or_changed_before_it_is_cached_is_an_error(change: str, examples: list[Example]) -> None:
    path = Path(examples[2].image)
    path.unlink()
    if change == "other":
        path.write_bytes(jpeg("red", 500))
    with pytest.raises(UnavailableError, match=r"changed while the job was running.*run it again"):
        list(pixel_cache.decoded_photos(examples, SPEC, FeatureStore(MemoryStore())))
