"""Downloads that break, arrive damaged, or find their files in place."""

import os
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.conftest import BUCKET
from tests.transferlite.bundles import write_bundle
from transferlite.errors import BundleError, DiskFullError, NotFoundError, UnavailableError
from transferlite.registry.download import fetch_files, partial_path
from transferlite.registry.manifest import FileInfo
from transferlite.storage.folder import FolderStore
from transferlite.storage.s3_boto3 import S3Store
from transferlite.storage.store import MemoryStore, Store

CONTENT = bytes(range(256)) * 40
INFO = FileInfo(sha256(CONTENT).hexdigest(), len(CONTENT))
PART = partial_path(Path("model.tflite"), INFO).name


class BreakingStore(MemoryStore):
    """Break the next ``times`` streams after ``after`` bytes each."""

    def __init__(self, after: int, times: int) -> None:
        super().__init__()
        self.after, self.times = after, times
        self.starts: list[int] = []

    def stream(self, key: str, start: int = 0) -> Iterator[bytes]:
        self.starts.append(start)
        content = self.get(key).data[start:]
        if self.times:
            self.times -= 1
            yield content[: self.after]
            raise UnavailableError("the connection broke")
        yield content


@pytest.fixture(autouse=True)
def _no_sleep(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transferlite.registry.download.time.sleep", lambda seconds: None)


def fetch(store: Store, folder: Path, *reuse_from: Path) -> bytes:
    fetch_files(store, "m", {"deep/model.tflite": INFO}, folder, reuse_from)
    return (folder / "deep" / "model.tflite").read_bytes()


def file_names(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*") if path.is_file()]


def test_a_broken_download_resumes(tmp_path: Path) -> None:
    store = BreakingStore(1000, 7)
    store.put("m/deep/model.tflite", CONTENT)
    assert fetch(store, tmp_path) == CONTENT
    assert store.starts == list(range(0, 8000, 1000))
    assert file_names(tmp_path) == ["model.tflite"]


def test_a_stalled_download_fails_and_keeps_its_partial_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = BreakingStore(5000, 1)
    store.put("m/deep/model.tflite", CONTENT)
    with monkeypatch.context() as patch:
        patch.setattr("transferlite.registry.download._MAX_STALLED_ATTEMPTS", 0)
        with pytest.raises(UnavailableError, match="the connection broke"):
            fetch(store, tmp_path)
    assert file_names(tmp_path) == [PART]
    store.after, store.times = 0, 4
    with pytest.raises(UnavailableError, match="the connection broke"):
        fetch(store, tmp_path)
    assert fetch(store, tmp_path) == CONTENT
    assert store.starts == [0, *[5000] * 5]


def test_a_complete_partial_file_is_not_fetched_again(tmp_path: Path) -> None:
    store = BreakingStore(0, 99)
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / PART).write_bytes(CONTENT)
    assert fetch(store, tmp_path) == CONTENT
    assert not store.starts


@pytest.mark.parametrize("part", [b"something else", CONTENT[:-1] + b"x", CONTENT + b"x"])
def test_a_partial_file_of_other_content_is_fetched_from_the_start(tmp_path: Path, part: bytes) -> None:
    store = BreakingStore(0, 0)
    store.put("m/deep/model.tflite", CONTENT)
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / PART).write_bytes(part)
    assert fetch(store, tmp_path) == CONTENT
    assert store.starts[-1] == 0


def test_a_partial_file_that_is_no_longer_wanted_is_removed(tmp_path: Path) -> None:
    store = BreakingStore(0, 0)
    store.put("m/deep/model.tflite", CONTENT)
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / partial_path(Path("float32.tflite"), INFO).name).write_bytes(CONTENT)
    (tmp_path / "deep" / PART).write_bytes(CONTENT[:500])
    assert fetch(store, tmp_path) == CONTENT
    assert store.starts == [500]
    assert file_names(tmp_path) == ["model.tflite"]


