import os
from pathlib import Path

import pytest

from tests.permissions import unreadable
from transferlite.edge.watch_photos import UNFINISHED_SECONDS, PhotoWatcher
from transferlite.errors import InputError, TransferLiteError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


def scan_twice(watcher: PhotoWatcher, now: float = 0) -> list[str]:
    """Scan twice, mark the reported photos as done, and return their names."""
    watcher.scan(now)
    paths = watcher.scan(now)
    for path in paths:
        watcher.done(path)
    return [Path(path).name for path in paths]


def test_a_photo_is_reported_once_unchanged_and_until_it_is_done(folder: Path) -> None:
    watcher = PhotoWatcher([folder])
    photo = folder / "one.jpg"
    photo.write_bytes(b"a photo")
    assert watcher.scan(0) == []
    assert watcher.scan(1) == watcher.scan(2) == [str(photo)]
    watcher.done(str(photo))
    assert watcher.scan(3) == []


def test_a_growing_photo_is_not_reported(folder: Path) -> None:
    watcher = PhotoWatcher([folder])
    with (folder / "one.jpg").open("wb", buffering=0) as file:
        for now in range(5):
            file.write(b"some more")
            assert watcher.scan(now) == []
    assert watcher.scan(9) == [str(folder / "one.jpg")]


