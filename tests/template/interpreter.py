"""Interpreter of the Amazon States Language with a clock of its own, for what the training's state machine uses.

It plays timeouts of days in microseconds, which an emulator cannot. Anything that it does not know is an error.

Source: https://states-language.net/spec.html
"""

import copy
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

MAX_STEPS = 5000


class StateError(Exception):
    """A state failed with an error name and, except for timeouts, a cause."""

    def __init__(self, error: str, cause: str | None = None) -> None:
        super().__init__(error, cause)
        self.output = {"Error": error} | ({} if cause is None else {"Cause": cause})
        self.error = error


class HangError(Exception):
    """A task that never ends."""


Task = Callable[[str, str, Any], Any]
"""Runs a task: gets the state's name, resource and parameters; returns a result or raises StateError or HangError."""


@dataclass
class Execution:
    """An execution of a state machine.

    Attributes:
        definition: definition with its substitutions.
        task: runs each task.
        context: context object, read by paths that begin with ``$$``.
        seconds: time since the start.
        path: states entered so far, in order.
        status: SUCCEEDED, FAILED or TIMED_OUT at the end.
    """

    definition: Mapping[str, Any]
    task: Task
    context: Mapping[str, Any]
    seconds: float = 0
    path: list[str] = field(default_factory=list)
    status: str = "RUNNING"

    def run(self, data: Any) -> "Execution":
        """Run until the end. An error that no state catches is raised."""
        name, limit = self.definition["StartAt"], self.definition["TimeoutSeconds"]
        for _ in range(MAX_STEPS):
            self.path.append(name)
            state = self.definition["States"][name]
            data, following = getattr(self, f"_{state['Type'].lower()}")(name, state, copy.deepcopy(data))
            if self.seconds > limit:
                self.status = "TIMED_OUT"
                return self
            if following is None:
                return self
            name = following
        raise AssertionError(f"no end after {MAX_STEPS} states: {self.path[-10:]}")

    # -- states --------------------------------------------------------------------------------------------------------

    def _pass(self, _name: str, state: Any, data: Any) -> tuple[Any, str | None]:
        result = self.fill(state["Parameters"], data) if "Parameters" in state else state.get("Result", data)
        return self._placed(state, data, result), self._next(state)

    def _wait(self, _name: str, state: Any, data: Any) -> tuple[Any, str | None]:
        self.seconds += state["Seconds"]
        return data, self._next(state)

    def _succeed(self, _name: str, _state: Any, data: Any) -> tuple[Any, None]:
        self.status = "SUCCEEDED"
        return data, None

    def _fail(self, _name: str, state: Any, data: Any) -> tuple[Any, None]:
        assert state["Error"]
        self.status = "FAILED"
        return data, None

    def _choice(self, _name: str, state: Any, data: Any) -> tuple[Any, str]:
        chosen = next((rule["Next"] for rule in state["Choices"] if self._holds(rule, data)), state["Default"])
        return data, str(chosen)

    def _task(self, name: str, state: Any, data: Any) -> tuple[Any, str | None]:
        attempts: dict[int, int] = {}
        while True:
            try:
                result = self._attempt(name, state, data)
                break
            except StateError as error:
                rule = _matching(state.get("Retry", ()), error)
                if rule and attempts.get(id(rule), 0) < rule["MaxAttempts"]:
                    self.seconds += rule["IntervalSeconds"] * rule["BackoffRate"] ** attempts.get(id(rule), 0)
                    attempts[id(rule)] = attempts.get(id(rule), 0) + 1
                    continue
                catcher = _matching(state.get("Catch", ()), error)
                if catcher is None:
                    raise
                return self._placed(catcher, data, error.output), str(catcher["Next"])
        selected = self.fill(state["ResultSelector"], result) if "ResultSelector" in state else result
        return self._placed(state, data, selected), self._next(state)

    def _attempt(self, name: str, state: Any, data: Any) -> Any:
        limit = state.get("TimeoutSeconds")
        if "TimeoutSecondsPath" in state:
            limit = self.read(state["TimeoutSecondsPath"], data)
        assert isinstance(limit, int), f"{name} has no timeout"
        try:
            return self.task(name, state["Resource"], self.fill(state["Parameters"], data))
        except HangError:
            self.seconds += limit
            raise StateError("States.Timeout") from None

    def _next(self, state: Any) -> str | None:
        if state.get("End"):
            self.status = "SUCCEEDED"
            return None
        return str(state["Next"])

    @staticmethod
    def _placed(state: Any, data: Any, result: Any) -> Any:
        path = state.get("ResultPath", "$")
        if path is None:
            return data
        if path == "$":
            return result
        (name,) = re.fullmatch(r"\$\.(\w+)", path).groups()  # type: ignore[union-attr]
        return {**data, name: result}

    # -- values --------------------------------------------------------------------------------------------------------

    def _holds(self, rule: Any, data: Any) -> bool:
        for name, join in (("And", all), ("Or", any)):
            if name in rule:
                return join(self._holds(part, data) for part in rule[name])
        operator, expected = next((key, value) for key, value in rule.items() if key not in {"Variable", "Next"})
        if operator == "IsPresent":
            return self._is_present(rule["Variable"], data) is expected
        value = self.read(rule["Variable"], data)
        if operator == "StringEqualsPath":
            return bool(value == self.read(expected, data))
        if operator == "StringMatches":
            return fnmatchcase(value, expected.replace("[", "[[]"))
        if operator == "NumericGreaterThan":
            return bool(value > expected)
        assert operator in {"StringEquals", "BooleanEquals"}, operator
        return bool(value == expected)

    def _is_present(self, path: str, data: Any) -> bool:
        try:
            self.read(path, data)
        except StateError:
            return False
        return True

    def fill(self, template: Any, data: Any) -> Any:
        """Fill a payload template: the value of a key that ends in ``.$`` is a path or an intrinsic function."""
        if isinstance(template, list):
            return [self.fill(item, data) for item in template]
        if not isinstance(template, dict):
            return template
        return {
            key.removesuffix(".$"): self.read(value, data) if key.endswith(".$") else self.fill(value, data)
            for key, value in template.items()
        }

    def read(self, expression: str, data: Any) -> Any:
        """Evaluate a path or an intrinsic function. Raises StateError for a path that leads nowhere."""
        value, rest = self._expression(expression, data)
        assert rest == "", f"{expression}: {rest!r} is left"
        return value

    def _expression(self, text: str, data: Any) -> tuple[Any, str]:
        if match := re.match(r"'((?:[^'\\]|\\.)*)'", text):
            return re.sub(r"\\(.)", r"\1", match[1]), text[match.end() :]
        if match := re.match(r"-?\d+", text):
            return int(match[0]), text[match.end() :]
        if match := re.match(r"true|false", text):
            return match[0] == "true", text[match.end() :]
        if match := re.match(r"(\$\$?)((?:\.\w+|\[\*\])*)", text):
            return _follow(self.context if match[1] == "$$" else data, match[2], match[0]), text[match.end() :]
        function = re.match(r"States\.(\w+)\(", text)
        assert function, f"unknown expression: {text}"
        values, rest = [], text[function.end() :]
        while not rest.startswith(")"):
            value, rest = self._expression(rest.lstrip(", "), data)
            values.append(value)
        return _FUNCTIONS[function[1]](*values), rest[1:]


