"""Ledger of a run: lines of expected and actual values."""

from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass
class Ledger:
    """Lines ``(name, expected, actual)``; a line whose expected value is None is only a note."""

    lines: list[tuple[str, object, object]] = field(default_factory=list)

    def note(self, name: str, actual: object) -> None:
        """Add a value without checking it."""
        self.lines.append((name, None, actual))

    def check(self, name: str, expected: object, actual: object) -> None:
        """Add a value that must equal the expected one."""
        self.lines.append((name, expected, actual))

    @property
    def mismatches(self) -> list[str]:
        """Lines whose values differ, as text."""
        checked = (line for line in self.lines if line[1] is not None)
        return [f"{name}: {actual}, not {expected}" for name, expected, actual in checked if expected != actual]

    def rows(self) -> Iterator[str]:
        """Yield each line as text."""
        for name, expected, actual in self.lines:
            mark = " " if expected is None else "=" if expected == actual else "!"
            yield f"  {mark} {name:<58} {actual}" + (f"   (should be {expected})" if mark == "!" else "")
