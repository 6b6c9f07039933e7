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

Each may be compressed with gzip, and larger than memory: it is copied to a temporary file that is mapped into memory.
pandas parses all of them; it takes 0.5 s to import, so only reading rows imports it.
"""

import codecs
import gzip
import re
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from mmap import ACCESS_WRITE, mmap
from pathlib import PurePosixPath

from train_job.data.labels.csv_labels import open_csv
from train_job.data.labels.json_labels import open_json
from train_job.data.labels.label_file import LabelFile
from transferlite.errors import InputError
from transferlite.storage.locations import open_store, split_uri

_JSON_EXTENSIONS = frozenset({".manifest", ".jsonl", ".ndjson", ".json"})
_ENCODINGS = {  # UTF-32 first: its little-endian mark begins with that of UTF-16
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_EXPECTED = "expected CSV, TSV, Parquet, Excel, JSON Lines or a Ground Truth manifest"
_NO_NUL = bytes.maketrans(b"\0", b"\1")
"""Older releases of pandas end a value at NUL, which no name or label may contain."""


def open_label_file(location: str) -> LabelFile:
    """Open the label file at an ``s3://`` URI or local path.

    Raises:
        NotFoundError: the file does not exist.
        InputError: the file is empty, damaged, or of another format.
    """
    root, key = split_uri(location)
    data = _map(open_store(root).stream(key))
    if data[:2] == b"\x1f\x8b":
        try:
            data = _map(_blocks(gzip.open(data)))  # noqa: SIM115 (it has no file of its own)
        except (OSError, EOFError, zlib.error) as error:
            raise InputError(f"is damaged gzip ({error})", where=location) from None
    extension = PurePosixPath(location.lower().removesuffix(".gz")).suffix
    if data[:4] in (b"PAR1", b"PK\x03\x04"):
        from train_job.data.labels.table_labels import open_excel, open_parquet

        return open_parquet(location, data) if data[:4] == b"PAR1" else open_excel(location, data[:])
    if extension == ".parquet":
        raise InputError("has the extension .parquet but is not Parquet", where=location, hint=_EXPECTED)
    encoding = next((name for mark, name in _ENCODINGS.items() if data[:4].startswith(mark)), "utf-8-sig")
    first = data[: 2**20].decode(encoding, "ignore").lstrip()[:1]
    if not first:
        raise InputError("is empty", where=location, hint=_EXPECTED)
    if encoding == "utf-8-sig" and data[:1024].count(0) * 4 > len(data[:1024]):  # UTF-16 without a mark, or binary
        raise InputError("is not text in UTF-8", where=location, hint=_EXPECTED)
    if extension in _JSON_EXTENSIONS or first == "{" or (first == "[" and extension not in (".csv", ".tsv")):
        return open_json(location, _convert(data, encoding, "surrogateescape"))
    try:
        return open_csv(location, _convert(data, encoding))
    except UnicodeDecodeError as error:
        if encoding != "utf-8-sig":
            raise InputError(f"is not text in {encoding.upper()} ({error})", where=location) from None
        start = data.tell() - len(error.object) + error.start
        file = open_csv(location, _from_windows_1252(location, data, start))
        return replace(file, remark="is not UTF-8; it is read as Windows-1252")


def _map(blocks: Iterable[bytes]) -> mmap:
    """Copy blocks of bytes to a temporary file without a name, and map it."""
    with tempfile.TemporaryFile() as file:
        file.writelines(blocks)
        if not file.tell():
            file.write(b"\n")  # an empty file cannot be mapped
        file.flush()
        return mmap(file.fileno(), 0, access=ACCESS_WRITE)


def _blocks(file: mmap | gzip.GzipFile) -> Iterator[bytes]:
    file.seek(0)
    return iter(partial(file.read, 2**20), b"")


def _convert(data: mmap, encoding: str, errors: str = "strict") -> mmap:
    """Convert text to UTF-8 without a byte order mark."""
    texts = codecs.iterdecode(_blocks(data), encoding, errors)
    return _map(text.encode(errors=errors).translate(_NO_NUL) for text in texts)


def _from_windows_1252(location: str, data: mmap, start: int) -> mmap:
    """Convert Windows-1252, which Excel's plain "CSV" is in Western Europe; ``start`` is the first byte not in UTF-8.

    Its words hardly ever have three letters outside ASCII in a row; those of other alphabets and damaged UTF-8 do.
    """
    if not re.search(rb"[\x80-\xff]{3}|[\0-\x08\x0e-\x1f]", data):
        with suppress(UnicodeDecodeError):
            return _convert(data, "cp1252")
    line = data[:start].count(b"\n") + 1
    message = f"is text neither in UTF-8 nor in Windows-1252 (line {line}: byte {data[start]:#04x})"
    raise InputError(message, where=location, hint='save it as "CSV UTF-8", Parquet or JSON Lines')