def test_only_the_rest_of_a_partial_file_needs_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    big = FileInfo(INFO.sha256, 10**9)
    free = 10**6 + 2**18
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=free))
    partial = partial_path(tmp_path / "model.tflite", big)
    with partial.open("wb") as file:
        file.truncate(10**9 - 10**6 - 1)
    with pytest.raises(DiskFullError, match=r"the disk has 1\.3 MB free, and the download needs 1\.3 MB"):
        fetch_files(BreakingStore(0, 0), "m", {"model.tflite": big}, tmp_path)
    os.truncate(partial, 10**9 - 10**6)
    with pytest.raises(NotFoundError):
        fetch_files(BreakingStore(0, 0), "m", {"model.tflite": big}, tmp_path)


@pytest.mark.parametrize("sent", [CONTENT[:-1], CONTENT + b"x", CONTENT[:-1] + b"x", b"", CONTENT * 3])
@pytest.mark.parametrize("part", [None, CONTENT[:500], b"x" * 500])
def test_a_file_of_other_content_is_refused_and_deleted(tmp_path: Path, sent: bytes, part: bytes | None) -> None:
    store = BreakingStore(0, 0)
    store.put("m/deep/model.tflite", sent)
    (tmp_path / "deep").mkdir()
    if part:
        (tmp_path / "deep" / PART).write_bytes(part)
    with pytest.raises(BundleError, match=r"memory://store/m/deep/model\.tflite: does not have the manifest's sha256"):
        fetch(store, tmp_path)
    assert file_names(tmp_path) == []


def test_an_endless_object_does_not_fill_the_disk(tmp_path: Path) -> None:
    class Endless(MemoryStore):
        def stream(self, key: str, start: int = 0) -> Iterator[bytes]:
            while True:
                yield bytes(2**20)

    with pytest.raises(BundleError, match=f"{len(CONTENT) + 1} bytes, not {len(CONTENT)}"):
        fetch(Endless(), tmp_path)


@pytest.mark.parametrize("links", [True, False], ids=["hard links", "no hard links"])
def test_a_file_of_another_bundle_is_linked_or_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    manifest = write_bundle(tmp_path / "other", "one")

    def no_links(*_: object) -> None:
        raise PermissionError

    if not links:
        monkeypatch.setattr("transferlite.registry.download.os.link", no_links)
    files = {"int8.tflite": manifest.files["int8.tflite"], "again.tflite": manifest.files["int8.tflite"]}
    fetch_files(MemoryStore(), "m", files, tmp_path / "new", [tmp_path / "none", tmp_path / "other"])
    expected = tmp_path / "other" / "int8.tflite"
    for name in files:
        fetched = tmp_path / "new" / name
        assert fetched.read_bytes() == expected.read_bytes()
        assert fetched.samefile(expected) is links
    assert sorted(file_names(tmp_path / "new")) == ["again.tflite", "int8.tflite"]


def test_a_damaged_file_of_another_bundle_is_not_reused(tmp_path: Path) -> None:
    manifest = write_bundle(tmp_path / "other", "one")
    good = (tmp_path / "other" / "int8.tflite").read_bytes()
    (tmp_path / "other" / "int8.tflite").write_bytes(good[::-1])
    store = MemoryStore()
    store.put("m/int8.tflite", good)
    fetch_files(store, "m", {"int8.tflite": manifest.files["int8.tflite"]}, tmp_path / "new", [tmp_path / "other"])
    assert (tmp_path / "new" / "int8.tflite").read_bytes() == good


@pytest.mark.parametrize("kind", ["folder", "memory", "s3"])
def test_a_stream_starts_at_the_given_byte(request: pytest.FixtureRequest, tmp_path: Path, kind: str) -> None:
    if kind == "s3":
        request.getfixturevalue("bucket")
    stores: dict[str, Callable[[], Store]] = {
        "folder": lambda: FolderStore(tmp_path),
        "memory": MemoryStore,
        "s3": lambda: S3Store(BUCKET, "p"),
    }
    store = stores[kind]()
    store.put("a/b", CONTENT)
    store.put("empty", b"")
    for start in (0, 1, 5000, len(CONTENT) - 1, len(CONTENT), len(CONTENT) + 5):
        assert b"".join(store.stream("a/b", start)) == CONTENT[start:]
    assert b"".join(store.stream("empty")) == b""
