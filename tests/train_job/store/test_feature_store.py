import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.train_job.known_rows import FLIPPED, SPACE, WIDTH, WatchedStore, add, assert_holds, hashes_of, rows_of
from train_job.store.compaction import compact
from train_job.store.feature_store import FeatureSpace, FeatureStore
from transferlite.errors import InputError, MissingExtraError, MissingStoreError
from transferlite.images.input_spec import InputSpec
from transferlite.storage.folder import FolderStore
from transferlite.storage.s3_boto3 import S3Store
from transferlite.storage.store import MemoryStore, Store


def read(features: FeatureStore, photos: Iterable[int], space: FeatureSpace = SPACE) -> tuple[Any, list[str]]:
    """Return the rows (-1 where there is none), and the hashes without a row."""
    hashes = hashes_of(photos)
    out = np.full((len(hashes), WIDTH), -1, np.float16)
    return out, features.read(space, hashes, out)


def key_of(store: Store, folder: str) -> str:
    """Return the key of the only file in a folder of ``SPACE``."""
    (key,) = (entry.key for entry in store.entries(f"spaces/{SPACE.id}/{folder}/"))
    return key


# -- spaces ----------------------------------------------------------------------------------------------------------

OTHERS: list[dict[str, Any]] = [
    {"backbone": "inception_v3"},
    {"weights_sha256": "cd" * 32},
    {"input": InputSpec(64, 65)},
    {"width": 7},
    {"layer": "layer-100"},
    {"view": "flip-1"},
    {"precision": "mixed_float16"},
    {"engine": "litert 2"},
    {"augmentation": 2},
    {"decoder": SPACE.decoder + 1},
]


@pytest.mark.parametrize("change", OTHERS, ids=lambda change: next(iter(change)))
def test_each_field_of_a_space_changes_its_id(change: dict[str, Any]) -> None:
    assert replace(SPACE, **change).id != SPACE.id


def test_the_fields_above_are_all_fields_of_a_space() -> None:
    assert {name for change in OTHERS for name in change} == set(vars(SPACE))


def test_a_space_comes_back_from_its_json() -> None:
    assert FeatureSpace.from_json(FLIPPED.to_json().encode()) == FLIPPED
    assert len(FLIPPED.id) == 32


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"{}", b'{"input": [64, 64, "squash"], "new": 1}', b"\xff"])
def test_a_damaged_description_leaves_its_space_out_until_rows_are_added(text: bytes) -> None:
    warnings: list[str] = []
    features = FeatureStore(MemoryStore(), warnings.append)
    add(features, [1])
    add(features, [1], FLIPPED)
    features.store.put(f"spaces/{SPACE.id}/space.json", text)
    assert list(features.spaces()) == [FLIPPED]
    assert "is not a feature space that this release supports" in warnings[0]
    assert f"{SPACE.id}/space.json" in warnings[0]
    add(features, [2])
    assert set(features.spaces()) == {SPACE, FLIPPED}


# -- rows ------------------------------------------------------------------------------------------------------------


def test_rows_come_back_exactly_in_any_order(store: Store) -> None:
    features = FeatureStore(store)
    add(features, range(40))
    add(features, range(40, 50))
    add(features, range(40), FLIPPED)
    assert_holds(FeatureStore(store), [*range(49, -1, -1), 3, 3])


def test_every_float16_comes_back_bit_for_bit() -> None:
    values = np.arange(65536).astype(np.uint16).view(np.float16)
    rows = values[np.isfinite(values)].reshape(-1, 8)
    space = replace(SPACE, width=8)
    features = FeatureStore(MemoryStore())
    features.add(space, hashes_of(range(len(rows))), rows)
    out = np.empty_like(rows)
    assert features.read(space, hashes_of(range(len(rows))), out) == []
    assert out.tobytes() == rows.tobytes()


def test_an_empty_store_knows_nothing(store: Store) -> None:
    features = FeatureStore(store)
    known = features.row_index(SPACE)
    assert len(known) == 0
    assert hashes_of([1])[0] not in known
    assert read(features, [1, 2])[1] == hashes_of([1, 2])
    assert list(features.spaces()) == []
    assert features.read(SPACE, [], np.zeros((0, WIDTH), np.float16)) == []


def test_known_photos_are_distinguished_from_others_with_similar_digits() -> None:
    features = FeatureStore(MemoryStore())
    odd = ["00" * 32, "ff" * 32, "12" + "00" * 31, "00" * 31 + "12", "12" * 31 + "00"]
    features.add(SPACE, odd, rows_of(range(5)))
    known = features.row_index(SPACE)
    assert len(known) == 5
    assert all(sha256 in known for sha256 in odd)
    for stranger in ("13" + "00" * 31, "12" * 32, "ff" * 31 + "fe", "00" * 31 + "01"):
        assert stranger not in known
    out = np.zeros((5, WIDTH), np.float16)
    assert features.read(SPACE, odd, out) == []
    np.testing.assert_array_equal(out, rows_of(range(5)))


