"""Forward pass of every backbone on this CPU: TensorFlow, our training job, and bare LiteRT, by turns.

The bare interpreters run the official converter's file and show LiteRT's speed without our code. Weights are random,
except EfficientNet-Lite0's, and scaled so that features have a usual size. They do not influence the time.
"""

import statistics
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from benchmarks.helpers.processes import Side, print_table, run_module
from benchmarks.sides.forward import WAYS
from train_job.backbones.catalog import BACKBONES, Backbone

_HEADER = (
    "backbone",
    "TensorFlow, photos/s",
    "ours, photos/s",
    "ours / TensorFlow",
    "bare LiteRT, photos/s",
    "ours / bare",
    "TensorFlow ready in",
    "ours ready in",
    "converter ready in",
    "ours - TensorFlow, maximum",
    "in float16 steps",
    "converter - TensorFlow",
)


def measure(backbone: Backbone, rounds: int, count: int, folder: Path) -> list[str]:
    """Measure a table row: medians of ``rounds`` with ``count`` photos each."""
    weights = "default" if backbone.application is None else str(folder / f"{backbone.name}.weights.h5")
    common = ["--backbone", backbone.name, "--weights", weights, "--size", str(backbone.size), "--count", str(count)]
    if weights != "default":
        run_module("benchmarks.sides.forward", "prepare", *common)
    with ExitStack() as stack:
        sides, ready = {}, {}
        for way in WAYS:
            arguments = [way, *common, "--rows", str(folder / f"{way}.npy")]
            sides[way] = stack.enter_context(Side("benchmarks.sides.forward", *arguments))
            ready[way] = sides[way].request("ready")  # waits, so that the next side does not start at the same time
        seconds = [{way: side.request("round") for way, side in sides.items()} for _ in range(rounds)]
    rate = {way: count / statistics.median(times[way] for times in seconds) for way in WAYS}
    rows = {way: np.load(folder / f"{way}.npy") for way in WAYS}
    return [
        f"{backbone.name} {backbone.size}",
        f"{rate['tensorflow']:.1f}",
        f"{rate['ours']:.1f}",
        f"**{rate['ours'] / rate['tensorflow']:.2f}x**",
        f"{rate['converter']:.1f}",
        f"{rate['ours'] / rate['converter']:.2f}x",
        *(f"{ready[way]:.1f} s" for way in WAYS),
        f"{np.abs(rows['ours'] - rows['tensorflow']).max():.1e}",
        f"{float16_steps(rows['ours'], rows['tensorflow']):.2f}",
        f"{np.abs(rows['converter'] - rows['tensorflow']).max():.1e}",
    ]


def float16_steps(rows: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    """Largest difference of two sets of feature rows ``[N, D]`` in steps of float16, in which they are stored.

    The step of a number is that at its own size or at its row's mean size, whichever is larger.
    """
    size = np.maximum(np.abs(expected), np.abs(expected).mean(1, keepdims=True))
    return float((np.abs(rows - expected) / np.spacing(size.astype(np.float16)).astype(np.float32)).max())


def _rows(names: list[str], rounds: int, count: int) -> Iterator[list[str]]:
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            yield measure(BACKBONES[name], rounds, count, Path(folder))


@click.command()
@click.option("--only", type=click.Choice(list(BACKBONES)))
@click.option("--rounds", default=3, show_default=True)
@click.option("--count", default=64, show_default=True, help="Photos per round.")
@click.option("--quick", is_flag=True, help="EfficientNet-Lite0 only.")
def main(only: str | None, rounds: int, count: int, quick: bool) -> None:
    """Print the table. Each number is the median over rounds in which the sides take turns."""
    names = [only] if only else ["efficientnet_lite0"] if quick else list(BACKBONES)
    print_table("python -m benchmarks.forward_table", _HEADER, _rows(names, rounds, count))


if __name__ == "__main__":
    main()
