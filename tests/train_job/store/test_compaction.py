import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.train_job.known_rows import (
    FLIPPED,
    SPACE,
    WIDTH,
    WatchedStore,
    add,
    assert_holds,
    hashes_of,
    rows_of,
    silent,
)
from tests.transferlite.faults import CrashError, MortalStore
from train_job.store.compaction import compact, count_small_parts, space_usage
from train_job.store.feature_parts import PartStore
from train_job.store.feature_store import FeatureStore
from train_job.store.photo_index import PhotoRecord
from train_job.store.prune_deleted import delete_leftovers, delete_space, prune
from transferlite.errors import InputError, NotFoundError
from transferlite.images.input_spec import DECODER_VERSION
from transferlite.storage.folder import FolderStore
from transferlite.storage.store import MemoryStore, Store, join_uri

BOTH_WAYS = pytest.mark.parametrize("after", [False, True], ids=["before", "after"])


def with_parts(*parts: range) -> FeatureStore:
    """A feature store in memory."""
    features = FeatureStore(MemoryStore())
    for photos in parts:
        add(features, photos)
    return features


def contents(store: Store) -> dict[str, bytes]:
    """Return every object's content by key."""
    return {entry.key: store.get(entry.key).data for entry in store.entries()}


def crashes(work: Callable[[Store], object], make: Callable[[], MemoryStore], after: bool) -> Iterator[MemoryStore]:
    """Yield the store as ``work`` leaves it when killed at its first operation, its second, and so on."""
    for step in range(1, 1000):
        store = make()
        try:
            work(MortalStore(store, step, after))
        except CrashError:
            yield store
        else:
            assert step > 3, "the work should have been killed a few times"
            return


# -- compaction ------------------------------------------------------------------------------------------------------


def test_small_parts_become_one_with_the_same_rows() -> None:
    features = with_parts(range(10), range(10, 12), range(5, 20), range(30, 31))
    assert count_small_parts(features.row_parts(SPACE)) == 4
    done: list[None] = []
    assert compact(features.row_parts(SPACE), lambda: done.append(None)) == 3
    assert len(done) == 4
    assert_holds(features, [*range(20), 30])
    assert (len(features.row_index(SPACE)), space_usage(features, SPACE).parts) == (21, 1)
    assert len(contents(features.store)) == 3


def test_rows_are_read_from_the_merged_part_where_an_older_one_has_them_too() -> None:
    got: list[str] = []
    features = FeatureStore(WatchedStore(got.append))
    for photos in (range(5), range(5, 10)):
        add(features, photos)
    compact(features.row_parts(SPACE))
    add(features, range(5))  # by a job that began before
    got.clear()
    assert_holds(features, range(10))
    assert [key for key in got if "/rows/" in key] == [
        f"spaces/{SPACE.id}/rows/{features.row_parts(SPACE).names()[1]}.arrow"
    ]


def test_merged_parts_are_left_alone() -> None:
    features = with_parts(range(10), range(10, 20))
    compact(features.row_parts(SPACE))
    before = contents(features.store)
    assert compact(features.row_parts(SPACE)) == 0
    assert contents(features.store) == before


def test_parts_are_merged_up_to_a_size_and_large_ones_not_read() -> None:
    features = with_parts(range(1000), *(range(start, start + 100) for start in range(1000, 2000, 100)))
    parts = features.row_parts(SPACE)
    large = max(parts.sizes().values())
    parts = replace(parts, target_bytes=large)
    compact(parts)
    assert max(parts.sizes().values()) <= large
    assert 2 <= len(parts.sizes()) <= 4
    assert sorted(name[:6] for name in parts.names())[:2] == ["000000", "000001"]
    assert_holds(features, range(2000))


def test_each_space_and_the_photos_are_merged_for_themselves() -> None:
    features = with_parts(range(5), range(5, 10))
    add(features, range(3), FLIPPED)
    compact(features.row_parts(SPACE))
    assert_holds(features, range(10))
    assert_holds(features, range(3), FLIPPED)
    assert len(features.row_index(FLIPPED)) == 3


