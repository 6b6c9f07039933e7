import os
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import BUCKET
from tests.permissions import unreadable
from transferlite.errors import AccessDeniedError, InputError, NotFoundError, TransferLiteError
from transferlite.images.find_photos import find_photos, is_photo, key_problem


@pytest.mark.parametrize(
    "key", ["cat.jpg", "a/b/CAT.JPEG", "cat.webp", "a b+c%.Tiff", "猫.png", "v1.2.final.gif", "x.jp2"]
)
def test_a_photo_is_recognised_by_its_name(key: str) -> None:
    assert is_photo(key)


@pytest.mark.parametrize(
    "key",
    [
        *["notes.txt", "cat", "cat.jpg.txt", "labels.csv", "jpg", "a.jpg/readme", ""],
        *[
            ".cat.jpg",
            "._cat.jpg",
            ".thumbnails/cat.png",
            "__MACOSX/cat.jpg",
            "Thumbs.db",
            "a/.ipynb_checkpoints/b.png",
        ],
        *["THUMBS.DB", "cat/@eaDir/cat.jpg/SYNOPHOTO_THUMB_M.jpg", "$RECYCLE.BIN/S-1-5/$R1.jpg", "desktop.ini/a.jpg"],
    ],
)
def test_other_files_and_files_of_file_managers_are_not_photos(key: str) -> None:
    assert not is_photo(key)


def test_photos_of_a_folder_are_found_in_order_at_any_depth(tmp_path: Path) -> None:
    names = ["b.jpg", "a/z.png", "a/deep/er/y.gif", "a/notes.txt", ".hidden/x.jpg"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    expected = [f"{tmp_path}/{name}" for name in ("a/deep/er/y.gif", "a/z.png", "b.jpg")]
    assert list(find_photos(str(tmp_path))) == expected
    assert list(find_photos(f"file://{tmp_path}")) == expected


def test_photos_of_a_prefix_are_found(bucket: Any) -> None:
    for key in ("in/b c.jpg", "in/a/1.png", "in/notes.txt", "inside.jpg", "in/"):
        bucket.put_object(Bucket=BUCKET, Key=key, Body=b"")
    expected = [f"s3://{BUCKET}/in/a/1.png", f"s3://{BUCKET}/in/b c.jpg"]
    assert list(find_photos(f"s3://{BUCKET}/in")) == expected
    assert list(find_photos(f"s3://{BUCKET}/in/")) == expected
    assert len(list(find_photos(f"s3://{BUCKET}"))) == 3


@pytest.mark.parametrize("location", ["s3://b/x/cat.jpg", "file:///x/cat.jpg", "/no/such/file", "~/cat.jpg"])
def test_a_single_file_is_returned_whatever_its_name(location: str) -> None:
    assert list(find_photos(location)) == [location]


def test_a_location_without_photos_is_not_found(tmp_path: Path, bucket: Any) -> None:
    (tmp_path / "notes.txt").write_bytes(b"")
    for location in (str(tmp_path), f"s3://{BUCKET}/none", "file:///no/such/folder"):
        with pytest.raises(NotFoundError):
            list(find_photos(location))


def test_a_location_with_an_unknown_scheme_is_refused() -> None:
    with pytest.raises(InputError, match="is not supported"):
        list(find_photos("gs://bucket/photos"))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("a.jpg", "b.txt", "cats/c.JPG", "cats/deep/d.png", "cats/.hidden.jpg", "@eaDir/e.jpg", "odd[1].jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    return tmp_path


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.jpg", ["a.jpg", "odd[1].jpg"]),
        ("[ab].*", ["a.jpg"]),
        ("**/*.png", ["cats/deep/d.png"]),
        ("**", ["a.jpg", "cats/c.JPG", "cats/deep/d.png", "odd[1].jpg"]),
        ("cat?", ["cats/c.JPG", "cats/deep/d.png"]),
        ("ca*/deep/*", ["cats/deep/d.png"]),
        ("odd[1].jpg", ["odd[1].jpg"]),
    ],
)
def test_a_pattern_gives_each_matching_photo_once(tree: Path, pattern: str, expected: list[str]) -> None:
    assert sorted(find_photos(f"{tree}/{pattern}")) == [f"{tree}/{name}" for name in expected]


def test_a_pattern_may_be_relative_or_below_a_hidden_folder(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree.rename(tree.parent / ".hidden")
    monkeypatch.chdir(tree.parent / ".hidden")
    assert list(find_photos("c*/*.JPG")) == ["cats/c.JPG"]
    assert next(find_photos(f"{tree.parent}/.hidden/*.jpg")).endswith("/.hidden/a.jpg")


def test_a_pattern_that_matches_no_photo_is_not_found(tree: Path) -> None:
    for pattern in ("*.txt", "none/*.jpg", "cats/.*"):
        with pytest.raises(NotFoundError, match="matches no photos"):
            list(find_photos(f"{tree}/{pattern}"))


# -- links, loops and what is no photo ---------------------------------------------------------------------------------


def find(location: object) -> tuple[list[str], dict[str, TransferLiteError]]:
    """Find photos; returns their names and the errors by name."""
    errors: list[TransferLiteError] = []
    names = list(find_photos(str(location), errors.append))
    return names, {error.where: error for error in errors}


@pytest.mark.parametrize("links", [1, 2, 3])
@pytest.mark.parametrize("pattern", ["", "/**/*.jpg", "/**", "/*", "/../photos/**/?.jpg"])
def test_a_photo_beside_links_to_its_folder_is_found_once(tmp_path: Path, pattern: str, links: int) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "1.jpg").write_bytes(b"")
    for number in range(links):
        (folder / f"loop{number}").symlink_to(folder)
    names, errors = find(f"{folder}{pattern}")
    assert [Path(name).name for name in names] == ["1.jpg"]
    assert not errors


