"""What a person sees of a long job: bars in a terminal, plain lines in a log."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

_SECONDS_BETWEEN_LINES = 10.0


class Reporter:
    """Prints to standard output, warnings to standard error."""

    def __init__(self) -> None:
        self._console = Console(highlight=False, soft_wrap=True, emoji=False)

    def line(self, text: str) -> None:
        """One line of the job's story."""
        self._console.print(text, markup=False)
        sys.stdout.flush()

    def warning(self, text: str) -> None:
        """One line about something that was left out or looks wrong."""
        sys.stderr.write(f"warning: {text}\n")

    @contextmanager
    def counting(self, what: str, total: int) -> Iterator[Callable[..., None]]:
        """A bar (or a line now and then) over ``total`` items; call the yielded function once an item.

        The function takes ``note``, a few words shown beside the count.
        """
        if self._console.is_terminal:
            with self._bar(what, total) as advance:
                yield advance
        else:
            yield self._lines(what, total)

    @contextmanager
    def _bar(self, what: str, total: int) -> Iterator[Callable[..., None]]:
        columns = (
            TextColumn("{task.description:<9}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(elapsed_when_finished=True),
            TextColumn("{task.fields[note]}"),
        )
        with Progress(*columns, console=self._console) as progress:
            task = progress.add_task(what, total=total, note="")

            def advance(note: str = "") -> None:
                progress.update(task, advance=1, note=note)

            yield advance

    def _lines(self, what: str, total: int) -> Callable[..., None]:
        done, spoken = 0, time.monotonic()

        def advance(note: str = "") -> None:
            nonlocal done, spoken
            done += 1
            if done == total or time.monotonic() - spoken > _SECONDS_BETWEEN_LINES:
                spoken = time.monotonic()
                self.line(f"{what}: {done} of {total}" + (f", {note}" if note else ""))

        return advance


class Phases:
    """Wall seconds by phase; a phase may be entered again and adds up."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Add the time spent inside to the phase ``name``."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start
