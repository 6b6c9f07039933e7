import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import pytest

from tests.conftest import BUCKET
from tests.transferlite.conftest import S3_STORES, open_s3
from transferlite.errors import ConflictError, InputError, NotFoundError, TransferLiteError
from transferlite.storage.folder import FolderStore
from transferlite.storage.locations import open_store, read_uri, split_uri
from transferlite.storage.s3_boto3 import S3Store
from transferlite.storage.store import Blob, Entry, MemoryStore, Store, join_uri


@pytest.fixture(params=["folder", "memory"])
def own_store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """A store whose conditional writes are our own. S3's are the server's: see test_real_s3_server.py for them.

    moto looks at the condition first and writes afterwards: of threads that do so at once two may win.
    """
    return FolderStore(tmp_path / "store") if request.param == "folder" else MemoryStore()


@pytest.fixture(params=["folder", "memory", *S3_STORES])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    if request.param == "folder":
        return FolderStore(tmp_path / "store")
    if request.param == "memory":
        return MemoryStore()
    request.getfixturevalue("bucket")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    return open_s3(request.param, f"s3://{BUCKET}/some prefix/deeper")


# -- the contract of every store -------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [b"", b"\x00\xff", bytes(100_000)], ids=["empty", "binary", "long"])
def test_what_was_put_is_got(store: Store, data: bytes) -> None:
    etag = store.put("a/b.bin", data)
    assert store.get("a/b.bin").data == data
    assert store.get("a/b.bin").etag == etag


@pytest.mark.parametrize(("most", "expected"), [(0, b""), (3, b"012"), (10, b"0123456789"), (11, b"0123456789")])
def test_no_more_is_read_than_was_asked_for(store: Store, most: int, expected: bytes) -> None:
    etag = store.put("k", b"0123456789")
    assert store.get("k", most) == Blob(expected, etag)


def test_a_second_put_replaces_the_first(store: Store) -> None:
    first = store.put("k", b"first")
    second = store.put("k", b"second")
    assert store.get("k").data == b"second"
    assert first != second


def test_what_has_not_changed_is_not_read_again(store: Store) -> None:
    etag = store.put("k", b"first")
    assert store.get_changed("k", etag) is None
    assert store.get_changed("k", "another") == Blob(b"first", etag)
    second = store.put("k", b"second")
    assert store.get_changed("k", etag) == Blob(b"second", second)
    with pytest.raises(NotFoundError):
        store.get_changed("gone", etag)


def test_a_missing_key_is_not_found_and_named(store: Store) -> None:
    store.put("there", b"")
    with pytest.raises(NotFoundError, match="does not exist") as caught:
        store.get("not/there.jpg")
    assert caught.value.where == join_uri(store.uri, "not/there.jpg")


def test_if_absent_writes_once(store: Store) -> None:
    store.put("a/k", b"first", if_absent=True)
    with pytest.raises(ConflictError) as caught:
        store.put("a/k", b"second", if_absent=True)
    assert caught.value.retryable
    assert store.get("a/k").data == b"first"


def test_if_match_writes_over_what_was_read(store: Store) -> None:
    store.put("k", b"first")
    etag = store.put("k", b"second", if_match=store.get("k").etag)
    assert store.get("k").data == b"second"
    assert store.put("k", b"third", if_match=etag)


def test_if_match_does_not_write_over_what_another_wrote(store: Store) -> None:
    read = store.put("k", b"first")
    store.put("k", b"other")
    with pytest.raises(ConflictError, match="another writer"):
        store.put("k", b"mine", if_match=read)
    assert store.get("k").data == b"other"


def test_if_match_conflicts_where_the_object_is_gone(store: Store) -> None:
    etag = store.put("other", b"data")
    with pytest.raises(ConflictError):
        store.put("gone", b"mine", if_match=etag)
    assert [entry.key for entry in store.entries()] == ["other"]


@pytest.mark.parametrize("etag", ["", " ", "*", "another", "a\nb", "é"])
def test_if_match_of_no_object_s_etag_is_a_conflict(store: Store, etag: str) -> None:
    read = store.put("k", b"first")
    for key in ("k", "gone"):
        with pytest.raises(ConflictError, match=f"{key}: was changed by another writer"):
            store.put(key, b"mine", if_match=etag)
    assert [(entry.key, entry.etag) for entry in store.entries()] == [("k", read)]
    assert store.get_changed("k", etag) == Blob(b"first", read)


def test_what_was_deleted_is_gone_and_the_rest_is_not(store: Store) -> None:
    for key in ("a/k", "a/k2", "b"):
        store.put(key, b"data")
    store.delete("a/k")
    with pytest.raises(NotFoundError):
        store.get("a/k")
    assert [entry.key for entry in store.entries()] == ["a/k2", "b"]
    store.put("a/k", b"again", if_absent=True)
    assert store.get("a/k").data == b"again"


