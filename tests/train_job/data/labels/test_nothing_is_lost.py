"""Every file and every row is used, rejected with a code, or counted as skipped."""

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from train_job.data.dataset import LabelledPhotos
from train_job.data.labels.match_photos import escape_unprintable
from train_job.data.labels.read_labels import read_photos
from train_job.quality.codes import REJECTED_ADVICE
from transferlite.errors import InputError, NotFoundError

ROW_REASONS = {"blank row", "class not in --classes"}

folders = st.sampled_from(
    [
        *["cat", "Cat", "dog", "train", "test", "val", "data", "c\u200bat", "Käfer", "Ka\u0308fer"],
        *[".hidden", "__MACOSX", "@eaDir", "two words", "a,b", 'q"t', "unknown", "new\nline"],
    ]
)
files = st.sampled_from(
    [
        *[
            "1.jpg",
            "2.PNG",
            "1.jpeg",
            "3.heic",
            "\xe9.jpg",
            "e\u0301.jpg",
            "\udcff.jpg",
            "tab\t.jpg",
            " 1.jpg",
            "1.jpg ",
        ],
        *[
            "notes.txt",
            "b.nef",
            "c.svg",
            "Thumbs.db",
            "._1.jpg",
            "x",
            "_classes.csv",
            "d.tar.gz",
            "bad\x7f.txt",
            "+.jpg",
        ],
    ]
)
paths = st.lists(folders, max_size=3).flatmap(lambda parts: files.map(lambda name: "/".join([*parts, name])))
trees = st.lists(paths, max_size=12, unique=True)
chosen_classes = st.sampled_from([(), (), ("cat", "dog"), ("train", "test"), ("cat",)])


def write_tree(root: Path, keys: list[str]) -> set[str]:
    """Create the files, and return the paths of those that the file system took."""
    for key in keys:
        try:
            (root / key).parent.mkdir(parents=True, exist_ok=True)
            (root / key).write_bytes(b"x")
        except OSError:  # a file lies where a folder is needed
            continue
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


def check_codes(photos: LabelledPhotos) -> None:
    assert {photo.code for photo in photos.rejected} <= REJECTED_ADVICE.keys()
    assert all(photo.reason and photo.reason.isprintable() for photo in photos.rejected)
    assert all(example.label in photos.labels for example in photos.examples)


@given(trees, chosen_classes)
@settings(max_examples=120, deadline=None)
def test_every_file_below_class_folders_is_accounted_for(keys: list[str], classes: tuple[str, ...]) -> None:
    with tempfile.TemporaryDirectory() as name:
        listed = write_tree(Path(name), keys)
        try:
            photos = read_photos(name, None, classes=classes)
        except InputError as error:
            if "split" not in str(error):
                raise
            return  # the folders are ambiguous
    check_codes(photos)
    used = [escape_unprintable(example.image) for example in photos.examples]
    rejected = [escape_unprintable(photo.uri) for photo in photos.rejected]
    assert len({*used, *rejected}) == len(used) + len(rejected)
    assert {*used, *rejected} <= {escape_unprintable(f"{name}/{key}") for key in listed}
    assert len(used) + len(rejected) + sum(photos.skipped.values()) == len(listed)


cells = st.one_of(
    files, paths, st.sampled_from(["cat", "dog", "Cat", "", " ", "NA", "c\u200bat", "train", "test", "0", "1", "a\0b"])
)
good_rows = st.lists(cells, min_size=3, max_size=3).map(
    lambda row: ",".join('"' + value.replace('"', '""') + '"' for value in row)
)
odd_rows = st.sampled_from(["", ",,", '"x"y,cat,', "1.jpg,cat,,more", "1.jpg", "1.jpg,cat", "1.jpg,cat,train,,,", " "])


@given(trees, st.lists(st.one_of(good_rows, odd_rows), max_size=12), chosen_classes)
@settings(max_examples=120, deadline=None)
def test_every_row_and_every_file_is_accounted_for(keys: list[str], rows: list[str], classes: tuple[str, ...]) -> None:
    with tempfile.TemporaryDirectory() as name, tempfile.TemporaryDirectory() as other:
        listed = write_tree(Path(name), keys)
        labels = Path(other) / "labels.csv"
        content = "\n".join(["File Name,Label,Split", *rows, ""])
        labels.write_bytes(content.encode("utf-8", "replace"))
        try:
            photos = read_photos(name, str(labels), (None, None, "Split"), classes)
        except NotFoundError:
            assert not listed
            return
    check_codes(photos)
    numbers = [example.row for example in photos.examples]
    numbers += [photo.row for photo in photos.rejected]
    assert len(set(numbers)) == len(numbers)
    assert set(numbers) <= set(range(2, len(rows) + 2))
    assert len(numbers) + sum(n for reason, n in photos.skipped.items() if reason in ROW_REASONS) == len(rows)

    uris = {escape_unprintable(f"{name}/{key}") for key in listed}
    named = uris & {escape_unprintable(item.image) for item in photos.examples} | uris & {
        item.uri for item in photos.rejected
    }
    unlabelled = {escape_unprintable(uri) for uri in photos.unlabelled}
    assert named.isdisjoint(unlabelled)
    other_files = sum(n for reason, n in photos.skipped.items() if reason not in ROW_REASONS)
    not_chosen = photos.skipped.get("class not in --classes", 0)
    assert len(listed) - not_chosen <= len(named) + len(unlabelled) + other_files <= len(listed)
