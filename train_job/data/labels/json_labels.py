"""Read label files of JSON objects with pandas: JSON Lines such as Ground Truth's manifests, or one array."""

from collections.abc import Container, Iterator, Mapping, Sequence
from io import BytesIO
from itertools import islice
from mmap import mmap
from typing import TYPE_CHECKING, Any

from train_job.data.labels.label_file import LabelFile
from transferlite.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

_METADATA = "-metadata"
_CHUNK_LINES = 2**12

Object = Mapping[str, Any]


def open_json(location: str, data: mmap) -> LabelFile:
    """Open JSON objects. A row's number is its line in JSON Lines, its position in an array, from 1.

    A Ground Truth manifest has an object ``A-metadata`` with a ``class-name`` for each label attribute ``A``
    (docs.aws.amazon.com, "Classification job output"). The label is the class name, not its number.

    Raises:
        InputError: no object can be read.
    """
    columns: dict[str, None] = {}
    attributes: dict[str, None] = {}
    overlap, first_reason = False, ""
    for rows, items in _read(location, data):
        for row, item in zip(rows, items, strict=True):
            if isinstance(item, ValueError):
                first_reason = first_reason or f"row {row} {item}"
                continue
            in_line = _label_attributes(item)
            columns.update(dict.fromkeys(item))
            attributes.update(dict.fromkeys(in_line))
            overlap = overlap or len(in_line) > 1
    if not columns:
        is_coco = all(data.find(f'"{key}"'.encode(), 0) >= 0 for key in ("images", "annotations", "categories"))
        hint = "convert COCO to a CSV with the columns file and label" if is_coco else "write one object a line"
        raise InputError(f"holds no JSON objects ({first_reason})", where=location, hint=hint)

    def read(names: Sequence[str], _: int) -> Iterator["pd.DataFrame"]:
        import pandas as pd

        for rows, items in _read(location, data):
            values = [[_value(item, name, attributes) for name in names] for item in items]
            yield pd.DataFrame(values, list(rows), dtype=object)

    names = tuple(column for column in columns if not column.endswith(_METADATA))
    return LabelFile(location, names, read, tuple(attributes), overlap)


def _read(location: str, data: mmap) -> Iterator[tuple[Sequence[int], list[Object | ValueError]]]:
    """Yield the numbers of some rows and their objects, or the reasons why they are unreadable."""
    if data[: 2**20].lstrip()[:1] == b"[":
        try:
            items = _parse(data[:])
        except (ValueError, RecursionError) as error:
            raise InputError(f"is not JSON ({error})", where=location) from None
        yield range(1, len(items) + 1), list(map(_require_object, items))
        return
    data.seek(0)
    numbered = ((row, line.strip()) for row, line in enumerate(iter(data.readline, b""), 1) if line.strip())
    while chunk := list(islice(numbered, _CHUNK_LINES)):
        rows, lines = zip(*chunk, strict=True)
        yield rows, list(map(_require_object, _parse_lines(lines)))


def _parse_lines(lines: Sequence[bytes]) -> list[Any]:
    """Parse lines together; if that fails, parse each half, down to the line that is malformed."""
    try:
        items = _parse(b"\n".join(lines), lines=True)
        if len(items) == len(lines):
            return items
        reason = "has several objects in a line"  # pandas reads '{}, {}' as two objects
    except (ValueError, RecursionError) as error:
        reason = str(error)
    if len(lines) == 1:
        return [ValueError(f"is not JSON ({reason})")]
    middle = len(lines) // 2
    return [*_parse_lines(lines[:middle]), *_parse_lines(lines[middle:])]


def _parse(data: bytes, lines: bool = False) -> list[Any]:
    import pandas as pd

    # A series of objects: a table would turn whole numbers into floats where other lines lack the key.
    return pd.read_json(BytesIO(data), typ="series", dtype=False, precise_float=True, lines=lines).tolist()


def _require_object(item: object) -> Object | ValueError:
    """Return an object; of a Label Studio task, its data and its only choice under the key ``choice``.

    See https://labelstud.io/guide/export.
    """
    if not isinstance(item, dict):
        return item if isinstance(item, ValueError) else ValueError("is not a JSON object")
    if not (isinstance(item.get("data"), dict) and isinstance(item.get("annotations"), list)):
        return item
    try:
        results = [result for note in item["annotations"] if not note.get("was_cancelled") for result in note["result"]]
        choices = {choice for result in results if result["type"] == "choices" for choice in result["value"]["choices"]}
    except (AttributeError, KeyError, TypeError):
        return ValueError("is not a Label Studio task with choices")
    return {**item["data"], "choice": _only(sorted(choices, key=str))}


def _only(labels: Sequence[object]) -> object:
    """Return the only label, None without one, or a ValueError that says that there are several."""
    several = ValueError(f"has {len(labels)} labels where one is needed ({', '.join(map(str, labels))})")
    return several if len(labels) > 1 else next(iter(labels), None)


def _label_attributes(values: Object) -> list[str]:
    """Return the attributes of a line that label the whole photo: their metadata name a class."""
    names = (key.removesuffix(_METADATA) for key in values if key.endswith(_METADATA))
    return [name for name in names if name in values and _names_class(values[name + _METADATA])]


def _names_class(metadata: object) -> bool:
    return isinstance(metadata, dict) and ("class-name" in metadata or "multilabel" in str(metadata.get("type")))


def _value(values: Object | ValueError, column: str, attributes: Container[str]) -> object:
    """Return the value of a column; of a label attribute, its class name instead of its number.

    A ValueError says that the line has several labels, or a number without a name in a file that names classes.
    """
    if isinstance(values, ValueError):
        return values
    column = column or next(iter(_label_attributes(values)), "")
    value, metadata = values.get(column), values.get(column + _METADATA)
    metadata = metadata if isinstance(metadata, dict) else {}
    names = metadata.get("class-map")
    if isinstance(value, list) and isinstance(names, dict):  # output of a multi-label job
        labels = [names.get(str(number)) for number in value]
        return _only(labels) if labels else ValueError("has 0 labels where one is needed")
    name = metadata.get("class-name")
    if name is None and isinstance(value, int | float) and column in attributes:
        return ValueError(f"has the label number {value} without a class-name")
    return value if name is None else name
