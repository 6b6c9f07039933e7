"""Read label files of JSON objects: JSON Lines such as Ground Truth's manifests, or one array."""

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from train_job.data.dataset import RejectedPhoto
from train_job.data.labels.label_rows import SAMPLE_ROWS, LabelColumns, LabelRow, as_text, text_or_none
from transferlite.errors import InputError

_METADATA = "-metadata"

Object = Mapping[str, Any]


@dataclass(frozen=True)
class JsonLabelFile:
    """JSON objects. A row's number is its line in JSON Lines, its position in an array, from 1.

    A Ground Truth manifest has an object ``A-metadata`` with a ``class-name`` for each label attribute ``A``
    (docs.aws.amazon.com, "Classification job output"). The label is the class name, not its number.
    """

    location: str
    data: bytes
    columns: tuple[str, ...]
    attributes: tuple[str, ...]
    attributes_overlap: bool

    @classmethod
    def open(cls, location: str, data: bytes) -> "JsonLabelFile":
        """Read all objects to collect the columns. Raises InputError if no object can be read."""
        if data.lstrip()[:1] == b"[":
            data = _as_lines(location, data)
        columns: dict[str, None] = {}
        attributes: dict[str, None] = {}
        overlap, objects, first_reason = False, 0, ""
        for item in _objects(location, data):
            if isinstance(item, RejectedPhoto):
                first_reason = first_reason or f"row {item.row} {item.reason}"
                continue
            objects += 1
            columns |= dict.fromkeys(item[1])
            in_line = _label_attributes(item[1])
            attributes |= dict.fromkeys(in_line)
            overlap = overlap or len(in_line) > 1
        if not objects:
            raise InputError(f"holds no JSON objects ({first_reason})", where=location, hint="write one object a line")
        names = tuple(column for column in columns if not column.endswith(_METADATA))
        return cls(location, data, names, tuple(attributes), overlap)

    def sample(self, column: str) -> Sequence[str]:
        """See :class:`train_job.data.labels.label_rows.LabelFile`."""
        texts = (
            text_or_none(item[1].get(column)) for item in islice(self._items(), SAMPLE_ROWS) if isinstance(item, tuple)
        )
        return [text for text in texts if text is not None]

    def rows(self, columns: LabelColumns) -> Iterator[LabelRow | RejectedPhoto]:
        """See :class:`train_job.data.labels.label_rows.LabelFile`."""
        for item in self._items():
            if isinstance(item, RejectedPhoto):
                yield item
                continue
            row, values = item
            try:
                label = _label(values, columns.label)
                split = as_text(values.get(columns.split)) if columns.split else ""
                yield LabelRow(row, as_text(values.get(columns.name)), label, split)
            except ValueError as error:
                name = text_or_none(values.get(columns.name)) or self.location
                yield RejectedPhoto(name, row, "bad-row", str(error))

    def _items(self) -> Iterator[tuple[int, Object] | RejectedPhoto]:
        return _objects(self.location, self.data)


def _objects(location: str, data: bytes) -> Iterator[tuple[int, Object] | RejectedPhoto]:
    for row, line in enumerate(io.BytesIO(data), 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            yield RejectedPhoto(location, row, "bad-row", f"is not JSON ({error})")
            continue
        if isinstance(value, dict):
            yield row, value
        else:
            yield RejectedPhoto(location, row, "bad-row", "is not a JSON object")


def _as_lines(location: str, data: bytes) -> bytes:
    """Convert a JSON array to JSON Lines."""
    try:
        return b"\n".join(json.dumps(item).encode() for item in json.loads(data))
    except (ValueError, RecursionError) as error:
        raise InputError(f"is not JSON ({error})", where=location) from None


def _label_attributes(values: Object) -> list[str]:
    """Return the attributes of a line that label the whole photo: their metadata name a class."""
    names = (key.removesuffix(_METADATA) for key in values if key.endswith(_METADATA))
    return [name for name in names if name in values and _names_class(values[name + _METADATA])]


def _names_class(metadata: object) -> bool:
    return isinstance(metadata, dict) and ("class-name" in metadata or "multilabel" in str(metadata.get("type")))


def _label(values: Object, attribute: str | None) -> str:
    """Return a line's label; without ``attribute``, that of its first label attribute.

    Raises:
        ValueError: the line has several labels, or its label is not text.
    """
    if attribute is None:
        attribute = next(iter(_label_attributes(values)), "")
    value, metadata = values.get(attribute), values.get(attribute + _METADATA)
    if not isinstance(metadata, dict):
        return as_text(value)
    class_map = metadata.get("class-map")
    if isinstance(class_map, dict) and isinstance(value, list):  # output of a multi-label job
        if len(value) != 1:
            raise ValueError(f"has {len(value)} labels where one is needed")
        number = as_text(value[0])
        value = class_map.get(number, number)
    return as_text(metadata.get("class-name", value))
