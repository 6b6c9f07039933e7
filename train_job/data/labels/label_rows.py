"""What every label file is to those who read it: named columns, and rows that have a number."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, time
from decimal import Decimal
from math import isfinite
from typing import NamedTuple, Protocol

from train_job.data.dataset import RejectedPhoto
from transferlite.errors import InputError

SAMPLE = 1000
"""As many rows are looked at where a column's content tells what it is."""


@dataclass(frozen=True)
class Columns:
    """Which column is what.

    Attributes:
        name: the photos' names.
        label: their labels; None where each line has the one attribute of Ground Truth that is its label.
        split: what they are for; None if no column says so.
    """

    name: str
    label: str | None
    split: str | None = None

    @property
    def known(self) -> list[str]:
        """Those that there are."""
        return [column for column in (self.name, self.label, self.split) if column is not None]


class LabelRow(NamedTuple):
    """One row, its values as text; a value that is missing or null is empty."""

    row: int
    name: str
    label: str
    split: str = ""
    confidence: float | None = None

    @classmethod
    def of(cls, row: int, values: Sequence[str]) -> "LabelRow":
        """A row whose values are of :attr:`Columns.known`, the label's among them."""
        return cls(row, values[0], values[1], values[2] if len(values) > 2 else "")


class LabelFile(Protocol):
    """A label file that was recognised, whatever its format."""

    @property
    def location(self) -> str:
        """Where it lies."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns' names as they are written, without spaces around them; one without a name is left out."""

    @property
    def attributes(self) -> tuple[str, ...]:
        """The label attributes of a Ground Truth manifest; none in other files."""

    @property
    def attributes_meet(self) -> bool:
        """Whether a line of it has more than one of them."""

    def sample(self, column: str) -> Sequence[str]:
        """A column's values in the first :data:`SAMPLE` rows, as text."""

    def rows(self, columns: Columns) -> Iterator[LabelRow | RejectedPhoto]:
        """Every row in order, or why it cannot be read. Raises InputError where the rest of the file cannot be either.

        Rows without any value may be left out. A reject's ``uri`` is the photo's name as it is written; the file's own
        location where it has none.
        """


def as_text(value: object) -> str:
    """A value of Parquet or JSON as a name or label: whole numbers without a point, booleans as JSON spells them.

    A column of whole numbers in which some are missing comes as 1.0, 2.0: pandas makes it so.

    Raises:
        ValueError: it is a list or an object, or bytes that are not UTF-8.
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
    """The same, or None."""
    try:
        return as_text(value)
    except ValueError:
        return None


def _number(value: float | Decimal) -> str:
    whole = int(value)
    return str(whole) if whole == value and abs(whole) < 2**53 else str(value)


def duplicate_free(columns: Sequence[str], wanted: Columns, location: str) -> None:
    """Raises InputError where two columns have a name that is wanted."""
    for column in wanted.known:
        if columns.count(column) > 1:
            raise InputError(f"has {columns.count(column)} columns {column!r}", where=location, hint="rename one")
