"""A benchmark's sides: processes of their own, so that memory and threads are theirs, whose rounds can take turns."""

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
    """A Python module that runs until it is closed, and does a round when it is asked to. :func:`answer` serves it."""

    def __init__(self, module: str, *words: str, python: Sequence[str] = (sys.executable, "-m")) -> None:
        self.name = " ".join([module, *words])
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed with the process
        command = [*python, module, *words]
        self._process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True
        )

    def ask(self, question: str) -> Any:
        """The answer to one question. Raises ClickException, with what the process wrote, when it has ended."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            print(question, file=self._process.stdin, flush=True)
            return json.loads(self._process.stdout.readline())
        except (OSError, ValueError):
            self._errors.seek(0)
            raise click.ClickException(f"{self.name}: {self._errors.read()[-2000:]}") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()  # it holds nothing that has to be put away
        self._process.communicate()
        self._errors.close()


def answer(questions: Mapping[str, Callable[[], Any]]) -> None:
    """Serve a :class:`Side`: a question a line in, its answer as a line of JSON out."""
    for line in sys.stdin:
        print(json.dumps(questions[line.strip()]()), flush=True)


def once(module: str, *words: str) -> Any:
    """Run a module to its end and return the JSON on its last line. Raises ClickException when it fails."""
    done = subprocess.run([sys.executable, "-m", module, *words], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise click.ClickException(f"{module} {' '.join(words)}: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def print_table(command: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A markdown table under the command that prints it; a row is printed as soon as it is there."""
    click.echo(f"`{command}`\n\n| {' | '.join(header)} |\n|{'---|' * len(header)}")
    for row in rows:
        click.echo(f"| {' | '.join(row)} |")
    click.echo()
