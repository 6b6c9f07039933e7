"""Read CSV label files with pandas; the delimiter (comma, semicolon, tab or bar) is detected from the header."""

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any

from train_job.data.labels.label_rows import LabelFile, NumberedValues
from transferlite.errors import InputError

_DELIMITERS = "\t,;|"  # in order of preference: a tab is hardly ever part of a column name
_HEAD_BYTES = 2**16  # beginning of the file in which to detect the delimiter
_HEAD_ROWS = 20
_MAX_EXTRA = 64  # empty values that a row may have beyond the header: spreadsheets write them for empty columns


def open_csv(location: str, data: bytes) -> LabelFile:
    """Open a CSV file in UTF-8 with a header. Row numbers count the header and blank lines, as a spreadsheet does.

    A quoted value that spans several lines belongs to one row. Raises InputError if there is no header.
    """
    head = data[:_HEAD_BYTES].decode(errors="ignore")
    separator_line = re.match(r"\s*sep=(.)\r?\n", head)  # written by Excel
    delimiter = separator_line[1] if separator_line else _detect_delimiter(head, len(head) < len(data))
    spaced = f'{delimiter} "' in head
    skipped_lines = separator_line[0].count("\n") if separator_line else 0
    lines = io.TextIOWrapper(io.BytesIO(data), newline="")
    reader = _csv_reader(lines, delimiter, spaced)
    for row, record in enumerate(reader, 1):
        if any(map(str.strip, record)) and reader.line_num > skipped_lines:
            table = _CsvTable(location, data, delimiter, spaced, tuple(map(str.strip, record)), row)
            return LabelFile(location, tuple(filter(None, table.header)), table.read)
    raise InputError("has no header", where=location, hint="its first line must name its columns")


@dataclass(frozen=True)
class _CsvTable:
    location: str
    data: bytes
    delimiter: str
    spaced: bool
    header: tuple[str, ...]
    header_row: int

    def read(self, columns: Sequence[str], chunk_rows: int) -> Iterator[NumberedValues]:
        """See :class:`train_job.data.labels.label_rows.LabelFile`."""
        import pandas as pd

        bad, width, data = self._checked
        indices = [self.header.index(column) for column in columns]
        chunks = pd.read_csv(
            io.BytesIO(data),
            sep=self.delimiter,
            skipinitialspace=self.spaced,
            header=None,
            names=range(width),
            index_col=False,
            dtype=object,
            na_filter=False,
            skip_blank_lines=False,
            chunksize=chunk_rows,
        )
        for chunk in chunks:
            values = (chunk[index] for index in indices)
            for row, record in enumerate(zip(*values, strict=True), chunk.index[0] + 1):
                if row > self.header_row:
                    yield row, (bad[row],) if row in bad else record

    @cached_property
    def _checked(self) -> tuple[dict[int, ValueError], int, bytes]:
        """The reason for each malformed row, the values of the longest other row, and the data without malformed rows.

        pandas would read text after a closing quote as part of the value, and drop or shift the values of a long row.
        """
        delimiter, width = self.delimiter.encode(), len(self.header)
        bad: dict[int, ValueError] = {}
        data = bytearray(self.data.replace(b"\0", b"\1"))  # older releases of pandas end a value at NUL
        longest = width
        for row, match in enumerate(_row_pattern(delimiter, self.spaced).finditer(self.data), 1):
            if match.start() == len(self.data):
                break
            if match["open"] is not None:
                raise InputError(f"the quote that opens in row {row} is not closed", where=self.location)
            reason = ""
            if match["after_quote"]:
                reason = "has text after a closing quote; write a quote within a value as two"
            elif match[0].count(delimiter) >= width:
                values = next(_csv_reader([match[0].decode()], self.delimiter, self.spaced))
                if any(map(str.strip, values[width:])) or len(values) > width + _MAX_EXTRA:
                    reason = (
                        f"has {len(values)} values, the header {width}; quote values that contain {self.delimiter!r}"
                    )
                else:
                    longest = max(longest, len(values))
            if reason:
                bad[row] = ValueError(reason)
                start, end = match.span("values")
                data[start:end] = b" " * (end - start)
        return bad, longest, bytes(data)


def _csv_reader(lines: Iterable[str], delimiter: str, spaced: bool) -> Any:
    csv.field_size_limit(2**31 - 1)  # as pandas, which has none
    return csv.reader(lines, delimiter=delimiter, skipinitialspace=spaced)


def _row_pattern(delimiter: bytes, spaced: bool) -> re.Pattern[bytes]:
    """Compile a pattern of one CSV row, split as pandas does."""
    outside = rb"[^%b\r\n]" % re.escape(delimiter)
    quoted = rb'"[^"]*+(?:""[^"]*+)*+(?:"(?P<after_quote>%b++)?|(?P<open>\Z))' % outside
    field = rb"%b(?:%b|%b++)?" % (rb" *+" if spaced else b"", quoted, outside)
    return re.compile(rb"(?P<values>(?:%b?%b)*+)(?:\r\n?|\n|\Z)" % (re.escape(delimiter), field))


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
