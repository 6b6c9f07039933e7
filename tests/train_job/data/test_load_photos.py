import hashlib
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import BUCKET
from tests.pictures import jpeg
from train_job.data import load_photos as loading
from train_job.data.example import Example, RejectedPhoto, Split
from train_job.data.load_photos import MEMORY_BUDGET, DecodedPhoto, SkippedPhoto, load_photos
from train_job.data.photo_facts import decode_with_facts
from transferlite.errors import AccessDeniedError, NotFoundError, TransferLiteError, UnavailableError
from transferlite.images.decoder import decode
from transferlite.images.input_spec import READ_BYTES, InputSpec
from transferlite.storage.folder import FolderStore
from transferlite.storage.store import Blob

SPEC = InputSpec(32, 40)


def load(*examples: Example) -> list[DecodedPhoto | SkippedPhoto | RejectedPhoto]:
    return list(load_photos(examples, SPEC))


def write(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    return str(path)


def test_a_photo_comes_decoded_with_its_hash(tmp_path: Path) -> None:
    content = jpeg("red")
    (photo,) = load(Example(write(tmp_path / "a.jpg", content), "red", 7, split=Split.TEST))
    assert isinstance(photo, DecodedPhoto)
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
    assert first == SkippedPhoto(Example(known, "red", sha256=sha256))
    assert isinstance(second, DecodedPhoto)
    assert isinstance(third, RejectedPhoto)


def test_a_photo_keeps_its_stamp_only_while_it_is_what_was_listed(tmp_path: Path) -> None:
    write(tmp_path / "a.jpg", jpeg("red"))
    (entry,) = FolderStore(tmp_path).entries()
    listed = Example(str(tmp_path / "a.jpg"), "red", stamp=entry.stamp)
    (same,) = load(listed)
    write(tmp_path / "a.jpg", jpeg("red", 1))
    (changed,) = load(listed)
    assert isinstance(same, DecodedPhoto)
    assert same.example.stamp == entry.stamp
    assert isinstance(changed, DecodedPhoto)
    assert changed.example.stamp == ""


def test_photos_come_in_the_order_given(tmp_path: Path) -> None:
    names = [write(tmp_path / f"{number}.jpg", jpeg("blue", number)) for number in range(80)]
    photos = load(*(Example(name, "blue") for name in reversed(names)))
    assert [photo.example.image for photo in photos if isinstance(photo, DecodedPhoto)] == names[::-1]


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "empty"),
        (b"%PDF-1.7 not a photo", "not-image"),
        (jpeg("red")[:900], "truncated"),
        (None, "missing"),
    ],
)
def test_an_unusable_photo_is_rejected_with_its_row(tmp_path: Path, content: bytes | None, code: str) -> None:
    bad = tmp_path / "bad.jpg"
    if content is not None:
        bad.write_bytes(content)
    good = write(tmp_path / "good.jpg", jpeg("red"))
    previous, rejected, following = load(Example(good, "red", 2), Example(str(bad), "red", 3), Example(good, "red", 4))
    assert isinstance(rejected, RejectedPhoto)
    assert (rejected.uri, rejected.row, rejected.code) == (str(bad), 3, code)
    assert isinstance(previous, DecodedPhoto)
    assert isinstance(following, DecodedPhoto)


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
    (rejected,) = load(Example(name.format(folder=tmp_path), "red", 5))
    assert isinstance(rejected, RejectedPhoto)
    assert rejected.row == 5


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (NotFoundError("is archived"), "missing"),
        (AccessDeniedError("access denied"), "forbidden"),
        (TransferLiteError("S3 answered 400"), "unusable"),
    ],
)
def test_a_failed_fetch_rejects_the_photo_with_its_reason(
    error: TransferLiteError, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> Blob:
        raise error

    monkeypatch.setattr(loading, "fetch", refuse)
    assert load(Example("s3://b/a.jpg", "red", 3)) == [RejectedPhoto("s3://b/a.jpg", 3, code, error.message)]


def test_an_unavailable_store_stops_the_loading_after_the_previous_photos(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def respond(uri: str, _: int) -> Blob:
        if uri == "lost":
            raise UnavailableError("no response")
        return Blob(jpeg("red"), "")

    monkeypatch.setattr(loading, "fetch", respond)
    photos = load_photos([Example(name, "red") for name in ("a", "b", "lost", "c")], SPEC)
    assert [type(next(photos)), type(next(photos))] == [DecodedPhoto, DecodedPhoto]
    with pytest.raises(UnavailableError):
        next(photos)


class Fetching:
    """Replaces ``fetch`` and counts the photos that are fetched and not yet decoded."""

    def __init__(self) -> None:
        self.now = self.peak = 0
        self._lock = threading.Lock()

    def fetch(self, *_: Any) -> Blob:
        with self._lock:
            self.now += 1
            self.peak = max(self.peak, self.now)
        time.sleep(0.02)  # long enough for all waiting threads to start
        return Blob(jpeg("red"), "etag")

    def decode(self, data: bytes, spec: InputSpec) -> Any:
        with self._lock:
            self.now -= 1
        return decode_with_facts(data, spec)


@pytest.mark.parametrize(
    ("stamp", "max_photos"),
    [(f"etag {MEMORY_BUDGET // 10}", 10), (f"etag {READ_BYTES * 1000}", 8), ("", 8), ("etag 1000 v1", 16)],
)
def test_photos_that_are_fetched_and_not_yet_decoded_share_bounded_memory(
    stamp: str, max_photos: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetching = Fetching()
    monkeypatch.setattr(loading, "fetch", fetching.fetch)
    monkeypatch.setattr(loading, "decode_with_facts", fetching.decode)
    monkeypatch.setattr(loading, "WORKERS", 16)
    photos = load(*(Example(str(number), "red", stamp=stamp) for number in range(70)))
    assert [photo.example.image for photo in photos if isinstance(photo, DecodedPhoto)] == [str(n) for n in range(70)]
    assert max_photos // 2 < fetching.peak <= max_photos


def test_fewer_large_photos_are_prefetched(monkeypatch: pytest.MonkeyPatch) -> None:
    requested: list[str] = []

    def fetch(uri: str, _: int) -> Blob:
        requested.append(uri)
        return Blob(b"", "")

    monkeypatch.setattr(loading, "fetch", fetch)
    next(load_photos((Example(str(number), "red") for number in range(100)), InputSpec(4096, 4096)))
    assert len(requested) <= MEMORY_BUDGET // (3 * 4096 * 4096) + 1


def test_photos_on_s3_are_fetched_by_their_uri(bucket: Any) -> None:
    content = jpeg("green")
    bucket.put_object(Bucket=BUCKET, Key="pets/a b+ü.jpg", Body=content)
    photo, gone = load(
        Example(f"s3://{BUCKET}/pets/a b+ü.jpg", "green"),
        Example(f"s3://{BUCKET}/pets/gone.jpg", "green"),
    )
    assert isinstance(photo, DecodedPhoto)
    assert photo.example.sha256 == hashlib.sha256(content).hexdigest()
    assert isinstance(gone, RejectedPhoto)
    assert gone.code == "missing"


def test_no_examples_give_no_photos() -> None:
    assert load() == []
