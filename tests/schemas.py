"""Validate documents against the JSON Schemas that the package ships."""

import json
from functools import cache
from importlib.resources import files
from typing import Any

import jsonschema


@cache
def _validator(name: str) -> Any:
    schema = json.loads((files("transferlite") / "schemas" / f"{name}.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker())


def problems(name: str, document: bytes | str) -> list[str]:
    """Return what in a JSON document does not fit the schema ``name``."""
    return [f"{error.json_path}: {error.message}" for error in _validator(name).iter_errors(json.loads(document))]
