import os
import socket
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.permissions import unreadable
from transferlite.storage.walk_folder import SkippedEntry, walk_folder

Codes = dict[str, str]


def fill(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"content")


def codes(root: Path) -> Codes:
    return {entry.key: entry.code for entry in walk_folder(str(root)).skipped}


# -- links and loops -------------------------------------------------------------------------------------------------


def test_files_are_listed_in_order_at_any_depth(tmp_path: Path) -> None:
    fill(tmp_path, "b", "a/z", "a/deep/er/y", ".hidden/x")
    (tmp_path / "empty").mkdir()
    walk = walk_folder(str(tmp_path))
    assert walk.files == [".hidden/x", "a/deep/er/y", "a/z", "b"]
    assert walk.skipped == []


@pytest.mark.parametrize("target", [".", "..", "../../d", "../../d/sub"])
def test_a_link_to_a_folder_above_is_listed_as_a_duplicate(tmp_path: Path, target: str) -> None:
    root = tmp_path / "d"
    fill(root, "sub/1.jpg")
    (root / "sub" / "loop").symlink_to(target)
    walk = walk_folder(str(root))
    assert [path for path in walk.files if path.startswith("sub/1")] == ["sub/1.jpg"]
    assert len({(root / path).resolve() for path in walk.files}) == len(walk.files)
    assert {entry.code for entry in walk.skipped} == {"duplicate"}


def test_a_folder_with_two_links_to_itself_is_walked_once(tmp_path: Path) -> None:
    fill(tmp_path, "1.jpg")
    for name in ("loop", "loop2", "loop3"):
        (tmp_path / name).symlink_to(".")
    assert walk_folder(str(tmp_path)).files == ["1.jpg"]
    assert codes(tmp_path) == dict.fromkeys(("loop", "loop2", "loop3"), "duplicate")


def test_folders_that_link_to_each_other_are_walked_once(tmp_path: Path) -> None:
    fill(tmp_path, *(f"{name}/1.jpg" for name in "abcdef"))
    for folder in "abcdef":
        for target in "abcdef":
            (tmp_path / folder / f"to_{target}").symlink_to(f"../{target}")
    walk = walk_folder(str(tmp_path))
    assert walk.files == [f"{name}/1.jpg" for name in "abcdef"]
    assert len(walk.skipped) == 36


def test_a_linked_folder_outside_is_walked_once_by_its_first_link(tmp_path: Path) -> None:
    fill(tmp_path / "elsewhere", "1.jpg")
    for name in ("cats", "more cats"):
        (tmp_path / "root").mkdir(exist_ok=True)
        (tmp_path / "root" / name).symlink_to("../elsewhere")
    walk = walk_folder(str(tmp_path / "root"))
    assert walk.files == ["cats/1.jpg"]
    (skipped,) = walk.skipped
    assert skipped == SkippedEntry(
        "more cats", "duplicate", "leads to the folder 'cats', which is listed already", True, "cats"
    )


def test_a_folder_is_listed_by_its_own_name_and_not_by_a_link_s(tmp_path: Path) -> None:
    fill(tmp_path, "cats of 2024/1.jpg")
    (tmp_path / "a link").symlink_to("cats of 2024")
    assert walk_folder(str(tmp_path)).files == ["cats of 2024/1.jpg"]


def test_a_hidden_folder_is_listed_by_the_link_that_shows_it(tmp_path: Path) -> None:
    fill(tmp_path, ".worktrees/0123/cat/1.jpg")
    (tmp_path / "current").symlink_to(".worktrees/0123")
    assert walk_folder(str(tmp_path)).files == ["current/cat/1.jpg"]


def test_linked_files_are_listed_by_each_of_their_names(tmp_path: Path) -> None:
    fill(tmp_path, "1.jpg")
    (tmp_path / "2.jpg").symlink_to("1.jpg")
    os.link(tmp_path / "1.jpg", tmp_path / "3.jpg")
    assert walk_folder(str(tmp_path)).files == ["1.jpg", "2.jpg", "3.jpg"]


def test_without_inodes_real_paths_tell_folders_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path, "a/1.jpg", "b/2.jpg")
    (tmp_path / "a" / "loop").symlink_to("..")
    (tmp_path / "c").symlink_to("b")
    stat = os.stat
    monkeypatch.setattr(os, "stat", lambda path, **more: os.stat_result((stat(path, **more).st_mode, *[0] * 9)))
    walk = walk_folder(str(tmp_path))
    assert walk.files == ["a/1.jpg", "b/2.jpg"]
    assert [entry.key for entry in walk.skipped] == ["a/loop", "c"]


# -- what is no file -------------------------------------------------------------------------------------------------


def test_broken_links_are_named_with_their_target(tmp_path: Path) -> None:
    fill(tmp_path, "file")
    links = {"1.jpg": "../.git/annex/objects/x", "cats": "/mnt/unplugged/cats", "self.jpg": "self.jpg", "b": "file/x"}
    for name, target in links.items():
        (tmp_path / name).symlink_to(target)
    walk = walk_folder(str(tmp_path))
    assert walk.files == ["file"]
    assert {entry.key: (entry.code, entry.reason, entry.may_be_folder) for entry in walk.skipped} == {
        name: ("missing", f"is a broken symbolic link to {target!r}", "." not in name) for name, target in links.items()
    }


def test_pipes_sockets_and_devices_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "null.jpg").symlink_to("/dev/null")
    with socket.socket(socket.AF_UNIX) as listener:
        monkeypatch.chdir(tmp_path)
        listener.bind("s.jpg")  # a socket's path has at most 107 characters
        assert {entry.key: (entry.code, entry.reason) for entry in walk_folder(str(tmp_path)).skipped} == {
            "null.jpg": ("unusable", "is a character device"),
            "pipe.jpg": ("unusable", "is a named pipe"),
            "s.jpg": ("unusable", "is a socket"),
        }


