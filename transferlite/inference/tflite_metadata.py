"""Read TFLite Metadata from a ``.tflite`` file with the standard library alone.

The metadata are a flatbuffer in the model's buffer ``TFLITE_METADATA``. Files that they name, such as the labels, are
in a zip archive appended to the model. ``export/tflite/metadata.py`` writes both.
Source: https://github.com/tensorflow/tflite-support/blob/master/tensorflow_lite_support/metadata/metadata_schema.fbs
"""

import io
import json
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transferlite.errors import BundleError

METADATA_NAME = "TFLITE_METADATA"
"""Name of the model's metadata entry that points to the buffer."""
ABOUT_FILE = "transferlite.json"
"""Archive entry with TransferLite's own fields: model id, decoder version, threshold, ..."""

_MAX_ENTRIES, _MAX_ARCHIVE_BYTES, _MAX_RATIO, _MAX_DIRECTORY_BYTES = 256, 2**24, 100, 2**16
_ARCHIVE_END, _ZIP64_LOCATOR = b"PK\5\6", b"PK\6\7"
"""Signatures of the directory's end record, and of the ZIP64 record that may precede it.

Source: https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT, 4.3.15 and 4.3.16
"""

_FLATBUFFER_ERRORS = (struct.error, ValueError, LookupError, TypeError, AttributeError, StopIteration)
_ARCHIVE_ERRORS = (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError)


class ModelSlot:
    """Field slots of the tables ``Model``, ``Metadata`` and ``Buffer`` in the TFLite schema."""

    BUFFERS, METADATA = 4, 6
    METADATA_NAME, METADATA_BUFFER = 0, 1
    BUFFER_DATA = 0


class Slot:
    """Field slots of the metadata schema's tables that describe an image classifier, as ``TABLE_FIELD``."""

    MODEL_NAME, MODEL_DESCRIPTION, MODEL_VERSION, MODEL_SUBGRAPHS = 0, 1, 2, 3
    MODEL_FILES, MODEL_MIN_PARSER = 6, 7
    GRAPH_INPUTS, GRAPH_OUTPUTS = 2, 3
    TENSOR_NAME, TENSOR_DESCRIPTION, TENSOR_CONTENT, TENSOR_UNITS, TENSOR_STATS, TENSOR_FILES = 0, 1, 3, 4, 5, 6
    CONTENT_TYPE, CONTENT = 0, 1
    IMAGE_COLOURS = 0
    UNIT_TYPE, UNIT = 0, 1
    NORMALISATION_MEAN, NORMALISATION_STD = 0, 1
    THRESHOLDING_SCORE = 0
    STATS_MAX, STATS_MIN = 0, 1
    FILE_NAME, FILE_DESCRIPTION, FILE_TYPE = 0, 1, 2


class Kind:
    """Values of the metadata schema's enumerations and unions."""

    CONTENT_FEATURES, CONTENT_IMAGE = 1, 2
    COLOURS_RGB = 1
    UNIT_NORMALISATION, UNIT_THRESHOLDING = 1, 3
    FILE_DESCRIPTIONS, FILE_AXIS_LABELS = 1, 2


@dataclass(frozen=True)
class FileMetadata:
    """Metadata of a TFLite file; each attribute is empty if the file lacks it.

    Attributes:
        labels: one for each output.
        mean: of the normalisation ``(pixel - mean) / std`` of RGB 0 to 255, one number or three.
        std: likewise.
        about: content of :data:`ABOUT_FILE`, in files that TransferLite exported.
    """

    labels: tuple[str, ...] = ()
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    about: Mapping[str, Any] = field(default_factory=dict)


def read_metadata(path: Path) -> FileMetadata:
    """Read the metadata of the TFLite file at ``path``.

    Raises:
        BundleError: the metadata are damaged.
    """
    try:
        content = path.read_bytes()
        buffer = _find_buffer(content)
        if buffer is None:
            return FileMetadata()
        (graph, *_) = _Table.root(buffer).tables(Slot.MODEL_SUBGRAPHS)
        return _parse_metadata(graph, _read_archive(content))
    except (*_FLATBUFFER_ERRORS, *_ARCHIVE_ERRORS) as error:
        raise BundleError(f"its metadata cannot be read ({error})", where=str(path)) from error


def read_labels(content: bytes) -> tuple[str, ...]:
    """Split UTF-8 text with one label per line; blank lines at its end are ignored. Raises UnicodeDecodeError."""
    # A label may contain any other character that str.splitlines takes for a line end.
    text = content.decode("utf-8-sig")
    lines = text.rstrip("\r\n").split("\n" if "\n" in text else "\r")
    return tuple(line.removesuffix("\r") for line in lines)


