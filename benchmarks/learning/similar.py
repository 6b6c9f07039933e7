"""Search for similar photos in a feature store of 1,000,000 rows: CPU seconds of one core and memory, NumPy beside it.

The store is a local folder whose parts are mapped into memory. Its files are in the page cache when a search starts.
"""

import os
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks.helpers.processes import print_table

WIDTH = 1280
_PART_ROWS = 13_000


def write_store(folder: Path, count: int) -> None:
    """Fill a feature store with random rows; each part has the size that training writes."""
    store, space = opened(folder)
    random = np.random.default_rng(0)
    for start in range(0, count, _PART_ROWS):
        size = min(_PART_ROWS, count - start)
        rows = random.random((size, WIDTH), np.float32).astype(np.float16)
        store.add(space, [f"{number:064x}" for number in range(start, start + size)], rows)


def opened(folder: Path) -> tuple[Any, Any]:
    """The feature store and its only space."""
    from train_job.store.feature_store import FeatureSpace, FeatureStore
    from transferlite.images.input_spec import InputSpec

    return FeatureStore.open(str(folder)), FeatureSpace("efficientnet_lite0", "0" * 64, InputSpec(224, 224), WIDTH)


def ours(folder: Path, query: Any) -> list[int]:
    """The search of ``transferlite similar``."""
    from train_job.store.nearest_rows import nearest_rows

    store, space = opened(folder)
    blocks = (rows for _, rows in store.stream(space))
    return [position for position, _ in nearest_rows(query[None], blocks, 10)[0]]


def with_numpy(folder: Path, query: Any) -> list[int]:
    """The same search with NumPy, 256 rows at a time so that they stay in the processor's cache."""
    store, space = opened(folder)
    unit = query.astype(np.float32) / np.linalg.norm(query.astype(np.float32))

    def similarities() -> Iterator[Any]:
        for _, rows in store.stream(space):
            for start in range(0, len(rows), 256):
                block = rows[start : start + 256].astype(np.float32)
                yield block @ unit / np.sqrt(np.einsum("nd,nd->n", block, block))

    found = np.concatenate(list(similarities()))
    return [int(position) for position in np.argsort(-found, kind="stable")[:10]]


def measured(search: Callable[[Path, Any], list[int]], folder: Path, query: Any) -> tuple[float, float, list[int]]:
    """CPU seconds, peak memory in MiB, and result of a search in a process of its own on one core."""
    reader, writer = os.pipe()
    if not (child := os.fork()):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        started = time.process_time()
        result = search(folder, query)
        seconds = time.process_time() - started
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        os.write(writer, repr((seconds, peak, result)).encode())
        os._exit(0)
    os.waitpid(child, 0)
    import ast

    seconds, peak, result = ast.literal_eval(os.read(reader, 2**16).decode())
    return seconds, peak, result


@click.command()
@click.option("--rows", default=1_000_000, show_default=True, help="Rows in the store.")
@click.option("--quick", is_flag=True, help="100,000 rows.")
def main(rows: int, quick: bool) -> None:
    """Print the time and memory of a search."""
    count = 100_000 if quick else rows
    import simsimd  # noqa: F401 - the first import is not part of a search

    import train_job.store.feature_store
    import train_job.store.nearest_rows  # noqa: F401

    with tempfile.TemporaryDirectory(prefix="transferlite-") as name:
        folder = Path(name)
        write_store(folder, count)
        query = np.random.default_rng(1).random(WIDTH, np.float32).astype(np.float16)
        lines, results = [], []
        for title, search in (("transferlite similar", ours), ("NumPy", with_numpy)):
            runs = [measured(search, folder, query) for _ in range(3)]
            seconds, peak, result = min(runs)
            lines.append([title, f"{count:,}", f"{seconds:.2f} s", f"{peak:.0f} MiB"])
            results.append(result)
    print_table(
        "python -m benchmarks.learning.similar", ("search", "rows of 1,280 float16", "one core", "peak memory"), lines
    )
    click.echo(f"same 10 neighbours: {results[0] == results[1]}")


if __name__ == "__main__":
    main()
