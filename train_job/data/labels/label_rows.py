"""Interface of label files: named columns, and rows that have a number."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, time
from decimal import Decimal
from math import isfinite
from typing import NamedTuple, Protocol

from train_job.data.dataset import RejectedPhoto
from transferlite.errors import InputError

SAMPLE_ROWS = 1000
"""Number of rows to read when a column is chosen by its content."""


@dataclass(frozen=True)
class LabelColumns:
    """Names of the columns to read.

    Attributes:
        name: column of photo names.
        label: column of labels; None to use the only Ground Truth label attribute of each line.
        split: column of splits; None if there is none.
    """

    name: str
    label: str | None
    split: str | None = None

    @property
    def present(self) -> list[str]:
        """The columns that are not None, in the order name, label, split."""
        return [column for column in (self.name, self.label, self.split) if column is not None]


class LabelRow(NamedTuple):
    """A row of a label file as text; a missing or null value is empty."""

    row: int
    name: str
    label: str
    split: str = ""

    @classmethod
    def from_values(cls, row: int, values: Sequence[str]) -> "LabelRow":
        """Build a row from its values of :attr:`LabelColumns.present`, among which there is a label column."""
        return cls(row, values[0], values[1], values[2] if len(values) > 2 else "")


class LabelFile(Protocol):
    """An open label file of any format."""

    @property
    def location(self) -> str:
        """URI or path of the file."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns, without surrounding spaces; unnamed columns are left out."""

    @property
    def attributes(self) -> tuple[str, ...]:
        """Label attributes of a Ground Truth manifest; empty for other files."""

    @property
    def attributes_overlap(self) -> bool:
        """Whether a line of the manifest has more than one label attribute."""

    def sample(self, column: str) -> Sequence[str]:
        """Return a column's values in the first :data:`SAMPLE_ROWS` rows, as text."""

    def rows(self, columns: LabelColumns) -> Iterator[LabelRow | RejectedPhoto]:
        """Yield every row in order, or the reason why it cannot be read.

        Rows without any value may be left out. The ``uri`` of a rejected row is the photo's name as written, or the
        file's location if the name is missing.

        Raises:
            InputError: the rest of the file cannot be read.
        """


def as_text(value: object) -> str:
    """Return a Parquet or JSON value as a name or label.

    Whole numbers have no decimal point: pandas stores a column of integers with gaps as 1.0, 2.0. Booleans are spelled
    as in JSON. Null and numbers that are not finite give an empty text.

    Raises:
        ValueError: the value is a list or an object, or bytes that are not UTF-8.
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
    kind = "a list" if isinstance(value, list) else "an object" if isinstance(value, dict) else type(value).__name__
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


def check_unique(columns: Sequence[str], needed: LabelColumns, location: str) -> None:
    """Raise InputError if two columns share a needed name."""
    for column in needed.present:
        if columns.count(column) > 1:
            raise InputError(f"has {columns.count(column)} columns {column!r}", where=location, hint="rename one")
