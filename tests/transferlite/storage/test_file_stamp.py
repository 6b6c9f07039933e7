import hashlib
import os
import shutil
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.permissions import unreadable
from transferlite.storage import file_stamp as file_change
from transferlite.storage.file_stamp import FileChange
from transferlite.storage.folder import FolderStore

EXT4, FAT, NFS = 0xEF53, 0x4D44, 0x6969


@pytest.fixture
def use_file_system(monkeypatch: pytest.MonkeyPatch) -> Callable[[int | None], None]:
    """Let every file lie on a file system of the given type."""

    def use(file_system: int | None) -> None:
        monkeypatch.setattr(file_change, "_margins", {})
        monkeypatch.setattr(file_change, "_file_system_type", lambda _: file_system)

    return use


UseFileSystem = Callable[[int | None], None]


def replace_in_place(path: Path, data: bytes) -> None:
    """Overwrite a file with content of the same size, and keep its inode and modification time."""
    before = path.stat()
    with path.open("r+b") as file:
        file.write(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = path.stat()
    assert (after.st_ino, after.st_size, after.st_mtime_ns) == (before.st_ino, before.st_size, before.st_mtime_ns)


def replace_with_cp(path: Path, data: bytes) -> None:
    source = path.with_name("source")
    source.write_bytes(data)
    os.utime(source, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    shutil.copy2(source, path)  # as cp -p
    source.unlink()


def replace_from_archive(path: Path, data: bytes) -> None:
    """Unpack an archive whose files all have the same time, as reproducible archives do."""
    source = path.with_name("source")
    source.write_bytes(data)
    with tarfile.open(path.with_name("a.tar"), "w") as tar:
        info = tar.gettarinfo(source, path.name)
        info.mtime = int(path.stat().st_mtime)
        with source.open("rb") as file:
            tar.addfile(info, file)
    with tarfile.open(path.with_name("a.tar")) as tar:
        tar.extractall(path.parent, filter="data")
    source.unlink()
    path.with_name("a.tar").unlink()


def replace_reusing_the_inode(path: Path, data: bytes) -> None:
    """Delete the file and write another, which on ext4 gets the free inode."""
    before = path.stat()
    path.unlink()
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


REPLACEMENTS = [replace_in_place, replace_with_cp, replace_from_archive, replace_reusing_the_inode]


@pytest.mark.parametrize("file_system", [EXT4, NFS, FAT, None])
@pytest.mark.parametrize("replace", REPLACEMENTS)
def test_a_file_replaced_with_the_same_size_and_time_has_another_stamp(
    tmp_path: Path, use_file_system: UseFileSystem, replace: Callable[[Path, bytes], None], file_system: int | None
) -> None:
    use_file_system(file_system)
    path = tmp_path / "photo.jpg"
    path.write_bytes(b"a cat")
    os.utime(path, (1_500_000_000, 1_500_000_000))
    store = FolderStore(tmp_path)
    stamps = [entry.stamp for entry in store.entries()]
    replace(path, b"a dog")
    assert (path.read_bytes(), path.stat().st_mtime) == (b"a dog", 1_500_000_000)
    assert stamps[0]
    assert [entry.stamp for entry in store.entries()] != stamps
    assert [entry.stamp for entry in store.entries()] == [store.head("photo.jpg").stamp]


def test_no_replacement_within_one_step_of_the_clock_is_missed(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(bytes(4))
    store, stamps = FolderStore(tmp_path), set()
    for number in range(50):
        replace_in_place(path, number.to_bytes(4))
        stamps.add(store.head("photo.jpg").stamp)
    assert len(stamps) == 50


@pytest.mark.parametrize("file_system", [EXT4, NFS, FAT, None])
def test_a_file_that_stays_keeps_its_stamp(
    tmp_path: Path, use_file_system: UseFileSystem, file_system: int | None
) -> None:
    use_file_system(file_system)
    (tmp_path / "photo.jpg").write_bytes(b"a cat")
    first = FolderStore(tmp_path).head("photo.jpg").stamp
    assert first
    (tmp_path / "photo.jpg").read_bytes()
    assert FolderStore(tmp_path).head("photo.jpg").stamp == first


def change(path: Path, age: float) -> FileChange:
    """A change of the file that happened ``age`` seconds ago, at no whole second."""
    return FileChange(str(path), 5, int((time.time() - age) * 1e9) | 1, 0)


@pytest.mark.parametrize(
    ("file_system", "age", "is_hashed"),
    [
        (EXT4, 1, False),
        (EXT4, 0, False),
        (EXT4, -60, True),
        (NFS, 61, False),
        (NFS, 30, True),
        (NFS, -3600, True),
        (FAT, 1e6, True),
        (0x65735546, 1e6, True),
        (None, 1e6, True),
    ],
    ids=["ext4", "ext4 now", "the future", "NFS", "NFS just now", "NFS of the future", "FAT", "FUSE", "unknown"],
)
def test_the_content_is_hashed_where_the_change_time_is_unreliable(
    tmp_path: Path, use_file_system: UseFileSystem, file_system: int | None, age: float, is_hashed: bool
) -> None:
    use_file_system(file_system)
    (tmp_path / "photo.jpg").write_bytes(b"a cat")
    mark = change(tmp_path / "photo.jpg", age).mark()
    assert (mark == f"sha256:{hashlib.sha256(b'a cat').hexdigest()}") is is_hashed


def test_change_times_in_whole_seconds_are_reliable_after_two(tmp_path: Path, use_file_system: UseFileSystem) -> None:
    use_file_system(EXT4)
    (tmp_path / "photo.jpg").write_bytes(b"a cat")
    second = int(time.time()) * 10**9
    assert FileChange(str(tmp_path / "photo.jpg"), 5, second, 0).mark().startswith("sha256:")
    assert not FileChange(str(tmp_path / "photo.jpg"), 5, second - 3 * 10**9, 0).mark().startswith("sha256:")


def test_what_cannot_be_hashed_has_no_stamp(tmp_path: Path, use_file_system: UseFileSystem) -> None:
    use_file_system(FAT)
    path = tmp_path / "photo.jpg"
    path.write_bytes(b"a cat")
    with unreadable(path):
        assert FolderStore(tmp_path).head("photo.jpg").stamp == ""
    with path.open("wb") as file:
        file.truncate(2**26 + 1)
    assert FolderStore(tmp_path).head("photo.jpg").stamp == ""


def test_the_file_system_of_a_folder_is_known() -> None:
    assert file_change._file_system_type("/proc") == 0x9FA0
    assert file_change._file_system_type("/nowhere") is None
