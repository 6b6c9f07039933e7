import csv
import gzip
import io
import json
from collections.abc import Callable, Sequence
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import openpyxl
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from train_job.data.labels.formats import open_label_file
from train_job.data.labels.label_file import LabelFile, as_text
from train_job.data.labels.label_rows import LabelColumns, read_label_rows
from transferlite.errors import InputError, NotFoundError

Opened = Callable[..., LabelFile]


@pytest.fixture
def opened(tmp_path: Path) -> Opened:
    """Writes a label file and opens it."""

    def write_and_open(content: bytes | str, name: str = "labels.csv") -> LabelFile:
        (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
        return open_label_file(str(tmp_path / name))

    return write_and_open


def pairs(file: LabelFile, name: str = "File Name", label: str | None = "Label") -> list[tuple[int, str, str]]:
    return [row[:3] for row in rows(file, LabelColumns(name, label)) if not row[3]]


def rejected(file: LabelFile, label: str | None = "Label") -> list[int]:
    return [row[0] for row in rows(file, LabelColumns("source-ref", label)) if row[3]]


def rows(file: LabelFile, columns: LabelColumns) -> list[tuple[int, str, str, str]]:
    """Number, name, label and problem of each row."""
    columns_read = ["name", "label", "problem"]
    tables = read_label_rows(file, columns)
    return [row for table in tables for row in table[columns_read].itertuples(name=None)]


PETS = [(2, "a.jpg", "cat"), (3, "b, c.jpg", "dog")]


# -- CSV --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_any_usual_form_of_separated_values_is_read(opened: Opened, delimiter: str, encoding: str, end: str) -> None:
    rows = [("File Name", "Label"), ("a.jpg", "cat"), ('"b, c.jpg"', '"dog"')]
    file = opened("".join(delimiter.join(row) + end for row in rows).encode(encoding))
    assert file.columns == ("File Name", "Label")
    assert pairs(file) == PETS


@pytest.mark.parametrize(
    "text",
    [
        'File Name;Label;"note, or; more"\na.jpg;cat;x,y\n"b, c.jpg";dog;1,2,3\n',
        'File Name;Label\n"a.jpg";"cat"\nb, c.jpg;dog\n',
        "File Name\tLabel\tx;y, z\na.jpg\tcat\t\nb, c.jpg\tdog\t1;2\n",
        'File Name, Label\na.jpg, cat\n"b, c.jpg", "dog"\n',
        ' File Name ,Label,\na.jpg,cat,\n"b, c.jpg",dog,\n',
    ],
)
def test_the_delimiter_is_told_by_the_header_and_the_rows_that_agree_with_it(opened: Opened, text: str) -> None:
    assert [(row, name, label.strip()) for row, name, label in pairs(opened(text))] == PETS


def test_the_delimiter_may_be_told_as_excel_does(opened: Opened) -> None:
    file = opened("\ufeffsep=;\r\nFile Name;Label\r\na.jpg;cat\r\n")
    assert pairs(file) == [(3, "a.jpg", "cat")]


def test_blank_lines_before_the_header_count(opened: Opened) -> None:
    assert pairs(opened("\n,\nFile Name,Label\n\na.jpg,cat\n")) == [(4, "", ""), (5, "a.jpg", "cat")]


def test_two_columns_of_the_name_that_is_wanted_are_refused(opened: Opened) -> None:
    file = opened("File Name,Label,Label\na.jpg,cat,dog\n")
    with pytest.raises(InputError, match=r"labels\.csv: has 2 columns 'Label'"):
        rows(file, LabelColumns("File Name", "Label"))


def test_columns_without_a_name_are_none(opened: Opened) -> None:
    file = opened(",File Name,Label\n0,a.jpg,cat\n")
    assert file.columns == ("File Name", "Label")
    assert pairs(file) == [(2, "a.jpg", "cat")]


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1"])
def test_text_in_windows_1252_is_read_with_a_remark(opened: Opened, encoding: str) -> None:
    file = opened("File Name,Label\nä.jpg,Grüße\nÀ la carte.jpg,Café\n".encode(encoding))
    assert pairs(file) == [(2, "ä.jpg", "Grüße"), (3, "À la carte.jpg", "Café")]
    assert file.remark == "is not UTF-8; it is read as Windows-1252"
    assert not opened("File Name,Label\nä.jpg,cat\n").remark


@pytest.mark.parametrize(
    "line",
    ["кошка.jpg,cat".encode("cp1251"), "猫狗.jpg,cat".encode("gbk"), "γάτα.jpg,cat".encode("cp1253"), b"\x81.jpg,cat"],
)
def test_text_in_another_encoding_is_refused_with_its_line(opened: Opened, line: bytes) -> None:
    message = r"labels\.csv: is text neither in UTF-8 nor in Windows-1252 \(line 3: byte 0x..\); save it as"
    with pytest.raises(InputError, match=message):
        opened(b"File Name,Label\na.jpg,cat\n" + line + b"\n")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ('"a.jpg"x,cat', "has text after a closing quote"),
        ('a.jpg,"cat"x', "has text after a closing quote"),
        ('"a\n\nb.jpg"x,"ca\nt"', "has text after a closing quote"),
        ("a.jpg,cat,dog", "has 3 values, the header 2"),
        ("a.jpg,cat,,dog", "has 4 values, the header 2"),
        (f"a.jpg,cat{',' * 70}", "has 72 values, the header 2"),
        (f"a.jpg,cat{',x' * 5000}", "has 5002 values, the header 2"),
    ],
)
@pytest.mark.parametrize("before", [0, 1, 2])
def test_a_row_that_pandas_would_misread_is_rejected_and_shifts_no_other(
    opened: Opened, row: str, reason: str, before: int
) -> None:
    text = "File Name,Label\n" + "x.jpg,cat,,\n" * before + f'{row}\n"b, c.jpg",5" nail\nshort\n'
    (bad,) = [row for row in rows(opened(text), LabelColumns("File Name", "Label")) if row[3]]
    assert (bad[0], bad[3][: len(reason)]) == (before + 2, reason)
    assert pairs(opened(text))[before:] == [(before + 3, "b, c.jpg", '5" nail'), (before + 4, "short", "")]