def test_photos_in_every_folder_and_depth_are_found_and_nothing_else(folder: Path) -> None:
    other = folder.parent / "other"
    for name in ("b.jpg", "deep/a.PNG", "notes.txt", ".hidden.jpg", "@eaDir/thumb.jpg", "photo.jpg.part"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(name.encode())
    other.mkdir()
    (other / "c.webp").write_bytes(b"c")
    os.mkfifo(folder / "pipe.jpg")
    (folder / "gone.jpg").symlink_to(folder / "nowhere")
    assert scan_twice(PhotoWatcher([folder, other])) == ["b.jpg", "a.PNG", "c.webp"]


def test_a_photo_moved_into_the_folder_is_new_but_not_when_moved_inside(folder: Path) -> None:
    watcher = PhotoWatcher([folder])
    (folder.parent / "one.jpg").write_bytes(b"one")
    (folder.parent / "one.jpg").rename(folder / "one.jpg")
    assert scan_twice(watcher) == ["one.jpg"]
    (folder / "sorted").mkdir()
    (folder / "one.jpg").rename(folder / "sorted" / "cat.jpg")
    assert scan_twice(watcher) == []


def test_an_overwritten_photo_is_new(folder: Path) -> None:
    watcher = PhotoWatcher([folder])
    photo = folder / "snapshot.jpg"
    photo.write_bytes(b"first")
    assert scan_twice(watcher) == ["snapshot.jpg"]
    photo.write_bytes(b"second")
    assert scan_twice(watcher) == ["snapshot.jpg"]
    photo.unlink()
    assert scan_twice(watcher) == []


def test_a_changed_inode_alone_does_not_make_a_photo_new(folder: Path) -> None:
    watcher = PhotoWatcher([folder])
    photo = folder / "one.jpg"
    photo.write_bytes(b"one")
    assert scan_twice(watcher) == ["one.jpg"]
    stat = photo.stat()
    (folder / "copy").write_bytes(b"one")
    os.utime(folder / "copy", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    (folder / "copy").rename(photo)
    assert photo.stat().st_ino != stat.st_ino
    assert scan_twice(watcher) == []


def test_a_known_photo_is_new_only_after_it_was_overwritten(folder: Path) -> None:
    photo = folder / "one.jpg"
    photo.write_bytes(b"one")
    watcher = PhotoWatcher([folder], known={str(photo), str(folder / "elsewhere.jpg")})
    assert scan_twice(watcher) == []
    photo.write_bytes(b"two two")
    assert scan_twice(watcher) == ["one.jpg"]


def test_a_photo_may_be_unfinished_for_ten_seconds_after_a_change(folder: Path) -> None:
    watcher = PhotoWatcher([folder])
    photo = folder / "one.jpg"
    photo.write_bytes(b"half")
    watcher.scan(100)
    assert watcher.scan(101) == [str(photo)]
    assert watcher.may_be_unfinished(str(photo), 101)
    assert not watcher.may_be_unfinished(str(photo), 100 + UNFINISHED_SECONDS)
    photo.write_bytes(b"half and half")
    assert watcher.scan(200) == []
    assert watcher.scan(201) == [str(photo)]
    assert watcher.may_be_unfinished(str(photo), 201)


def test_a_folder_that_disappears_and_returns_is_still_watched(folder: Path) -> None:
    watcher = PhotoWatcher([folder])
    (folder / "one.jpg").write_bytes(b"one")
    assert scan_twice(watcher) == ["one.jpg"]
    folder.rename(folder.parent / "unplugged")
    assert scan_twice(watcher) == []
    (folder.parent / "unplugged").rename(folder)
    (folder / "two.jpg").write_bytes(b"two")
    assert scan_twice(watcher) == ["two.jpg"]


def test_deleted_photos_are_forgotten_once_there_are_many(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transferlite.edge.watch_photos._MAX_DONE", 10)
    watcher = PhotoWatcher([folder])
    for number in range(40):
        (folder / f"{number}.jpg").write_bytes(bytes(number))
        assert scan_twice(watcher) == [f"{number}.jpg"]
        (folder / f"{number}.jpg").unlink()
        assert len(watcher._done) <= 10 + 4 + 2


@pytest.mark.parametrize("name", ["nothing", "file.jpg"])
def test_only_folders_can_be_watched(folder: Path, name: str) -> None:
    (folder / "file.jpg").write_bytes(b"")
    with pytest.raises(InputError, match=f"{name}: is not a local folder to watch"):
        PhotoWatcher([folder / name])


# -- links, loops and what is no photo ---------------------------------------------------------------------------------


def test_linked_folders_are_watched_and_loops_are_followed_once(folder: Path) -> None:
    other = folder.parent / "other"
    other.mkdir()
    (other / "2.jpg").write_bytes(b"2")
    (folder / "1.jpg").write_bytes(b"1")
    (folder / "linked").symlink_to(other)
    for name in ("loop", "loop2"):
        (folder / name).symlink_to(folder)
    assert scan_twice(PhotoWatcher([folder])) == ["1.jpg", "2.jpg"]


def test_what_cannot_be_labelled_is_reported_once(folder: Path) -> None:
    errors: list[TransferLiteError] = []
    watcher = PhotoWatcher([folder], on_error=errors.append)
    for name in ("private", "lost+found"):
        (folder / name).mkdir()
    (folder / "1.jpg").write_bytes(b"1")
    (folder / "broken.jpg").symlink_to("nowhere")
    (folder / "notes.txt").symlink_to("nowhere")
    os.mkfifo(folder / "pipe.jpg")
    with unreadable(folder / "private", folder / "lost+found"):
        watcher.scan(0)
        assert not errors
        assert watcher.scan(1) == [str(folder / "1.jpg")]
        assert [error.where for error in errors] == [
            str(folder / name) for name in ("broken.jpg", "pipe.jpg", "private")
        ]
        watcher.scan(2)
        assert len(errors) == 3
    (folder / "private" / "2.jpg").write_bytes(b"2")
    watcher.scan(3)
    assert str(folder / "private" / "2.jpg") in watcher.scan(4)
    (folder / "nowhere").write_bytes(b"no longer broken")
    watcher.scan(5)
    assert str(folder / "broken.jpg") in watcher.scan(6)


def test_a_watched_folder_that_becomes_unreadable_is_reported_and_still_watched(folder: Path) -> None:
    errors: list[TransferLiteError] = []
    watcher = PhotoWatcher([folder], on_error=errors.append)
    (folder / "1.jpg").write_bytes(b"1")
    with unreadable(folder):
        assert scan_twice(watcher) == []
        assert [error.where for error in errors] == [str(folder)]
    assert scan_twice(watcher) == ["1.jpg"]


def test_a_link_that_is_broken_only_while_it_is_made_is_no_error(folder: Path) -> None:
    errors: list[TransferLiteError] = []
    watcher = PhotoWatcher([folder], on_error=errors.append)
    (folder / "1.jpg").symlink_to("target")
    watcher.scan(0)
    (folder / "target").write_bytes(b"1")
    assert scan_twice(watcher) == ["1.jpg"]
    assert not errors
