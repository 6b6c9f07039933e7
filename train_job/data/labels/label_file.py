"""An open label file of any format: the names of its columns, and their values in tables of many rows."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, time
from decimal import Decimal
from mmap import mmap
from typing import TYPE_CHECKING

from train_job.arrow import pa

if TYPE_CHECKING:
    import pandas as pd

SAMPLE_ROWS = 1000
"""Number of rows to read when a column is chosen by its content."""

Read = Callable[[Sequence[str], int], Iterator["pd.DataFrame"]]


@dataclass(frozen=True)
class LabelFile:
    """An open label file.

    Attributes:
        location: URI or path of the file.
        columns: names of the columns, without surrounding spaces; unnamed columns are left out.
        read: yields the values of columns, such as ``["file", "label"]``, in tables of at most that many rows, with the
            numbers of the rows as index. A ValueError in place of a value says why it is unreadable. The column ``""``
            is the only Ground Truth label attribute of each line. Raises InputError if the rest cannot be read.
        attributes: label attributes of a Ground Truth manifest; empty for other files.
        attributes_overlap: whether a line of the manifest has more than one label attribute.
        remark: how the content was interpreted where that is not certain, for the log.
    """

    location: str
    columns: tuple[str, ...]
    read: Read
    attributes: tuple[str, ...] = ()
    attributes_overlap: bool = False
    remark: str = ""

    def sample(self, column: str) -> Sequence[str]:
        """Return a column's readable values in the first :data:`SAMPLE_ROWS` rows, as text."""
        problems: dict[int, str] = {}
        texts: list[str] = []
        for table in self.read([column], SAMPLE_ROWS):
            texts.extend(to_text(table.iloc[:, 0], problems).drop(list(problems), errors="ignore").tolist())
            if len(texts) >= SAMPLE_ROWS:
                break
        return texts[:SAMPLE_ROWS]


def to_text(column: "pd.Series[str]", problems: dict[int, str]) -> "pd.Series[str]":
    """Convert values as :func:`as_text` does; ``problems`` receives the reason for each row that has none."""
    if column.dtype != object:
        return column
    texts = column.copy()
    for position, (row, value) in enumerate(column.items()):
        try:
            texts.iat[position] = value if type(value) is str and value.isascii() else as_text(value)
        except ValueError as error:
            problems.setdefault(int(str(row)), str(error))
            texts.iat[position] = ""
    return texts


def as_text(value: object) -> str:
    """Return a value as a name or label.

    Whole numbers have no decimal point: pandas stores a column of integers with gaps as 1.0, 2.0. Booleans are spelled
    as in JSON. Null and numbers that are not finite give an empty text.

    Raises:
        ValueError: the value is a list, an object, text that is not Unicode, or the reason why there is none.
    """
    match value:
        case None:
            return ""
        case str():
            value.encode(errors="surrogateescape")
            return value
        case bool():
            return str(value).lower()
        case int():
            return str(value)
        case float() | Decimal() as number:
            text = str(value)
            if not text.strip("-")[0].isdigit():
                return ""  # infinite, or not a number
            return str(int(number)) if number == int(number) and -(2**53) < number < 2**53 else text
        case bytes():
            return value.decode()
        case date() | time():
            return value.isoformat()
        case ValueError():
            raise value
    kind = "an object" if isinstance(value, dict) else "a list" if hasattr(value, "__len__") else type(value).__name__
    raise ValueError(f"holds {kind} where text or a number is needed")


def arrow_file(data: mmap) -> pa.BufferReader:
    """Open bytes as a file without copying them."""
    return pa.BufferReader(pa.py_buffer(data))
