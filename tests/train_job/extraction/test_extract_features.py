from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.pictures import jpeg, write_folders
from train_job.data.dataset import Example, RejectedPhoto, Split
from train_job.data.labels.read_labels import read_dataset
from train_job.extraction.extract_features import ExtractionResult, FeatureRequest, extract_features
from train_job.extraction.forward_pass import Busy, ForwardPass
from train_job.progress import Reporter
from train_job.store.feature_store import FeatureSpace, FeatureStore
from transferlite.errors import InputError, StoppedError, UnavailableError
from transferlite.images.input_spec import InputSpec
from transferlite.storage.store import MemoryStore

SPEC = InputSpec(32, 32)
WIDTH = 4


def space(view: str = "plain", layer: str = "pool") -> FeatureSpace:
    return FeatureSpace("small", "ab" * 32, SPEC, WIDTH, layer, view)


PLAIN = FeatureRequest({"plain": (space(),)})
VIEWS = FeatureRequest({name: (space(name), space(name, "layer-1")) for name in ("plain", "flip-1")})


class Base:
    """A forward pass whose row is the mean colour of each quarter's first column; it counts and notes its images."""

    def __init__(self, outputs: int = 1) -> None:
        self.images: list[Any] = []
        self.built = 0
        self.outputs = outputs

    def __call__(self) -> ForwardPass:
        self.built += 1
        return ForwardPass("test", "float32", self.run, Busy(1))

    def run(self, items: Iterable[tuple[Any, Callable[[], Any]]]) -> Iterator[tuple[Any, list[Any]]]:
        for name, image in items:
            self.images.append(image())
            row = self.images[-1].reshape(WIDTH, -1).mean(axis=1).astype(np.float32)
            yield name, [row + output for output in range(self.outputs)]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return write_folders(tmp_path / "photos", count=5)


def found_in(root: Path) -> tuple[Example, ...]:
    return read_dataset(str(root)).examples


def run(
    examples: Iterable[Example], store: FeatureStore, base: Base, wanted: FeatureRequest = PLAIN, **more: Any
) -> ExtractionResult:
    return extract_features(list(examples), wanted, store, SPEC, base, Reporter(), **more)


def rows_of(store: FeatureStore, extracted: ExtractionResult, of: FeatureSpace) -> Any:
    out = np.zeros((len(extracted.examples), WIDTH), np.float16)
    assert store.read(of, [example.sha256 for example in extracted.examples], out) == []
    return out


def test_each_photo_has_its_row_and_is_known_the_next_time(photos: Path) -> None:
    store, base = FeatureStore(MemoryStore()), Base()
    first = run(found_in(photos), store, base)
    assert (first.counts.fetched, first.counts.forwarded, first.counts.reused) == (10, 10, 0)
    expected = np.stack([image.reshape(WIDTH, -1).mean(axis=1) for image in base.images])
    np.testing.assert_allclose(rows_of(store, first, space()), expected, rtol=1e-3)
    again = run(found_in(photos), store, base)
    assert (again.counts.fetched, again.counts.forwarded, again.counts.reused) == (0, 0, 10)
    assert again.examples == first.examples
    assert base.built == 1


def test_only_new_and_changed_photos_cost(photos: Path) -> None:
    store, base = FeatureStore(MemoryStore()), Base()
    run(found_in(photos), store, base)
    (photos / "red" / "new.jpg").write_bytes(jpeg("red", 77))
    (photos / "red" / "red.0.jpg").write_bytes(jpeg("red", 78))
    (photos / "blue" / "blue.0.jpg").rename(photos / "blue" / "renamed.jpg")
    counts = run(found_in(photos), store, base).counts
    assert (counts.fetched, counts.forwarded, counts.reused) == (3, 2, 9)
    assert len(base.images) == 12


def test_copies_are_forwarded_once_and_both_have_the_row(photos: Path) -> None:
    for number in range(3):
        (photos / "red" / f"copy.{number}.jpg").write_bytes(jpeg("red", 0))
    store, base = FeatureStore(MemoryStore()), Base()
    extracted = run(found_in(photos), store, base)
    assert len(extracted.examples) == 13
    assert (extracted.counts.fetched, extracted.counts.forwarded) == (13, 10)
    rows_of(store, extracted, space())


def test_bad_photos_are_rejected_remembered_and_not_fetched_again(photos: Path) -> None:
    (photos / "red" / "bad.jpg").write_bytes(b"%PDF-1.7")
    (photos / "red" / "bad copy.jpg").write_bytes(b"%PDF-1.7")
    store, base = FeatureStore(MemoryStore()), Base()
    first = run(found_in(photos), store, base)
    assert {(Path(one.uri).name, one.code) for one in first.rejects} == {
        ("bad.jpg", "not-image"),
        ("bad copy.jpg", "not-image"),
    }
    assert first.counts.fetched == 12
    again = run(found_in(photos), store, base)
    assert again.rejects == first.rejects
    assert again.counts.fetched == 0


