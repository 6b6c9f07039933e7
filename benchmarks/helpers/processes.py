"""Run a benchmark's sides in processes of their own, so that they share neither memory nor threads, and take turns."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import click

ROOT = Path(__file__).parents[2]


class Side:
    """A Python module in a process of its own that runs until it is closed. The module calls :func:`serve`."""

    def __init__(self, module: str, *arguments: str, python: Sequence[str] = (sys.executable, "-m")) -> None:
        self.name = " ".join([module, *arguments])
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed with the process
        command = [*python, module, *arguments]
        self._process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True
        )

    def request(self, name: str) -> Any:
        """Send a request and return its result. Raises ClickException with the process's log if it has ended."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            print(name, file=self._process.stdin, flush=True)
            return json.loads(self._process.stdout.readline())
        except (OSError, ValueError):
            self._errors.seek(0)
            raise click.ClickException(f"{self.name}: {self._errors.read()[-2000:]}") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()  # safe: it has no state to save
        self._process.communicate()
        self._errors.close()


def serve(functions: Mapping[str, Callable[[], Any]]) -> None:
    """Serve the requests of a :class:`Side`: read a function's name per line, print its result as a line of JSON."""
    for line in sys.stdin:
        print(json.dumps(functions[line.strip()]()), flush=True)


def run_module(module: str, *arguments: str) -> Any:
    """Run a module to its end and return the JSON on its last line. Raises ClickException if it fails."""
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise click.ClickException(f"{module} {' '.join(arguments)}: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def print_table(command: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a markdown table, headed by the command that makes it; each row as soon as it is measured."""
    click.echo(f"`{command}`\n\n| {' | '.join(header)} |\n|{'---|' * len(header)}")
    for row in rows:
        click.echo(f"| {' | '.join(row)} |")
    click.echo()
