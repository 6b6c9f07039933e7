import json
import os
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import BUCKET
from tests.permissions import unreadable
from train_job.data.dataset import Dataset
from train_job.data.example import Example, RejectedPhoto, Split
from train_job.data.labels.read_labels import read_dataset
from train_job.data.load_photos import fetch
from train_job.data.photos import Photos
from transferlite.errors import AccessDeniedError, InputError, NotFoundError

WITH_SPLIT = "File Name,Label,Split"


def fill(root: Path, *names: str) -> str:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"photos are not decoded here")
    return str(root)


def csv(folder: Path, *lines: str, header: str = "File Name,Label") -> str:
    path = folder / "labels.csv"
    path.write_text("".join(f"{line}\n" for line in (header, *lines)), encoding="utf-8")
    return str(path)


@pytest.fixture
def photos(tmp_path: Path) -> str:
    return fill(tmp_path / "photos", "a.jpg", "b.jpg", "c.jpg", "d.jpg")


def labelled(dataset: Dataset) -> list[tuple[str, str]]:
    return [(example.image.rpartition("/")[2], example.label) for example in dataset.examples]


def codes(dataset: Dataset) -> list[tuple[int | None, str]]:
    return [(rejected.row, rejected.code) for rejected in dataset.rejected]


# -- from a CSV ------------------------------------------------------------------------------------------------------


def test_a_csv_gives_each_photo_its_label_and_row(photos: str, tmp_path: Path) -> None:
    dataset = read_dataset(photos, csv(tmp_path, "b.jpg,dog", "a.jpg,cat"))
    assert dataset.examples == (Example(f"{photos}/b.jpg", "dog", 2), Example(f"{photos}/a.jpg", "cat", 3))
    assert dataset.labels == ("cat", "dog")
    assert dataset.rejected == ()


def test_a_photo_without_a_row_is_not_used(photos: str, tmp_path: Path) -> None:
    assert labelled(read_dataset(photos, csv(tmp_path, "a.jpg,cat", "b.jpg,dog"))) == [
        ("a.jpg", "cat"),
        ("b.jpg", "dog"),
    ]


def test_columns_may_have_other_names_and_neighbours(photos: str, tmp_path: Path) -> None:
    labels = csv(tmp_path, "1,cat,a.jpg", "2,dog,b.jpg", header="id,kind,file")
    assert labelled(read_dataset(photos, labels, x_col="file", y_col="kind")) == [("a.jpg", "cat"), ("b.jpg", "dog")]


