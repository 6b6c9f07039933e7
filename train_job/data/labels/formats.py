"""Open a label file of any format, recognised by its content first and its extension second.

===============  ===================================================  ===========================================
format           content                                              row number
===============  ===================================================  ===========================================
CSV, TSV         a header, then rows; UTF-8, or UTF-16 with a BOM     the header is row 1, blank lines count
Parquet          any columns                                          from 1
JSON Lines       one object a line; Ground Truth's manifests          line number, from 1
JSON             an array of objects                                  from 1
===============  ===================================================  ===========================================

Each may be compressed with gzip.
"""

import codecs
import gzip
import re
import zlib
from pathlib import PurePosixPath

from train_job.data.labels.csv_labels import CsvLabelFile
from train_job.data.labels.json_labels import JsonLabelFile
from train_job.data.labels.label_rows import LabelFile
from transferlite.errors import InputError
from transferlite.storage.locations import read_uri

_JSON_EXTENSIONS = frozenset({".manifest", ".jsonl", ".ndjson", ".json"})
_CSV_EXTENSIONS = frozenset({".csv", ".tsv"})
_ENCODINGS = {  # UTF-32 first: its little-endian mark begins with that of UTF-16
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_EXPECTED = "expected CSV, TSV, Parquet, JSON Lines or a Ground Truth manifest"


def open_label_file(location: str) -> LabelFile:
    """Open the label file at an ``s3://`` URI or local path.

    Raises:
        NotFoundError: the file does not exist.
        InputError: the file is empty, damaged, or of another format.
    """
    data = read_uri(location)
    if data.startswith(b"\x1f\x8b"):
        data = _decompress(location, data)
    extension = PurePosixPath(location.lower().removesuffix(".gz")).suffix
    if data.startswith(b"PAR1"):
        from train_job.data.labels.parquet_labels import ParquetLabelFile

        return ParquetLabelFile.open(location, data)
    text = _as_utf8(location, data)
    match = re.match(rb"\s*(\S?)", text)
    first = match[1] if match else b""
    if not first:
        raise InputError("is empty", where=location, hint=_EXPECTED)
    _check_text(location, text, extension)
    if extension in _JSON_EXTENSIONS or first == b"{" or (first == b"[" and extension not in _CSV_EXTENSIONS):
        return JsonLabelFile.open(location, text)
    return CsvLabelFile.open(location, text)


def _decompress(location: str, data: bytes) -> bytes:
    try:
        return gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"is damaged gzip ({error})", where=location) from None


def _as_utf8(location: str, data: bytes) -> bytes:
    """Remove the byte order mark, and convert text to UTF-8 if the mark shows another encoding."""
    for mark, encoding in _ENCODINGS.items():
        if data.startswith(mark):
            try:
                return data.decode(encoding).encode()
            except UnicodeError as error:
                raise InputError(f"is not text in {encoding.upper()} ({error})", where=location) from None
    return data.removeprefix(codecs.BOM_UTF8)


def _check_text(location: str, data: bytes, extension: str) -> None:
    if extension == ".parquet":
        raise InputError("has the extension .parquet but is not Parquet", where=location, hint=_EXPECTED)
    if data.startswith(b"PK\x03\x04"):
        raise InputError("is a spreadsheet or a zip file", where=location, hint="export it as CSV UTF-8")
    if data[:1024].count(0) * 4 > len(data[:1024]):  # UTF-16 without a byte order mark, or binary data
        raise InputError("is not text in UTF-8", where=location, hint=_EXPECTED)
