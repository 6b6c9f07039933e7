"""Helpers of the template's checks: read its properties, and change one to prove that a check detects it."""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from tests.template.stack import Template

Check = Callable[[Template], None]
Path = tuple[str | int, ...]
Break = tuple[Check, Path, Any]
"""A check, the path of a property, and a value that the check must refuse."""


def of_type(template: Template, kind: str) -> dict[str, Any]:
    return {
        name: resource["Properties"] for name, resource in template["Resources"].items() if resource["Type"] == kind
    }


def properties(template: Template, name: str) -> Any:
    return template["Resources"][name]["Properties"]


def container(template: Template, job: str) -> Any:
    return properties(template, job)["ContainerProperties"]


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def changed(template: Template, path: Path, value: Any) -> Template:
    """Return a copy with ``value`` at ``path``, which starts with a section of the template or a resource."""
    copied = copy.deepcopy(template)
    steps = path if path[0] in template else ("Resources", path[0], "Properties", *path[1:])
    parent: Any = copied
    for step in steps[:-1]:
        parent = parent[step]
    parent[steps[-1]] = value
    return copied


def make_tests(breaks: Sequence[Break]) -> tuple[Callable[..., None], Callable[..., None]]:
    """Return a test that the template passes each check, and a test that each check fails for its broken templates."""

    @pytest.mark.parametrize("check", list(dict.fromkeys(check for check, _, _ in breaks)))
    def passes(template: Template, check: Check) -> None:
        check(template)

    @pytest.mark.parametrize(("check", "path", "value"), breaks)
    def fails_when_broken(template: Template, check: Check, path: Path, value: Any) -> None:
        broken = changed(template, path, value)  # outside raises(): a path that does not exist is an error of the test
        with pytest.raises((AssertionError, AttributeError, LookupError, ValueError, TypeError)):
            check(broken)

    return passes, fails_when_broken