def test_rows_beyond_one_chunk_keep_their_numbers(opened: Opened) -> None:
    count = 2**16 + 10
    text = "File Name,Label\n" + "".join(f"{number}.jpg,cat\n" for number in range(2, count)) + "a,b,c\nlast.jpg,dog\n"
    read = pairs(opened(text))
    assert all(name == f"{row}.jpg" for row, name, _ in read[:-1])
    assert read[-1] == (count + 1, "last.jpg", "dog")


@pytest.mark.parametrize(
    "text", ["NA", "null", "nan", "None", "01", "1e3", "1.0", "TRUE", "-", "#N/A", "2020-01-01", "inf"]
)
def test_text_is_kept_whatever_it_looks_like(opened: Opened, text: str) -> None:
    assert pairs(opened(f"File Name,Label\n{text},{text}\n")) == [(2, text, text)]
    as_json = lines({"k": text, "v": text}, {"k": "b", "v": "c"}, {})
    assert pairs(opened(as_json, "x.jsonl"), "k", "v")[0] == (1, text, text)
    if text != "#N/A":  # an error in Excel
        assert pairs(opened(excel([["k", "v"], [text, text]]), "x.xlsx"), "k", "v")[0] == (2, text, text)


cells = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)


@given(
    rows=st.lists(st.tuples(cells, cells), min_size=1, max_size=8),
    delimiter=st.sampled_from(",;\t|"),
    form=st.sampled_from([(csv.QUOTE_ALL, "\n"), (csv.QUOTE_MINIMAL, "\r\n"), (csv.QUOTE_NONNUMERIC, "\r")]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
)
@settings(max_examples=150, deadline=None)
def test_whatever_the_csv_module_writes_is_read_back(
    tmp_path_factory: pytest.TempPathFactory,
    rows: Sequence[tuple[str, str]],
    delimiter: str,
    form: tuple[Any, str],
    encoding: str,
) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=delimiter, quoting=form[0], lineterminator=form[1])
    header = "name, or; so" if form[0] != csv.QUOTE_MINIMAL else "name"  # without quotes it may be anything
    writer.writerows([(header, "label"), *rows])
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_bytes(text.getvalue().encode(encoding))
    read = pairs(open_label_file(str(path)), header, "label")
    assert [(row, bare(name), bare(label)) for row, name, label in read] == [
        (row, bare(name), bare(label)) for row, (name, label) in enumerate(rows, 2)
    ]


def bare(text: str) -> str:
    """Text without the spaces before it, which a file with spaces after its delimiters may lose."""
    return text.lstrip(" ")


# -- JSON --------------------------------------------------------------------------------------------------------------


def lines(*objects: object) -> str:
    return "".join(json.dumps(item, ensure_ascii=False) + "\n" for item in objects)


def job(number: int, name: str) -> dict[str, Any]:
    metadata = {"class-name": name, "confidence": 0.9, "type": "groundtruth/image-classification"}
    return {"pets": number, "pets-metadata": metadata}


