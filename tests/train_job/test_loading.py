import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtime.folder import FolderStore
from runtime.imaging import InputSpec, decode
from tests.conftest import BUCKET
from tests.pictures import jpeg
from train_job.dataset import Example, Reject, Split
from train_job.loading import Photo, Seen, load_photos

SPEC = InputSpec(32, 40)


def load(*examples: Example) -> list[Photo | Seen | Reject]:
    return list(load_photos(examples, SPEC))


def write(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    return str(path)


def test_a_photo_comes_decoded_with_its_hash(tmp_path: Path) -> None:
    content = jpeg("red")
    (photo,) = load(Example(write(tmp_path / "a.jpg", content), "red", 7, split=Split.TEST))
    assert isinstance(photo, Photo)
    sha256 = hashlib.sha256(content).hexdigest()
    assert photo.example == Example(str(tmp_path / "a.jpg"), "red", 7, sha256, Split.TEST)
    np.testing.assert_array_equal(photo.image, decode(content, SPEC))


def test_a_photo_that_is_known_by_its_content_is_not_decoded(tmp_path: Path) -> None:
    known, new, bad = (
        write(tmp_path / name, data) for name, data in (("k", jpeg("red")), ("n", jpeg("blue")), ("b", b"?"))
    )
    sha256 = hashlib.sha256(jpeg("red")).hexdigest()
    examples = [Example(name, "red") for name in (known, new, bad)]
    first, second, third = load_photos(examples, SPEC, lambda example: example.sha256 == sha256)
    assert first == Seen(Example(known, "red", sha256=sha256))
    assert isinstance(second, Photo)
    assert isinstance(third, Reject)


def test_a_photo_keeps_its_stamp_only_while_it_is_what_was_listed(tmp_path: Path) -> None:
    write(tmp_path / "a.jpg", jpeg("red"))
    (entry,) = FolderStore(tmp_path).entries()
    listed = Example(str(tmp_path / "a.jpg"), "red", stamp=entry.stamp)
    (same,) = load(listed)
    write(tmp_path / "a.jpg", jpeg("red", 1))
    (changed,) = load(listed)
    assert isinstance(same, Photo)
    assert same.example.stamp == entry.stamp
    assert isinstance(changed, Photo)
    assert changed.example.stamp == ""


def test_photos_come_in_the_order_asked_for(tmp_path: Path) -> None:
    names = [write(tmp_path / f"{number}.jpg", jpeg("blue", number)) for number in range(80)]
    photos = load(*(Example(name, "blue") for name in reversed(names)))
    assert [photo.example.image for photo in photos if isinstance(photo, Photo)] == names[::-1]


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "empty"),
        (b"%PDF-1.7 not a photo", "not-image"),
        (jpeg("red")[:900], "truncated"),
        (None, "missing"),
    ],
)
def test_a_bad_photo_is_a_reject_with_its_row_among_the_good(tmp_path: Path, content: bytes | None, code: str) -> None:
    bad = tmp_path / "bad.jpg"
    if content is not None:
        bad.write_bytes(content)
    good = write(tmp_path / "good.jpg", jpeg("red"))
    before, reject, after = load(Example(good, "red", 2), Example(str(bad), "red", 3), Example(good, "red", 4))
    assert isinstance(reject, Reject)
    assert (reject.uri, reject.row, reject.code) == (str(bad), 3, code)
    assert isinstance(before, Photo)
    assert isinstance(after, Photo)


UNUSABLE_NAMES = {
    "a folder": "{folder}",
    "a name that ends in a slash": "{folder}/",
    "a web address": "https://example.com/cat.jpg",
    "a bucket without a key": "s3://test-bucket",
    "a path that climbs": "{folder}/..",
    "a name too long for the file system": "{folder}/" + "x" * 300 + ".jpg",
    "a name with a null byte": "{folder}/a\0.jpg",
}


@pytest.mark.parametrize("name", UNUSABLE_NAMES.values(), ids=list(UNUSABLE_NAMES))
def test_a_name_that_cannot_be_a_photo_is_rejected_and_stops_nothing(tmp_path: Path, name: str) -> None:
    (reject,) = load(Example(name.format(folder=tmp_path), "red", 5))
    assert isinstance(reject, Reject)
    assert reject.row == 5


def test_photos_on_s3_are_fetched_by_their_uri(bucket: Any) -> None:
    content = jpeg("green")
    bucket.put_object(Bucket=BUCKET, Key="pets/a b+ü.jpg", Body=content)
    photo, gone = load(
        Example(f"s3://{BUCKET}/pets/a b+ü.jpg", "green"),
        Example(f"s3://{BUCKET}/pets/gone.jpg", "green"),
    )
    assert isinstance(photo, Photo)
    assert photo.example.sha256 == hashlib.sha256(content).hexdigest()
    assert isinstance(gone, Reject)
    assert gone.code == "missing"


def test_nothing_asked_for_gives_nothing() -> None:
    assert load() == []
