"""List the operations of a TFLite file with their versions, and the runtimes that load them.

``op_versions.json`` holds, for each version of an operation, the oldest TensorFlow release that has it, and the
versions that each runtime loaded in a test. ``python -m benchmarks.runtimes.op_versions`` makes it. A runtime that
loads a file may still compute it wrongly; the gate and the bundle's test pictures detect that.
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
from transferlite.inference.classifier_file import check_is_tflite, damaged_file_error

TABLE = Path(__file__).with_name("op_versions.json")

_NAMES = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}


@dataclass(frozen=True, order=True)
class Operation:
    """An operation of a file: its name in the schema (``CUSTOM NAME`` for a custom one) and its version."""

    name: str
    version: int

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


def required_operations(path: Path) -> list[Operation]:
    """The operations of a TFLite file, in alphabetical order.

    Raises:
        InputError: the file does not exist.
        NotClassifierError: it is not a TFLite file, or is damaged.
    """
    if not path.is_file():
        raise InputError("there is no such file", where=str(path))
    check_is_tflite(path)
    content = path.read_bytes()
    try:
        model = schema.Model.GetRootAs(content, 0)
        return sorted({_operation(model.OperatorCodes(index)) for index in range(model.OperatorCodesLength())})
    except (struct.error, IndexError, TypeError, ValueError, KeyError, AttributeError) as error:
        raise damaged_file_error(path) from error


def _operation(code: Any) -> Operation:
    number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())  # files from before 2020 have only the second
    name = _NAMES.get(number, f"operation number {number}")
    if name == "CUSTOM":
        name = f"CUSTOM {(code.CustomCode() or b'').decode(errors='replace')}"
    return Operation(name, code.Version())


@functools.cache
def _table() -> Mapping[str, Any]:
    return dict(json.loads(TABLE.read_text()))


def runtime_profiles() -> dict[str, str]:
    """The runtimes of the table: name and version by profile name."""
    return {name: profile["runtime"] for name, profile in _table()["profiles"].items()}


def oldest_runtime(operations: Sequence[Operation]) -> str | None:
    """The oldest TensorFlow Lite release that has all the operations, such as ``2.3.0``; None if no known one has."""
    oldest = _table()["oldest"]
    releases = [oldest.get(operation.name, {}).get(str(operation.version)) for operation in operations]
    if None in releases:
        return None
    return max(releases, key=lambda release: [int(part) for part in release.split(".")], default=None)


def incompatibilities(operations: Sequence[Operation], profile: str) -> list[str]:
    """Why a runtime does not load a file with these operations, one reason per operation; empty if it does."""
    supported = _table()["profiles"][profile]["operations"]
    reasons = (_incompatibility(operation, supported.get(operation.name)) for operation in operations)
    return [reason for reason in reasons if reason]


def _incompatibility(operation: Operation, versions: Sequence[int] | None) -> str | None:
    """The reason why a runtime with the given first and last version does not load the operation."""
    if versions is None:
        return f"it has no {operation.name}"
    first, last = versions
    if first <= operation.version <= last:
        return None
    return f"{operation.name} is needed in version {operation.version}, and it has {first} to {last}"