def test_a_damaged_part_is_reported_and_neither_merged_nor_deleted() -> None:
    warnings: list[str] = []
    features = FeatureStore(MemoryStore(), warnings.append)
    names = [add(features, range(start, start + 5)) for start in (0, 5, 10)]
    features.store.put(f"spaces/{SPACE.id}/rows/{names[1]}.arrow", b"damaged")
    assert compact(features.row_parts(SPACE)) == 1
    assert len(warnings) == 1
    assert names[1] in features.row_parts(SPACE).names()
    assert_holds(features, [*range(5), *range(10, 15)])


def test_keys_without_rows_are_deleted() -> None:
    features = with_parts(range(5), range(5, 10))
    add(features, [20])
    lonely = features.row_parts(SPACE).names()[0]
    features.store.delete(f"spaces/{SPACE.id}/rows/{lonely}.arrow")
    compact(features.row_parts(SPACE))
    assert lonely not in features.row_parts(SPACE).names()
    assert set(features.row_parts(SPACE).names()) == set(features.row_parts(SPACE).sizes())


@BOTH_WAYS
def test_a_compaction_may_be_killed_at_any_step_and_the_next_completes_it(after: bool) -> None:
    def make() -> MemoryStore:
        store = with_parts(range(5), range(3, 10), range(20, 22)).store
        assert isinstance(store, MemoryStore)
        return store

    for store in crashes(lambda store: compact(FeatureStore(store).row_parts(SPACE)), make, after):
        features = FeatureStore(store)
        assert_holds(features, [*range(10), 20, 21])
        add(features, [30])
        compact(features.row_parts(SPACE))
        assert_holds(FeatureStore(store), [*range(10), 20, 21, 30])
        complete = set(features.row_parts(SPACE).names())
        leftover = set(features.row_parts(SPACE).sizes()) - complete
        assert len(complete) == 1
        assert len(leftover) <= 1  # rows whose keys were never written
        delete_leftovers(features)
        assert len(contents(store)) == 3


@BOTH_WAYS
def test_adding_rows_may_be_killed_at_any_step_and_then_be_repeated(after: bool) -> None:
    for store in crashes(lambda store: add(FeatureStore(store), range(5, 15)), MemoryStore, after):
        features = FeatureStore(store)
        known = features.row_index(SPACE)
        out = np.full((10, WIDTH), -1, np.float16)
        missing = features.read(SPACE, hashes_of(range(5, 15)), out)
        assert missing == [sha256 for sha256 in hashes_of(range(5, 15)) if sha256 not in known]
        assert len(missing) in (0, 10)
        add(features, range(5, 15))
        assert_holds(FeatureStore(store), range(5, 15))
        assert len(contents(store)) == 3


class PausingStore(MortalStore):
    """Runs ``others`` just before its ``steps``-th operation, instead of failing there."""

    def __init__(self, inner: Store, steps: int, others: Callable[[], object]) -> None:
        super().__init__(inner, steps, after=False)
        self._others = others

    @contextmanager
    def _step(self) -> Iterator[None]:
        self._left -= 1
        if self._left == 0:
            self._others()
        yield


@pytest.mark.parametrize("step", range(1, 14))
def test_a_compaction_may_pause_at_any_step_while_others_write_and_merge(step: int) -> None:
    features = with_parts(range(5), range(3, 8), range(10, 12))
    worked: list[int] = []

    def others() -> None:
        add(features, range(3, 8))
        worked.append(compact(features.row_parts(SPACE)))
        add(features, range(10, 12))
        worked.append(compact(features.row_parts(SPACE)))

    compact(FeatureStore(PausingStore(features.store, step, others)).row_parts(SPACE))
    assert worked
    assert_holds(FeatureStore(features.store), [*range(8), 10, 11])


