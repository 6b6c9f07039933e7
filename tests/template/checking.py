"""Reading a template's properties, and breaking them: what its checks have in common."""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from tests.template.stack import Template

Check = Callable[[Template], None]
Path = tuple[str | int, ...]
Break = tuple[Check, Path, Any]
"""A check, a property, and a value of it that the check has to refuse."""


def of_type(template: Template, kind: str) -> dict[str, Any]:
    return {name: one["Properties"] for name, one in template["Resources"].items() if one["Type"] == kind}


def properties(template: Template, name: str) -> Any:
    return template["Resources"][name]["Properties"]


def container(template: Template, job: str) -> Any:
    return properties(template, job)["ContainerProperties"]


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def changed(template: Template, path: Path, value: Any) -> Template:
    """A copy in which what is at ``path`` is ``value``: of a section of the template, or of a resource's properties."""
    copied = copy.deepcopy(template)
    steps = path if path[0] in template else ("Resources", path[0], "Properties", *path[1:])
    place: Any = copied
    for step in steps[:-1]:
        place = place[step]
    place[steps[-1]] = value
    return copied


def promises(breaks: Sequence[Break]) -> tuple[Callable[..., None], Callable[..., None]]:
    """A test that the template passes each check, and one that no check passes a template that is broken for it."""

    @pytest.mark.parametrize("check", list(dict.fromkeys(one for one, _, _ in breaks)))
    def keeps(template: Template, check: Check) -> None:
        check(template)

    @pytest.mark.parametrize(("check", "path", "value"), breaks)
    def is_seen(template: Template, check: Check, path: Path, value: Any) -> None:
        broken = changed(template, path, value)  # a path that is not there is no broken promise
        with pytest.raises((AssertionError, AttributeError, LookupError, ValueError, TypeError)):
            check(broken)

    return keeps, is_seen