def test_a_byte_order_mark_is_not_part_of_the_first_column(photos: str, tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_bytes(b"\xef\xbb\xbfFile Name,Label\r\na.jpg,cat\r\nb.jpg,dog\r\n")
    assert read_dataset(photos, str(path)).labels == ("cat", "dog")


@pytest.mark.parametrize(
    "name", ["a, b.jpg", "two words.jpg", "Kätzchen-猫.jpg", "sub/folder/x.jpg", "100%25.jpg", "no-suffix"]
)
def test_a_name_is_taken_as_it_is_written(tmp_path: Path, name: str) -> None:
    images = fill(tmp_path / "photos", name, "other.jpg")
    dataset = read_dataset(images, csv(tmp_path, f'"{name}",cat', "other.jpg,dog"))
    assert dataset.examples[0].image == f"{images}/{name}"
    assert dataset.rejected == ()


def test_spaces_around_names_and_labels_are_dropped(photos: str, tmp_path: Path) -> None:
    dataset = read_dataset(photos, csv(tmp_path, " a.jpg , cat ", "b.jpg,dog "))
    assert labelled(dataset) == [("a.jpg", "cat"), ("b.jpg", "dog")]


@pytest.mark.parametrize("label", ["NA", "None", "nan", "007", "1.0", "true", "Ünïcode 猫"])
def test_a_label_is_text_whatever_it_looks_like(photos: str, tmp_path: Path, label: str) -> None:
    assert read_dataset(photos, csv(tmp_path, f"a.jpg,{label}", "b.jpg,zz")).examples[0].label == label


@pytest.mark.parametrize("prefix", ["", "./", "{photos}/"])
def test_a_name_may_be_relative_or_a_whole_path(photos: str, tmp_path: Path, prefix: str) -> None:
    start = prefix.format(photos=photos)
    dataset = read_dataset(photos, csv(tmp_path, f"{start}a.jpg,cat", f"{start}b.jpg,dog"))
    assert [example.image for example in dataset.examples] == [f"{photos}/a.jpg", f"{photos}/b.jpg"]


def test_a_photo_named_in_two_ways_is_one_photo(photos: str, tmp_path: Path) -> None:
    dataset = read_dataset(photos, csv(tmp_path, "a.jpg,cat", f"{photos}/a.jpg,cat", "./a.jpg,cat", "b.jpg,dog"))
    assert codes(dataset) == [(3, "repeated-row"), (4, "repeated-row")]


def test_a_name_elsewhere_is_kept_whole(photos: str, tmp_path: Path) -> None:
    other = fill(tmp_path / "elsewhere", "x.jpg")
    dataset = read_dataset(photos, csv(tmp_path, "a.jpg,cat", f"{other}/x.jpg,dog", "s3://bucket/y.jpg,dog"))
    assert [example.image for example in dataset.examples][1:] == [f"{other}/x.jpg", "s3://bucket/y.jpg"]


def test_a_row_that_names_an_absent_photo_is_rejected(photos: str, tmp_path: Path) -> None:
    labels = csv(tmp_path, "a.jpg,cat", "gone.jpg,cat", "b.jpg,dog")
    (rejected,) = read_dataset(photos, labels).rejected
    assert (rejected.uri, rejected.row, rejected.code) == (f"{photos}/gone.jpg", 3, "missing")
    assert labels in rejected.reason


def test_a_name_that_climbs_out_of_the_folder_is_missing(photos: str, tmp_path: Path) -> None:
    fill(tmp_path, "outside.jpg")
    dataset = read_dataset(photos, csv(tmp_path, "a.jpg,cat", "../outside.jpg,cat", "b.jpg,dog"))
    assert codes(dataset) == [(3, "missing")]


@pytest.mark.parametrize("row", ["c.jpg,", "c.jpg, ", ",cat", " ,cat", "c.jpg", "gone.jpg,"])
def test_a_row_with_an_empty_name_or_label_is_rejected(photos: str, tmp_path: Path, row: str) -> None:
    dataset = read_dataset(photos, csv(tmp_path, "a.jpg,cat", row, "b.jpg,dog"))
    assert codes(dataset) == [(3, "no-label")]
    assert dataset.labels == ("cat", "dog")


def test_a_repeated_row_is_counted_once(photos: str, tmp_path: Path) -> None:
    dataset = read_dataset(photos, csv(tmp_path, "a.jpg,cat", "b.jpg,dog", "a.jpg,cat"))
    assert labelled(dataset) == [("a.jpg", "cat"), ("b.jpg", "dog")]
    assert codes(dataset) == [(4, "repeated-row")]
    assert "row 2" in dataset.rejected[0].reason


def test_rows_that_disagree_about_a_photo_are_both_rejected(photos: str, tmp_path: Path) -> None:
    dataset = read_dataset(photos, csv(tmp_path, "a.jpg,cat", "b.jpg,dog", "a.jpg,dog", "c.jpg,cat"))
    assert labelled(dataset) == [("b.jpg", "dog"), ("c.jpg", "cat")]
    assert sorted(codes(dataset), key=str) == [(2, "conflicting-labels"), (4, "conflicting-labels")]
    assert {rejected.reason for rejected in dataset.rejected} == {"row 2 has 'cat', row 4 has 'dog'"}


def test_a_blank_line_does_not_shift_the_rows_that_are_named(photos: str, tmp_path: Path) -> None:
    dataset = read_dataset(photos, csv(tmp_path, "a.jpg,cat", "", "gone.jpg,dog", "b.jpg,dog"))
    assert (4, "missing") in codes(dataset)


def test_a_comma_at_the_end_of_each_row_does_not_shift_the_columns(photos: str, tmp_path: Path) -> None:
    dataset = read_dataset(photos, csv(tmp_path, "a.jpg,cat,", "b.jpg,dog,"))
    assert labelled(dataset) == [("a.jpg", "cat"), ("b.jpg", "dog")]


def test_a_value_over_several_lines_is_one_row(photos: str, tmp_path: Path) -> None:
    labels = csv(tmp_path, 'a.jpg,cat,"one\ntwo"', "gone.jpg,dog,", "b.jpg,dog,", header="File Name,Label,Note")
    assert codes(read_dataset(photos, labels)) == [(3, "missing")]


@pytest.mark.parametrize("row", ["c.jpg,cat,dog", '"c.jpg"x,cat', '"c.jpg,cat\nd.jpg"x,cat'])
def test_a_malformed_row_is_rejected_alone(photos: str, tmp_path: Path, row: str) -> None:
    labels = csv(tmp_path, "a.jpg,cat", row, "gone.jpg,cat", "b.jpg,dog")
    dataset = read_dataset(photos, labels)
    assert labelled(dataset) == [("a.jpg", "cat"), ("b.jpg", "dog")]
    assert codes(dataset) == [(3, "bad-row"), (4, "missing")]
    assert dataset.rejected[0].uri == labels


def test_a_quote_that_is_never_closed_is_named_with_its_row(photos: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"labels\.csv: the quote that opens in row 3 is not closed"):
        read_dataset(photos, csv(tmp_path, "a.jpg,cat", '"b.jpg,dog', *["c.jpg,cat"] * 20_000))


@pytest.mark.parametrize("label", ["bad\x00label", "bad\u2028label"])
def test_an_unprintable_label_is_rejected(photos: str, tmp_path: Path, label: str) -> None:
    dataset = read_dataset(photos, csv(tmp_path, "a.jpg,cat", f"c.jpg,{label}", "b.jpg,dog"))
    assert codes(dataset) == [(3, "bad-label")]
    assert dataset.rejected[0].reason.isprintable()


def test_a_label_is_the_same_however_its_accents_are_written(photos: str, tmp_path: Path) -> None:
    dataset = read_dataset(photos, csv(tmp_path, "a.jpg,K\u00e4tzchen", "b.jpg,Ka\u0308tzchen", "c.jpg,dog"))
    assert dataset.labels == ("K\u00e4tzchen", "dog")
    chosen = read_dataset(photos, str(tmp_path / "labels.csv"), classes=("dog", "Ka\u0308tzchen"))
    assert chosen.labels == ("dog", "K\u00e4tzchen")


def test_photos_without_a_row_are_unlabelled_and_not_rejected(tmp_path: Path) -> None:
    names = ["new/e.jpg", "new/f.PNG", ".hidden.jpg", "notes.txt", "@eaDir/g.jpg"]
    images = fill(tmp_path / "photos", "a.jpg", "b.jpg", "c.jpg", "d.jpg", *names)
    dataset = read_dataset(images, csv(tmp_path, "a.jpg,cat", "b.jpg,dog", "c.jpg,", "./d.jpg,cat", "d.jpg,dog"))
    assert dataset.unlabelled == (f"{images}/new/e.jpg", f"{images}/new/f.PNG")
    assert {rejected.uri for rejected in dataset.rejected} == {f"{images}/c.jpg", f"{images}/d.jpg"}


def test_a_hidden_file_that_a_row_names_is_no_photo_and_no_bad_one(tmp_path: Path) -> None:
    images = fill(tmp_path / "photos", "a.jpg", "b.jpg", ".DS_Store", ".thumbs/a.jpg")
    dataset = read_dataset(images, csv(tmp_path, "a.jpg,cat", ".DS_Store,cat", ".thumbs/a.jpg,cat", "b.jpg,dog"))
    assert codes(dataset) == [(3, "not-photo-name"), (4, "not-photo-name")]
    dataset.check_rejected_share(0)


# -- the user's own splits ---------------------------------------------------------------------------------------------


def test_a_split_column_assigns_splits_in_upper_and_lower_case(photos: str, tmp_path: Path) -> None:
    labels = csv(tmp_path, "a.jpg,cat,TRAIN", "b.jpg,dog, Val ", "c.jpg,cat,testing", "d.jpg,dog,", header=WITH_SPLIT)
    splits = [example.split for example in read_dataset(photos, labels).examples]
    assert splits == [Split.TRAIN, Split.VALIDATION, Split.TEST, None]


def test_a_row_with_an_unknown_split_is_rejected(photos: str, tmp_path: Path) -> None:
    labels = csv(tmp_path, "a.jpg,cat,train", "b.jpg,dog,trian", "c.jpg,dog,test", header=WITH_SPLIT)
    (rejected,) = read_dataset(photos, labels).rejected
    assert (rejected.uri, rejected.row, rejected.code) == (f"{photos}/b.jpg", 3, "bad-split")
    assert "'trian'" in rejected.reason


def test_a_photo_in_two_splits_is_rejected(photos: str, tmp_path: Path) -> None:
    rows = ["a.jpg,cat,train", "a.jpg,cat,test", "b.jpg,dog,", "b.jpg,dog,test", "c.jpg,cat,train"]
    dataset = read_dataset(photos, csv(tmp_path, *rows, header=WITH_SPLIT))
    assert codes(dataset) == [(3, "conflicting-splits"), (5, "repeated-row"), (2, "conflicting-splits")]
    assert dataset.rejected[0].reason == "row 2 has 'train', row 3 has 'test'"
    assert [(example.row, example.split) for example in dataset.examples] == [(4, Split.TEST), (6, Split.TRAIN)]


@pytest.mark.parametrize(("option", "expected"), [(None, Split.TEST), ("", None), ("Split", Split.TEST)])
def test_a_split_column_can_be_named_and_refused(
    photos: str, tmp_path: Path, option: str | None, expected: Split | None
) -> None:
    labels = csv(tmp_path, "a.jpg,cat,test", "b.jpg,dog,test", header=WITH_SPLIT)
    assert {example.split for example in read_dataset(photos, labels, split_col=option).examples} == {expected}


def test_a_missing_csv_is_named(photos: str, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"nowhere\.csv"):
        read_dataset(photos, str(tmp_path / "nowhere.csv"))


@pytest.mark.parametrize(
    ("columns", "lacking", "option"),
    [
        ("when,who,Label", "File Name", "--x-col"),
        ("File Name,kind,size", "Label", "--y-col"),
        ("one", "File Name", "--x"),
    ],
)
def test_a_missing_column_is_named_with_those_there_and_its_option(
    photos: str, tmp_path: Path, columns: str, lacking: str, option: str
) -> None:
    with pytest.raises(InputError) as caught:
        read_dataset(photos, csv(tmp_path, "1,2,cat", header=columns))
    for word in (repr(lacking), option, *map(repr, columns.split(","))):
        assert word in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01" + bytes(range(256)), id="jpeg"),
        pytest.param(b"PK\x03\x04\x14\x00\x06\x00\x08\x00\x00\x00!\x00b\xee\x9dh", id="spreadsheet"),
        pytest.param("File Name,Label\nä.jpg,cat\n".encode("utf-16-le"), id="utf-16 without a mark"),
        pytest.param("File Name,Label\nä.jpg,cat\n".encode("latin-1"), id="latin-1"),
        pytest.param(b'File Name,Label\n"a.jpg,cat\nb.jpg,dog\n', id="open quote"),
        pytest.param(b"a photo and its label\n", id="prose"),
        pytest.param(b" \n\n", id="blank"),
    ],
)
def test_a_file_that_is_not_csv_is_refused_by_name(photos: str, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "labels.csv").write_bytes(content)
    with pytest.raises(InputError, match=r"labels\.csv"):
        read_dataset(photos, str(tmp_path / "labels.csv"))