def test_a_photo_without_a_row_is_named_and_the_others_are_filled() -> None:
    features = FeatureStore(MemoryStore())
    add(features, range(5))
    add(features, range(10, 15))
    rows, missing = read(features, [4, 7, 11, 99])
    assert missing == hashes_of([7, 99])
    np.testing.assert_array_equal(rows[[0, 2]], rows_of([4, 11]))
    assert (rows[[1, 3]] == -1).all()


def test_the_same_part_written_twice_is_one_part(store: Store) -> None:
    features = FeatureStore(store)
    assert add(features, [1, 2, 3]) == add(features, [3, 1, 2])
    assert len(list(store.entries(f"spaces/{SPACE.id}/"))) == 3
    assert len(features.row_index(SPACE)) == 3


def test_a_photo_added_twice_is_stored_once() -> None:
    features = FeatureStore(MemoryStore())
    assert add(features, [1, 2, 1, 1]) == add(features, [1, 2])
    assert_holds(features, [1, 2])


def test_the_layout_is_the_documented_one() -> None:
    store = MemoryStore()
    add(FeatureStore(store), [1, 2, 3])
    rows = pa.ipc.open_file(store.get(key_of(store, "rows")).data).read_all()
    keys = pa.ipc.open_file(store.get(key_of(store, "keys")).data).read_all()
    assert rows.schema.names == ["sha256", "row"]
    assert rows.schema.field("row").type == pa.list_(pa.float16(), WIDTH)
    assert [digest.hex() for digest in keys.column("sha256").to_pylist()] == sorted(hashes_of([1, 2, 3]))
    assert FeatureSpace.from_json(store.get(f"spaces/{SPACE.id}/space.json").data) == SPACE


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_a_row_beyond_float16_is_refused_with_its_photo_and_nothing_is_written(value: float) -> None:
    features = FeatureStore(MemoryStore())
    rows = rows_of(range(5)).copy()
    rows[3, 2] = value
    with pytest.raises(InputError, match=hashes_of([3])[0]):
        features.add(SPACE, hashes_of(range(5)), rows)
    assert list(features.store.entries()) == []


@pytest.mark.parametrize(
    ("hashes", "rows"),
    [
        (hashes_of([1, 2]), rows_of([1])),
        (hashes_of([1]), rows_of([1])[:, :5]),
        (hashes_of([1]), rows_of([1]).astype(np.float32)),
        (["", hashes_of([1])[0]], rows_of([1, 2])),
        (["ab" * 31, "ab" * 33], rows_of([1, 2])),
        (["zz" * 32], rows_of([1])),
    ],
)
def test_rows_that_do_not_fit_their_photos_or_space_are_never_written(hashes: list[str], rows: Any) -> None:
    features = FeatureStore(MemoryStore())
    with pytest.raises(ValueError):
        features.add(SPACE, hashes, rows)
    assert list(features.store.entries()) == []


def test_only_parts_that_are_needed_are_fetched() -> None:
    got: list[str] = []
    features = FeatureStore(WatchedStore(got.append))
    names = [add(features, range(start, start + 10)) for start in (0, 10, 20)]
    assert_holds(features, range(10, 20))
    assert [key for key in got if "/rows/" in key] == [f"spaces/{SPACE.id}/rows/{names[1]}.arrow"]


def test_rows_are_written_to_a_mapped_file_without_all_parts_in_memory(tmp_path: Path) -> None:
    wide = replace(SPACE, width=100_000)
    features = FeatureStore(FolderStore(tmp_path / "features"))
    for photo in range(60):
        features.add(wide, hashes_of([photo]), np.full((1, wide.width), photo, np.float16))
    out = np.lib.format.open_memmap(tmp_path / "rows.npy", "w+", np.float16, (60, wide.width))
    tracemalloc.start()
    try:
        assert features.read(wide, hashes_of(range(60)), out) == []
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    np.testing.assert_array_equal(out[:, -1], np.arange(60))
    assert peak < 20 * 2 * wide.width  # of 60 parts


# -- damage ----------------------------------------------------------------------------------------------------------


def test_no_flipped_bit_gives_a_wrong_row() -> None:
    store = MemoryStore()
    add(FeatureStore(store), range(6))
    for folder in ("rows", "keys"):
        key = key_of(store, folder)
        data = store.get(key).data
        for index in range(0, len(data), 3):
            damaged = bytearray(data)
            damaged[index] ^= 1 << index % 8
            store.put(key, bytes(damaged))
            warnings: list[str] = []
            rows, missing = read(FeatureStore(store, warnings.append), range(6))
            assert missing == hashes_of(range(6))
            assert (rows == -1).all()
            assert len(warnings) == 1
            assert warnings[0].startswith(f"memory://store/{key}: damaged file ignored")
        store.put(key, data)
    assert_holds(FeatureStore(store), range(6))


