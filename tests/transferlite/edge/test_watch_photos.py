import os
from pathlib import Path

import pytest

from transferlite.edge.watch_photos import PATIENCE, PhotoWatcher
from transferlite.errors import InputError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


def looked(watch: PhotoWatcher, now: float = 0) -> list[str]:
    """The names of two looks' offers, all of them taken."""
    watch.look(now)
    found = watch.look(now)
    for path in found:
        watch.done(path)
    return [Path(path).name for path in found]


def test_a_photo_is_offered_when_it_lies_still_and_until_it_is_done(folder: Path) -> None:
    watch = PhotoWatcher([folder])
    photo = folder / "one.jpg"
    photo.write_bytes(b"a photo")
    assert watch.look(0) == []
    assert watch.look(1) == watch.look(2) == [str(photo)]
    watch.done(str(photo))
    assert watch.look(3) == []


def test_a_photo_that_grows_is_not_offered(folder: Path) -> None:
    watch = PhotoWatcher([folder])
    with (folder / "one.jpg").open("wb", buffering=0) as file:
        for now in range(5):
            file.write(b"some more")
            assert watch.look(now) == []
    assert watch.look(9) == [str(folder / "one.jpg")]


def test_photos_of_every_folder_and_depth_are_found_and_nothing_else(folder: Path) -> None:
    other = folder.parent / "other"
    for name in ("b.jpg", "deep/a.PNG", "notes.txt", ".hidden.jpg", "@eaDir/thumb.jpg", "photo.jpg.part"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(name.encode())
    other.mkdir()
    (other / "c.webp").write_bytes(b"c")
    os.mkfifo(folder / "pipe.jpg")
    (folder / "gone.jpg").symlink_to(folder / "nowhere")
    assert looked(PhotoWatcher([folder, other])) == ["b.jpg", "a.PNG", "c.webp"]


def test_a_photo_moved_in_is_new_and_one_moved_about_is_not(folder: Path) -> None:
    watch = PhotoWatcher([folder])
    (folder.parent / "one.jpg").write_bytes(b"one")
    (folder.parent / "one.jpg").rename(folder / "one.jpg")
    assert looked(watch) == ["one.jpg"]
    (folder / "sorted").mkdir()
    (folder / "one.jpg").rename(folder / "sorted" / "cat.jpg")
    assert looked(watch) == []


def test_a_photo_written_anew_is_new(folder: Path) -> None:
    watch = PhotoWatcher([folder])
    photo = folder / "snapshot.jpg"
    photo.write_bytes(b"first")
    assert looked(watch) == ["snapshot.jpg"]
    photo.write_bytes(b"second")
    assert looked(watch) == ["snapshot.jpg"]
    photo.unlink()
    assert looked(watch) == []


def test_an_inode_that_changes_by_itself_makes_no_photo_new(folder: Path) -> None:
    watch = PhotoWatcher([folder])
    photo = folder / "one.jpg"
    photo.write_bytes(b"one")
    assert looked(watch) == ["one.jpg"]
    stat = photo.stat()
    (folder / "copy").write_bytes(b"one")
    os.utime(folder / "copy", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    (folder / "copy").rename(photo)
    assert photo.stat().st_ino != stat.st_ino
    assert looked(watch) == []


def test_what_is_known_is_not_new_until_it_is_written_anew(folder: Path) -> None:
    photo = folder / "one.jpg"
    photo.write_bytes(b"one")
    watch = PhotoWatcher([folder], known={str(photo), str(folder / "elsewhere.jpg")})
    assert looked(watch) == []
    photo.write_bytes(b"two two")
    assert looked(watch) == ["one.jpg"]


def test_a_photo_may_be_unfinished_for_a_while_after_it_changed(folder: Path) -> None:
    watch = PhotoWatcher([folder])
    photo = folder / "one.jpg"
    photo.write_bytes(b"half")
    watch.look(100)
    assert watch.look(101) == [str(photo)]
    assert watch.may_be_unfinished(str(photo), 101)
    assert not watch.may_be_unfinished(str(photo), 100 + PATIENCE)
    photo.write_bytes(b"half and half")
    assert watch.look(200) == []
    assert watch.look(201) == [str(photo)]
    assert watch.may_be_unfinished(str(photo), 201)


def test_a_folder_that_goes_away_and_comes_back_is_watched_on(folder: Path) -> None:
    watch = PhotoWatcher([folder])
    (folder / "one.jpg").write_bytes(b"one")
    assert looked(watch) == ["one.jpg"]
    folder.rename(folder.parent / "unplugged")
    assert looked(watch) == []
    (folder.parent / "unplugged").rename(folder)
    (folder / "two.jpg").write_bytes(b"two")
    assert looked(watch) == ["two.jpg"]


def test_photos_that_are_gone_are_forgotten_once_they_are_many(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transferlite.edge.watch_photos._REMEMBERED", 10)
    watch = PhotoWatcher([folder])
    for number in range(40):
        (folder / f"{number}.jpg").write_bytes(bytes(number))
        assert looked(watch) == [f"{number}.jpg"]
        (folder / f"{number}.jpg").unlink()
        assert len(watch._done) <= 10 + 4 + 2


@pytest.mark.parametrize("name", ["nothing", "file.jpg"])
def test_what_is_no_folder_cannot_be_watched(folder: Path, name: str) -> None:
    (folder / "file.jpg").write_bytes(b"")
    with pytest.raises(InputError, match=f"{name}: is no local folder to watch"):
        PhotoWatcher([folder / name])
