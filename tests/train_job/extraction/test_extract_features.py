import hashlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.pictures import jpeg, write_folders
from tests.transferlite.images.heic_files import heic
from train_job.data.example import Example, RejectedPhoto, Split
from train_job.data.labels.read_labels import read_dataset
from train_job.data.photos import Photos
from train_job.extraction.extract_features import ExtractionResult, extract_features
from train_job.extraction.forward_pass import BusyTime, ForwardPass
from train_job.extraction.result_writer import FeatureRequest
from train_job.progress import Reporter
from train_job.store.feature_store import FeatureSpace, FeatureStore
from transferlite.errors import StoppedError, UnavailableError
from transferlite.images.input_spec import InputSpec
from transferlite.storage import file_stamp as file_change
from transferlite.storage.store import MemoryStore

SPEC = InputSpec(32, 32)
WIDTH = 4


def space(view: str = "plain", layer: str = "pool") -> FeatureSpace:
    return FeatureSpace("small", "ab" * 32, SPEC, WIDTH, layer, view)


PLAIN = FeatureRequest({"plain": (space(),)})
VIEWS = FeatureRequest({name: (space(name), space(name, "layer-1")) for name in ("plain", "flip-1")})


class FakeForward:
    """A forward pass whose row is the mean of each quarter of the image; it records its images."""

    def __init__(self, outputs: int = 1) -> None:
        self.images: list[Any] = []
        self.built = 0
        self.outputs = outputs

    def __call__(self) -> ForwardPass:
        self.built += 1
        return ForwardPass("test", "float32", self.run, BusyTime(1))

    def run(self, items: Iterable[tuple[Any, Callable[[], Any]]]) -> Iterator[tuple[Any, list[Any]]]:
        for name, image in items:
            self.images.append(image())
            row = self.images[-1].reshape(WIDTH, -1).mean(axis=1).astype(np.float32)
            yield name, [row + output for output in range(self.outputs)]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return write_folders(tmp_path / "photos", count=5)


def examples_in(root: Path) -> Photos:
    return read_dataset(str(root)).examples


def run(
    examples: Iterable[Example], store: FeatureStore, forward: FakeForward, request: FeatureRequest = PLAIN, **more: Any
) -> ExtractionResult:
    return extract_features(list(examples), request, store, SPEC, forward, Reporter(), **more)


def rows_of(store: FeatureStore, extracted: ExtractionResult, of: FeatureSpace) -> Any:
    out = np.zeros((len(extracted.examples), WIDTH), np.float16)
    assert store.read(of, [example.sha256 for example in extracted.examples], out) == []
    return out


def test_each_photo_gets_its_row_and_is_reused_the_next_time(photos: Path) -> None:
    store, forward = FeatureStore(MemoryStore()), FakeForward()
    first = run(examples_in(photos), store, forward)
    assert (first.counts.fetched, first.counts.forwarded, first.counts.reused) == (10, 10, 0)
    expected = np.stack([image.reshape(WIDTH, -1).mean(axis=1) for image in forward.images])
    np.testing.assert_allclose(rows_of(store, first, space()), expected, rtol=1e-3)
    again = run(examples_in(photos), store, forward)
    assert (again.counts.fetched, again.counts.forwarded, again.counts.reused) == (0, 0, 10)
    assert again.examples == first.examples
    assert forward.built == 1


def test_only_new_and_changed_photos_are_fetched(photos: Path) -> None:
    store, forward = FeatureStore(MemoryStore()), FakeForward()
    run(examples_in(photos), store, forward)
    (photos / "red" / "new.jpg").write_bytes(jpeg("red", 77))
    (photos / "red" / "red.0.jpg").write_bytes(jpeg("red", 78))
    (photos / "blue" / "blue.0.jpg").rename(photos / "blue" / "renamed.jpg")
    counts = run(examples_in(photos), store, forward).counts
    assert (counts.fetched, counts.forwarded, counts.reused) == (3, 2, 9)
    assert len(forward.images) == 12


def test_copies_are_forwarded_once_and_share_the_row(photos: Path) -> None:
    for number in range(3):
        (photos / "red" / f"copy.{number}.jpg").write_bytes(jpeg("red", 0))
    store, forward = FeatureStore(MemoryStore()), FakeForward()
    extracted = run(examples_in(photos), store, forward)
    assert len(extracted.examples) == 13
    assert (extracted.counts.fetched, extracted.counts.forwarded) == (13, 10)
    rows_of(store, extracted, space())


@pytest.mark.parametrize("file_system", [0xEF53, 0x4D44, None], ids=["ext4", "FAT", "unknown"])
def test_a_photo_replaced_with_the_same_size_and_time_is_forwarded_again(
    photos: Path, monkeypatch: pytest.MonkeyPatch, file_system: int | None
) -> None:
    monkeypatch.setattr(file_change, "_margins", {})
    monkeypatch.setattr(file_change, "_file_system_type", lambda _: file_system)
    store, forward = FeatureStore(MemoryStore()), FakeForward()
    path = next(photos.rglob("*.jpg"))
    others = [jpeg(colour, 900) for colour in ("green", "blue")]
    size = max(map(len, others))
    for content in others:
        path.write_bytes(content.ljust(size, b"\0"))  # what follows a JPEG's end is not decoded
        os.utime(path, (1_500_000_000, 1_500_000_000))
        counts = run(examples_in(photos), store, forward).counts
    assert (counts.fetched, counts.forwarded, counts.reused) == (1, 1, 9)
    assert run(examples_in(photos), store, forward).counts.fetched == 0