@dataclass(frozen=True)
class _Table:
    """A flatbuffer table that starts at byte ``start`` of ``data``; its fields are read on demand.

    Source: https://flatbuffers.dev/internals/
    """

    data: bytes
    start: int

    @classmethod
    def root(cls, data: bytes) -> "_Table":
        return cls(data, _read_integer("<I", data, 0))

    def field(self, slot: int) -> int:
        """Return the position of a field's value; 0 if the field is absent."""
        vtable = self.start - _read_integer("<i", self.data, self.start)
        vtable_size = _read_integer("<H", self.data, vtable)
        entry = 4 + 2 * slot
        offset = _read_integer("<H", self.data, vtable + entry) if entry < vtable_size else 0
        return self.start + offset if offset else 0

    def number(self, slot: int, form: str) -> int:
        position = self.field(slot)
        return _read_integer(form, self.data, position) if position else 0

    def table(self, slot: int) -> "_Table | None":
        position = self.field(slot)
        return _Table(self.data, _follow_offset(self.data, position)) if position else None

    def tables(self, slot: int) -> "Iterator[_Table]":
        start, count = self._vector(slot)
        return (_Table(self.data, _follow_offset(self.data, start + 4 * i)) for i in range(count))

    def bytes(self, slot: int) -> bytes:
        start, count = self._vector(slot)
        return self.data[start : start + count]

    def floats(self, slot: int) -> tuple[float, ...]:
        start, count = self._vector(slot)
        return struct.unpack_from(f"<{count}f", self.data, start)

    def _vector(self, slot: int) -> tuple[int, int]:
        """Return the position of a vector's first item and the number of items."""
        position = self.field(slot)
        if not position:
            return 0, 0
        start = _follow_offset(self.data, position)
        return start + 4, _read_integer("<I", self.data, start)


def _read_integer(form: str, data: bytes, position: int) -> int:
    (value,) = struct.unpack_from(form, data, position)
    return int(value)


def _follow_offset(data: bytes, position: int) -> int:
    """Return the position that the relative offset at ``position`` points to."""
    return position + _read_integer("<I", data, position)


def _find_buffer(content: bytes) -> bytes | None:
    """Return the metadata flatbuffer of a TFLite file; None if it has none."""
    model = _Table.root(content)
    for entry in model.tables(ModelSlot.METADATA):
        if entry.bytes(ModelSlot.METADATA_NAME).decode() == METADATA_NAME:
            buffers = list(model.tables(ModelSlot.BUFFERS))
            return buffers[entry.number(ModelSlot.METADATA_BUFFER, "<I")].bytes(ModelSlot.BUFFER_DATA)
    return None


def _read_archive(content: bytes) -> dict[str, bytes]:
    """Read the files of the zip archive appended to the model, if there is one. Raises ValueError above a limit.

    The limits are far above those of any real model: labels of 100,000 classes take 2 MB.
    """
    if not zipfile.is_zipfile(io.BytesIO(content)):
        return {}
    end = content.rfind(_ARCHIVE_END)
    is_zip64 = content[end - 20 : end].startswith(_ZIP64_LOCATOR)
    if is_zip64 or _read_integer("<I", content, end + 12) > _MAX_DIRECTORY_BYTES:
        raise ValueError("the directory of its zip archive is too large")  # checked before zipfile reads it
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entries = archive.infolist()
        if len(entries) > _MAX_ENTRIES:
            raise ValueError(f"its zip archive has {len(entries)} entries, more than {_MAX_ENTRIES}")
        total = sum(entry.file_size for entry in entries)
        if total > _MAX_ARCHIVE_BYTES:
            raise ValueError(f"its zip archive unpacks to {total} bytes, more than {_MAX_ARCHIVE_BYTES}")
        for entry in entries:
            if entry.file_size > _MAX_RATIO * max(entry.compress_size, 1024):
                raise ValueError(f"{entry.filename!r} of its zip archive unpacks to over {_MAX_RATIO} times its size")
        return {entry.filename: archive.read(entry) for entry in entries}  # at most file_size bytes of each


def _parse_metadata(graph: _Table, files: Mapping[str, bytes]) -> FileMetadata:
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    for unit in next(graph.tables(Slot.GRAPH_INPUTS)).tables(Slot.TENSOR_UNITS):
        options = unit.table(Slot.UNIT)
        if options is not None and unit.number(Slot.UNIT_TYPE, "<B") == Kind.UNIT_NORMALISATION:
            mean, std = options.floats(Slot.NORMALISATION_MEAN), options.floats(Slot.NORMALISATION_STD)
    labels: tuple[str, ...] = ()
    for file in next(graph.tables(Slot.GRAPH_OUTPUTS)).tables(Slot.TENSOR_FILES):
        if file.number(Slot.FILE_TYPE, "<b") == Kind.FILE_AXIS_LABELS and not labels:
            labels = read_labels(files[file.bytes(Slot.FILE_NAME).decode()])
    return FileMetadata(labels, mean, std, json.loads(files.get(ABOUT_FILE, b"{}")))