def test_deleting_what_does_not_exist_is_no_error(store: Store) -> None:
    store.delete("nothing/here")
    store.put("k", b"data")
    for key in ("other", "folder/other", "k/below"):
        store.delete(key)
    assert store.get("k").data == b"data"


def test_the_head_of_an_object_is_its_entry(store: Store) -> None:
    store.put("a/k", b"data")
    assert [store.head("a/k")] == list(store.entries())
    for missing in ("a", "a/other"):
        with pytest.raises(NotFoundError):
            store.head(f"{missing}/k2")


def test_a_stamp_changes_with_the_content(store: Store) -> None:
    store.put("k", b"data")
    first = store.head("k").stamp
    assert store.head("k").stamp == first
    store.put("k", b"date")
    second = store.head("k").stamp
    store.put("k", b"dates")
    assert len({first, second, store.head("k").stamp}) == 3


def test_entries_are_in_key_order_with_size_and_etag(store: Store) -> None:
    keys = ["b.txt", "a/z", "a/b/c", "a.txt", "a-b", "ä", "A"]
    etags = {key: store.put(key, key.encode() * 3) for key in keys}
    found = list(store.entries())
    assert found == [Entry(key, len(key.encode()) * 3, etags[key]) for key in sorted(keys)]


def test_entries_are_those_whose_key_begins_with_the_prefix(store: Store) -> None:
    for key in ("cat/1", "cat/deep/2", "cats/3", "ca", "dog/4"):
        store.put(key, b"")
    assert [entry.key for entry in store.entries("cat/")] == ["cat/1", "cat/deep/2"]
    assert [entry.key for entry in store.entries("cat")] == ["cat/1", "cat/deep/2", "cats/3"]
    assert [entry.key for entry in store.entries("cat/d")] == ["cat/deep/2"]
    assert not list(store.entries("bird/"))


def test_children_are_the_folders_directly_below(store: Store) -> None:
    for key in ("models/b/1", "models/a/deep/2", "models/file", "other/c/3", "top"):
        store.put(key, b"")
    assert list(store.children("models/")) == ["a", "b"]
    assert list(store.children()) == ["models", "other"]
    assert not list(store.children("bird/"))