def test_a_csv_without_rows_is_refused(photos: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no labelled photo"):
        read_dataset(photos, csv(tmp_path))


def test_a_csv_with_a_missing_folder_of_photos_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="photos: does not exist"):
        read_dataset(str(tmp_path / "photos"), csv(tmp_path, "a.jpg,cat"))


def test_when_every_row_is_rejected_the_first_reason_is_given(photos: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"there is no such file \(row 2"):
        read_dataset(photos, csv(tmp_path, "x.jpg,cat", "y.jpg,dog"))


# -- classes ---------------------------------------------------------------------------------------------------------


def test_classes_set_the_order_and_leave_out_the_others(photos: str, tmp_path: Path) -> None:
    labels = csv(tmp_path, "a.jpg,cat", "b.jpg,dog", "c.jpg,horse")
    dataset = read_dataset(photos, labels, classes=("horse", "cat"))
    assert dataset.labels == ("horse", "cat")
    assert labelled(dataset) == [("a.jpg", "cat"), ("c.jpg", "horse")]


def test_a_class_without_photos_is_refused(photos: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'horse'"):
        read_dataset(photos, csv(tmp_path, "a.jpg,cat", "b.jpg,dog"), classes=("cat", "horse"))


def test_classes_that_no_photo_has_are_refused(photos: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="none has one of the labels horse, cow"):
        read_dataset(photos, csv(tmp_path, "a.jpg,cat", "b.jpg,dog"), classes=("horse", "cow"))


def test_a_class_named_twice_is_refused(photos: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="twice"):
        read_dataset(photos, csv(tmp_path, "a.jpg,cat", "b.jpg,dog"), classes=("cat", "dog", "cat"))


def test_one_class_is_too_few(photos: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"found 1 class \('cat'\); at least two"):
        read_dataset(photos, csv(tmp_path, "a.jpg,cat", "b.jpg,cat"))


# -- from a folder a class -------------------------------------------------------------------------------------------


def test_a_folder_is_a_class_with_whatever_lies_below_it(tmp_path: Path) -> None:
    images = fill(tmp_path, "dog/1.jpg", "cat/2.PNG", "cat/old/deep/3.webp")
    dataset = read_dataset(images)
    assert labelled(dataset) == [("2.PNG", "cat"), ("3.webp", "cat"), ("1.jpg", "dog")]
    assert dataset.labels == ("cat", "dog")
    assert {example.row for example in dataset.examples} == {None}


@pytest.mark.parametrize(
    "junk",
    [
        "lonely.jpg",
        ".hidden/1.jpg",
        ".ipynb_checkpoints/1.jpg",
        "__MACOSX/cat/1.jpg",
        "cat/__MACOSX/1.jpg",
        "cat/.DS_Store",
        "cat/._1.jpg",
        "cat/Thumbs.db",
        "cat/notes.txt",
        "other/readme.md",
    ],
)
def test_files_that_are_no_photos_of_a_class_are_ignored(tmp_path: Path, junk: str) -> None:
    dataset = read_dataset(fill(tmp_path, "cat/1.jpg", "dog/1.jpg", junk))
    assert dataset.labels == ("cat", "dog")
    assert len(dataset.examples) == 2


@pytest.mark.parametrize(
    "name", ["9.41.00\u202fAM.png", "\U0001f468\u200d\U0001f469.jpg", "a\u00a0b.jpg", "quo\"ted'.jpg"]
)
def test_a_name_of_any_printable_characters_is_a_photo(tmp_path: Path, name: str) -> None:
    dataset = read_dataset(fill(tmp_path, f"cat/{name}", f"K\u00e4 {name}/{name}"))
    assert len(dataset.examples) == 2
    assert dataset.rejected == ()


def test_a_folder_name_is_one_class_however_its_accents_are_written(tmp_path: Path) -> None:
    images = fill(tmp_path, "K\u00e4fer/1.jpg", "Ka\u0308fer/2.jpg", "dog/1.jpg")
    assert read_dataset(images).labels == ("K\u00e4fer", "dog")


@pytest.mark.parametrize("names", [[], ["a.jpg", "b.jpg"], ["cat/notes.txt"]])
def test_a_folder_without_folders_of_photos_is_refused(tmp_path: Path, names: list[str]) -> None:
    with pytest.raises(InputError, match="one folder a class"):
        read_dataset(fill(tmp_path, *names))


def test_a_photos_folder_that_does_not_exist_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        read_dataset(str(tmp_path / "nowhere"))


def test_classes_choose_among_the_folders(tmp_path: Path) -> None:
    images = fill(tmp_path, "cat/1.jpg", "dog/1.jpg", "cow/1.jpg")
    assert read_dataset(images, classes=("dog", "cat")).labels == ("dog", "cat")


# -- on S3 -----------------------------------------------------------------------------------------------------------


def upload(client: Any, *keys: str) -> None:
    for key in keys:
        client.put_object(Bucket=BUCKET, Key=key, Body=b"bytes")


def test_a_prefix_on_s3_holds_a_folder_a_class(bucket: Any) -> None:
    upload(
        bucket, "pets/", "pets/cat/", "pets/cat/1.jpg", "pets/dog/a b.jpg", "pets/dog/.DS_Store", "petshop/cow/1.jpg"
    )
    dataset = read_dataset(f"s3://{BUCKET}/pets/")
    assert [(example.image, example.label) for example in dataset.examples] == [
        (f"s3://{BUCKET}/pets/cat/1.jpg", "cat"),
        (f"s3://{BUCKET}/pets/dog/a b.jpg", "dog"),
    ]


@pytest.mark.parametrize("prefix", ["", "./", f"s3://{BUCKET}/pets/"])
def test_a_csv_on_s3_names_photos_on_s3(bucket: Any, prefix: str) -> None:
    upload(bucket, "pets/1.jpg", "pets/2.jpg")
    rows = f"File Name,Label\n{prefix}1.jpg,cat\n{prefix}2.jpg,dog\n{prefix}3.jpg,dog\n"
    bucket.put_object(Bucket=BUCKET, Key="labels.csv", Body=rows.encode())
    dataset = read_dataset(f"s3://{BUCKET}/pets", f"s3://{BUCKET}/labels.csv")
    assert [example.image for example in dataset.examples] == [f"s3://{BUCKET}/pets/1.jpg", f"s3://{BUCKET}/pets/2.jpg"]
    assert codes(dataset) == [(4, "missing")]


def test_a_manifest_on_s3_names_photos_of_any_characters(bucket: Any) -> None:
    keys = ["a b+c%20d.jpg", "quo\"t'ed.jpg", "Ka\u0308fer, 1.jpg", "sub/\u732b.jpg"]
    upload(bucket, *[f"pets/{key}" for key in keys], "pets/other.jpg", "pets/__MACOSX/x.jpg")
    written = [f"s3://{BUCKET}/pets/{unicodedata.normalize('NFC', key)}" for key in keys]
    metadata = [{"class-name": name, "confidence": 0.5} for name in ("cat", "dog", "cat", "dog")]
    objects = [
        {"source-ref": uri, "job": 0, "job-metadata": entry} for uri, entry in zip(written, metadata, strict=True)
    ]
    body = "\n".join(map(json.dumps, objects))
    bucket.put_object(Bucket=BUCKET, Key="output.manifest", Body=body.encode())
    dataset = read_dataset(f"s3://{BUCKET}/pets/", f"s3://{BUCKET}/output.manifest")
    assert [example.image for example in dataset.examples] == [f"s3://{BUCKET}/pets/{key}" for key in keys]
    assert [(example.row, example.label) for example in dataset.examples] == [
        (1, "cat"),
        (2, "dog"),
        (3, "cat"),
        (4, "dog"),
    ]
    assert all(example.stamp and fetch(example.image, 100).data == b"bytes" for example in dataset.examples)
    assert dataset.unlabelled == (f"s3://{BUCKET}/pets/other.jpg",)


def test_a_photo_whose_row_cannot_be_read_has_a_row_all_the_same(photos: str, tmp_path: Path) -> None:
    rows = [{"file": "a.jpg", "label": "cat"}, {"file": "b.jpg", "label": "dog"}, {"file": "./c.jpg", "label": ["x"]}]
    (tmp_path / "labels.jsonl").write_text("\n".join(map(json.dumps, rows)))
    dataset = read_dataset(photos, str(tmp_path / "labels.jsonl"))
    assert [(row.uri, row.row, row.code) for row in dataset.rejected] == [(f"{photos}/c.jpg", 3, "bad-row")]
    assert dataset.unlabelled == (f"{photos}/d.jpg",)


def test_a_missing_csv_on_s3_is_named(bucket: Any) -> None:
    upload(bucket, "pets/1.jpg")
    with pytest.raises(NotFoundError, match=f"s3://{BUCKET}/labels.csv"):
        read_dataset(f"s3://{BUCKET}/pets", f"s3://{BUCKET}/labels.csv")


# -- the data set itself ---------------------------------------------------------------------------------------------


def pets() -> Dataset:
    return Dataset(Photos.of([Example("a", "cat"), Example("b", "dog"), Example("c", "dog")]), ("cat", "dog"))


def test_rejected_photos_are_moved_to_the_rejected_list() -> None:
    rejected = RejectedPhoto("b", None, "empty", "the file is empty")
    usable = Photos.of(example for example in pets().examples if example.image != "b")
    smaller = pets().restrict_to(usable, [rejected])
    assert [example.image for example in smaller.examples] == ["a", "c"]
    assert smaller.rejected == (rejected,)


def test_a_class_without_usable_photos_is_named_with_the_reason() -> None:
    with pytest.raises(InputError, match=r"'cat'.*the file is empty"):
        pets().restrict_to(pets().examples[1:], [RejectedPhoto("a", None, "empty", "the file is empty")])


def test_with_test_photos_puts_only_those_in_the_test_split() -> None:
    rejected = RejectedPhoto("z", 9, "missing", "there is no such file")
    held_out = Dataset(Photos.of([Example("t", "cat"), Example("u", "dog")]), ("cat", "dog"), (rejected,))
    both = pets().with_test_photos(held_out)
    assert [example.split for example in both.examples] == [None, None, None, Split.TEST, Split.TEST]
    assert both.rejected == (rejected,)


def test_a_photo_that_either_label_file_names_is_not_unlabelled() -> None:
    learned_from = Dataset(pets().examples, ("cat", "dog"), (), unlabelled=("t", "u", "v", "w"))
    tests = Photos.of([Example("t", "cat"), Example("u", "dog")])
    held_out = Dataset(
        tests, ("cat", "dog"), (RejectedPhoto("v", 3, "no-label", "why"),), unlabelled=("a", "b", "c", "w")
    )
    assert learned_from.with_test_photos(held_out).unlabelled == ("w",)


def test_every_object_on_s3_is_used_or_rejected(bucket: Any) -> None:
    used = ["pets//cat/1.jpg", "pets/cat//2.jpg", "pets/dog/3.jpg"]
    bad = ["pets/./cat/4.jpg", "pets/../cat/5.jpg", "pets/cat/../6.jpg", "pets/dog/./7.jpg", "pets/cat/8.jpg/"]
    odd = {"pets/cat/9\x01.jpg": "pets/cat/9\\x01.jpg", "pets/dog/": "pets/dog/"}
    upload(bucket, *used, *bad, *odd, "pets/lonely.jpg", "pets/cat/notes.txt")
    bucket.put_object(Bucket=BUCKET, Key="pets/cat/", Body=b"")  # a folder's marker
    dataset = read_dataset(f"s3://{BUCKET}/pets")
    assert sorted(example.image.removeprefix(f"s3://{BUCKET}/") for example in dataset.examples) == sorted(used)
    assert dataset.labels == ("cat", "dog")
    assert {photo.uri.removeprefix(f"s3://{BUCKET}/"): photo.code for photo in dataset.rejected} == {
        **dict.fromkeys([*bad, *odd.values()], "bad-name"),
        "pets/lonely.jpg": "no-label",
        "pets/cat/notes.txt": "not-photo-name",
    }
    reasons = {photo.reason for photo in dataset.rejected if photo.code == "bad-name"}
    assert len(reasons) == 3


def test_labels_may_name_any_key_on_s3_and_bad_ones_are_rejected(bucket: Any) -> None:
    keys = ["/1.jpg", "a//2.jpg", "./3.jpg", "a/../4.jpg", "5.jpg/", "6.jpg"]
    upload(bucket, *(f"pets/{key}" for key in keys), "pets/x/../unnamed.jpg")
    rows = "".join(f"{key},{label}\n" for key, label in zip(keys, ["cat", "dog"] * 3, strict=True))
    bucket.put_object(Bucket=BUCKET, Key="labels.csv", Body=f"File Name,Label\n{rows}".encode())
    dataset = read_dataset(f"s3://{BUCKET}/pets", f"s3://{BUCKET}/labels.csv")
    root = f"s3://{BUCKET}/pets/"
    assert [example.image.removeprefix(root) for example in dataset.examples] == ["/1.jpg", "a//2.jpg", "6.jpg"]
    assert codes(dataset) == [(4, "bad-name"), (5, "bad-name"), (6, "bad-name")]
    assert dataset.unlabelled == (f"{root}x/../unnamed.jpg",)


# -- links, pipes and folders that cannot be read ---------------------------------------------------------------------


@pytest.fixture
def class_folders(tmp_path: Path) -> Path:
    """A folder a class, with two photos each."""
    root = tmp_path / "pets"
    for name in ("cat/1.jpg", "cat/2.jpg", "dog/3.jpg", "dog/deep/4.jpg"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
    return root


def reasons(dataset: Dataset, root: Path) -> dict[str, tuple[str, str]]:
    return {photo.uri.removeprefix(f"{root}/"): (photo.code, photo.reason) for photo in dataset.rejected}


def test_broken_links_and_pipes_in_class_folders_are_rejected(class_folders: Path) -> None:
    (class_folders / "cat" / "5.jpg").symlink_to("../.git/annex/objects/5.jpg")
    (class_folders / "dog" / "more").symlink_to("/mnt/unplugged")
    (class_folders / "dog" / "notes.txt").symlink_to("nowhere")
    os.mkfifo(class_folders / "dog" / "6.jpg")
    os.mkfifo(class_folders / ".control")
    dataset = read_dataset(str(class_folders))
    assert len(dataset.examples) == 4
    assert reasons(dataset, class_folders) == {
        "cat/5.jpg": ("missing", "is a broken symbolic link to '../.git/annex/objects/5.jpg'"),
        "dog/6.jpg": ("unusable", "is a named pipe"),
        "dog/more": ("missing", "is a broken symbolic link to '/mnt/unplugged'"),
    }
    with pytest.raises(InputError, match="3 of 7 photos cannot be used"):
        dataset.check_rejected_share(0.4)


def test_a_checkout_of_broken_links_alone_is_explained(tmp_path: Path) -> None:
    for name in ("cat/1.jpg", "dog/2.jpg"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).symlink_to("../.git/annex/objects/x")
    with pytest.raises(
        InputError, match=r"holds no folder of photos; first of 2 rejected: .* is a broken symbolic link"
    ):
        read_dataset(str(tmp_path))
    with pytest.raises(NotFoundError, match=r"holds no files; cat/1\.jpg is a broken symbolic link"):
        read_dataset(str(tmp_path), csv(tmp_path.parent, "cat/1.jpg,cat", "dog/2.jpg,dog"))


def test_an_unreadable_folder_in_a_class_is_rejected(class_folders: Path) -> None:
    (class_folders / "lost+found").mkdir()
    with unreadable(class_folders / "dog" / "deep", class_folders / "lost+found"):
        dataset = read_dataset(str(class_folders))
    assert len(dataset.examples) == 3
    assert reasons(dataset, class_folders) == {"dog/deep": ("forbidden", "cannot be read (Permission denied)")}


def test_a_class_folder_that_cannot_be_read_stops_the_training(class_folders: Path) -> None:
    with unreadable(class_folders / "dog"), pytest.raises(AccessDeniedError, match="pets/dog: cannot be read"):
        read_dataset(str(class_folders))
    (class_folders / "horse").symlink_to("/mnt/unplugged/horse")
    with pytest.raises(NotFoundError, match="pets/horse: is a broken symbolic link"):
        read_dataset(str(class_folders))
    assert read_dataset(str(class_folders), classes=("cat", "dog")).labels == ("cat", "dog")


def test_files_that_may_not_be_looked_at_are_rejected(class_folders: Path) -> None:
    with unreadable(class_folders / "dog" / "deep", mode=0o444):  # its files can be listed, and nothing else
        dataset = read_dataset(str(class_folders))
    assert reasons(dataset, class_folders) == {"dog/deep/4.jpg": ("forbidden", "cannot be read (Permission denied)")}


def test_a_linked_class_folder_is_read_and_loops_are_followed_once(class_folders: Path, tmp_path: Path) -> None:
    (tmp_path / "horses").mkdir()
    (tmp_path / "horses" / "5.jpg").write_bytes(b"5")
    (class_folders / "horse").symlink_to(tmp_path / "horses")
    for name in ("loop", "cat/loop", "cat/loop2"):
        (class_folders / name).symlink_to(class_folders)
    dataset = read_dataset(str(class_folders))
    assert dataset.labels == ("cat", "dog", "horse")
    assert len(dataset.examples) == 5
    assert {code for code, _ in reasons(dataset, class_folders).values()} == {"duplicate"}


def test_a_folder_that_two_classes_share_is_a_conflict(class_folders: Path) -> None:
    (class_folders / "cat" / "more").symlink_to("../dog")
    (class_folders / "cat" / "again").symlink_to(".")
    dataset = read_dataset(str(class_folders))
    assert reasons(dataset, class_folders) == {
        "cat/again": ("duplicate", "leads to the folder 'cat', which is listed already"),
        "cat/more": ("conflicting-labels", "leads to the folder 'dog', which is listed already with another label"),
    }


def test_rows_that_name_what_cannot_be_listed_say_why(class_folders: Path, tmp_path: Path) -> None:
    (class_folders / "5.jpg").symlink_to("nowhere")
    (class_folders / "unplugged").symlink_to("/mnt/nowhere")
    (class_folders / "unnamed.jpg").symlink_to("nowhere")
    os.mkfifo(class_folders / "6.jpg")
    names = ["cat/1.jpg", "dog/3.jpg", "5.jpg", "6.jpg", "dog/deep/4.jpg", "unplugged/a/7.jpg", "gone.jpg"]
    labels = csv(tmp_path, *(f"{name},{'dog' if 'dog' in name else 'cat'}" for name in names))
    with unreadable(class_folders / "dog" / "deep"):
        dataset = read_dataset(str(class_folders), labels)
    assert len(dataset.examples) == 2
    found = {
        name: (code, reason.partition(" (row")[0]) for name, (code, reason) in reasons(dataset, class_folders).items()
    }
    assert found == {
        "5.jpg": ("missing", "is a broken symbolic link to 'nowhere'"),
        "6.jpg": ("unusable", "is a named pipe"),
        "dog/deep/4.jpg": ("forbidden", "its folder 'dog/deep' cannot be read (Permission denied)"),
        "dog/deep": ("forbidden", "cannot be read (Permission denied)"),
        "unplugged/a/7.jpg": ("missing", "its folder 'unplugged' is a broken symbolic link to '/mnt/nowhere'"),
        "unplugged": ("missing", "is a broken symbolic link to '/mnt/nowhere'"),
        "gone.jpg": ("missing", "there is no such file"),
    }
    assert f"{class_folders}/unnamed.jpg" in dataset.unlabelled


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("today/1.jpg", "cat/1.jpg"),
        ("cat/loop/cat/loop/cat/1.jpg", "cat/1.jpg"),
        ("cat/loop/today/2.jpg", "cat/2.jpg"),
        ("today/loop/dog/deep/4.jpg", "dog/deep/4.jpg"),
    ],
)
def test_rows_may_name_photos_through_links_to_listed_folders(
    class_folders: Path, tmp_path: Path, name: str, expected: str
) -> None:
    (class_folders / "today").symlink_to("cat")
    (class_folders / "cat" / "loop").symlink_to("..")
    dataset = read_dataset(str(class_folders), csv(tmp_path, f"{name},a", "dog/3.jpg,b", "today/gone.jpg,a"))
    assert dataset.examples[0].image == f"{class_folders}/{expected}"
    assert codes(dataset) == [(4, "missing")]
