"""Read CSV label files; the delimiter (comma, semicolon, tab or bar) is detected from the header."""

import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice

from train_job.data.dataset import RejectedPhoto
from train_job.data.labels.label_rows import SAMPLE_ROWS, LabelColumns, LabelRow, check_unique
from transferlite.errors import InputError

_DELIMITERS = "\t,;|"  # in order of preference: a tab is hardly ever part of a column name
_HEAD_BYTES = 2**16  # beginning of the file in which to detect the delimiter
_HEAD_ROWS = 20

Record = tuple[int, list[str]]


@dataclass(frozen=True)
class CsvLabelFile:
    """A CSV file in UTF-8 with a header. Row numbers count the header and blank lines.

    A quoted value that spans several lines belongs to one row, as a spreadsheet shows it.

    Attributes:
        location: URI or path of the file.
        data: its content in UTF-8.
        delimiter: the character between values.
        spaced: whether a space follows the delimiter before a quote.
        header: names of the columns, without surrounding spaces.
        header_row: row number of the header.
    """

    location: str
    data: bytes
    delimiter: str
    spaced: bool
    header: tuple[str, ...]
    header_row: int

    @classmethod
    def open(cls, location: str, data: bytes) -> "CsvLabelFile":
        """Detect the delimiter and read the header. Raises InputError if the file is not CSV in UTF-8."""
        _check_utf8(location, data)
        head = data[:_HEAD_BYTES].decode(errors="ignore")
        separator_line = re.match(r"\s*sep=(.)\r?\n", head)  # written by Excel
        delimiter = separator_line[1] if separator_line else _detect_delimiter(head, len(head) < len(data))
        spaced = f'{delimiter} "' in head
        skipped_rows = head[: separator_line.end()].count("\n") if separator_line else 0
        for row, record in (item for item in _records(location, data, delimiter, spaced) if isinstance(item, tuple)):
            if any(map(str.strip, record)) and row > skipped_rows:
                return cls(location, data, delimiter, spaced, tuple(map(str.strip, record)), row)
        raise InputError("has no header", where=location, hint="its first line must name its columns")

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """See :class:`train_job.data.labels.label_rows.LabelFile`."""
        return tuple(filter(None, self.header))

    @property
    def attributes(self) -> tuple[str, ...]:
        """See :class:`train_job.data.labels.label_rows.LabelFile`."""
        return ()

    @property
    def attributes_overlap(self) -> bool:
        """See :class:`train_job.data.labels.label_rows.LabelFile`."""
        return False

    def sample(self, column: str) -> Sequence[str]:
        """See :class:`train_job.data.labels.label_rows.LabelFile`."""
        index = self.header.index(column)
        records = (item[1] for item in islice(self._body(), SAMPLE_ROWS) if isinstance(item, tuple))
        return [record[index] for record in records if len(record) > index]

    def rows(self, columns: LabelColumns) -> Iterator[LabelRow | RejectedPhoto]:
        """See :class:`train_job.data.labels.label_rows.LabelFile`."""
        check_unique(self.header, columns, self.location)
        indices = [self.header.index(column) for column in columns.present]
        width, needed = len(self.header), max(indices) + 1
        for item in self._body():
            if isinstance(item, RejectedPhoto):
                yield item
                continue
            row, record = item
            if len(record) > width and any(map(str.strip, record[width:])):
                reason = f"has {len(record)} values, the header {width}; quote values that contain {self.delimiter!r}"
                yield RejectedPhoto(self.location, row, "bad-row", reason)
                continue
            record += [""] * (needed - len(record))
            yield LabelRow.from_values(row, [record[index] for index in indices])

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
            hint='save it as "CSV UTF-8", Parquet or JSON Lines',
        ) from None


def _records(location: str, data: bytes, delimiter: str, spaced: bool) -> Iterator[Record | RejectedPhoto]:
    """Yield each record with its row number from 1; a blank line is an empty record.

    Raises:
        InputError: a quote is not closed, so the next record's start is unknown.
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
                raise InputError(f"the quote that opens in row {row + 1} is not closed", where=location) from None
            yield RejectedPhoto(location, row + 1, "bad-row", f"is not a CSV row ({error})")
            row += lines
            continue
        row += 1
        yield row, record


def _detect_delimiter(head: str, truncated: bool) -> str:
    """Find the delimiter that gives most rows the header's number of columns, then the most columns."""
    best, chosen = (0.0, 1), ","
    for delimiter in _DELIMITERS:
        reader = csv.reader(io.StringIO(head, newline=""), delimiter=delimiter)
        records = [record for record in islice(reader, _HEAD_ROWS + 1) if any(map(str.strip, record))]
        if truncated and len(records) > 1 and len(records) <= _HEAD_ROWS:
            records.pop()  # the last record may be cut off
        widths = [_width(record) for record in records]
        agreement = sum(width == widths[0] for width in widths) / max(len(widths), 1)
        if widths and widths[0] > 1 and (agreement, widths[0]) > best:
            best, chosen = (agreement, widths[0]), delimiter
    return chosen


def _width(record: Sequence[str]) -> int:
    """Return the number of values up to the last that is not empty."""
    return max((column for column, value in enumerate(record, 1) if value.strip()), default=0)