def _matching(rules: Any, error: StateError) -> Any:
    """Return the first retrier or catcher for an error; States.TaskFailed matches all but timeouts."""
    names = {error.error, "States.ALL"} | (set() if error.error == "States.Timeout" else {"States.TaskFailed"})
    return next((rule for rule in rules if names & set(rule["ErrorEquals"])), None)


def _follow(value: Any, steps: str, path: str) -> Any:
    for step in re.findall(r"\.(\w+)|(\[\*\])", steps):
        try:
            value = (
                value if step[1] else [item[step[0]] for item in value] if isinstance(value, list) else value[step[0]]
            )
        except (KeyError, TypeError):
            raise StateError("States.Runtime", f"{path} leads nowhere") from None
    return value


def _format(text: str, *values: Any) -> str:
    pieces = text.split("{}")
    assert len(pieces) == len(values) + 1, text
    filled = [value if isinstance(value, str) else json.dumps(value) for value in values]
    return "".join(piece + value for piece, value in zip(pieces, [*filled, ""], strict=True))


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "Array": lambda *values: list(values),
    "ArrayGetItem": lambda items, index: items[index],
    "ArrayLength": len,
    "Format": _format,
    "JsonMerge": lambda first, second, _deep: {**first, **second},
    "MathAdd": lambda first, second: first + second,
    "StringToJson": json.loads,
}
