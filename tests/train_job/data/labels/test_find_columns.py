import json
from pathlib import Path

import pytest

from train_job.data.example import Split
from train_job.data.labels.find_columns import find_columns, parse_split
from train_job.data.labels.formats import open_label_file
from train_job.data.labels.label_rows import LabelColumns
from train_job.data.labels.listing import Listing
from train_job.data.labels.match_photos import PhotoMatcher
from train_job.data.photos import text_column
from transferlite.errors import InputError

PHOTOS = PhotoMatcher(Listing("s3://b/pets", text_column(["a.jpg", "sub/b.jpg", "c"]), text_column(["", "", ""]), {}))


def found(
    folder: Path, *rows: str, x: str | None = None, y: str | None = None, split: str | None = None
) -> tuple[str, str | None, str | None]:
    """The columns found in a CSV, as (name, label, split)."""
    (folder / "labels.csv").write_text("\n".join(rows))
    return as_tuple(find_columns(open_label_file(str(folder / "labels.csv")), x, y, split, PHOTOS))


def as_tuple(columns: LabelColumns) -> tuple[str, str | None, str | None]:
    return columns.name, columns.label, columns.split


@pytest.mark.parametrize(
    "header",
    ["File Name,Label", "filename,class", "IMAGE_PATH,Category", "Key,target", "image,label", "s3-uri,Class Name"],
)
def test_columns_are_found_by_well_known_names(tmp_path: Path, header: str) -> None:
    name, label = header.split(",")
    assert found(tmp_path, f"{label},id,size,{name}", "x,1,2,y") == (name, label, None)


def test_the_first_names_win_over_other_known_ones(tmp_path: Path) -> None:
    assert found(tmp_path, "path,class,File Name,Label", "1,2,3,4") == ("File Name", "Label", None)


def test_columns_named_by_option_win_over_everything(tmp_path: Path) -> None:
    rows = ["File Name,Label,id,kind,split,part", "1,2,3,4,test,train"]
    assert found(tmp_path, *rows, x="id", y="kind", split="part") == ("id", "kind", "part")
    assert found(tmp_path, *rows, x="File Name", y="split") == ("File Name", "split", None)


@pytest.mark.parametrize("name", ["a.jpg", "./sub/b.jpg", "s3://b/pets/c", "c"])
def test_of_unknown_columns_the_one_that_names_photos_is_the_name(tmp_path: Path, name: str) -> None:
    assert found(tmp_path, "one,two", f"cat,{name}", "dog,gone.jpg") == ("two", "one", None)
    assert found(tmp_path, "label,n,two", f"cat,1,{name}", "dog,2,x") == ("two", "label", None)


def test_names_of_photos_that_are_all_missing_are_names_still(tmp_path: Path) -> None:
    assert found(tmp_path, "one,two", "cat,gone.jpg", "dog,lost.png") == ("two", "one", None)


def test_of_two_columns_the_other_one_is_the_name(tmp_path: Path) -> None:
    assert found(tmp_path, "label,nr", "cat,0001", "dog,0002") == ("nr", "label", None)
    assert found(tmp_path, "nr,label,split", "0001,cat,train") == ("nr", "label", "split")


def test_of_several_known_names_the_one_that_names_photos_is_taken(tmp_path: Path) -> None:
    assert found(tmp_path, "url,path,label", "https://x/a.jpg,sub/b.jpg,cat") == ("path", "label", None)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (["one,two,three", "1,2,3"], ["'File Name'", "'one', 'two', 'three'", "--x-col"]),
        (["file,path,label", "a.jpg,a.jpg,cat"], ["several columns that name photos: 'file', 'path'", "--x-col"]),
        (["file,label,class", "a.jpg,cat,x"], ["may be the labels: 'label', 'class'", "--y-col"]),
        (["file,one,two", "a.jpg,cat,x"], ["'Label'", "'file', 'one', 'two'", "--y-col"]),
        (["file", "a.jpg"], ["'Label'", "only 'file'", "--y-col"]),
        (["file,label,split,subset", "a.jpg,cat,test,train"], ["of splits: 'split', 'subset'", "--split-col"]),
        (["a.jpg,cat", "b.jpg,dog"], ["no header", "'a.jpg'"]),
    ],
)
def test_an_ambiguous_column_is_an_error_that_names_the_option(
    tmp_path: Path, rows: list[str], words: list[str]
) -> None:
    with pytest.raises(InputError) as caught:
        found(tmp_path, *rows)
    for word in ("labels.csv: ", *words):
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_column_of_splits_that_the_user_names_has_to_be_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no column 'fold', only 'file', 'label'; name it with --split-col"):
        found(tmp_path, "file,label", "a.jpg,cat", split="fold")


@pytest.mark.parametrize(
    ("values", "expected"),
    [(["train", "TEST"], "set"), (["", ""], "set"), (["", "oops", "val"], "set"), (["indoor", "outdoor"], None)],
)
def test_a_column_found_by_name_is_of_splits_if_it_holds_any(
    tmp_path: Path, values: list[str], expected: str | None
) -> None:
    rows = [f"a.jpg,cat,{value}" for value in values]
    assert found(tmp_path, "file,label,set", *rows) == ("file", "label", expected)


def manifest(folder: Path, *objects: dict[str, object], y: str | None = None) -> tuple[str, str | None, str | None]:
    (folder / "x.manifest").write_text("\n".join(map(json.dumps, objects)))
    return as_tuple(find_columns(open_label_file(str(folder / "x.manifest")), None, y, None, PHOTOS))


def attribute(name: str) -> dict[str, object]:
    return {name: 0, f"{name}-metadata": {"class-name": "cat"}}


def test_a_manifests_label_attribute_is_found(tmp_path: Path) -> None:
    line = {"source-ref": "s3://b/pets/a.jpg", "id": 7, "category": "no", **attribute("my-job")}
    assert manifest(tmp_path, line, {"source-ref": "s3://b/pets/c"}) == ("source-ref", "my-job", None)
    assert manifest(tmp_path, line, y="category") == ("source-ref", "category", None)


def test_attributes_of_different_lines_are_read_line_by_line(tmp_path: Path) -> None:
    lines = [{"source-ref": "a.jpg", **attribute(name)} for name in ("cats", "dogs")]
    assert manifest(tmp_path, *lines) == ("source-ref", None, None)


def test_several_attributes_in_a_line_need_an_option(tmp_path: Path) -> None:
    line = {"source-ref": "a.jpg", **attribute("first"), **attribute("check")}
    with pytest.raises(InputError, match=r"several label attributes: 'first', 'check'; choose one with --y-col"):
        manifest(tmp_path, line)
    assert manifest(tmp_path, line, y="check") == ("source-ref", "check", None)


def test_the_usual_split_names_are_read() -> None:
    assert {parse_split(word) for word in ("Train", " training")} == {Split.TRAIN}
    assert {parse_split(word) for word in ("VAL", "valid", "validation ", "Dev")} == {Split.VALIDATION}
    assert {parse_split(word) for word in ("test", "Testing")} == {Split.TEST}
    assert {parse_split(word) for word in ("", "  ")} == {None}
    with pytest.raises(ValueError, match="'holdout' is not a split"):
        parse_split(" holdout")
