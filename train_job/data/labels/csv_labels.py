"""Label files of separated values: commas, semicolons, tabs or bars, told by the header."""

import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice

from train_job.data.dataset import RejectedPhoto
from train_job.data.labels.label_rows import SAMPLE, Columns, LabelRow, duplicate_free
from transferlite.errors import InputError

_DELIMITERS = "\t,;|"  # of equals the first: a tab is hardly ever part of a column's name
_HEAD_BYTES = 2**16
_HEAD_ROWS = 20

Record = tuple[int, list[str]]


@dataclass(frozen=True)
class CsvLabels:
    """Separated values in UTF-8 with a header. A row's number counts the header and blank lines.

    A value in quotes that goes over several lines is one row, as a spreadsheet shows it.
    """

    location: str
    data: bytes
    delimiter: str
    spaced: bool
    header: tuple[str, ...]
    header_row: int

    @classmethod
    def open(cls, location: str, data: bytes) -> "CsvLabels":
        """Find out how the values are separated. Raises InputError where this is no such file."""
        _check_utf8(location, data)
        head = data[:_HEAD_BYTES].decode(errors="ignore")
        told = re.match(r"\s*sep=(.)\r?\n", head)  # Excel's own hint
        delimiter = told[1] if told else _delimiter(head, len(head) < len(data))
        spaced = f'{delimiter} "' in head
        for row, record in (item for item in _records(location, data, delimiter, spaced) if isinstance(item, tuple)):
            if any(map(str.strip, record)) and not (told and row <= head[: told.end()].count("\n")):
                return cls(location, data, delimiter, spaced, tuple(map(str.strip, record)), row)
        raise InputError("has no header", where=location, hint="its first line must name its columns")

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """As :class:`train_job.data.labels.label_rows.LabelFile`."""
        return tuple(filter(None, self.header))

    @property
    def attributes(self) -> tuple[str, ...]:
        """As :class:`train_job.data.labels.label_rows.LabelFile`."""
        return ()

    @property
    def attributes_meet(self) -> bool:
        """As :class:`train_job.data.labels.label_rows.LabelFile`."""
        return False

    def sample(self, column: str) -> Sequence[str]:
        """As :class:`train_job.data.labels.label_rows.LabelFile`."""
        place = self.header.index(column)
        records = (item[1] for item in islice(self._body(), SAMPLE) if isinstance(item, tuple))
        return [record[place] for record in records if len(record) > place]

    def rows(self, columns: Columns) -> Iterator[LabelRow | RejectedPhoto]:
        """As :class:`train_job.data.labels.label_rows.LabelFile`."""
        duplicate_free(self.header, columns, self.location)
        places = [self.header.index(column) for column in columns.known]
        width, needed = len(self.header), max(places) + 1
        for item in self._body():
            if isinstance(item, RejectedPhoto):
                yield item
                continue
            row, record = item
            if len(record) > width and any(map(str.strip, record[width:])):
                reason = f"has {len(record)} values and the header {width}; put values with a delimiter in quotes"
                yield RejectedPhoto(self.location, row, "bad-row", reason)
                continue
            record += [""] * (needed - len(record))
            yield LabelRow.of(row, [record[place] for place in places])

    def _body(self) -> Iterator[Record | RejectedPhoto]:
        records = _records(self.location, self.data, self.delimiter, self.spaced)
        return (
            item
            for item in records
            if (item.row or 0 if isinstance(item, RejectedPhoto) else item[0]) > self.header_row
        )


def _check_utf8(location: str, data: bytes) -> None:
    try:
        data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"is not text in UTF-8 (line {line}: byte {data[error.start]:#04x})",
            where=location,
            hint='save it as "CSV UTF-8", or give Parquet or JSON Lines',
        ) from None


def _records(location: str, data: bytes, delimiter: str, spaced: bool) -> Iterator[Record | RejectedPhoto]:
    """Each record with its number from 1; a blank line is an empty one.

    Raises:
        InputError: a quote is opened and not closed, so that no one knows where the next record begins.
    """
    text = io.TextIOWrapper(io.BytesIO(data), "utf-8", newline="")
    reader = csv.reader(text, delimiter=delimiter, strict=True, skipinitialspace=spaced)
    row = 0
    while True:
        line = reader.line_num
        try:
            record = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            lines = reader.line_num - line
            if "unexpected end" in str(error) or ("field limit" in str(error) and lines > 1):
                raise InputError(f"a quote that opens in row {row + 1} is not closed", where=location) from None
            yield RejectedPhoto(location, row + 1, "bad-row", f"is no row of a CSV ({error})")
            row += lines
            continue
        row += 1
        yield row, record


def _delimiter(head: str, cut: bool) -> str:
    """What separates the header's values: of several candidates that on which the rows after it agree, then the one
    that makes most columns of it.
    """
    best, chosen = (0.0, 1), ","
    for delimiter in _DELIMITERS:
        reader = csv.reader(io.StringIO(head, newline=""), delimiter=delimiter)
        records = [record for record in islice(reader, _HEAD_ROWS + 1) if any(map(str.strip, record))]
        if cut and len(records) > 1 and len(records) <= _HEAD_ROWS:
            records.pop()
        widths = [_width(record) for record in records]
        fit = sum(width == widths[0] for width in widths) / max(len(widths), 1)
        if widths and widths[0] > 1 and (fit, widths[0]) > best:
            best, chosen = (fit, widths[0]), delimiter
    return chosen


def _width(record: Sequence[str]) -> int:
    """How many values there are up to the last that is not empty."""
    return max((place for place, value in enumerate(record, 1) if value.strip()), default=0)
