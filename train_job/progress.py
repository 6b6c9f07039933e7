"""Progress of a long job: bars in a terminal, plain lines in a log."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

_SECONDS_BETWEEN_LINES = 10.0


def printable(text: str) -> str:
    """Escape the bytes of file names that are not UTF-8, which no terminal or JSON file can hold."""
    return text.encode(errors="backslashreplace").decode()


class Reporter:
    """Prints progress to standard output and warnings to standard error."""

    def __init__(self) -> None:
        self._console = Console(highlight=False, soft_wrap=True, emoji=False)

    def line(self, text: str) -> None:
        """Print one line."""
        self._console.print(printable(text), markup=False)
        sys.stdout.flush()

    def warning(self, text: str) -> None:
        """Print one warning."""
        sys.stderr.write(f"warning: {printable(text)}\n")

    @contextmanager
    def progress(self, name: str, total: int) -> Iterator[Callable[..., None]]:
        """Show progress over ``total`` items: a bar in a terminal, else a line at most every 10 s.

        Yields a function to call after each item. Its argument ``note`` is shown beside the count.
        """
        if self._console.is_terminal:
            with self._bar(name, total) as advance:
                yield advance
        else:
            yield self._lines(name, total)

    @contextmanager
    def _bar(self, name: str, total: int) -> Iterator[Callable[..., None]]:
        columns = (
            TextColumn("{task.description:<9}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(elapsed_when_finished=True),
            TextColumn("{task.fields[note]}"),
        )
        with Progress(*columns, console=self._console) as progress:
            task = progress.add_task(name, total=total, note="")

            def advance(note: str = "") -> None:
                progress.update(task, advance=1, note=note)

            yield advance

    def _lines(self, name: str, total: int) -> Callable[..., None]:
        done, last_line_at = 0, time.monotonic()

        def advance(note: str = "") -> None:
            nonlocal done, last_line_at
            done += 1
            if done == total or time.monotonic() - last_line_at > _SECONDS_BETWEEN_LINES:
                last_line_at = time.monotonic()
                self.line(f"{name}: {done} of {total}" + (f", {note}" if note else ""))

        return advance


class PhaseTimer:
    """Wall-clock seconds by phase; entering a phase again adds to its time."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Add the time spent in the context to the phase ``name``."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start