@pytest.fixture
def _eager_threads() -> Iterator[None]:
    """Switch threads every few instructions, so that races show up."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("_eager_threads")
@pytest.mark.parametrize("kind", ["folder", "memory"])
def test_concurrent_writers_mergers_and_readers_find_all_written_rows(kind: str, tmp_path: Path) -> None:
    store: Store = FolderStore(tmp_path) if kind == "folder" else MemoryStore()
    written: list[int] = []
    writing = 2

    def write(number: int) -> None:
        nonlocal writing
        features = FeatureStore(store)
        try:
            for batch in range(12):
                photos = range(1000 * number + 5 * batch, 1000 * number + 5 * batch + 8)  # some of them again
                add(features, photos)
                add(features, range(7))  # the same part again and again, as it is being merged
                features.add_photos([record(photo) for photo in photos])
                written.extend(photos)
        finally:
            writing -= 1

    def merge(_: int) -> None:
        while writing:
            compact(FeatureStore(store).row_parts(SPACE))
            compact(FeatureStore(store).photo_parts)

    def check(_: int) -> None:
        while writing:
            photos = list(written)
            assert_holds(FeatureStore(store, pytest.fail), photos)
            found = FeatureStore(store).photos().lookup(*uris_and_stamps(photos))
            assert found == [record(photo) for photo in photos]

    with ThreadPoolExecutor(6) as pool:
        for done in [pool.submit(work, number) for work in (write, merge, check) for number in (1, 2)]:
            done.result()
    assert_holds(FeatureStore(store), written)
    compact(FeatureStore(store).row_parts(SPACE))
    assert_holds(FeatureStore(store), [*written, *range(7)])
    assert len(written) == 2 * 12 * 8


# -- pruning ---------------------------------------------------------------------------------------------------------


def record(photo: int, uri: str = "", stamp: str = "stamp") -> PhotoRecord:
    """Make the record of a usable photo."""
    return PhotoRecord(uri or f"s3://b/{photo}.jpg", stamp, hashes_of([photo])[0], DECODER_VERSION)


def uris_and_stamps(photos: list[int]) -> tuple[list[str], list[str]]:
    """Return the photos' URIs and stamps."""
    return [record(photo).uri for photo in photos], [record(photo).stamp for photo in photos]


class Archive:
    """Photos in a folder, and a feature store with their rows in two spaces."""

    def __init__(self, root: Path, photos: range) -> None:
        self.images = FolderStore(root)
        self.features = FeatureStore(MemoryStore(), silent)
        for photo in photos:
            self.images.put(f"{photo}.jpg", b"%d" % photo)
        self.run_job()

    @property
    def location(self) -> str:
        """Location of the photos."""
        return self.images.uri

    def run_job(self) -> None:
        """Write rows and records of all photos in several parts, as a job does."""
        photos, records = [], []
        for entry in self.images.entries():
            photos.append(int(self.images.get(entry.key).data))
            records.append(record(photos[-1], join_uri(self.location, entry.key), entry.stamp))
        for start in range(0, len(photos), 4):
            add(self.features, photos[start : start + 4])
            self.features.add_photos(records[start : start + 4])
        add(self.features, photos, FLIPPED)


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return Archive(tmp_path / "photos", range(12))


def test_rows_and_records_of_removed_photos_are_pruned_in_all_spaces(archive: Archive) -> None:
    for photo in (0, 3, 11):
        archive.images.delete(f"{photo}.jpg")
    done = prune(archive.features, [archive.location])
    assert (done.photos, done.lines, done.rows) == (12, 3, {SPACE: 3, FLIPPED: 3})
    for space in (SPACE, FLIPPED):
        known = archive.features.row_index(space)
        assert [sha256 in known for sha256 in hashes_of(range(12))] == [photo not in (0, 3, 11) for photo in range(12)]
        assert_holds(archive.features, [photo for photo in range(12) if photo not in (0, 3, 11)], space)
    assert len(archive.features.photos()) == 9
    removed = bytes.fromhex(hashes_of([3])[0])
    assert not any(removed in data for data in contents(archive.features.store).values())


def test_a_dry_run_counts_the_same_and_changes_nothing(archive: Archive) -> None:
    archive.images.delete("3.jpg")
    before = contents(archive.features.store)
    would = prune(archive.features, [archive.location], dry_run=True)
    assert contents(archive.features.store) == before
    assert prune(archive.features, [archive.location]) == would
    assert would.lines == 1


def test_where_nothing_was_removed_nothing_is_written(archive: Archive) -> None:
    before = contents(archive.features.store)
    done = prune(archive.features, [archive.location])
    assert (done.lines, done.rows) == (0, {SPACE: 0, FLIPPED: 0})
    assert contents(archive.features.store) == before