def test_a_photo_that_is_missing_is_looked_for_again(photos: Path) -> None:
    examples = [*found_in(photos), Example(str(photos / "red" / "late.jpg"), "red", 12)]
    store = FeatureStore(MemoryStore())
    assert run(examples, store, Base()).rejects == (
        RejectedPhoto(str(photos / "red" / "late.jpg"), 12, "missing", "does not exist"),
    )
    (photos / "red" / "late.jpg").write_bytes(jpeg("red", 50))
    again = run(examples, store, Base())
    assert again.rejects == ()
    assert again.counts.forwarded == 1


def test_a_photo_outside_any_listing_is_known_by_asking_for_its_stamp(photos: Path) -> None:
    store, base = FeatureStore(MemoryStore()), Base()
    bare = [Example(example.image, example.label) for example in found_in(photos)]
    run(bare, store, base)
    assert run(bare, store, base).counts.fetched == 0


def test_a_photo_that_changed_after_it_was_listed_is_not_remembered_as_what_was_listed(photos: Path) -> None:
    examples = found_in(photos)
    (photos / "red" / "red.0.jpg").write_bytes(jpeg("red", 99))
    store = FeatureStore(MemoryStore())
    run(examples, store, Base())
    known = store.photos().lookup([one.image for one in examples], [one.stamp for one in examples])
    assert [Path(one.image).name for one, record in zip(examples, known, strict=True) if record is None] == [
        "red.0.jpg"
    ]


def test_views_and_outputs_each_have_their_row(photos: Path) -> None:
    store, base = FeatureStore(MemoryStore()), Base(outputs=2)
    extracted = run(found_in(photos), store, base, VIEWS)
    assert extracted.counts.forwarded == 20
    plain, flipped = base.images[::2], base.images[1::2]
    for one, other in zip(plain, flipped, strict=True):
        np.testing.assert_array_equal(one[:, ::-1], other)
    for name, images in (("plain", plain), ("flip-1", flipped)):
        expected = np.stack([image.reshape(WIDTH, -1).mean(axis=1) for image in images])
        np.testing.assert_allclose(rows_of(store, extracted, space(name)), expected, rtol=1e-3)
        np.testing.assert_allclose(rows_of(store, extracted, space(name, "layer-1")), expected + 1, rtol=1e-3)


def test_views_that_are_asked_for_later_are_all_that_is_forwarded(photos: Path) -> None:
    store, base = FeatureStore(MemoryStore()), Base(outputs=2)
    run(found_in(photos), store, base, FeatureRequest({"plain": VIEWS.spaces["plain"]}))
    assert run(found_in(photos), store, base, VIEWS).counts.forwarded == 10


def test_the_users_test_photos_have_no_augmented_views(photos: Path) -> None:
    examples = [
        Example(one.image, one.label, split=Split.TEST if one.label == "red" else None) for one in found_in(photos)
    ]
    assert run(examples, FeatureStore(MemoryStore()), Base(outputs=2), VIEWS).counts.forwarded == 15


def test_a_job_that_is_stopped_keeps_what_it_has_done(photos: Path) -> None:
    store, base = FeatureStore(MemoryStore()), Base()
    with pytest.raises(StoppedError, match="run the same command again"):
        run(found_in(photos), store, base, stop=lambda: len(base.images) >= 4)
    done = len(base.images)
    assert run(found_in(photos), store, base).counts.forwarded == 10 - done
    assert len(base.images) == 10


def test_a_job_that_fails_keeps_what_it_has_done(photos: Path) -> None:
    class Failing(Base):
        def run(self, items: Any) -> Any:
            for done, one in enumerate(super().run(items)):
                if done == 6:
                    raise UnavailableError("gone")
                yield one

    store, base = FeatureStore(MemoryStore()), Base()
    with pytest.raises(UnavailableError, match="gone"):
        run(found_in(photos), store, Failing())
    assert run(found_in(photos), store, base).counts.forwarded == 4


def test_a_row_that_float16_cannot_hold_is_refused(photos: Path) -> None:
    class Exploding(Base):
        def run(self, items: Any) -> Any:
            for name, rows in super().run(items):
                yield name, [rows[0] * 1e6]

    with pytest.raises(InputError, match=r"not within float16.*--weights"):
        run(found_in(photos), FeatureStore(MemoryStore()), Exploding())


def test_rows_are_written_in_parts_as_they_come(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("train_job.extraction.extract_features.PART_BYTES", 4 * WIDTH * 2)
    memory = MemoryStore()
    run(found_in(photos), FeatureStore(memory), Base())
    assert len([entry for entry in memory.entries() if "/rows/" in entry.key]) == 3


def test_rows_are_there_before_their_photos_are_said_to_be_done(photos: Path) -> None:
    order = []

    class Noting(MemoryStore):
        def put(self, key: str, data: bytes, *, if_absent: bool = False, if_match: str | None = None) -> str:
            order.append(key.split("/")[-2])
            return super().put(key, data, if_absent=if_absent, if_match=if_match)

    run(found_in(photos), FeatureStore(Noting()), Base())
    assert [name for name in order if name in {"rows", "keys", "photos"}] == ["rows", "keys", "photos"]
