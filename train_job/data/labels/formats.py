"""Open a label file of any format, recognised by its content first and its extension second.

===============  ===================================================  ===========================================
format           content                                              row number
===============  ===================================================  ===========================================
CSV, TSV         a header, then rows; UTF-8, UTF-16 with a byte       the header is row 1, blank lines count
                 order mark, or Windows-1252
Parquet          any columns                                          from 1
Excel (.xlsx)    one sheet with a header                              row of the sheet
JSON Lines       one object a line; Ground Truth's manifests          line number, from 1
JSON             an array of objects                                  from 1
===============  ===================================================  ===========================================

Each may be compressed with gzip. pandas parses all of them; it takes 0.5 s to import, so only reading rows imports it.
"""

import codecs
import gzip
import re
import zlib
from dataclasses import replace
from pathlib import PurePosixPath

from train_job.data.labels.csv_labels import open_csv
from train_job.data.labels.json_labels import open_json
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
_EXPECTED = "expected CSV, TSV, Parquet, Excel, JSON Lines or a Ground Truth manifest"


def open_label_file(location: str) -> LabelFile:
    """Open the label file at an ``s3://`` URI or local path.

    Raises:
        NotFoundError: the file does not exist.
        InputError: the file is empty, damaged, or of another format.
    """
    data = read_uri(location)
    if data.startswith(b"\x1f\x8b"):
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            raise InputError(f"is damaged gzip ({error})", where=location) from None
    extension = PurePosixPath(location.lower().removesuffix(".gz")).suffix
    if data.startswith((b"PAR1", b"PK\x03\x04")):
        from train_job.data.labels.table_labels import open_excel, open_parquet

        return open_parquet(location, data) if data.startswith(b"PAR1") else open_excel(location, data)
    if extension == ".parquet":
        raise InputError("has the extension .parquet but is not Parquet", where=location, hint=_EXPECTED)
    text = _remove_mark(location, data)
    first = text.lstrip()[:1]
    if not first:
        raise InputError("is empty", where=location, hint=_EXPECTED)
    if text[:1024].count(0) * 4 > len(text[:1024]):  # UTF-16 without a byte order mark, or binary data
        raise InputError("is not text in UTF-8", where=location, hint=_EXPECTED)
    if extension in _JSON_EXTENSIONS or first == b"{" or (first == b"[" and extension not in _CSV_EXTENSIONS):
        return open_json(location, text)
    try:
        text.decode()
    except UnicodeDecodeError as error:
        file = open_csv(location, _from_windows_1252(location, text, error))
        return replace(file, remark="is not UTF-8; it is read as Windows-1252")
    return open_csv(location, text)


def _remove_mark(location: str, data: bytes) -> bytes:
    """Remove the byte order mark, and convert the text to UTF-8 if the mark shows another encoding."""
    for mark, encoding in _ENCODINGS.items():
        if data.startswith(mark):
            try:
                return data.decode(encoding).encode()
            except UnicodeError as error:
                raise InputError(f"is not text in {encoding.upper()} ({error})", where=location) from None
    return data.removeprefix(codecs.BOM_UTF8)


def _from_windows_1252(location: str, data: bytes, error: UnicodeDecodeError) -> bytes:
    """Convert Windows-1252, which Excel's plain "CSV" is in Western Europe, to UTF-8.

    Its words hardly ever have three letters outside ASCII in a row; those of other alphabets and damaged UTF-8 do.
    """
    try:
        if not re.search(rb"[\x80-\xff]{3}|[\0-\x08\x0e-\x1f]", data):
            return data.decode("cp1252").encode()
    except UnicodeDecodeError:
        pass
    line = data.count(b"\n", 0, error.start) + 1
    message = f"is text neither in UTF-8 nor in Windows-1252 (line {line}: byte {data[error.start]:#04x})"
    raise InputError(message, where=location, hint='save it as "CSV UTF-8", Parquet or JSON Lines')