def test_the_content_of_a_removed_photo_stays_while_a_copy_has_it(archive: Archive) -> None:
    archive.images.put("copy of 3.jpg", b"3")
    archive.run_job()
    archive.images.delete("3.jpg")
    assert prune(archive.features, [archive.location]).lines == 1
    assert_holds(archive.features, range(12))


def test_the_old_content_of_a_changed_photo_leaves_once_the_new_is_known(archive: Archive) -> None:
    archive.images.put("3.jpg", b"33")
    assert prune(archive.features, [archive.location]).lines == 0
    archive.run_job()
    assert prune(archive.features, [archive.location]).lines == 1
    known = archive.features.row_index(SPACE)
    assert [sha256 in known for sha256 in hashes_of([3, 33])] == [False, True]


def test_photos_below_any_of_several_roots_stay(archive: Archive, tmp_path: Path) -> None:
    elsewhere = FolderStore(tmp_path / "elsewhere")
    elsewhere.put("a.jpg", b"50")
    (entry,) = elsewhere.entries()
    add(archive.features, [50, 60])
    archive.features.add_photos([
        record(50, join_uri(elsewhere.uri, "a.jpg"), entry.stamp),
        record(60, "s3://gone/60.jpg"),
    ])  # fmt: skip
    assert prune(archive.features, [archive.location, elsewhere.uri]).lines == 1
    assert_holds(archive.features, [*range(12), 50])
    assert hashes_of([60])[0] not in archive.features.row_index(SPACE)
    assert prune(archive.features, [elsewhere.uri]).lines == 12
    assert_holds(archive.features, [50])


def test_records_of_rejected_photos_are_pruned_with_their_photos(archive: Archive) -> None:
    stamp = archive.images.head("0.jpg").stamp
    bad = PhotoRecord(join_uri(archive.location, "0.jpg"), stamp, "", DECODER_VERSION, "truncated", "cut")
    gone = PhotoRecord(join_uri(archive.location, "gone.jpg"), "x", "", DECODER_VERSION, "truncated", "cut")
    features = archive.features = FeatureStore(MemoryStore())
    features.add_photos([bad, gone])
    assert prune(features, [archive.location]).lines == 1
    assert features.photos().lookup([bad.uri, gone.uri], [bad.stamp, gone.stamp]) == [bad, None]