def test_a_file_is_uploaded_and_downloaded_whole(store: Store, tmp_path: Path) -> None:
    content = bytes(range(256)) * 40_000  # 10 MB: S3 takes it in parts
    (tmp_path / "source").write_bytes(content)
    store.upload("deep/er/file", tmp_path / "source")
    store.download("deep/er/file", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == content
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["copy", "source"]


def test_a_download_replaces_the_file(store: Store, tmp_path: Path) -> None:
    (tmp_path / "copy").write_bytes(b"a longer old content")
    store.put("k", b"new")
    store.download("k", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == b"new"


def test_a_missing_object_cannot_be_downloaded_and_leaves_no_file(store: Store, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        store.download("missing", tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


AWKWARD = ["a b.jpg", "a+b.jpg", "100%.jpg", "%20.jpg", "été/猫.jpg", 'it\'s "so".jpg', "a&b=c?d#e.jpg", "-x", "a,b;c"]


def test_awkward_keys_name_their_own_objects(store: Store) -> None:
    for key in AWKWARD:
        store.put(key, key.encode())
        store.put(f"in a folder/{key}", b"")
    assert [store.get(key).data.decode() for key in AWKWARD] == AWKWARD
    assert [entry.key for entry in store.entries("in a folder/")] == sorted(f"in a folder/{key}" for key in AWKWARD)


def test_check_writable_writes_nothing(store: Store, tmp_path: Path) -> None:
    store.check_writable()
    assert not (tmp_path / "store").exists()
    store.put("k", b"data")
    store.check_writable()
    assert [entry.key for entry in store.entries()] == ["k"]


@pytest.fixture
def _eager_threads() -> Iterator[None]:
    """Threads take turns after every few instructions, so that a race is lost soon."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("_eager_threads")
def test_no_increment_is_lost_when_eight_threads_compare_and_swap(own_store: Store) -> None:
    each = 100
    padding = " " * 4096  # hashing this much lets other threads run
    own_store.put("counter.json", f"0{padding}".encode())

    def incremented() -> bool:
        blob = own_store.get("counter.json")
        try:
            own_store.put("counter.json", f"{int(blob.data) + 1}{padding}".encode(), if_match=blob.etag)
        except ConflictError:
            return False
        return True

    def increment(_: int) -> None:
        for _ in range(each):
            while not incremented():
                pass

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(increment, range(8)))
    assert int(own_store.get("counter.json").data) == 8 * each


def test_one_of_eight_threads_creates_an_object(own_store: Store) -> None:
    def create(number: int) -> bool:
        try:
            own_store.put("lock", str(number).encode(), if_absent=True)
        except ConflictError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(create, range(8)))
    assert sum(won) == 1
    assert own_store.get("lock").data == str(won.index(True)).encode()


def test_a_memory_store_may_be_listed_while_another_thread_writes() -> None:
    store = MemoryStore()
    for number in range(3_000):
        store.put(f"old{number}/k", b"")

    def write() -> None:
        for number in range(20_000):
            store.put(f"new{number}/k", b"")

    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(write)
        for _ in range(20):
            assert len(list(store.children())) >= 3_000
            assert len(list(store.entries("old"))) == 3_000
        writing.result()


# -- folders ---------------------------------------------------------------------------------------------------------


def test_a_listing_shows_what_was_written_before_a_file_that_it_comes_too_late_for_was_deleted(tmp_path: Path) -> None:
    folder = FolderStore(tmp_path)
    for key in ("a", "b", "c", "d"):
        folder.put(key, b"")
    listing = folder.entries()
    seen = [next(listing).key]
    for new, old in (("e", "b"), ("f", "c"), ("aa", "d"), ("g", "e")):
        folder.put(new, b"")
        folder.delete(old)
    assert seen + [entry.key for entry in listing] == ["a", "f", "g"]


def test_a_link_to_nothing_is_not_listed(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "nothing")
    FolderStore(tmp_path).put("b", b"")
    assert [entry.key for entry in FolderStore(tmp_path).entries()] == ["b"]


@pytest.mark.parametrize("key", ["../x", "a/../../x", "/etc/passwd", "..", "a/.."])
def test_a_key_may_not_leave_its_folder(tmp_path: Path, key: str) -> None:
    folder = FolderStore(tmp_path / "store")
    for work in (
        folder.get,
        folder.head,
        folder.delete,
        lambda key: folder.put(key, b""),
        lambda key: folder.download(key, tmp_path / "copy"),
    ):
        with pytest.raises(InputError, match="must not leave its store"):
            work(key)
    assert not list(tmp_path.iterdir())


def test_a_reader_never_sees_half_a_file(tmp_path: Path) -> None:
    folder = FolderStore(tmp_path)
    contents = {bytes([letter]) * 1_000_000 for letter in b"ab"}
    for content in contents:
        folder.put("k", content)
    ended = threading.Event()

    def write() -> None:
        for content in [*contents] * 30:
            folder.put("k", content)
        ended.set()

    with ThreadPoolExecutor(1) as pool:
        written = pool.submit(write)
        seen = {folder.get("k").data}
        while not ended.is_set() and not written.done():
            seen.add(folder.get("k").data)
        written.result()
    assert seen <= contents


@pytest.mark.parametrize(
    "put",
    [
        pytest.param(lambda folder: folder.put("k", b"new", if_absent=True), id="exists already"),
        pytest.param(lambda folder: folder.put("k", b"new", if_match="other"), id="changed"),
        pytest.param(lambda folder: folder.put("sub", b"new"), id="is a folder"),
        pytest.param(lambda folder: folder.put("k", cast(bytes, "text")), id="not bytes"),
        pytest.param(lambda folder: folder.upload("k", Path("/no/such/file")), id="no source"),
    ],
)
def test_a_failed_put_leaves_no_temporary_file(tmp_path: Path, put: Callable[[FolderStore], object]) -> None:
    folder = FolderStore(tmp_path)
    folder.put("k", b"old")
    folder.put("sub/other", b"")
    with pytest.raises((TransferLiteError, TypeError)):
        put(folder)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["k", "other", "sub"]
    assert folder.get("k").data == b"old"


def test_a_dead_writer_s_temporary_file_is_not_listed(tmp_path: Path) -> None:
    folder = FolderStore(tmp_path)
    folder.put("k", b"")
    (tmp_path / ".transferlite-0123456789abcdef").write_bytes(b"half")
    assert [entry.key for entry in folder.entries()] == ["k"]


def test_a_folder_where_a_file_is_needed_is_said_to_be_one(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a folder where a file is needed"):
        FolderStore(tmp_path.parent).get(tmp_path.name)


@pytest.mark.parametrize(
    "work",
    [
        pytest.param(lambda folder: folder.put("file/below", b""), id="below a file"),
        pytest.param(lambda folder: folder.get("x" * 300), id="name too long"),
        pytest.param(lambda folder: folder.get("a\0b"), id="zero byte"),
    ],
)
def test_a_key_that_no_file_can_have_is_explained(tmp_path: Path, work: Callable[[FolderStore], object]) -> None:
    folder = FolderStore(tmp_path)
    folder.put("file", b"")
    with pytest.raises(TransferLiteError):
        work(folder)


def test_a_folder_that_is_not_there_has_no_entries_to_list(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for name in ("missing", "file"):
        with pytest.raises(NotFoundError, match=f"{name}: does not exist"):
            list(FolderStore(tmp_path / name).entries())


def test_a_folder_without_a_parent_is_not_writable(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="parent folder"):
        FolderStore(tmp_path / "missing" / "store").check_writable()


def test_a_file_is_no_writable_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InputError, match="is a file"):
        FolderStore(tmp_path / "file").check_writable()


# -- URIs ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("uri", "kind", "root"),
    [
        ("s3://bucket", S3Store, "s3://bucket"),
        ("s3://bucket/", S3Store, "s3://bucket"),
        ("s3://bucket/a/b/", S3Store, "s3://bucket/a/b"),
        ("s3://bucket/a b/c#d?.jpg", S3Store, "s3://bucket/a b/c#d?.jpg"),
        ("s3://bucket/100%25+", S3Store, "s3://bucket/100%25+"),
        ("file:///x", FolderStore, "/x"),
        ("file:///x/y", FolderStore, "/x/y"),
        ("/x/y", FolderStore, "/x/y"),
        ("x", FolderStore, "x"),
        (".", FolderStore, "."),
        ("file:///photos/#1?", FolderStore, "/photos/#1?"),
        ("file:///a%20b", FolderStore, "/a%20b"),
    ],
)
def test_a_location_opens_its_store(uri: str, kind: type[Store], root: str) -> None:
    opened = open_store(uri)
    assert isinstance(opened, kind)
    assert opened.uri == root


def test_a_tilde_is_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/of/tests")
    assert open_store("~/photos").uri == "/home/of/tests/photos"


@pytest.mark.parametrize("uri", ["https://example.org/x", "gs://bucket/x", "ftp://x"])
def test_an_unknown_scheme_is_refused(uri: str) -> None:
    with pytest.raises(InputError, match="is not supported; give an s3:// URI or a local path"):
        open_store(uri)


@pytest.mark.parametrize("uri", ["s3://", "s3:///key"])
def test_an_s3_uri_without_a_bucket_is_refused(uri: str) -> None:
    with pytest.raises(InputError, match="names no bucket"):
        open_store(uri)


@pytest.mark.parametrize(
    ("uri", "root", "key"),
    [
        ("s3://b/cat.jpg", "s3://b", "cat.jpg"),
        ("s3://b/a/cat.jpg", "s3://b", "a/cat.jpg"),
        ("s3://bucket/a b/c#d?.jpg", "s3://bucket", "a b/c#d?.jpg"),
        ("s3://b/a//cat.jpg", "s3://b", "a//cat.jpg"),
        ("s3://b//cat.jpg", "s3://b", "/cat.jpg"),
        ("a/cat.jpg", "a", "cat.jpg"),
        ("cat.jpg", ".", "cat.jpg"),
        ("/cat.jpg", "/", "cat.jpg"),
        ("file:///x/cat.jpg", "file:///x", "cat.jpg"),
    ],
)
def test_a_uri_splits_into_root_and_key_and_joins_again(uri: str, root: str, key: str) -> None:
    assert split_uri(uri) == (root, key)
    assert join_uri(root, key) == (uri if "/" in uri else f"./{uri}")


def test_a_file_uri_at_the_file_system_s_root_is_read_from_there() -> None:
    root, key = split_uri("file:///cat.jpg")
    assert (open_store(root).uri, key) == ("/", "cat.jpg")


@pytest.mark.parametrize("uri", ["s3://bucket", "s3://bucket/", "s3://b/folder/", "folder/", ""])
def test_what_names_no_file_cannot_be_split(uri: str) -> None:
    with pytest.raises(InputError, match="names a folder or bucket where one file is needed"):
        split_uri(uri)


def test_read_uri_reads_files_and_objects(bucket: Any, tmp_path: Path) -> None:
    for root in (str(tmp_path), f"file://{tmp_path}", f"s3://{BUCKET}/p"):
        for key in AWKWARD:
            open_store(root).put(key, root.encode() + key.encode())
            assert read_uri(join_uri(root, key)) == root.encode() + key.encode()


@pytest.mark.parametrize("key", ["a//cat.jpg", "/cat.jpg"])
def test_a_key_with_an_empty_part_names_its_own_object(bucket: Any, key: str) -> None:
    bucket.put_object(Bucket=BUCKET, Key=key, Body=b"this one")
    bucket.put_object(Bucket=BUCKET, Key=key.replace("//", "/").lstrip("/"), Body=b"another")
    assert read_uri(f"s3://{BUCKET}/{key}") == b"this one"