@pytest.mark.parametrize("folder", ["rows", "keys"])
@pytest.mark.parametrize("content", [b"", b"ARROW1\0\0", b"<html>", None])
def test_a_truncated_or_foreign_file_is_no_part(folder: str, content: bytes | None) -> None:
    store = MemoryStore()
    features = FeatureStore(store, lambda text: None)
    add(features, range(6))
    add(features, range(6, 9))
    key = next(entry.key for entry in store.entries(f"spaces/{SPACE.id}/{folder}/"))
    store.put(key, store.get(key).data[:-10] if content is None else content)
    missing = read(features, range(9))[1]
    assert missing in (hashes_of(range(6)), hashes_of(range(6, 9)))
    assert not any(sha256 in features.row_index(SPACE) for sha256 in missing)


def test_a_file_that_bears_its_own_digest_but_no_rows_of_this_width_is_damaged() -> None:
    warnings: list[str] = []
    features = FeatureStore(MemoryStore(), warnings.append)
    narrow = replace(SPACE, width=5)
    name = features.add(narrow, hashes_of([1]), rows_of([1])[:, :5])
    for folder in ("rows", "keys"):
        data = features.store.get(f"spaces/{narrow.id}/{folder}/{name}.arrow").data
        features.store.put(f"spaces/{SPACE.id}/{folder}/{name}.arrow", data)
    assert read(features, [1])[1] == hashes_of([1])
    assert len(warnings) == 1


def test_writing_the_same_rows_again_repairs_a_damaged_part() -> None:
    store = MemoryStore()
    for folder in ("rows", "keys"):
        features = FeatureStore(store, lambda text: None)
        add(features, range(6))
        store.put(key_of(store, folder), b"damaged")
        assert read(features, range(6))[1] == hashes_of(range(6))
        add(features, range(6))
        assert_holds(features, range(6))
        assert_holds(FeatureStore(store), range(6))


def test_rows_of_a_damaged_part_are_taken_from_another_that_has_them() -> None:
    store = MemoryStore()
    warnings: list[str] = []
    for damaged in (0, 1):
        names = [add(FeatureStore(store), range(6)), add(FeatureStore(store), range(3, 9))]
        store.put(f"spaces/{SPACE.id}/rows/{names[damaged]}.arrow", b"damaged")
        rows, missing = read(FeatureStore(store, warnings.append), range(9))
        assert missing == hashes_of([range(3), range(6, 9)][damaged])
        np.testing.assert_array_equal(rows[3:6], rows_of(range(3, 6)))
    assert len(warnings) == 2


def test_foreign_files_are_no_parts() -> None:
    store = MemoryStore()
    features = FeatureStore(store)
    add(features, [1])
    for name in (".DS_Store", "notes.arrow", "000000-abc.arrow", f"000000-{'a' * 32}.arrow", "deeper/k.arrow"):
        store.put(f"spaces/{SPACE.id}/keys/{name}", b"?")
        store.put(f"photos/{name[:10]}", b"?")
    assert_holds(features, [1])
    assert len(features.photos()) == 0


# -- concurrent changes ----------------------------------------------------------------------------------------------


def test_rows_without_keys_are_missing_until_they_are_written_again() -> None:
    store = MemoryStore()
    add(FeatureStore(store), range(6))
    store.delete(key_of(store, "keys"))
    features = FeatureStore(store)
    assert len(features.row_index(SPACE)) == 0
    assert read(features, [1])[1] == hashes_of([1])
    add(features, range(6))
    assert_holds(features, range(6))


def test_keys_without_rows_are_ignored_after_reading_the_rows() -> None:
    store = MemoryStore()
    features = FeatureStore(store)
    add(features, range(6))
    store.delete(key_of(store, "rows"))
    assert len(features.row_index(SPACE)) == 6
    assert read(features, range(6))[1] == hashes_of(range(6))
    assert len(features.row_index(SPACE)) == 0  # so that the job makes them again
    add(features, range(6))
    assert_holds(features, range(6))


@pytest.mark.parametrize("when", ["/keys/", "/rows/"])
def test_a_reader_finds_rows_that_are_merged_while_it_reads(when: str) -> None:
    merged = 0
    one_at_a_time = threading.Lock()

    def merge(key: str) -> None:
        nonlocal merged
        if when not in key or merged == 3 or not one_at_a_time.acquire(blocking=False):
            return
        merged += 1  # thrice: what a reader just found may be merged again
        add(features, [100 + merged])
        compact(features.row_parts(SPACE))
        one_at_a_time.release()

    watched = WatchedStore(lambda key: None)
    features = FeatureStore(watched)
    for start in range(0, 40, 10):
        add(features, range(start, start + 10))
    watched.before_get = merge
    assert_holds(features, range(40))
    assert merged == 3


def test_a_missing_bucket_is_not_taken_for_missing_rows(bucket: Any) -> None:
    features = FeatureStore(S3Store("no-such-bucket", "features"))
    for work in (lambda: features.row_index(SPACE), features.photos, lambda: list(features.spaces())):
        with pytest.raises(MissingStoreError):
            work()


def test_a_missing_pyarrow_error_names_the_extra_to_install() -> None:
    code = "import sys; sys.modules['pyarrow'] = None; import train_job.store.feature_store"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert f"{MissingExtraError.__name__}: {MissingExtraError('pyarrow', 'train')}" in done.stderr