def test_a_location_that_no_job_used_prunes_nothing(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    before = contents(archive.features.store)
    monkeypatch.chdir(archive.images.root.parent)
    with pytest.raises(InputError, match="none of the 12 known photos exists there; pass the --images"):
        prune(archive.features, ["photos"])
    assert contents(archive.features.store) == before


@pytest.mark.parametrize("second", ["empty", "missing"])
def test_a_location_without_files_prunes_nothing(archive: Archive, tmp_path: Path, second: str) -> None:
    (tmp_path / "empty").mkdir()
    before = contents(archive.features.store)
    with pytest.raises(NotFoundError, match=second):
        prune(archive.features, [archive.location, str(tmp_path / second)])
    assert contents(archive.features.store) == before


def test_where_no_photo_is_known_no_row_is_dropped(archive: Archive) -> None:
    features = with_parts(range(5))
    done = prune(features, [archive.location])
    assert (done.photos, done.lines, done.rows) == (0, 0, {})
    assert_holds(features, range(5))


@BOTH_WAYS
def test_pruning_may_be_killed_at_any_step_without_losing_kept_rows(after: bool, tmp_path: Path) -> None:
    archive = Archive(tmp_path / "photos", range(8))
    for photo in (0, 1, 5):
        archive.images.delete(f"{photo}.jpg")
    stay = [2, 3, 4, 6, 7]
    before = contents(archive.features.store)

    def make() -> MemoryStore:
        store = MemoryStore()
        for key, data in before.items():
            store.put(key, data)
        return store

    for store in crashes(lambda store: prune(FeatureStore(store), [archive.location]), make, after):
        for _ in range(2):
            for space in (SPACE, FLIPPED):
                assert_holds(FeatureStore(store), stay, space)
            assert FeatureStore(store).photos().lookup(*listed(archive)) == records(archive)
            prune(FeatureStore(store), [archive.location])
        assert len(FeatureStore(store).row_index(SPACE)) == len(stay)


def records(archive: Archive) -> list[PhotoRecord]:
    """Make the records of the existing photos."""
    entries = list(archive.images.entries())
    return [record(int(entry.key[:-4]), join_uri(archive.location, entry.key), entry.stamp) for entry in entries]


def listed(archive: Archive) -> tuple[list[str], list[str]]:
    """Return their URIs and stamps."""
    return [photo.uri for photo in records(archive)], [photo.stamp for photo in records(archive)]


@pytest.mark.parametrize("step", range(1, 11))
def test_a_compaction_may_pause_at_any_step_while_a_pruning_undoes_it(step: int, archive: Archive) -> None:
    features = archive.features = FeatureStore(MemoryStore())
    archive.run_job()
    archive.images.delete("0.jpg")
    prune(features, [archive.location])
    compact(features.row_parts(SPACE))  # one part of what stays
    add(features, [0])
    pruned: list[int] = []

    def others() -> None:
        pruned.append(prune(features, [archive.location]).rows[SPACE])

    compact(FeatureStore(PausingStore(features.store, step, others)).row_parts(SPACE))
    assert pruned[0] in (1, 2)  # the merged part has the photo too
    assert_holds(FeatureStore(features.store), range(1, 12))


@pytest.mark.usefixtures("_eager_threads")
def test_no_row_of_an_existing_photo_is_lost_while_others_prune_and_merge(archive: Archive) -> None:
    store = archive.features.store
    for photo in (0, 1, 5, 7):
        archive.images.delete(f"{photo}.jpg")
    stay = [2, 3, 4, 6, 8, 9, 10, 11]

    def work(number: int) -> None:
        for batch in range(10):
            if number < 2:
                prune(FeatureStore(store), [archive.location])
            elif number < 4:
                compact(FeatureStore(store).row_parts(SPACE))
            else:
                assert_holds(FeatureStore(store), stay)
                add(FeatureStore(store), [2, 3, 100 * number + batch])

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(6)))
    assert_holds(FeatureStore(store), stay)


# -- spaces and leftovers --------------------------------------------------------------------------------------------


def test_a_deleted_space_is_gone_and_the_others_are_not(archive: Archive) -> None:
    size = sum(len(data) for key, data in contents(archive.features.store).items() if FLIPPED.id in key)
    assert delete_space(archive.features, FLIPPED.id, dry_run=True) == size
    assert_holds(archive.features, range(12), FLIPPED)
    assert delete_space(archive.features, FLIPPED.id) == size
    assert list(archive.features.spaces()) == [SPACE]
    assert_holds(archive.features, range(12))
    with pytest.raises(NotFoundError, match=f"there is no space {FLIPPED.id}"):
        delete_space(archive.features, FLIPPED.id)


def test_a_space_deleted_from_a_folder_is_not_listed(tmp_path: Path) -> None:
    features = FeatureStore(FolderStore(tmp_path))
    add(features, range(3))
    delete_space(features, SPACE.id)
    assert list(features.spaces()) == []
    add(features, range(3))
    assert_holds(features, range(3))


def test_only_rows_without_keys_are_leftovers() -> None:
    features = with_parts(range(5), range(5, 10))
    parts: PartStore = features.row_parts(SPACE)
    unfinished = parts.names()[0]
    features.store.delete(f"spaces/{SPACE.id}/keys/{unfinished}.arrow")
    kept = [photo for photo in range(10) if hashes_of([photo])[0] in features.row_index(SPACE)]
    assert len(kept) == 5
    assert delete_leftovers(features, dry_run=True) == 1
    assert unfinished in parts.sizes()
    assert delete_leftovers(features) == 1
    assert unfinished not in parts.sizes()
    assert delete_leftovers(features) == 0
    assert_holds(features, kept)


def test_usage_counts_photos_once() -> None:
    features = with_parts(range(10), range(5, 15))
    held = space_usage(features, SPACE)
    rows = [len(data) for key, data in contents(features.store).items() if "/rows/" in key]
    assert (held.space, held.rows, held.parts, held.bytes) == (SPACE, 15, 2, sum(rows))
    assert rows_of([1]).nbytes == 2 * WIDTH
