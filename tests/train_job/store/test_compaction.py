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
from train_job.store.compaction import compact, delete_leftovers, delete_space, prune, small_parts, usage
from train_job.store.feature_parts import PartStore
from train_job.store.feature_store import FeatureStore
from train_job.store.photo_index import PhotoRecord
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
    """Every object."""
    return {entry.key: store.get(entry.key).data for entry in store.entries()}


def crashes(work: Callable[[Store], object], make: Callable[[], MemoryStore], after: bool) -> Iterator[MemoryStore]:
    """What ``work`` leaves that dies at its first store operation, at its second, and so on until it lives."""
    for step in range(1, 1000):
        store = make()
        try:
            work(MortalStore(store, step, after))
        except CrashError:
            yield store
        else:
            assert step > 3, "the work should have died a few times"
            return


# -- compaction ------------------------------------------------------------------------------------------------------


def test_small_parts_become_one_with_the_same_rows() -> None:
    features = with_parts(range(10), range(10, 12), range(5, 20), range(30, 31))
    assert small_parts(features.shelf(SPACE)) == 4
    done: list[None] = []
    assert compact(features.shelf(SPACE), lambda: done.append(None)) == 3
    assert len(done) == 4
    assert_holds(features, [*range(20), 30])
    assert (len(features.keys(SPACE)), usage(features, SPACE).parts) == (21, 1)
    assert len(contents(features.store)) == 3


def test_rows_are_read_from_the_merged_part_where_an_older_one_has_them_too() -> None:
    got: list[str] = []
    features = FeatureStore(WatchedStore(got.append))
    for photos in (range(5), range(5, 10)):
        add(features, photos)
    compact(features.shelf(SPACE))
    add(features, range(5))  # by a job that began before
    got.clear()
    assert_holds(features, range(10))
    assert [key for key in got if "/rows/" in key] == [
        f"spaces/{SPACE.id}/rows/{features.shelf(SPACE).names()[1]}.arrow"
    ]


def test_merged_parts_are_left_alone() -> None:
    features = with_parts(range(10), range(10, 20))
    compact(features.shelf(SPACE))
    before = contents(features.store)
    assert compact(features.shelf(SPACE)) == 0
    assert contents(features.store) == before


def test_parts_are_merged_up_to_a_size_and_large_ones_not_read() -> None:
    features = with_parts(range(1000), *(range(start, start + 100) for start in range(1000, 2000, 100)))
    shelf = features.shelf(SPACE)
    large = max(shelf.sizes().values())
    shelf = replace(shelf, size=large)
    compact(shelf)
    assert max(shelf.sizes().values()) <= large
    assert 2 <= len(shelf.sizes()) <= 4
    assert sorted(name[:6] for name in shelf.names())[:2] == ["000000", "000001"]
    assert_holds(features, range(2000))


def test_each_space_and_the_photos_are_merged_for_themselves() -> None:
    features = with_parts(range(5), range(5, 10))
    add(features, range(3), FLIPPED)
    compact(features.shelf(SPACE))
    assert_holds(features, range(10))
    assert_holds(features, range(3), FLIPPED)
    assert len(features.keys(FLIPPED)) == 3


def test_a_damaged_part_is_reported_and_neither_merged_nor_deleted() -> None:
    warnings: list[str] = []
    features = FeatureStore(MemoryStore(), warnings.append)
    names = [add(features, range(start, start + 5)) for start in (0, 5, 10)]
    features.store.put(f"spaces/{SPACE.id}/rows/{names[1]}.arrow", b"damaged")
    assert compact(features.shelf(SPACE)) == 1
    assert len(warnings) == 1
    assert names[1] in features.shelf(SPACE).names()
    assert_holds(features, [*range(5), *range(10, 15)])


def test_keys_that_lost_their_rows_are_tidied_up() -> None:
    features = with_parts(range(5), range(5, 10))
    add(features, [20])
    lonely = features.shelf(SPACE).names()[0]
    features.store.delete(f"spaces/{SPACE.id}/rows/{lonely}.arrow")
    compact(features.shelf(SPACE))
    assert lonely not in features.shelf(SPACE).names()
    assert set(features.shelf(SPACE).names()) == set(features.shelf(SPACE).sizes())


@BOTH_WAYS
def test_a_compaction_may_die_at_any_step_and_the_next_leaves_no_trace_of_it(after: bool) -> None:
    def make() -> MemoryStore:
        store = with_parts(range(5), range(3, 10), range(20, 22)).store
        assert isinstance(store, MemoryStore)
        return store

    for store in crashes(lambda store: compact(FeatureStore(store).shelf(SPACE)), make, after):
        features = FeatureStore(store)
        assert_holds(features, [*range(10), 20, 21])
        add(features, [30])
        compact(features.shelf(SPACE))
        assert_holds(FeatureStore(store), [*range(10), 20, 21, 30])
        complete = set(features.shelf(SPACE).names())
        leftover = set(features.shelf(SPACE).sizes()) - complete
        assert len(complete) == 1
        assert len(leftover) <= 1  # rows whose keys were never written
        delete_leftovers(features)
        assert len(contents(store)) == 3


