"""TFLite Metadata: what a ``.tflite`` file says of itself, read with the standard library alone.

The description is a flatbuffer in the model's buffer ``TFLITE_METADATA``. The files it names, above all the labels,
are a zip archive behind the model. export/tflite/metadata.py writes both.
Source: https://github.com/tensorflow/tflite-support/blob/master/tensorflow_lite_support/metadata/metadata_schema.fbs
"""

import json
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transferlite.errors import BundleError

BUFFER = "TFLITE_METADATA"
ABOUT = "transferlite.json"
"""The archive's entry with what TransferLite knows of a file beyond the schema: model id, decoder version, ..."""

_DAMAGED_TABLE = (struct.error, ValueError, LookupError, TypeError, AttributeError, StopIteration)
_DAMAGED_ARCHIVE = (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError)


class ModelSlot:
    """Where the fields of a ``Model`` lie, in the schema of TFLite files; of a ``Metadata`` and a ``Buffer`` too."""

    BUFFERS, METADATA = 4, 6
    METADATA_NAME, METADATA_BUFFER = 0, 1
    BUFFER_DATA = 0


class Slot:
    """Where the fields lie of each table that a classifier of images needs, by ``TABLE_FIELD``."""

    MODEL_NAME, MODEL_DESCRIPTION, MODEL_VERSION, MODEL_SUBGRAPHS = 0, 1, 2, 3
    MODEL_AUTHOR, MODEL_LICENSE, MODEL_FILES, MODEL_MIN_PARSER = 4, 5, 6, 7
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
    """Values of the schema's enumerations and unions."""

    CONTENT_FEATURES, CONTENT_IMAGE = 1, 2
    COLOURS_RGB = 1
    UNIT_NORMALISATION, UNIT_THRESHOLDING = 1, 3
    FILE_DESCRIPTIONS, FILE_AXIS_LABELS = 1, 2


@dataclass(frozen=True)
class FileMetadata:
    """What a file says of itself; each is empty where it says nothing.

    Attributes:
        labels: one for each output.
        mean: of the normalisation ``(pixel - mean) / std`` of RGB 0 to 255, one number or three.
        std: the same.
        about: the content of :data:`ABOUT`, in files that TransferLite made.
    """

    labels: tuple[str, ...] = ()
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    about: Mapping[str, Any] = field(default_factory=dict)


def read_metadata(path: Path) -> FileMetadata:
    """What the TFLite file at ``path`` says of itself.

    Raises:
        BundleError: its metadata are damaged.
    """
    try:
        buffer = _find_buffer(path.read_bytes())
        if buffer is None:
            return FileMetadata()
        (graph, *_) = _Table.root(buffer).tables(Slot.MODEL_SUBGRAPHS)
        return _described(graph, _archived(path))
    except (*_DAMAGED_TABLE, *_DAMAGED_ARCHIVE) as error:
        raise BundleError(f"its metadata cannot be read ({error})", where=str(path)) from error


def read_labels(content: bytes) -> tuple[str, ...]:
    """The labels of a text file, one a line, in UTF-8. Raises UnicodeDecodeError, a ValueError."""
    lines = content.decode("utf-8-sig").removesuffix("\n").split("\n")  # of line ends, a label may hold all others
    return tuple(line.removesuffix("\r") for line in lines)


@dataclass(frozen=True)
class _Table:
    """A table of a flatbuffer, read field by field; ``place`` is where it begins.

    Source: https://flatbuffers.dev/internals/
    """

    data: bytes
    place: int

    @classmethod
    def root(cls, data: bytes) -> "_Table":
        return cls(data, _number("<I", data, 0))

    def field(self, slot: int) -> int:
        """Where a field's value lies; 0 if it is absent."""
        index = self.place - _number("<i", self.data, self.place)
        known = _number("<H", self.data, index)
        offset = _number("<H", self.data, index + 4 + 2 * slot) if 4 + 2 * slot < known else 0
        return self.place + offset if offset else 0

    def number(self, slot: int, form: str) -> int:
        place = self.field(slot)
        return _number(form, self.data, place) if place else 0

    def table(self, slot: int) -> "_Table | None":
        place = self.field(slot)
        return _Table(self.data, _followed(self.data, place)) if place else None

    def tables(self, slot: int) -> "Iterator[_Table]":
        start, count = self._vector(slot)
        return (_Table(self.data, _followed(self.data, start + 4 * one)) for one in range(count))

    def bytes(self, slot: int) -> bytes:
        start, count = self._vector(slot)
        return self.data[start : start + count]

    def floats(self, slot: int) -> tuple[float, ...]:
        start, count = self._vector(slot)
        return struct.unpack_from(f"<{count}f", self.data, start)

    def _vector(self, slot: int) -> tuple[int, int]:
        """Where a vector's items begin, and how many they are."""
        place = self.field(slot)
        if not place:
            return 0, 0
        start = _followed(self.data, place)
        return start + 4, _number("<I", self.data, start)


def _number(form: str, data: bytes, place: int) -> int:
    (value,) = struct.unpack_from(form, data, place)
    return int(value)


def _followed(data: bytes, place: int) -> int:
    return place + _number("<I", data, place)


def _find_buffer(content: bytes) -> bytes | None:
    model = _Table.root(content)
    for entry in model.tables(ModelSlot.METADATA):
        if entry.bytes(ModelSlot.METADATA_NAME).decode() == BUFFER:
            buffers = list(model.tables(ModelSlot.BUFFERS))
            return buffers[entry.number(ModelSlot.METADATA_BUFFER, "<I")].bytes(ModelSlot.BUFFER_DATA)
    return None


def _archived(path: Path) -> dict[str, bytes]:
    """The files behind the model; a model that names none has no archive."""
    if not zipfile.is_zipfile(path):
        return {}
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _described(graph: _Table, files: Mapping[str, bytes]) -> FileMetadata:
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    for unit in next(graph.tables(Slot.GRAPH_INPUTS)).tables(Slot.TENSOR_UNITS):
        options = unit.table(Slot.UNIT)
        if options is not None and unit.number(Slot.UNIT_TYPE, "<B") == Kind.UNIT_NORMALISATION:
            mean, std = options.floats(Slot.NORMALISATION_MEAN), options.floats(Slot.NORMALISATION_STD)
    labels: tuple[str, ...] = ()
    for one in next(graph.tables(Slot.GRAPH_OUTPUTS)).tables(Slot.TENSOR_FILES):
        if one.number(Slot.FILE_TYPE, "<b") == Kind.FILE_AXIS_LABELS and not labels:
            labels = read_labels(files[one.bytes(Slot.FILE_NAME).decode()])
    return FileMetadata(labels, mean, std, json.loads(files.get(ABOUT, b"{}")))
