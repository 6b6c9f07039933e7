"""Label files of JSON objects: a line each (AWS's augmented manifests, Ground Truth's among them), or in one array."""

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from train_job.data.dataset import RejectedPhoto
from train_job.data.labels.label_rows import SAMPLE, Columns, LabelRow, as_text, text_or_none
from transferlite.errors import InputError

_METADATA = "-metadata"

Object = Mapping[str, Any]


@dataclass(frozen=True)
class JsonLabels:
    """JSON Lines: a row's number is its line, from 1; of an array, its place from 1.

    A Ground Truth manifest has for each label attribute ``A`` another, ``A-metadata``, with ``class-name`` and
    ``confidence`` (docs.aws.amazon.com, "Classification job output"). The label is the class's name, not its number.
    """

    location: str
    data: bytes
    columns: tuple[str, ...]
    attributes: tuple[str, ...]
    attributes_meet: bool

    @classmethod
    def open(cls, location: str, data: bytes) -> "JsonLabels":
        """Look through it for its columns. Raises InputError where not one object can be read."""
        if data.lstrip()[:1] == b"[":
            data = _as_lines(location, data)
        columns: dict[str, None] = {}
        attributes: dict[str, None] = {}
        several, objects, first = False, 0, ""
        for item in _objects(location, data):
            if isinstance(item, RejectedPhoto):
                first = first or f"row {item.row} {item.reason}"
                continue
            objects += 1
            columns |= dict.fromkeys(item[1])
            found = _attributes(item[1])
            attributes |= dict.fromkeys(found)
            several = several or len(found) > 1
        if not objects:
            raise InputError(f"holds no JSON objects ({first})", where=location, hint="expected one a line")
        named = tuple(column for column in columns if not column.endswith(_METADATA))
        return cls(location, data, named, tuple(attributes), several)

    def sample(self, column: str) -> Sequence[str]:
        """As :class:`train_job.data.labels.label_rows.LabelFile`."""
        texts = (text_or_none(item[1].get(column)) for item in islice(self._items(), SAMPLE) if isinstance(item, tuple))
        return [text for text in texts if text is not None]

    def rows(self, columns: Columns) -> Iterator[LabelRow | RejectedPhoto]:
        """As :class:`train_job.data.labels.label_rows.LabelFile`."""
        for item in self._items():
            if isinstance(item, RejectedPhoto):
                yield item
                continue
            row, values = item
            try:
                label, confidence = _label(values, columns.label)
                split = as_text(values.get(columns.split)) if columns.split else ""
                yield LabelRow(row, as_text(values.get(columns.name)), label, split, confidence)
            except ValueError as error:
                named = text_or_none(values.get(columns.name)) or self.location
                yield RejectedPhoto(named, row, "bad-row", str(error))

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
            yield RejectedPhoto(location, row, "bad-row", "is JSON but no object")


def _as_lines(location: str, data: bytes) -> bytes:
    """A JSON array with each of its items on a line."""
    try:
        return b"\n".join(json.dumps(item).encode() for item in json.loads(data))
    except (ValueError, RecursionError) as error:
        raise InputError(f"is not JSON ({error})", where=location) from None


def _attributes(values: Object) -> list[str]:
    """The attributes of a line that are labels of a whole photo: those whose metadata name its class."""
    names = (key.removesuffix(_METADATA) for key in values if key.endswith(_METADATA))
    return [name for name in names if name in values and _names_class(values[name + _METADATA])]


def _names_class(metadata: object) -> bool:
    return isinstance(metadata, dict) and ("class-name" in metadata or "multilabel" in str(metadata.get("type")))


def _label(values: Object, attribute: str | None) -> tuple[str, float | None]:
    """A line's label and how sure its labellers were. Raises ValueError where it has not one label."""
    if attribute is None:
        attribute = next(iter(_attributes(values)), "")
    value, metadata = values.get(attribute), values.get(attribute + _METADATA)
    if not isinstance(metadata, dict):
        return as_text(value), None
    confidence = metadata.get("confidence")
    if "class-map" in metadata and isinstance(value, list):  # of a job in which a photo may have several labels
        if len(value) != 1:
            raise ValueError(f"has {len(value)} labels where one is needed")
        number = as_text(value[0])
        value, confidence = metadata["class-map"].get(number, number), metadata.get("confidence-map", {}).get(number)
    sure = float(confidence) if isinstance(confidence, int | float) and not isinstance(confidence, bool) else None
    return as_text(metadata.get("class-name", value)), sure
