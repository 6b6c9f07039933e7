from typing import Any

import pytest

from tests.train_job.known_rows import hashes_of
from train_job.store.compaction import compact
from train_job.store.feature_store import FeatureStore
from train_job.store.photo_index import PhotoRecord
from transferlite.images.input_spec import DECODER_VERSION
from transferlite.storage.store import MemoryStore, Store


def good(number: int, decoder: int = DECODER_VERSION, stamp: str = "") -> PhotoRecord:
    """A photo that can be used."""
    return PhotoRecord(f"s3://b/{number}.jpg", stamp or f'"etag-{number}" 5', hashes_of([number])[0], decoder)


def bad(number: int, decoder: int = DECODER_VERSION) -> PhotoRecord:
    """A photo that cannot."""
    return PhotoRecord(f"s3://b/{number}.jpg", f'"etag-{number}" 5', "", decoder, "truncated", "the end is missing")


def found(features: FeatureStore, *records: PhotoRecord) -> list[PhotoRecord | None]:
    """What the index says of the photos of some records."""
    return features.photos().lookup([one.uri for one in records], [one.stamp for one in records])


def test_records_come_back_as_they_were(store: Store) -> None:
    features = FeatureStore(store)
    records = [*map(good, range(20)), *map(bad, range(20, 30))]
    features.add_photos(records[:12])
    features.add_photos(records[12:])
    assert found(FeatureStore(store), *reversed(records)) == records[::-1]
    index = features.photos()
    assert (len(index), index.rejects) == (30, 10)


def test_an_empty_index_knows_no_photo(store: Store) -> None:
    features = FeatureStore(store)
    features.add_photos([])
    assert found(features, good(1), bad(2)) == [None, None]
    index = features.photos()
    assert (len(index), index.rejects, index.lookup([], [])) == (0, 0, [])
    assert list(store.entries("photos/")) == []


def test_a_photo_that_changed_or_lies_elsewhere_is_not_known() -> None:
    features = FeatureStore(MemoryStore())
    features.add_photos([good(1)])
    uri, stamp = good(1).uri, good(1).stamp
    pairs = [(uri, stamp), (uri, f"{stamp} v2"), (uri, stamp[:-1]), (f"{uri}2", stamp), (f"{uri}{stamp}", ""), ("", "")]
    assert features.photos().lookup(*map(list, zip(*pairs, strict=True))) == [good(1), *[None] * 5]


def test_a_photo_without_a_stamp_is_not_remembered() -> None:
    features = FeatureStore(MemoryStore())
    nameless = PhotoRecord("s3://b/1.jpg", "", hashes_of([1])[0], DECODER_VERSION)
    features.add_photos([nameless, good(2)])
    assert found(features, nameless, good(2)) == [None, good(2)]
    assert len(features.photos()) == 1


@pytest.mark.parametrize("other", [DECODER_VERSION - 1, DECODER_VERSION + 1])
def test_what_another_decoder_refused_is_looked_at_again_but_content_stays_known(other: int) -> None:
    features = FeatureStore(MemoryStore())
    features.add_photos([good(1, other), bad(2, other), bad(3)])
    assert found(features, good(1), bad(2), bad(3)) == [good(1, other), None, bad(3)]
    assert (len(features.photos()), features.photos().rejects) == (2, 1)


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        ([good(1, DECODER_VERSION - 1), bad(1)], bad(1)),
        ([bad(1, DECODER_VERSION - 1), good(1)], good(1)),
        ([good(1), bad(1)], good(1)),
    ],
)
@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("together", [False, True])
def test_the_newest_decoder_s_word_counts_and_good_before_bad(
    records: list[PhotoRecord], expected: PhotoRecord, turned: bool, together: bool
) -> None:
    features = FeatureStore(MemoryStore())
    records = records[::-1] if turned else records
    for group in [records] if together else [[one] for one in records]:
        features.add_photos(group)
    assert found(features, good(1)) == [expected]


def test_what_a_later_decoder_refuses_is_still_known_to_this_one() -> None:
    features = FeatureStore(MemoryStore())
    features.add_photos([good(1)])
    features.add_photos([bad(1, DECODER_VERSION + 1)])
    assert found(features, good(1)) == [good(1)]


def test_merging_the_index_changes_no_answer() -> None:
    features = FeatureStore(MemoryStore())
    records = [*map(good, range(20)), *map(bad, range(20, 30))]
    for start in range(0, 30, 3):
        features.add_photos(records[start : start + 5])
    assert compact(features.photo_shelf) == 9
    assert len(list(features.store.entries("photos/"))) == 1
    assert found(features, *records) == records
    assert len(features.photos()) == 30


def test_the_same_records_written_twice_are_one_part() -> None:
    features = FeatureStore(MemoryStore())
    features.add_photos([good(1), bad(2)])
    features.add_photos([bad(2), good(1), good(1)])
    assert len(list(features.store.entries("photos/"))) == 1


def test_a_flipped_bit_makes_photos_unknown_and_never_another_s() -> None:
    warnings: list[str] = []
    features = FeatureStore(MemoryStore(), warnings.append)
    features.add_photos([good(1), bad(2)])
    (entry,) = features.store.entries("photos/")
    data = features.store.get(entry.key).data
    for place in range(0, len(data), 5):
        damaged = bytearray(data)
        damaged[place] ^= 4
        features.store.put(entry.key, bytes(damaged))
        assert found(features, good(1), bad(2)) == [None, None]
    assert len(warnings) == len(range(0, len(data), 5))
    features.add_photos([good(1), bad(2)])
    assert found(features, good(1), bad(2)) == [good(1), bad(2)]


AWKWARD: list[Any] = ["a b/ü/猫.jpg", "100%25+&?#.jpg", "caf\udce9.jpg", "a\nb.jpg", "'\"", ""]


@pytest.mark.parametrize("uri", AWKWARD)
def test_any_name_of_a_photo_can_be_remembered(uri: str) -> None:
    features = FeatureStore(MemoryStore())
    records = [PhotoRecord(uri, "etag", hashes_of([1])[0], DECODER_VERSION), good(2)]
    features.add_photos(records)
    assert found(features, *records) == records
