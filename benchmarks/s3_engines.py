"""boto3 against obstore as the engine of the S3 store: cold start, memory, GETs a second and CPU a GET.

Both sides are the stores themselves (``s3_boto3.py`` and ``s3_obstore.py`` in ``transferlite/storage``). Each has its
own processes, and the sides take turns. The server runs on the same cores.
"""

import os
import statistics
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import click
import obstore

from benchmarks.helpers.processes import Side, print_table, run_module
from benchmarks.helpers.s3_server import running_s3
from benchmarks.sides.s3_engines_side import CLIENTS, OBJECTS

ENGINES = ("boto3", "obstore")
SIDE = "benchmarks.sides.s3_engines_side"
SIZE = 50_000
"""Bytes of an object, as of a photo."""


@dataclass
class Measured:
    """Figures of one engine, a number each round: seconds; bytes of memory."""

    open: list[float] = field(default_factory=list)
    first: list[float] = field(default_factory=list)
    start_cpu: list[float] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)


def measure(uri: str, rounds: int) -> dict[str, Measured]:
    """Run rounds by turns. The first reads the libraries' files from disk and does not count."""
    measured = {engine: Measured() for engine in ENGINES}
    with Side(SIDE, "boto3", uri, "rounds") as boto3, Side(SIDE, "obstore", uri, "rounds") as quick:
        for number in range(rounds + 1):
            for engine, side in zip(ENGINES, (boto3, quick), strict=True):
                found = run_module(SIDE, engine, uri, "cold") | side.request("round")
                for name, value in found.items() if number else ():
                    getattr(measured[engine], name).append(value)
    return measured


def rows(boto3: Measured, quick: Measured) -> Iterator[list[str]]:
    """Return the table's rows: medians of the rounds, and the median of the rounds' ratios."""

    def row(name: str, unit: str, scale: float, one: list[float], other: list[float]) -> list[str]:
        ratio = statistics.median(a / b for a, b in zip(one, other, strict=True))
        return [name, *(f"{scale * statistics.median(side):,.3g} {unit}" for side in (one, other)), f"**{ratio:.2f}x**"]

    def whole(side: Measured) -> list[float]:
        return [a + b for a, b in zip(side.open, side.first, strict=True)]

    yield row("import and client", "ms", 1000, boto3.open, quick.open)
    yield row("first GET", "ms", 1000, boto3.first, quick.first)
    yield row("import to first object", "ms", 1000, whole(boto3), whole(quick))
    yield row("CPU of import to first object", "ms", 1000, boto3.start_cpu, quick.start_cpu)
    yield row("peak memory", "MiB", 2**-20, boto3.memory, quick.memory)
    yield row(f"a GET of {SIZE // 1000} KB, {CLIENTS} threads", "ms", 1000 / OBJECTS, boto3.seconds, quick.seconds)
    yield row("CPU of such a GET", "ms", 1000 / OBJECTS, boto3.cpu, quick.cpu)


@click.command()
@click.option("--rounds", default=9, show_default=True)
@click.option("--quick", is_flag=True, help="Two rounds.")
def main(rounds: int, quick: bool) -> None:
    """Print a table of both engines and their ratios."""
    with tempfile.TemporaryDirectory() as folder, running_s3(Path(folder)) as server:
        os.environ |= {"AWS_REGION": os.environ["AWS_DEFAULT_REGION"], "AWS_CONFIG_FILE": os.devnull}
        bucket = server.bucket("photos")
        for number in range(OBJECTS):
            obstore.put(bucket, str(number), os.urandom(SIZE))
        measured = measure("s3://photos", 2 if quick else rounds)
    header = ("", "boto3", "obstore", "boto3 / obstore")
    print_table(f"python -m benchmarks.s3_engines ({server.name} on loopback)", header, rows(*measured.values()))


if __name__ == "__main__":
    main()