def test_a_ground_truth_manifest_gives_the_class_names(opened: Opened) -> None:
    text = lines({"source-ref": "s3://b/a.jpg", **job(0, "cat")}, {"source-ref": "s3://b/b.jpg", **job(1, "dog")})
    file = opened(text, "output.manifest")
    assert file.columns == ("source-ref", "pets")
    assert file.attributes == ("pets",)
    assert pairs(file, "source-ref", "pets") == [(1, "s3://b/a.jpg", "cat"), (2, "s3://b/b.jpg", "dog")]


def test_a_manifest_may_have_another_attribute_in_each_line(opened: Opened) -> None:
    other = {"cows": 1, "cows-metadata": {"class-name": "cow"}}
    file = opened(lines({"source-ref": "a.jpg", **job(1, "cat")}, {"source-ref": "b.jpg", **other}), "x.manifest")
    assert (file.attributes, file.attributes_overlap) == (("pets", "cows"), False)
    assert pairs(file, "source-ref", None) == [(1, "a.jpg", "cat"), (2, "b.jpg", "cow")]
    both = opened(lines({"source-ref": "a.jpg", **job(1, "cat"), **other}), "y.manifest")
    assert both.attributes_overlap


def test_a_photo_of_several_labels_or_of_boxes_is_rejected_by_its_row(opened: Opened) -> None:
    metadata = {
        "type": "groundtruth/image-classification-multilabel",
        "class-map": {"0": "cat", "2": "dog"},
        "confidence-map": {"0": 0.5, "2": 0.25},
    }
    many = [{"source-ref": "a.jpg", "pets": numbers, "pets-metadata": metadata} for numbers in ([2], [0, 2], [])]
    file = opened(lines(*many), "x.manifest")
    assert rejected(file, "pets") == [2, 3]
    assert pairs(file, "source-ref", "pets") == [(1, "a.jpg", "dog")]
    boxes = opened(lines({"source-ref": "a.jpg", "boxes": {"annotations": []}, "boxes-metadata": {}}), "y.manifest")
    assert boxes.attributes == ()
    assert rejected(boxes, "boxes") == [1]


def test_a_class_map_that_is_no_object_is_ignored(opened: Opened) -> None:
    metadata = {"type": "groundtruth/image-classification-multilabel", "class-map": ["cat"]}
    file = opened(lines({"source-ref": "a.jpg", "pets": [0], "pets-metadata": metadata}), "x.manifest")
    assert rejected(file, "pets") == [1]


def test_a_line_that_labelling_failed_for_has_no_label(opened: Opened) -> None:
    failed = {"source-ref": "b.jpg", "pets-metadata": {"failure-reason": "ClientError"}}
    file = opened(lines({"source-ref": "a.jpg", **job(1, "cat")}, failed), "x.manifest")
    assert pairs(file, "source-ref", "pets") == [(1, "a.jpg", "cat"), (2, "b.jpg", "")]


@pytest.mark.parametrize("name", ["labels.jsonl", "labels.json", "labels.txt", "labels.manifest", "labels"])
def test_json_lines_may_have_any_columns_and_values(opened: Opened, name: str) -> None:
    objects = [{"k": "ä.jpg", "v": 7}, {"k": 12, "v": True}, {"k": "c", "v": 1.0}, {"k": "d", "v": None}, {"z": 0}]
    file = opened("\ufeff" + lines(*objects), name)
    assert file.columns == ("k", "v", "z")
    assert pairs(file, "k", "v") == [(1, "ä.jpg", "7"), (2, "12", "true"), (3, "c", "1"), (4, "d", ""), (5, "", "")]


def test_lines_that_are_not_json_objects_are_rejected_with_their_numbers(opened: Opened) -> None:
    bad = ['{"source-ref": "b.jpg", ', "[1]", "NaN", '{"source-ref": ["c.jpg"], "Label": "x"}', "[" * 100_000]
    good = '{"source-ref": "a.jpg", "Label": "cat"}'
    text = "\n".join([good, "", *bad, good]).encode() + b'\n{"source-ref": "\xff"}\n'
    file = opened(text, "labels.jsonl")
    assert rejected(file) == [3, 4, 5, 6, 7, 9]
    assert pairs(file, "source-ref") == [(1, "a.jpg", "cat"), (8, "a.jpg", "cat")]


