"""Label files: what is at a location, told by its content first and its ending second, and opened.

===============  ===================================================  ===========================================
format           what it is                                           a row's number
===============  ===================================================  ===========================================
CSV, TSV         a header, then rows; in UTF-8, or UTF-16 with a BOM  the header is row 1, blank lines count
Parquet          any columns                                          from 1
JSON Lines       an object a line; Ground Truth's manifests           the line, from 1
JSON             an array of objects                                  from 1
===============  ===================================================  ===========================================

Any of them may be compressed by gzip.
"""

import codecs
import gzip
import re
import zlib
from pathlib import PurePosixPath

from train_job.data.labels.csv_labels import CsvLabels
from train_job.data.labels.json_labels import JsonLabels
from train_job.data.labels.label_rows import LabelFile
from transferlite.errors import InputError
from transferlite.storage.locations import read_uri

_JSON = frozenset({".manifest", ".jsonl", ".ndjson", ".json"})
_SEPARATED = frozenset({".csv", ".tsv"})
_WIDE = {  # the longer marks first: UTF-32's begins as UTF-16's does
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_EXPECTED = "expected CSV, TSV, Parquet, JSON Lines or a Ground Truth manifest"


def open_label_file(location: str) -> LabelFile:
    """The label file at an ``s3://`` URI or local path.

    Raises:
        NotFoundError: it does not exist.
        InputError: it is none of these formats, empty or damaged.
    """
    data = read_uri(location)
    if data.startswith(b"\x1f\x8b"):
        data = _unzipped(location, data)
    ending = PurePosixPath(location.lower().removesuffix(".gz")).suffix
    if data.startswith(b"PAR1"):
        from train_job.data.labels.parquet_labels import ParquetLabels

        return ParquetLabels.open(location, data)
    text = _as_utf8(location, data)
    start = re.match(rb"\s*(\S?)", text)
    first = start[1] if start else b""
    if not first:
        raise InputError("is empty", where=location, hint=_EXPECTED)
    _check_text(location, text, ending)
    if ending in _JSON or first == b"{" or (first == b"[" and ending not in _SEPARATED):
        return JsonLabels.open(location, text)
    return CsvLabels.open(location, text)


def _unzipped(location: str, data: bytes) -> bytes:
    try:
        return gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"is damaged gzip ({error})", where=location) from None


def _as_utf8(location: str, data: bytes) -> bytes:
    """Text without its byte order mark, and in UTF-8 where that mark says that it is in another form of Unicode."""
    for mark, encoding in _WIDE.items():
        if data.startswith(mark):
            try:
                return data.decode(encoding).encode()
            except UnicodeError as error:
                raise InputError(f"is not text in {encoding.upper()} ({error})", where=location) from None
    return data.removeprefix(codecs.BOM_UTF8)


def _check_text(location: str, data: bytes, ending: str) -> None:
    if ending == ".parquet":
        raise InputError("is named Parquet and is not", where=location, hint=_EXPECTED)
    if data.startswith(b"PK\x03\x04"):
        raise InputError("is a spreadsheet or a zip file", where=location, hint="export it as CSV UTF-8")
    if data[:1024].count(0) * 4 > len(data[:1024]):  # UTF-16 without its mark, or no text at all
        raise InputError("is not text in UTF-8", where=location, hint=_EXPECTED)
