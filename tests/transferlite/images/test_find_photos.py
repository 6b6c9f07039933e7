from pathlib import Path
from typing import Any

import pytest

from tests.conftest import BUCKET
from transferlite.errors import InputError, NotFoundError
from transferlite.images.find_photos import find_photos, is_photo


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