def test_a_photo_replaced_between_listing_and_reading_is_not_recorded_under_its_old_hash(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_change, "_margins", {})
    monkeypatch.setattr(file_change, "_file_system_type", lambda _: None)
    store, forward = FeatureStore(MemoryStore()), FakeForward()
    path = next(photos.rglob("*.jpg"))
    first, second = (jpeg(colour, 900).ljust(2000, b"\0") for colour in ("green", "blue"))

    def replace_content(content: bytes) -> None:
        with path.open("r+b") as file:
            file.write(content)
        os.utime(path, (1_500_000_000, 1_500_000_000))

    path.write_bytes(first)
    replace_content(first)
    listed = examples_in(photos)
    replace_content(second)
    run(listed, store, forward)
    replace_content(first)
    extracted = run(examples_in(photos), store, forward)
    assert hashlib.sha256(first).hexdigest() in {example.sha256 for example in extracted.examples}


def test_rejected_photos_are_remembered_and_not_fetched_again(photos: Path) -> None:
    (photos / "red" / "bad.jpg").write_bytes(b"%PDF-1.7")
    (photos / "red" / "bad copy.jpg").write_bytes(b"%PDF-1.7")
    store, forward = FeatureStore(MemoryStore()), FakeForward()
    first = run(examples_in(photos), store, forward)
    assert {(Path(photo.uri).name, photo.code) for photo in first.rejected} == {
        ("bad.jpg", "not-image"),
        ("bad copy.jpg", "not-image"),
    }
    assert first.counts.fetched == 12
    again = run(examples_in(photos), store, forward)
    assert again.rejected == first.rejected
    assert again.counts.fetched == 0


def test_a_photo_whose_decoder_is_missing_is_tried_again(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (photos / "red" / "iphone.heic").write_bytes(heic(Image.new("RGB", (64, 48), "red")))
    store = FeatureStore(MemoryStore())
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "pi_heif", None)
        assert [photo.code for photo in run(examples_in(photos), store, FakeForward()).rejected] == ["missing-decoder"]
    again = run(examples_in(photos), store, FakeForward())
    assert again.rejected == ()
    assert again.counts.forwarded == 1


def test_a_missing_photo_is_tried_again(photos: Path) -> None:
    examples = [*examples_in(photos), Example(str(photos / "red" / "late.jpg"), "red", 12)]
    store = FeatureStore(MemoryStore())
    assert run(examples, store, FakeForward()).rejected == (
        RejectedPhoto(str(photos / "red" / "late.jpg"), 12, "missing", "does not exist"),
    )
    (photos / "red" / "late.jpg").write_bytes(jpeg("red", 50))
    again = run(examples, store, FakeForward())
    assert again.rejected == ()
    assert again.counts.forwarded == 1


def test_a_photo_outside_any_listing_is_reused_by_its_stamp(photos: Path) -> None:
    store, forward = FeatureStore(MemoryStore()), FakeForward()
    bare = [Example(example.image, example.label) for example in examples_in(photos)]
    run(bare, store, forward)
    assert run(bare, store, forward).counts.fetched == 0


def test_a_photo_changed_after_listing_is_not_recorded_with_the_listed_stamp(photos: Path) -> None:
    examples = examples_in(photos)
    (photos / "red" / "red.0.jpg").write_bytes(jpeg("red", 99))
    store = FeatureStore(MemoryStore())
    run(examples, store, FakeForward())
    known = store.photos().lookup([example.image for example in examples], [example.stamp for example in examples])
    assert [Path(example.image).name for example, record in zip(examples, known, strict=True) if record is None] == [
        "red.0.jpg"
    ]


def test_views_and_outputs_each_have_their_row(photos: Path) -> None:
    store, forward = FeatureStore(MemoryStore()), FakeForward(outputs=2)
    extracted = run(examples_in(photos), store, forward, VIEWS)
    assert extracted.counts.forwarded == 20
    plain, flipped = forward.images[::2], forward.images[1::2]
    for image, mirrored in zip(plain, flipped, strict=True):
        np.testing.assert_array_equal(image[:, ::-1], mirrored)
    for name, images in (("plain", plain), ("flip-1", flipped)):
        expected = np.stack([image.reshape(WIDTH, -1).mean(axis=1) for image in images])
        np.testing.assert_allclose(rows_of(store, extracted, space(name)), expected, rtol=1e-3)
        np.testing.assert_allclose(rows_of(store, extracted, space(name, "layer-1")), expected + 1, rtol=1e-3)


