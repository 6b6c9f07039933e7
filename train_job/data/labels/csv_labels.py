"""Read CSV label files with pandas; the delimiter (comma, semicolon, tab or bar) is detected from the header."""

import csv
import io
import re
from collections.abc import Iterator, Sequence
from itertools import islice
from mmap import mmap
from typing import TYPE_CHECKING, Any

from train_job.arrow import pa
from train_job.data.labels.label_file import LabelFile, arrow_file
from transferlite.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

_DELIMITERS = "\t,;|"  # in order of preference: a tab is hardly ever part of a column name
_HEAD_BYTES = 2**20  # beginning of the file in which to detect the delimiter
_HEAD_ROWS = 20


def open_csv(location: str, data: mmap) -> LabelFile:
    """Open a CSV file in UTF-8 with a header. Row numbers count the header and blank lines, as a spreadsheet does.

    A quoted value that spans several lines belongs to one row. Raises InputError if there is no header.
    """
    csv.field_size_limit(2**31 - 1)  # as pandas, which has none
    head = data[:_HEAD_BYTES].decode(errors="ignore")
    separator_line = re.match(r"\s*sep=(.)\r?\n", head)  # written by Excel
    delimiter = separator_line[1] if separator_line else _detect_delimiter(head, len(head) < len(data))
    spaced, skipped = f'{delimiter} "' in head, separator_line[0].count("\n") if separator_line else 0
    rows = csv.reader(io.StringIO(head, newline=""), delimiter=delimiter, skipinitialspace=spaced)
    named = ((row, values) for row, values in enumerate(rows, 1) if row > skipped and any(map(str.strip, values)))
    header_row, header = next(named, (0, []))
    if not header:
        raise InputError("has no header", where=location, hint="its first line must name its columns")
    header = [name.strip() for name in header]
    reasons = _erase_malformed(data, delimiter, len(header), spaced)

    def read(columns: Sequence[str], chunk_rows: int) -> Iterator["pd.DataFrame"]:
        import pandas as pd

        indices = [header.index(column) for column in columns]
        options: dict[str, Any] = {
            "sep": delimiter,
            "skipinitialspace": spaced,
            "header": None,
            "names": range(len(header)),
        }
        options |= {"usecols": set(indices), "na_filter": False, "skip_blank_lines": False, "index_col": False}
        options |= {"dtype": pd.ArrowDtype(pa.large_string()), "chunksize": chunk_rows}
        try:
            for chunk in pd.read_csv(arrow_file(data), **options):
                table = chunk[indices].set_axis(range(len(indices)), axis=1).set_axis(chunk.index + 1)
                if malformed := table.index.intersection(list(reasons)).tolist():
                    table[0] = table[0].astype(object)
                    table.loc[malformed, 0] = pd.Series([ValueError(reasons[row]) for row in malformed], malformed)
                yield table[table.index > header_row]
        except pd.errors.ParserError as error:
            row = int(re.findall(r"\d+", str(error))[-1]) + 1
            raise InputError(f"the quote that opens in row {row} is not closed", where=location) from None

    return LabelFile(location, tuple(filter(None, header)), read)


def _erase_malformed(data: mmap, delimiter: str, width: int, spaced: bool) -> dict[int, str]:
    """Overwrite each row that pandas would misread with spaces; return the reasons by row number.

    pandas would read text after a closing quote as part of the value, and drop the values of a row beyond the header.
    Up to 64 empty ones are no mistake: spreadsheets write them for empty columns.
    """
    comma, space, outside = (
        re.escape(delimiter.encode()),
        b" *+" * spaced,
        rb"[^%b\r\n]" % re.escape(delimiter.encode()),
    )
    quoted, end = rb'"[^"]*+(?:""[^"]*+)*+', rb"(?:\r\n?|\n)"
    field = rb'%b(?:%b"(?!%b)|(?!")%b*+)' % (space, quoted, outside, outside)
    row = rb'%b(?:%b%b){0,%d}+(?:%b *+(?:" *")?){0,64}+' % (field, comma, field, width - 1, comma)
    any_field = rb'%b(?:%b(?:"(?P<after_quote>%b++)?|(?P<open>\Z))|%b*+)' % (space, quoted, outside, outside)
    pattern = re.compile(rb"(?:%b%b)*+(?:%b\Z)?+(?P<bad>(?:%b?%b)*+)%b?+" % (row, end, row, comma, any_field, end))
    one_row = re.compile(row + end)
    reasons: dict[int, str] = {}
    number = position = 0
    while (match := pattern.match(data, position)) and match.end() > position and match["open"] is None:
        start, stop = match.span("bad")
        if start < stop:
            number += 1 + sum(1 for _ in one_row.finditer(data, position, start))
            values = next(csv.reader([match["bad"].decode()], delimiter=delimiter, skipinitialspace=spaced))
            extra = f"has {len(values)} values, the header {width}; quote values that contain {delimiter!r}"
            tail = "has text after a closing quote; write a quote within a value as two"
            reasons[number] = tail if match["after_quote"] else extra
            data[start:stop] = b" " * (stop - start)
        position = match.end()
    return reasons


def _detect_delimiter(head: str, truncated: bool) -> str:
    """Find the delimiter that gives most rows the header's number of columns, then the most columns."""
    best, chosen = (0.0, 1), ","
    for delimiter in _DELIMITERS:
        reader = csv.reader(io.StringIO(head, newline=""), delimiter=delimiter)
        rows = [row for row in islice(reader, _HEAD_ROWS + 1) if any(map(str.strip, row))]
        if truncated and 1 < len(rows) <= _HEAD_ROWS:
            rows.pop()  # the last row may be cut off
        widths = [max(column for column, value in enumerate(row, 1) if value.strip()) for row in rows]
        agreement = sum(width == widths[0] for width in widths) / max(len(widths), 1)
        if widths and widths[0] > 1 and (agreement, widths[0]) > best:
            best, chosen = (agreement, widths[0]), delimiter
    return chosen