@pytest.mark.parametrize(
    "bad", ['{"a": 1}, {"a": 2}', '{"a": 1', '{"a": 123456789012345678901234567890}', '"text"', "3"]
)
@pytest.mark.parametrize("position", [1, 4000, 4097, 9000])
def test_a_bad_line_is_rejected_alone_wherever_it_is(opened: Opened, bad: str, position: int) -> None:
    texts = [f'{{"source-ref": "{row}.jpg", "Label": "cat"}}' for row in range(1, 9001)]
    texts[position - 1] = bad
    file = opened("\n".join(texts), "labels.jsonl")
    assert rejected(file) == [position]
    assert pairs(file, "source-ref") == [(row, f"{row}.jpg", "cat") for row in range(1, 9001) if row != position]


def test_an_array_of_objects_is_numbered_by_its_items(opened: Opened) -> None:
    file = opened(
        '[\n {"File Name": "a.jpg",\n "Label": "cat"},\n 3, {"File Name": "b, c.jpg", "Label": "dog"}]', "x.json"
    )
    assert pairs(file) == [(1, "a.jpg", "cat"), (3, "b, c.jpg", "dog")]
    assert rejected(file) == [2]


@pytest.mark.parametrize("text", ['{\n "a": 1\n}\n', "[1, 2]", '[{"a": 1}', "a,b\n1,2\n", '"text"'])
def test_json_that_is_no_rows_is_refused(opened: Opened, text: str) -> None:
    with pytest.raises(InputError, match=r"labels\.json: (holds no JSON objects|is not JSON)"):
        opened(text, "labels.json")


# -- Parquet -----------------------------------------------------------------------------------------------------------


def parquet(**columns: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink, row_group_size=2)
    return sink.getvalue()


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (pa.array(["cat", "dog", None]), ["cat", "dog", ""]),
        (pa.array([7, 8, None]), ["7", "8", ""]),
        (pa.array([1.0, 2.5, float("nan")]), ["1", "2.5", ""]),
        (pa.array([True, False, None]), ["true", "false", ""]),
        (pa.array(["cat", "dog", "cat"]).dictionary_encode(), ["cat", "dog", "cat"]),
        (pa.array([b"cat", "Käfer".encode(), None]), ["cat", "Käfer", ""]),
        (pa.array([Decimal("1.00"), Decimal("1.50"), None]), ["1", "1.50", ""]),
    ],
)
def test_parquet_columns_of_any_simple_type_are_read_as_text(opened: Opened, values: Any, expected: list[str]) -> None:
    content = parquet(file=["a.jpg", "b.jpg", "c.jpg"], kind=values, __index_level_0__=[4, 5, 6])
    file = opened(content, "labels.bin")
    assert file.columns == ("file", "kind")
    assert pairs(file, "file", "kind") == [(row, f"{'abc'[row - 1]}.jpg", expected[row - 1]) for row in (1, 2, 3)]
    assert list(file.sample("kind")) == expected


def test_parquet_values_that_are_no_text_are_rejected_with_their_rows(opened: Opened) -> None:
    content = parquet(**{"source-ref": [["a.jpg"], None, ["c.jpg"]], "Label": ["cat", "dog", "cat"]})
    assert rejected(opened(content, "labels.parquet")) == [1, 3]


def test_whole_numbers_of_parquet_and_json_keep_all_digits(opened: Opened) -> None:
    number = 2**60 + 1
    content = parquet(file=["a.jpg", "b.jpg"], kind=pa.array([number, None]))
    assert pairs(opened(content, "x"), "file", "kind") == [(1, "a.jpg", str(number)), (2, "b.jpg", "")]
    text = lines({"file": "a.jpg", "kind": number}, {"file": "b.jpg"}, {"file": "c.jpg", "kind": 0.3})
    assert [row[2] for row in pairs(opened(text, "x.jsonl"), "file", "kind")] == [str(number), "", "0.3"]


def test_a_column_that_pandas_stored_as_the_index_is_read(opened: Opened) -> None:
    pd.DataFrame({"file": ["a.jpg", "b.jpg"], "kind": ["cat", "dog"]}).set_index("file").to_parquet(
        sink := io.BytesIO()
    )
    file = opened(sink.getvalue(), "x.parquet")
    assert set(file.columns) == {"file", "kind"}
    assert pairs(file, "file", "kind") == [(1, "a.jpg", "cat"), (2, "b.jpg", "dog")]


def test_damaged_parquet_is_refused(opened: Opened) -> None:
    content = parquet(file=["a.jpg"] * 1000, kind=list(map(str, range(1000))))
    for cut in (content[:-100], content[:4] + bytes(len(content) - 100) + content[-96:], b"PAR1"):
        with pytest.raises(InputError, match=r"labels\.parquet: is damaged Parquet"):
            pairs(opened(cut, "labels.parquet"), "file", "kind")


# -- Excel -------------------------------------------------------------------------------------------------------------