# -- what may not be read --------------------------------------------------------------------------------------------


def test_an_unreadable_folder_is_named_and_the_others_are_listed(tmp_path: Path) -> None:
    fill(tmp_path, "a/1.jpg", "lost+found/x", "z/2.jpg")
    with unreadable(tmp_path / "lost+found"):
        walk = walk_folder(str(tmp_path))
    assert walk.files == ["a/1.jpg", "z/2.jpg"]
    assert walk.skipped == [
        SkippedEntry("lost+found", "forbidden", "cannot be read (Permission denied)", may_be_folder=True)
    ]


def test_links_into_an_unreadable_folder_are_forbidden_and_not_broken(tmp_path: Path) -> None:
    fill(tmp_path / "private", "1.jpg", "deep/2.jpg")
    fill(tmp_path / "root", "3.jpg")
    (tmp_path / "root" / "1.jpg").symlink_to("../private/1.jpg")
    (tmp_path / "root" / "deep").symlink_to("../private/deep")
    with unreadable(tmp_path / "private"):
        assert codes(tmp_path / "root") == {"1.jpg": "forbidden", "deep": "forbidden"}


def test_a_root_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    fill(tmp_path, "d/1.jpg")
    with unreadable(tmp_path / "d"), pytest.raises(PermissionError):
        walk_folder(str(tmp_path / "d"))
    for name in ("nowhere", "d/1.jpg"):
        with pytest.raises((FileNotFoundError, NotADirectoryError)):
            walk_folder(str(tmp_path / name))


def test_folders_too_deep_for_a_path_are_named(tmp_path: Path) -> None:
    name, depth = "d" * 200, 22
    fill(tmp_path, "1.jpg")
    here = os.open(tmp_path, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir(name, dir_fd=here)
        here, above = os.open(name, os.O_RDONLY, dir_fd=here), here
        os.close(above)
    os.close(here)
    walk = walk_folder(str(tmp_path))
    assert walk.files == ["1.jpg"]
    assert [(entry.code, entry.reason) for entry in walk.skipped] == [
        ("unusable", "cannot be read (File name too long)")
    ]


def test_a_folder_that_is_deleted_during_the_walk_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path, "a/1.jpg", "b/2.jpg")
    scandir = os.scandir

    def scan(path: str) -> object:
        if path.endswith("/a"):
            (tmp_path / "b").rename(tmp_path.parent / "moved")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", scan)
    walk = walk_folder(str(tmp_path))
    assert (walk.files, walk.skipped) == (["a/1.jpg"], [])


# -- any tree --------------------------------------------------------------------------------------------------------

NAMES = st.sampled_from(
    ["a", "b", "c.jpg", ".h", "é", "x\n", b"\xff.jpg".decode("utf-8", "surrogateescape"), "*[", "-"]
)
KINDS = st.sampled_from(["file", "folder", "folder", "link", "link", "broken", "pipe", "locked"])
PATHS = st.lists(NAMES, min_size=1, max_size=4).map("/".join)
TREES = st.lists(st.tuples(PATHS, KINDS, PATHS), max_size=25)


def build(root: Path, tree: list[tuple[str, str, str]]) -> list[Path]:
    """Make what is possible of a tree, with links to its own paths; return the folders to lock."""
    locked = []
    for name, kind, target in tree:
        path = root / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if kind == "file":
                path.open("xb").close()
            elif kind == "pipe":
                os.mkfifo(path)
            elif kind == "link":
                path.symlink_to(root / target if "/" in target else target)
            elif kind == "broken":
                path.symlink_to("/nowhere/x")
            else:
                path.mkdir()
                locked += [path] * (kind == "locked")
        except (OSError, RuntimeError):  # the path exists, or leads through a file or a broken link
            continue
    return locked


@settings(max_examples=100, deadline=None)
@given(TREES)
def test_every_path_in_any_tree_is_a_file_a_searched_folder_or_skipped(tree: list[tuple[str, str, str]]) -> None:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name, "root")
        root.mkdir()
        locked = build(root, tree)
        with unreadable(*locked):
            walk = walk_folder(str(root))
        locked_folders = {path.resolve() for path in locked}
        skipped = {entry.key for entry in walk.skipped}
        assert len(skipped) == len(walk.skipped)
        assert skipped.isdisjoint(walk.files)
        assert walk.files == sorted(set(walk.files))
        real = [((root / path).parent.resolve(), Path(path).name) for path in walk.files]
        assert len(set(real)) == len(real), "a file was listed twice"

        searched, pending = set(), [root]
        while pending:  # whatever lies in a searched folder is accounted for
            folder = pending.pop()
            assert folder.resolve() not in searched, "a folder was searched twice"
            searched.add(folder.resolve())
            for path in folder.iterdir():
                key = path.relative_to(root).as_posix()
                if key in skipped:
                    continue
                if path.is_dir():
                    pending.append(path)
                else:
                    assert path.is_file()
                    assert key in walk.files
        for entry in walk.skipped:
            path = root / entry.key
            if entry.code == "duplicate":
                assert path.resolve() == (root / entry.same_as).resolve()
                assert path.resolve() in searched
            elif entry.code == "forbidden":
                assert any(path.resolve().is_relative_to(folder) for folder in locked_folders)
            elif entry.code == "missing":
                assert path.is_symlink()
            else:
                assert path.is_fifo()
