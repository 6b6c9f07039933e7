"""What went in and what came out, line by line; it balances or says what does not."""

from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass
class Ledger:
    """Entries as ``(what, expected, found)``; a line without an expectation only tells."""

    lines: list[tuple[str, object, object]] = field(default_factory=list)

    def tell(self, what: str, found: object) -> None:
        """A line that explains."""
        self.lines.append((what, None, found))

    def check(self, what: str, expected: object, found: object) -> None:
        """A line that must agree."""
        self.lines.append((what, expected, found))

    @property
    def wrong(self) -> list[str]:
        """The lines that do not agree, in words."""
        checked = (line for line in self.lines if line[1] is not None)
        return [f"{what}: {found}, not {expected}" for what, expected, found in checked if expected != found]

    def rows(self) -> Iterator[str]:
        """The ledger for people."""
        for what, expected, found in self.lines:
            mark = " " if expected is None else "=" if expected == found else "!"
            yield f"  {mark} {what:<58} {found}" + (f"   (should be {expected})" if mark == "!" else "")