def excel(*sheets: Sequence[Sequence[object]]) -> bytes:
    """An Excel workbook with these rows in each sheet."""
    workbook = openpyxl.Workbook()
    workbook.remove(workbook.active)
    for rows in sheets:
        sheet = workbook.create_sheet()
        for row in rows:
            sheet.append(list(row))
    sink = io.BytesIO()
    workbook.save(sink)
    return sink.getvalue()


def test_a_workbook_is_read_with_the_row_numbers_of_its_sheet(opened: Opened) -> None:
    rows: list[list[object]] = [[], [" File Name ", None, "Label"], ["a.jpg", 1, "cat"], [], ["b, c.jpg", 2, "dog"]]
    file = opened(excel(rows, []), "labels.xlsx")
    assert file.columns == ("File Name", "Label")
    assert [row for row in pairs(file) if row[1]] == [(3, "a.jpg", "cat"), (5, "b, c.jpg", "dog")]


def test_cells_of_any_type_are_read_as_text(opened: Opened) -> None:
    rows: list[list[object]] = [
        ["k", "v"],
        [1, 7],
        [2.5, 7.0],
        [True, "07"],
        [datetime(2020, 1, 2), None],
        ["f", "#N/A"],
    ]
    file = opened(excel(rows), "labels.xlsx")
    expected = [(2, "1", "7"), (3, "2.5", "7"), (4, "true", "07"), (5, "2020-01-02T00:00:00", ""), (6, "f", "")]
    assert pairs(file, "k", "v") == expected
    assert list(file.sample("v"))[:4] == ["7", "7", "07", ""]


def test_a_workbook_without_one_sheet_of_values_is_refused(opened: Opened) -> None:
    table = [["File Name", "Label"], ["a.jpg", "cat"]]
    with pytest.raises(InputError, match=r"x\.xlsx: has 2 sheets with values; save one sheet as CSV UTF-8"):
        opened(excel(table, table), "x.xlsx")
    with pytest.raises(InputError, match="has 0 sheets with values"):
        opened(excel([], [["", None]]), "x.xlsx")
    assert pairs(opened(excel([], table, []), "x.xlsx")) == [(2, "a.jpg", "cat")]


def test_two_columns_of_one_name_are_refused_in_every_format(opened: Opened) -> None:
    twice = pa.table([["a.jpg"], ["cat"], ["dog"]], names=["File Name", "Label", "Label"])
    pq.write_table(twice, sink := io.BytesIO())
    for content, name in (
        (excel([["File Name", "Label", "Label"], ["a", "b", "c"]]), "x.xlsx"),
        (sink.getvalue(), "x"),
    ):
        with pytest.raises(InputError, match="has 2 columns 'Label'"):
            pairs(opened(content, name))


# -- which format ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["labels.csv.gz", "labels.gz", "labels.csv"])
def test_a_file_may_be_compressed(opened: Opened, name: str) -> None:
    assert pairs(opened(gzip.compress(b"File Name,Label\na.jpg,cat\n"), name)) == [(2, "a.jpg", "cat")]
    assert opened(gzip.compress(lines({"k": 1}).encode()), "x.jsonl.gz").columns == ("k",)
    with pytest.raises(InputError, match="is damaged gzip"):
        opened(gzip.compress(b"File Name,Label\na.jpg,cat\n")[:-4], name)


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        (b"", "labels.csv", "is empty"),
        (b"\xef\xbb\xbf \r\n", "labels.jsonl", "is empty"),
        (b"PK\x03\x04 and more", "labels.xlsx", "is damaged, or a zip file that is no Excel workbook"),
        (b"File Name,Label\n", "labels.parquet", "has the extension .parquet but is not Parquet"),
        (b"\x89PNG\r\n\x1a\n" + bytes(range(256)), "labels.csv", "is text neither in UTF-8"),
        ("File Name,Label\n".encode("utf-16-be"), "labels.csv", "is not text in UTF-8"),
        (b"\xff\xfe" + b"abc", "labels.csv", "is not text in UTF-16"),
        (b",,\n,,\n", "labels.csv", "has no header"),
    ],
)
def test_a_file_of_no_known_format_is_refused_in_one_line(
    opened: Opened, content: bytes, name: str, message: str
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        opened(content, name)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_label_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"labels\.parquet"):
        open_label_file(str(tmp_path / "labels.parquet"))


@given(st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.decimals()))
@settings(max_examples=100, deadline=None)
def test_every_simple_value_has_a_text(value: object) -> None:
    assert isinstance(as_text(value), str)
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**53:
        assert as_text(value) == as_text(float(value)) == as_text(Decimal(value))
