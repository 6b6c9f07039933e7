"""Which operations a TFLite file needs, in which versions, and which runtimes take those.

``op_versions.json`` has the table: what TensorFlow says is the oldest release for each version of an operation, and
what each runtime was seen to load. ``python -m benchmarks.runtimes.op_versions`` makes it. That a runtime loads a
file does not say that it computes it right: that is for the gate, and for the test pictures of a bundle.
"""

import functools
import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ai_edge_litert import schema_py_generated as schema

from transferlite.errors import InputError

TABLE = Path(__file__).with_name("op_versions.json")

_NAMES = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}


@dataclass(frozen=True, order=True)
class Operation:
    """One that a file needs: its name in the schema (``CUSTOM`` and its own name if it is none), and its version."""

    name: str
    version: int

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


def needs(path: Path) -> list[Operation]:
    """The operations of a TFLite file, in alphabetical order.

    Raises:
        InputError: there is no such file, or it is no TFLite file.
    """
    if not path.is_file():
        raise InputError("there is no such file", where=str(path))
    content = path.read_bytes()
    if content[4:8] != b"TFL3":
        raise InputError("is not a TFLite file", where=str(path))
    try:
        model = schema.Model.GetRootAs(content, 0)
        return sorted({_operation(model.OperatorCodes(place)) for place in range(model.OperatorCodesLength())})
    except (struct.error, IndexError, TypeError, ValueError, KeyError, AttributeError) as error:
        raise InputError(f"is a damaged TFLite file ({error})", where=str(path)) from error


def _operation(code: Any) -> Operation:
    number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())  # files from before 2020 have only the second
    name = _NAMES.get(number, f"operation number {number}")
    if name == "CUSTOM":
        name = f"CUSTOM {(code.CustomCode() or b'').decode(errors='replace')}"
    return Operation(name, code.Version())


@functools.cache
def _table() -> Mapping[str, Any]:
    return dict(json.loads(TABLE.read_text()))


def profiles() -> dict[str, str]:
    """The runtimes that the table knows, by the name of their profile: what each of them is."""
    return {name: profile["runtime"] for name, profile in _table()["profiles"].items()}


def oldest_runtime(needed: Sequence[Operation]) -> str | None:
    """The oldest TensorFlow Lite that has all of them, as ``2.3.0``; None where one of them is in no release known."""
    oldest = _table()["oldest"]
    releases = [oldest.get(one.name, {}).get(str(one.version)) for one in needed]
    if None in releases:
        return None
    return max(releases, key=lambda release: [int(part) for part in release.split(".")], default=None)


def refused(needed: Sequence[Operation], profile: str) -> list[str]:
    """Why a runtime does not take a file with these operations: one reason for each; empty if it does."""
    known = _table()["profiles"][profile]["operations"]
    return [reason for one in needed if (reason := _refused(one, known.get(one.name)))]


def _refused(one: Operation, known: Sequence[int] | None) -> str | None:
    if known is None:
        return f"it has no {one.name}"
    first, last = known
    if first <= one.version <= last:
        return None
    return f"{one.name} is needed in version {one.version}, and it has {first} to {last}"
