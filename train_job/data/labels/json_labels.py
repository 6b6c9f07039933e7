"""Read label files of JSON objects with pandas: JSON Lines such as Ground Truth's manifests, or one array."""

import io
from collections.abc import Container, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from train_job.data.labels.label_rows import LabelFile, NumberedValues
from transferlite.errors import InputError

_METADATA = "-metadata"
_CHUNK_LINES = 2**12

Object = Mapping[str, Any]
NumberedObject = tuple[int, Object | ValueError]


def open_json(location: str, data: bytes) -> LabelFile:
    """Open JSON objects. A row's number is its line in JSON Lines, its position in an array, from 1.

    A Ground Truth manifest has an object ``A-metadata`` with a ``class-name`` for each label attribute ``A``
    (docs.aws.amazon.com, "Classification job output"). The label is the class name, not its number.

    Raises:
        InputError: no object can be read.
    """
    objects = _read_array if data.lstrip()[:1] == b"[" else _read_lines
    columns: dict[str, None] = {}
    attributes: dict[str, None] = {}
    overlap, first_reason = False, ""
    for row, item in objects(location, data):
        if isinstance(item, ValueError):
            first_reason = first_reason or f"row {row} {item}"
            continue
        columns |= dict.fromkeys(item)
        in_line = _label_attributes(item)
        attributes |= dict.fromkeys(in_line)
        overlap = overlap or len(in_line) > 1
    if not columns:
        is_coco = all(f'"{key}"'.encode() in data for key in ("images", "annotations", "categories"))
        hint = "convert COCO to a CSV with the columns file and label" if is_coco else "write one object a line"
        raise InputError(f"holds no JSON objects ({first_reason})", where=location, hint=hint)

    def read(names: Sequence[str], _: int) -> Iterator[NumberedValues]:
        for row, item in objects(location, data):
            yield row, (item,) if isinstance(item, ValueError) else [_value(item, name, attributes) for name in names]

    names = tuple(column for column in columns if not column.endswith(_METADATA))
    return LabelFile(location, names, read, tuple(attributes), overlap)


def _read_array(location: str, data: bytes) -> Iterator[NumberedObject]:
    try:
        yield from enumerate(map(_require_object, _parse(data)), 1)
    except (ValueError, RecursionError) as error:
        raise InputError(f"is not JSON ({error})", where=location) from None


def _read_lines(_: str, data: bytes) -> Iterator[NumberedObject]:
    lines = ((row, line.strip()) for row, line in enumerate(io.BytesIO(data), 1))
    lines = ((row, line) for row, line in lines if line)
    while chunk := list(islice(lines, _CHUNK_LINES)):
        yield from _read_chunk(chunk)


def _read_chunk(lines: Sequence[tuple[int, bytes]]) -> Iterator[NumberedObject]:
    """Parse lines together; if that fails, parse each half, down to the line that is malformed."""
    try:
        items = _parse(b"\n".join(line for _, line in lines), lines=True)
        if len(items) != len(lines):  # pandas reads '{}, {}' as two objects
            raise ValueError("has several objects in a line")
    except (ValueError, RecursionError) as error:
        if len(lines) == 1:
            yield lines[0][0], ValueError(f"is not JSON ({error})")
            return
        middle = len(lines) // 2
        yield from _read_chunk(lines[:middle])
        yield from _read_chunk(lines[middle:])
        return
    for (row, _), item in zip(lines, items, strict=True):
        yield row, _require_object(item)


def _parse(data: bytes, lines: bool = False) -> list[Any]:
    import pandas as pd

    # A series of objects: a table would turn whole numbers into floats where other lines lack the key.
    return pd.read_json(io.BytesIO(data), typ="series", dtype=False, precise_float=True, lines=lines).tolist()


def _require_object(item: object) -> Object | ValueError:
    if not isinstance(item, dict):
        return ValueError("is not a JSON object")
    is_task = isinstance(item.get("data"), dict) and isinstance(item.get("annotations"), list)
    return _read_task(item) if is_task else item


def _read_task(task: Object) -> Object | ValueError:
    """Return the data of a Label Studio task, and its only choice under the key ``choice``.

    See https://labelstud.io/guide/export.
    """
    try:
        results = [result for item in task["annotations"] if not item.get("was_cancelled") for result in item["result"]]
        choices = {choice for result in results if result["type"] == "choices" for choice in result["value"]["choices"]}
    except (AttributeError, KeyError, TypeError):
        return ValueError("is not a Label Studio task with choices")
    if len(choices) > 1:
        return ValueError(f"has {len(choices)} labels where one is needed ({', '.join(sorted(map(str, choices)))})")
    return {**task["data"], "choice": next(iter(choices), None)}


def _label_attributes(values: Object) -> list[str]:
    """Return the attributes of a line that label the whole photo: their metadata name a class."""
    names = (key.removesuffix(_METADATA) for key in values if key.endswith(_METADATA))
    return [name for name in names if name in values and _names_class(values[name + _METADATA])]


def _names_class(metadata: object) -> bool:
    return isinstance(metadata, dict) and ("class-name" in metadata or "multilabel" in str(metadata.get("type")))


def _value(values: Object, column: str, attributes: Container[str]) -> object:
    """Return the value of a column; of a label attribute, its class name instead of its number.

    A ValueError says that the line has several labels, or a number without a name in a file that names classes.
    """
    column = column or next(iter(_label_attributes(values)), "")
    value, metadata = values.get(column), values.get(column + _METADATA)
    metadata = metadata if isinstance(metadata, dict) else {}
    number, names = value, {}
    if isinstance(value, list) and isinstance(metadata.get("class-map"), dict):  # output of a multi-label job
        if len(value) != 1:
            return ValueError(f"has {len(value)} labels where one is needed")
        number, names = value[0], metadata["class-map"]
    name = metadata.get("class-name", names.get(str(number)))
    if name is None and isinstance(number, int | float) and column in attributes:
        return ValueError(f"has the label number {number} without a class-name")
    return number if name is None else name
