import unicodedata
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from train_job.data.labels.listing import Listing
from train_job.data.labels.match_photos import UNPRINTABLE, PhotoMatch, PhotoMatcher, escape_unprintable
from train_job.data.photos import text_column
from transferlite.storage.store import join_uri

NFC, NFD = "K\u00e4tzchen.jpg", "Ka\u0308tzchen.jpg"
ROOT = "s3://my-photos/data/train_img"


def photos(*keys: str, root: str = ROOT) -> PhotoMatcher:
    stamps = [f"stamp of {key}" for key in keys]
    return PhotoMatcher(Listing(root, text_column(keys), text_column(stamps), {}))


@pytest.mark.parametrize(
    "key",
    ["a b+c%20d.jpg", "100%.jpg", " spaces around .jpg ", "quo\"t'ed.jpg", NFC, NFD, "a\\b.jpg", "/a//b.jpg", "c"],
)
def test_a_key_is_found_by_exactly_its_name(key: str) -> None:
    assert photos(key, "other.jpg").match_all([key])[0] == PhotoMatch(f"{ROOT}/{key}", key, f"stamp of {key}")
    assert photos(key, "other.jpg").match_all([f"{ROOT}/{key}"])[0].key == key


@pytest.mark.parametrize(
    "name",
    [
        *[" sub/a b.jpg ", "./sub/a b.jpg", "/sub/a b.jpg", "././/sub/a b.jpg", "sub\\a b.jpg", ".\\sub\\a b.jpg"],
        *["train_img/sub/a b.jpg", "data/train_img/sub/a b.jpg", "my-photos/data/train_img/sub/a b.jpg"],
        *["/data/train_img/sub/a b.jpg", "train_img\\sub\\a b.jpg", "data\\train_img\\sub/a b.jpg"],
        *[f"{ROOT}/sub/a b.jpg", f"s3a{ROOT[2:]}/sub/a b.jpg", f"S3{ROOT[2:]}/sub/a b.jpg"],
    ],
)
def test_a_name_may_be_written_in_other_ways(name: str) -> None:
    assert photos("sub/a b.jpg", "a b.jpg").match_all([name])[0].key == "sub/a b.jpg"


def test_a_key_that_is_exactly_the_name_is_taken_first() -> None:
    both = photos("a\\b.jpg", "a/b.jpg", "train_img/c.jpg", "c.jpg")
    assert both.match_all(["a\\b.jpg"])[0].key == "a\\b.jpg"
    assert both.match_all(["train_img/c.jpg"])[0].key == "train_img/c.jpg"


@pytest.mark.parametrize(("written", "key"), [(NFC, NFD), (NFD, NFC)])
@pytest.mark.parametrize("before", ["", "./", "train_img\\", f"{ROOT}/"])
def test_accents_may_be_composed_or_not(written: str, key: str, before: str) -> None:
    assert photos(f"sub/{key}").match_all([f"{before}sub/{written}"])[0].key == f"sub/{key}"


def test_accents_that_match_two_photos_match_none() -> None:
    first, second = "e\u0323\u0302.jpg", "\u1eb9\u0302.jpg"  # different, but with the same NFC form
    composed = unicodedata.normalize("NFC", first)
    assert photos(first, second).match_all([composed])[0].code == "missing"
    assert photos(first, second).match_all([second])[0].key == second


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("a.JPG", "a.jpg"),
        ("SUB/b.png", "sub/B.png"),
        ("a", "a.jpg"),
        ("dog.1", "dog.1.jpeg"),
        ("a.png", "a.jpg"),
        ("b.png", "sub/B.png"),
        ("elsewhere/a.jpg", "a.jpg"),
        ("C:\\photos\\a.jpg", "a.jpg"),
        ("two%20words.jpg", "two words.jpg"),
        ("two+words.jpg", "two words.jpg"),
    ],
)
def test_a_similar_name_is_suggested(name: str, near: str) -> None:
    found = photos("a.jpg", "sub/B.png", "dog.1.jpeg", "two words.jpg").match_all([name])[0]
    assert (found.code, found.key) == ("missing", "")
    assert found.reason == f"there is no such file; did you mean {near!r}?"


