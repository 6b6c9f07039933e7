from typing import Any

import pytest

from tests.train_job.known_rows import hashes_of
from train_job.store.compaction import compact
from train_job.store.feature_store import FeatureStore
from train_job.store.photo_index import PhotoRecord
from transferlite.images.input_spec import DECODER_VERSION
from transferlite.storage.store import MemoryStore, Store


def usable(number: int, decoder: int = DECODER_VERSION, stamp: str = "") -> PhotoRecord:
    """Record of a usable photo."""
    return PhotoRecord(f"s3://b/{number}.jpg", stamp or f'"etag-{number}" 5', hashes_of([number])[0], decoder)


def rejected(number: int, decoder: int = DECODER_VERSION) -> PhotoRecord:
    """Record of a rejected photo."""
    return PhotoRecord(f"s3://b/{number}.jpg", f'"etag-{number}" 5', "", decoder, "truncated", "the end is missing")


def lookup(features: FeatureStore, *records: PhotoRecord) -> list[PhotoRecord | None]:
    """Look up the photos of some records."""
    return features.photos().lookup([record.uri for record in records], [record.stamp for record in records])


def test_records_come_back_as_they_were(store: Store) -> None:
    features = FeatureStore(store)
    records = [*map(usable, range(20)), *map(rejected, range(20, 30))]
    features.add_photos(records[:12])
    features.add_photos(records[12:])
    assert lookup(FeatureStore(store), *reversed(records)) == records[::-1]
    index = features.photos()
    assert (len(index), index.rejected_count) == (30, 10)


def test_an_empty_index_knows_no_photo(store: Store) -> None:
    features = FeatureStore(store)
    features.add_photos([])
    assert lookup(features, usable(1), rejected(2)) == [None, None]
    index = features.photos()
    assert (len(index), index.rejected_count, index.lookup([], [])) == (0, 0, [])
    assert list(store.entries("photos/")) == []


def test_a_photo_that_changed_or_moved_is_not_known() -> None:
    features = FeatureStore(MemoryStore())
    features.add_photos([usable(1)])
    uri, stamp = usable(1).uri, usable(1).stamp
    pairs = [(uri, stamp), (uri, f"{stamp} v2"), (uri, stamp[:-1]), (f"{uri}2", stamp), (f"{uri}{stamp}", ""), ("", "")]
    assert features.photos().lookup(*map(list, zip(*pairs, strict=True))) == [usable(1), *[None] * 5]


def test_a_photo_without_a_stamp_is_not_stored() -> None:
    features = FeatureStore(MemoryStore())
    nameless = PhotoRecord("s3://b/1.jpg", "", hashes_of([1])[0], DECODER_VERSION)
    features.add_photos([nameless, usable(2)])
    assert lookup(features, nameless, usable(2)) == [None, usable(2)]
    assert len(features.photos()) == 1


@pytest.mark.parametrize("other", [DECODER_VERSION - 1, DECODER_VERSION + 1])
def test_photos_that_another_decoder_rejected_are_unknown_but_usable_ones_stay_known(other: int) -> None:
    features = FeatureStore(MemoryStore())
    features.add_photos([usable(1, other), rejected(2, other), rejected(3)])
    assert lookup(features, usable(1), rejected(2), rejected(3)) == [usable(1, other), None, rejected(3)]
    assert (len(features.photos()), features.photos().rejected_count) == (2, 1)


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        ([usable(1, DECODER_VERSION - 1), rejected(1)], rejected(1)),
        ([rejected(1, DECODER_VERSION - 1), usable(1)], usable(1)),
        ([usable(1), rejected(1)], usable(1)),
    ],
)
@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("together", [False, True])
def test_the_newest_decoder_wins_and_usable_wins_over_rejected(
    records: list[PhotoRecord], expected: PhotoRecord, turned: bool, together: bool
) -> None:
    features = FeatureStore(MemoryStore())
    records = records[::-1] if turned else records
    for group in [records] if together else [[record] for record in records]:
        features.add_photos(group)
    assert lookup(features, usable(1)) == [expected]


def test_photos_that_a_later_decoder_rejects_are_still_known_to_this_one() -> None:
    features = FeatureStore(MemoryStore())
    features.add_photos([usable(1)])
    features.add_photos([rejected(1, DECODER_VERSION + 1)])
    assert lookup(features, usable(1)) == [usable(1)]


def test_merging_the_index_changes_no_lookup() -> None:
    features = FeatureStore(MemoryStore())
    records = [*map(usable, range(20)), *map(rejected, range(20, 30))]
    for start in range(0, 30, 3):
        features.add_photos(records[start : start + 5])
    assert compact(features.photo_parts) == 9
    assert len(list(features.store.entries("photos/"))) == 1
    assert lookup(features, *records) == records
    assert len(features.photos()) == 30


def test_the_same_records_written_twice_are_one_part() -> None:
    features = FeatureStore(MemoryStore())
    features.add_photos([usable(1), rejected(2)])
    features.add_photos([rejected(2), usable(1), usable(1)])
    assert len(list(features.store.entries("photos/"))) == 1


def test_a_flipped_bit_makes_photos_unknown() -> None:
    warnings: list[str] = []
    features = FeatureStore(MemoryStore(), warnings.append)
    features.add_photos([usable(1), rejected(2)])
    (entry,) = features.store.entries("photos/")
    data = features.store.get(entry.key).data
    for i in range(0, len(data), 5):
        damaged = bytearray(data)
        damaged[i] ^= 4
        features.store.put(entry.key, bytes(damaged))
        assert lookup(features, usable(1), rejected(2)) == [None, None]
    assert len(warnings) == len(range(0, len(data), 5))
    features.add_photos([usable(1), rejected(2)])
    assert lookup(features, usable(1), rejected(2)) == [usable(1), rejected(2)]


AWKWARD: list[Any] = ["a b/ü/猫.jpg", "100%25+&?#.jpg", "caf\udce9.jpg", "a\nb.jpg", "'\"", ""]


@pytest.mark.parametrize("uri", AWKWARD)
def test_any_name_of_a_photo_can_be_stored(uri: str) -> None:
    features = FeatureStore(MemoryStore())
    records = [PhotoRecord(uri, "etag", hashes_of([1])[0], DECODER_VERSION), usable(2)]
    features.add_photos(records)
    assert lookup(features, *records) == records