def test_only_views_added_later_are_forwarded(photos: Path) -> None:
    store, forward = FeatureStore(MemoryStore()), FakeForward(outputs=2)
    run(examples_in(photos), store, forward, FeatureRequest({"plain": VIEWS.spaces["plain"]}))
    assert run(examples_in(photos), store, forward, VIEWS).counts.forwarded == 10


def test_the_users_test_photos_have_no_augmented_views(photos: Path) -> None:
    examples = [
        Example(example.image, example.label, split=Split.TEST if example.label == "red" else None)
        for example in examples_in(photos)
    ]
    assert run(examples, FeatureStore(MemoryStore()), FakeForward(outputs=2), VIEWS).counts.forwarded == 15


def test_a_stopped_job_keeps_its_rows(photos: Path) -> None:
    store, forward = FeatureStore(MemoryStore()), FakeForward()
    with pytest.raises(StoppedError, match="run the same command again"):
        run(examples_in(photos), store, forward, stop=lambda: len(forward.images) >= 4)
    done = len(forward.images)
    assert run(examples_in(photos), store, forward).counts.forwarded == 10 - done
    assert len(forward.images) == 10


def test_a_failed_job_keeps_its_rows(photos: Path) -> None:
    class FailingForward(FakeForward):
        def run(self, items: Any) -> Any:
            for done, result in enumerate(super().run(items)):
                if done == 6:
                    raise UnavailableError("gone")
                yield result

    store, forward = FeatureStore(MemoryStore()), FakeForward()
    with pytest.raises(UnavailableError, match="gone"):
        run(examples_in(photos), store, FailingForward())
    assert run(examples_in(photos), store, forward).counts.forwarded == 4


def test_a_photo_whose_row_float16_cannot_hold_is_rejected_and_the_others_are_written(photos: Path) -> None:
    class OverflowingForward(FakeForward):
        def run(self, items: Any) -> Any:
            for number, (name, rows) in enumerate(super().run(items)):
                yield name, [rows[0] * (1e6 if number == 3 else 1)]

    (photos / "red" / "zz-copy.jpg").write_bytes((photos / "blue" / "blue.3.jpg").read_bytes())
    store = FeatureStore(MemoryStore())
    extracted = run(examples_in(photos), store, OverflowingForward())
    assert {(photo.uri, photo.code) for photo in extracted.rejected} == {
        (str(photos / "blue" / "blue.3.jpg"), "overflow"),
        (str(photos / "red" / "zz-copy.jpg"), "overflow"),
    }
    assert len(extracted.examples) == 9
    rows_of(store, extracted, space())
    assert run(examples_in(photos), store, FakeForward()).counts.forwarded == 1  # other weights may hold it


def delete_facts(store: MemoryStore) -> None:
    for entry in list(store.entries("facts/")):
        store.delete(entry.key)


def damage_facts(store: MemoryStore) -> None:
    for entry in list(store.entries("facts/")):
        store.put(entry.key, b"damaged")


@pytest.mark.parametrize("harm", [delete_facts, damage_facts])
def test_a_photo_whose_facts_are_missing_is_examined_again_without_a_forward_pass(
    photos: Path, harm: Callable[[MemoryStore], None]
) -> None:
    objects, forward = MemoryStore(), FakeForward()
    first = run(examples_in(photos), FeatureStore(objects), forward)
    harm(objects)
    again = run(examples_in(photos), FeatureStore(objects, lambda _: None), forward)
    assert (again.counts.fetched, again.counts.forwarded) == (10, 0)
    assert again.examples == first.examples
    hashes = [example.sha256 for example in first.examples]
    assert None not in FeatureStore(objects, lambda _: None).facts().lookup(hashes)
    assert run(examples_in(photos), FeatureStore(objects, lambda _: None), forward).counts.fetched == 0


def test_a_new_version_of_the_facts_examines_every_photo_again(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from train_job.data.photo_facts import FACTS_VERSION
    from train_job.store import facts_index

    store, forward = FeatureStore(MemoryStore()), FakeForward()
    run(examples_in(photos), store, forward)
    monkeypatch.setattr(facts_index, "FACTS_VERSION", FACTS_VERSION + 1)
    again = run(examples_in(photos), store, forward).counts
    assert (again.fetched, again.forwarded, again.reused) == (10, 0, 10)
    assert run(examples_in(photos), store, forward).counts.fetched == 0


def test_rows_are_written_in_parts_as_they_come(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("train_job.extraction.result_writer.PART_BYTES", 4 * WIDTH * 2)
    memory = MemoryStore()
    run(examples_in(photos), FeatureStore(memory), FakeForward())
    assert len([entry for entry in memory.entries() if "/rows/" in entry.key]) == 3


def test_rows_are_written_before_their_photos_records(photos: Path) -> None:
    order = []

    class RecordingStore(MemoryStore):
        def put(self, key: str, data: bytes, *, if_absent: bool = False, if_match: str | None = None) -> str:
            order.append(key.split("/")[-2])
            return super().put(key, data, if_absent=if_absent, if_match=if_match)

    run(examples_in(photos), FeatureStore(RecordingStore()), FakeForward())
    assert [name for name in order if name in {"rows", "keys", "photos"}] == ["rows", "keys", "photos"]