@BOTH_WAYS
def test_adding_rows_may_die_at_any_step_and_may_then_be_repeated(after: bool) -> None:
    for store in crashes(lambda store: add(FeatureStore(store), range(5, 15)), MemoryStore, after):
        features = FeatureStore(store)
        known = features.keys(SPACE)
        out = np.full((10, WIDTH), -1, np.float16)
        missing = features.read(SPACE, hashes_of(range(5, 15)), out)
        assert missing == [one for one in hashes_of(range(5, 15)) if one not in known]
        assert len(missing) in (0, 10)
        add(features, range(5, 15))
        assert_holds(FeatureStore(store), range(5, 15))
        assert len(contents(store)) == 3


class PausingStore(MortalStore):
    """Does not die at its ``steps``-th operation, but lets others work just before it."""

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
        worked.append(compact(features.shelf(SPACE)))
        add(features, range(10, 12))
        worked.append(compact(features.shelf(SPACE)))

    compact(FeatureStore(PausingStore(features.store, step, others)).shelf(SPACE))
    assert worked
    assert_holds(FeatureStore(features.store), [*range(8), 10, 11])


@pytest.fixture
def _eager_threads() -> Iterator[None]:
    """Threads take turns after every few instructions, so that a race is lost soon."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("_eager_threads")
@pytest.mark.parametrize("kind", ["folder", "memory"])
def test_whoever_writes_merges_and_reads_at_once_finds_all_rows_that_were_written_before(
    kind: str, tmp_path: Path
) -> None:
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
            compact(FeatureStore(store).shelf(SPACE))
            compact(FeatureStore(store).photo_shelf)

    def check(_: int) -> None:
        while writing:
            photos = list(written)
            assert_holds(FeatureStore(store, pytest.fail), photos)
            found = FeatureStore(store).photos().lookup(*asked_for(photos))
            assert found == [record(photo) for photo in photos]

    with ThreadPoolExecutor(6) as pool:
        for done in [pool.submit(work, number) for work in (write, merge, check) for number in (1, 2)]:
            done.result()
    assert_holds(FeatureStore(store), written)
    compact(FeatureStore(store).shelf(SPACE))
    assert_holds(FeatureStore(store), [*written, *range(7)])
    assert len(written) == 2 * 12 * 8


# -- pruning ---------------------------------------------------------------------------------------------------------


def record(photo: int, uri: str = "", stamp: str = "stamp") -> PhotoRecord:
    """A good photo."""
    return PhotoRecord(uri or f"s3://b/{photo}.jpg", stamp, hashes_of([photo])[0], DECODER_VERSION)


def asked_for(photos: list[int]) -> tuple[list[str], list[str]]:
    """Their URIs and stamps."""
    return [record(photo).uri for photo in photos], [record(photo).stamp for photo in photos]


class Archive:
    """Photos in a folder, and a feature store with their rows in two spaces."""

    def __init__(self, root: Path, photos: range) -> None:
        self.images = FolderStore(root)
        self.features = FeatureStore(MemoryStore(), silent)
        for photo in photos:
            self.images.put(f"{photo}.jpg", b"%d" % photo)
        self.learn()

    @property
    def location(self) -> str:
        """Where the photos are."""
        return self.images.uri

    def learn(self) -> None:
        """What a job does: rows and records of all photos, in several parts."""
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


def test_rows_and_records_of_removed_photos_leave_in_all_spaces(archive: Archive) -> None:
    for photo in (0, 3, 11):
        archive.images.delete(f"{photo}.jpg")
    done = prune(archive.features, [archive.location])
    assert (done.photos, done.lines, done.rows) == (12, 3, {SPACE: 3, FLIPPED: 3})
    for space in (SPACE, FLIPPED):
        known = archive.features.keys(space)
        assert [one in known for one in hashes_of(range(12))] == [photo not in (0, 3, 11) for photo in range(12)]
        assert_holds(archive.features, [photo for photo in range(12) if photo not in (0, 3, 11)], space)
    assert len(archive.features.photos()) == 9
    gone = bytes.fromhex(hashes_of([3])[0])
    assert not any(gone in data for data in contents(archive.features.store).values())


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
    archive.learn()
    archive.images.delete("3.jpg")
    assert prune(archive.features, [archive.location]).lines == 1
    assert_holds(archive.features, range(12))


def test_the_old_content_of_a_changed_photo_leaves_once_the_new_is_known(archive: Archive) -> None:
    archive.images.put("3.jpg", b"33")
    assert prune(archive.features, [archive.location]).lines == 0
    archive.learn()
    assert prune(archive.features, [archive.location]).lines == 1
    known = archive.features.keys(SPACE)
    assert [one in known for one in hashes_of([3, 33])] == [False, True]


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
    assert hashes_of([60])[0] not in archive.features.keys(SPACE)
    assert prune(archive.features, [elsewhere.uri]).lines == 12
    assert_holds(archive.features, [50])


def test_rejects_leave_with_their_photos(archive: Archive) -> None:
    stamp = archive.images.head("0.jpg").stamp
    bad = PhotoRecord(join_uri(archive.location, "0.jpg"), stamp, "", DECODER_VERSION, "truncated", "cut")
    gone = PhotoRecord(join_uri(archive.location, "gone.jpg"), "x", "", DECODER_VERSION, "truncated", "cut")
    features = archive.features = FeatureStore(MemoryStore())
    features.add_photos([bad, gone])
    assert prune(features, [archive.location]).lines == 1
    assert features.photos().lookup([bad.uri, gone.uri], [bad.stamp, gone.stamp]) == [bad, None]


def test_a_location_that_no_job_was_given_drops_nothing(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    before = contents(archive.features.store)
    monkeypatch.chdir(archive.images.root.parent)
    with pytest.raises(InputError, match="none of the 12 photos that are known is there; name the images as"):
        prune(archive.features, ["photos"])
    assert contents(archive.features.store) == before


@pytest.mark.parametrize("second", ["empty", "missing"])
def test_a_location_without_files_drops_nothing(archive: Archive, tmp_path: Path, second: str) -> None:
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
def test_pruning_may_die_at_any_step_and_what_stays_stays(after: bool, tmp_path: Path) -> None:
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
        assert len(FeatureStore(store).keys(SPACE)) == len(stay)


def records(archive: Archive) -> list[PhotoRecord]:
    """The records of the photos that are there."""
    entries = list(archive.images.entries())
    return [record(int(one.key[:-4]), join_uri(archive.location, one.key), one.stamp) for one in entries]


def listed(archive: Archive) -> tuple[list[str], list[str]]:
    """Their URIs and stamps."""
    return [one.uri for one in records(archive)], [one.stamp for one in records(archive)]


@pytest.mark.parametrize("step", range(1, 11))
def test_a_compaction_may_pause_at_any_step_while_a_pruning_undoes_it(step: int, archive: Archive) -> None:
    features = archive.features = FeatureStore(MemoryStore())
    archive.learn()
    archive.images.delete("0.jpg")
    prune(features, [archive.location])
    compact(features.shelf(SPACE))  # one part of what stays
    add(features, [0])
    pruned: list[int] = []

    def others() -> None:
        pruned.append(prune(features, [archive.location]).rows[SPACE])

    compact(FeatureStore(PausingStore(features.store, step, others)).shelf(SPACE))
    assert pruned[0] in (1, 2)  # the merged part has the photo too
    assert_holds(FeatureStore(features.store), range(1, 12))


@pytest.mark.usefixtures("_eager_threads")
def test_no_row_of_a_photo_that_stays_is_lost_while_others_prune_and_merge(archive: Archive) -> None:
    store = archive.features.store
    for photo in (0, 1, 5, 7):
        archive.images.delete(f"{photo}.jpg")
    stay = [2, 3, 4, 6, 8, 9, 10, 11]

    def work(number: int) -> None:
        for batch in range(10):
            if number < 2:
                prune(FeatureStore(store), [archive.location])
            elif number < 4:
                compact(FeatureStore(store).shelf(SPACE))
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


def test_a_space_deleted_from_a_folder_is_no_space_any_more(tmp_path: Path) -> None:
    features = FeatureStore(FolderStore(tmp_path))
    add(features, range(3))
    delete_space(features, SPACE.id)
    assert list(features.spaces()) == []
    add(features, range(3))
    assert_holds(features, range(3))


def test_only_rows_without_keys_are_leftovers() -> None:
    features = with_parts(range(5), range(5, 10))
    shelf: PartStore = features.shelf(SPACE)
    unfinished = shelf.names()[0]
    features.store.delete(f"spaces/{SPACE.id}/keys/{unfinished}.arrow")
    kept = [photo for photo in range(10) if hashes_of([photo])[0] in features.keys(SPACE)]
    assert len(kept) == 5
    assert delete_leftovers(features, dry_run=True) == 1
    assert unfinished in shelf.sizes()
    assert delete_leftovers(features) == 1
    assert unfinished not in shelf.sizes()
    assert delete_leftovers(features) == 0
    assert_holds(features, kept)


def test_usage_counts_photos_once() -> None:
    features = with_parts(range(10), range(5, 15))
    held = usage(features, SPACE)
    rows = [len(data) for key, data in contents(features.store).items() if "/rows/" in key]
    assert (held.space, held.rows, held.parts, held.bytes) == (SPACE, 15, 2, sum(rows))
    assert rows_of([1]).nbytes == 2 * WIDTH