def test_a_photo_that_a_pattern_reaches_by_two_links_is_found_once(tree: Path) -> None:
    (tree / "more").symlink_to("cats")
    assert find(f"{tree}/*/*.JPG")[0] == [f"{tree}/cats/c.JPG"]
    assert find(f"{tree}/mo*/*.JPG")[0] == [f"{tree}/more/c.JPG"]
    assert find(f"{tree}/more/**")[0] == [f"{tree}/more/c.JPG", f"{tree}/more/deep/d.png"]


@pytest.mark.parametrize("pattern", ["", "/**/*.jpg", "/*"])
def test_what_is_named_like_a_photo_and_is_none_is_an_error(tmp_path: Path, pattern: str) -> None:
    (tmp_path / "1.jpg").write_bytes(b"")
    (tmp_path / "2.jpg").symlink_to(".git/annex/objects/2.jpg")
    (tmp_path / "notes.txt").symlink_to("nowhere")
    os.mkfifo(tmp_path / "3.jpg")
    os.mkfifo(tmp_path / "control")
    names, errors = find(f"{tmp_path}{pattern}")
    assert names == [f"{tmp_path}/1.jpg"]
    assert {Path(where).name: str(error).removeprefix(f"{where}: ") for where, error in errors.items()} == {
        "2.jpg": "is a broken symbolic link to '.git/annex/objects/2.jpg'",
        "3.jpg": "is a named pipe",
    }
    with pytest.raises(TransferLiteError):
        list(find_photos(f"{tmp_path}{pattern}"))


@pytest.mark.parametrize("pattern", ["", "/**/*.jpg", "/*"])
def test_an_unreadable_folder_is_an_error_and_the_others_are_searched(tmp_path: Path, pattern: str) -> None:
    for name in ("a/1.jpg", "private/2.jpg", "z/3.jpg", "lost+found/4.jpg"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "unplugged").symlink_to("/mnt/nowhere")
    with unreadable(tmp_path / "private", tmp_path / "lost+found"):
        names, errors = find(f"{tmp_path}{pattern}")
    assert names == [f"{tmp_path}/a/1.jpg", f"{tmp_path}/z/3.jpg"]
    assert isinstance(errors.pop(f"{tmp_path}/private"), AccessDeniedError)
    assert list(errors) == [f"{tmp_path}/unplugged"]


def test_a_location_that_may_not_be_read_is_denied(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    with unreadable(tmp_path / "photos"):
        for pattern in ("", "/*.jpg"):
            with pytest.raises(AccessDeniedError, match="photos: permission denied"):
                find(f"{tmp_path}/photos{pattern}")
        assert find(f"{tmp_path}/photos/1.jpg")[0] == [f"{tmp_path}/photos/1.jpg"]  # reading it reports the error


def test_a_relative_pattern_names_errors_as_it_names_photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "1.jpg").write_bytes(b"")
    (tmp_path / "2.jpg").symlink_to("nowhere")
    names, errors = find("*.jpg")
    assert (names, list(errors)) == (["1.jpg"], ["2.jpg"])


# -- keys on S3 --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["./a.jpg", "../a.jpg", "a/./b.jpg", "a/../b.jpg", "a.jpg/", ".."])
def test_a_key_with_a_dot_segment_or_a_last_slash_has_a_problem(key: str) -> None:
    assert key_problem(key)


@pytest.mark.parametrize("key", ["a.jpg", "a//b.jpg", "/a.jpg", ".a.jpg", "...", "a/..b.jpg"])
def test_other_keys_have_no_problem(key: str) -> None:
    assert key_problem(key) == ""


def test_objects_whose_keys_no_photo_may_have_are_errors(bucket: Any) -> None:
    good = ["in//b.jpg", "in/a.jpg", "in/x\x01.jpg"]
    bad = ["in/../c.jpg", "in/./d.jpg", "in/e.jpg/"]
    for key in (*good, *bad, "in/folder/", "in/notes/../x.txt", "in/.hidden/f.jpg"):
        bucket.put_object(Bucket=BUCKET, Key=key, Body=b"" if key == "in/folder/" else b"content")
    names, errors = find(f"s3://{BUCKET}/in")
    assert names == [f"s3://{BUCKET}/{key}" for key in good]
    assert sorted(errors) == [f"s3://{BUCKET}/{key}" for key in bad]
