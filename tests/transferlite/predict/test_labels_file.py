"""Text files of labels for plain ``.tflite`` files."""

from pathlib import Path

import pytest

from transferlite.errors import InputError
from transferlite.predict.labels_file import read_labels_file


def read(folder: Path, content: bytes) -> tuple[str, ...]:
    (folder / "labels.txt").write_bytes(content)
    return read_labels_file(folder / "labels.txt")


@pytest.mark.parametrize(
    "content",
    [
        b"cat\ndog",
        b"cat\r\ndog\r\n",
        b"cat\rdog\r",
        b"\n\ncat\n \n\ndog\n\n\n",
        b"cat \n\tdog\r\n",
        b"\xef\xbb\xbfcat\ndog\n",
        "cat\ndog\n".encode("utf-16"),
        "\ufeffcat\r\ndog\r\n".encode("utf-16-be"),
    ],
)
def test_line_ends_blank_lines_and_byte_order_marks_make_no_difference(content: bytes, tmp_path: Path) -> None:
    assert read(tmp_path, content) == ("cat", "dog")


def test_only_line_ends_split_labels(tmp_path: Path) -> None:
    assert read(tmp_path, "hot\u2028dog\ncat\x0c!\n".encode()) == ("hot\u2028dog", "cat\x0c!")


@pytest.mark.parametrize("separator", [" ", ": ", ":", ", ", ",", "\t", ". ", ") ", ";", " = ", "  "])
@pytest.mark.parametrize("first", [0, 1])
def test_numbers_in_order_are_removed(separator: str, first: int, tmp_path: Path) -> None:
    names = ("cat", "dog", "hot dog")
    lines = [f"{number + first}{separator}{name}" for number, name in enumerate(names)]
    assert read(tmp_path, "\n".join(lines).encode()) == names


@pytest.mark.parametrize(
    "content",
    ["1 dog\n0 cat", "0: cat\n2: bird\n1: dog", "2 dog\n1 cat", "0 cat\n0 dog", "0,cat\n2,dog", "1) a\n2) b\n4) d"],
)
def test_numbers_out_of_order_are_refused(content: str, tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"labels\.txt: its lines are numbered, and '.+' is where number \d is expected"
    ):
        read(tmp_path, content.encode())


@pytest.mark.parametrize(
    "lines", [("1 euro", "2 euro"), ("3 doors", "5 doors"), ("0 cat", "dog"), ("16:9", "4:3"), ("1.5 mm", "0.5 mm")]
)
def test_numbers_that_belong_to_the_labels_stay(lines: tuple[str, ...], tmp_path: Path) -> None:
    assert read(tmp_path, "\n".join(lines).encode()) == lines


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not UTF-8 text"):
        read(tmp_path, b"caf\xe9\n")
