"""An open label file of any format: named columns, and rows that have a number."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, time
from decimal import Decimal
from itertools import islice
from math import isfinite
from typing import NamedTuple

from train_job.data.dataset import RejectedPhoto
from transferlite.errors import InputError

SAMPLE_ROWS = 1000
"""Number of rows to read when a column is chosen by its content."""

NumberedValues = tuple[int, Sequence[object]]
"""A row's number and its values of the requested columns; a ValueError instead of a value says why it is unreadable."""


@dataclass(frozen=True)
class LabelColumns:
    """Names of the columns to read.

    Attributes:
        name: column of photo names.
        label: column of labels; None to use the only Ground Truth label attribute of each line.
        split: column of splits; None if there is none.
        one_hot: columns with a single 1 in each row, instead of a label column; empty otherwise.
    """

    name: str
    label: str | None
    split: str | None = None
    one_hot: tuple[str, ...] = ()

    @property
    def remark(self) -> str:
        """How the columns were interpreted, for the log; empty if there is a label column."""
        return f"has one column per class: {', '.join(map(repr, self.one_hot))}" if self.one_hot else ""


class LabelRow(NamedTuple):
    """A row of a label file as text; a missing or null value is empty."""

    row: int
    name: str
    label: str
    split: str = ""


@dataclass(frozen=True)
class LabelFile:
    """An open label file.

    Attributes:
        location: URI or path of the file.
        columns: names of the columns, without surrounding spaces; unnamed columns are left out.
        read: yields every row in order, with its values of the columns that it is called with. The column ``""`` is
            the only Ground Truth label attribute of each line. Its second argument is a number of rows to parse at a
            time. Raises InputError if the rest of the file cannot be read.
        attributes: label attributes of a Ground Truth manifest; empty for other files.
        attributes_overlap: whether a line of the manifest has more than one label attribute.
        remark: how the content was interpreted where that is not certain, for the log.
    """

    location: str
    columns: tuple[str, ...]
    read: Callable[[Sequence[str], int], Iterator[NumberedValues]]
    attributes: tuple[str, ...] = ()
    attributes_overlap: bool = False
    remark: str = ""

    def sample(self, column: str) -> Sequence[str]:
        """Return a column's values in the first :data:`SAMPLE_ROWS` rows, as text."""
        texts = (text_or_none(values[0]) for _, values in islice(self.read([column], SAMPLE_ROWS), SAMPLE_ROWS))
        return [text for text in texts if text is not None]

    def rows(self, columns: LabelColumns) -> Iterator[LabelRow | RejectedPhoto]:
        """Yield every row in order, or the reason why it cannot be read.

        The ``uri`` of a rejected row is the photo's name as written, or the file's location if the name is missing.

        Raises:
            InputError: two columns share a needed name, or the rest of the file cannot be read.
        """
        labels = columns.one_hot or (columns.label or "",)
        needed = [columns.name, *labels, *([columns.split] if columns.split else [])]
        for column in needed:
            if self.columns.count(column) > 1:
                count = self.columns.count(column)
                raise InputError(f"has {count} columns {column!r}", where=self.location, hint="rename one")
        for row, values in self.read(needed, 2**16):
            try:
                texts = [as_text(value) for value in values]
                if columns.one_hot:
                    texts[1 : len(labels) + 1] = [_one_hot_label(labels, texts[1:])]
                yield LabelRow(row, *texts)
            except ValueError as error:
                yield RejectedPhoto(text_or_none(values[0]) or self.location, row, "bad-row", str(error))


_ONE, _ZERO = ("1", "1.0", "true"), ("", "0", "0.0", "false")


def is_one_hot(texts: Sequence[str]) -> bool:
    """Return whether all values are 0 or 1 and some are 1."""
    values = {text.strip().lower() for text in texts}
    return values <= {*_ONE, *_ZERO} and not values.isdisjoint(_ONE)


def _one_hot_label(labels: Sequence[str], texts: Sequence[str]) -> str:
    """Return the label whose column holds 1; empty if there is none. Raises ValueError for several or another value."""
    values = [text.strip().lower() for text in texts[: len(labels)]]
    chosen = [label for label, value in zip(labels, values, strict=True) if value in _ONE]
    if other := next((value for value in values if value not in (*_ONE, *_ZERO)), ""):
        raise ValueError(f"has the value {other!r} in the column of a class, where 0 or 1 is needed")
    if len(chosen) > 1:
        raise ValueError(f"has {len(chosen)} labels where one is needed ({', '.join(chosen)})")
    return chosen[0] if chosen else ""


def as_text(value: object) -> str:
    """Return a value as a name or label.

    Whole numbers have no decimal point: pandas stores a column of integers with gaps as 1.0, 2.0. Booleans are spelled
    as in JSON. Null and numbers that are not finite give an empty text.

    Raises:
        ValueError: the value is a list, an object, bytes that are not UTF-8, or the reason why there is none.
    """
    match value:
        case str():
            return value
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case float():
            return _number(value) if isfinite(value) else ""
        case Decimal():
            return _number(value) if value.is_finite() else ""
        case bytes():
            return value.decode()
        case date() | time():
            return value.isoformat()
        case ValueError():
            raise value
    kind = "an object" if isinstance(value, dict) else "a list" if hasattr(value, "__len__") else type(value).__name__
    raise ValueError(f"holds {kind} where text or a number is needed")


def text_or_none(value: object) -> str | None:
    """Return the value as :func:`as_text` does, or None where that raises ValueError."""
    try:
        return as_text(value)
    except ValueError:
        return None


def _number(value: float | Decimal) -> str:
    whole = int(value)
    return str(whole) if whole == value and abs(whole) < 2**53 else str(value)