@pytest.mark.parametrize("name", ["zebra.jpg", "../a.jpg", f"{ROOT}/zebra.jpg", "/zebra.jpg", "file:///zebra.jpg"])
def test_a_photo_that_is_not_there_is_missing(name: str) -> None:
    found = photos("other.jpg").match_all([name])[0]
    assert (found.code, found.key, found.reason) == ("missing", "", "there is no such file")
    assert found.uri.endswith(name.rpartition("/")[2])


def test_photos_elsewhere_are_kept_whole(tmp_path: Path) -> None:
    (tmp_path / "x.jpg").write_bytes(b"")
    for root in (ROOT, str(tmp_path / "photos")):
        names = photos("a.jpg", root=root)
        assert names.match_all([f"{tmp_path}/x.jpg"])[0] == PhotoMatch(f"{tmp_path}/x.jpg")
        assert names.match_all([f"file://{tmp_path}/x.jpg"])[0] == PhotoMatch(f"{tmp_path}/x.jpg")
        assert names.match_all([f"{tmp_path}/y.jpg"])[0].code == "missing"
        assert names.match_all(["s3://other/a b.jpg"])[0] == PhotoMatch("s3://other/a b.jpg")
        assert names.match_all(["s3n://my-photos/data/train_img2/a.jpg"])[0] == PhotoMatch(
            "s3://my-photos/data/train_img2/a.jpg"
        )


def test_a_path_that_is_a_file_is_no_name_below_the_root(tmp_path: Path) -> None:
    (tmp_path / "x.jpg").write_bytes(b"")
    names = photos(f"{tmp_path}/x.jpg"[1:], root=str(tmp_path / "photos"))
    assert names.match_all([f"{tmp_path}/x.jpg"])[0] == PhotoMatch(f"{tmp_path}/x.jpg")


def test_whole_paths_below_a_root_that_is_relative_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for root in ("photos", "./photos", "."):
        for name in (f"{Path(root).absolute()}/sub/a.jpg", "sub/a.jpg", "./sub/a.jpg"):
            assert photos("sub/a.jpg", root=str(Path(root))).match_all([name])[0].key == "sub/a.jpg"


def test_unsupported_names_are_rejected() -> None:
    assert photos("a.jpg").match_all(["https://example.com/a.jpg"])[0].code == "unusable"
    assert photos("a.jpg", ".DS_Store").match_all([".DS_Store"])[0].code == "not-photo-name"
    assert photos("a.jpg").match_all(["s3://other/x/Thumbs.db"])[0].code == "not-photo-name"


def test_an_unprintable_name_is_rejected_and_escaped() -> None:
    for name in ("tab\t.jpg", "two\nlines.jpg", "nul\0.jpg"):
        for names in (photos(name), photos("a.jpg")):
            found = names.match_all([name])[0]
            assert found.code == "bad-name"
            assert found.uri.isprintable()


def test_a_name_that_is_not_utf_8_is_found() -> None:
    assert photos("caf\udce9.jpg").match_all(["./caf\udce9.jpg"])[0].key == "caf\udce9.jpg"


names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=10)


@given(st.lists(names, min_size=1, max_size=6, unique=True), names)
@settings(max_examples=150, deadline=None)
def test_every_key_is_found_by_its_name_and_no_name_raises(keys: list[str], other: str) -> None:
    listed = photos(*keys)
    for key in keys:
        found = listed.match_all([key])[0]
        assert (found.key, found.uri) == (key, escape_unprintable(join_uri(ROOT, key)))
    assert listed.match_all([other])[0].key in {"", *keys}
    assume(not UNPRINTABLE.search(other) and other == other.strip())
    upload = photos(unicodedata.normalize("NFD", other))  # as macOS does
    assert upload.match_all([other])[0].key or upload.match_all([unicodedata.normalize("NFC", other)])[0].key
