"""Speed limits of this machine for each part of the seed job: decode, forward pass, training the head, fetch.

Each limit is the part alone, with all data in memory: Pillow on all cores; bare LiteRT interpreters on the official
converter's file, or TensorFlow where it is faster; the head's steps as one compiled program of matrix products and
updates; obstore's GETs.
"""

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import click
import obstore
from obstore.store import S3Store

from benchmarks.helpers.photos import USUAL, real_photos, seed_photos
from benchmarks.helpers.processes import Side, print_table
from benchmarks.helpers.s3_server import put_photos, running_s3
from benchmarks.helpers.seed_cases import BATCH, CASES, PHOTOS, STEPS, Case
from transferlite.images.decoder import decode
from transferlite.images.input_spec import InputSpec

FETCHED = 1000
_CLIENTS = 16


@dataclass(frozen=True)
class Limits:
    """Seconds of the seed job's parts: decode all photos, one forward pass in two ways, all steps of the head."""

    decode: float
    litert: float
    tensorflow: float
    head: float

    @property
    def forward(self) -> float:
        """Seconds of the faster forward pass."""
        return min(self.litert, self.tensorflow)

    @property
    def total(self) -> float:
        """Seconds of all parts, one after the other."""
        return self.decode + self.forward + self.head


def median(rounds: Sequence[Limits]) -> Limits:
    """Median of each part."""
    columns = zip(*(vars(limits).values() for limits in rounds), strict=True)
    return Limits(*(statistics.median(column) for column in columns))


@contextmanager
def measure_limits(case: Case, photos: Path, rows: Path | None = None) -> Iterator[Callable[[], Limits]]:
    """Start the sides' processes; yields a function that measures all limits once.

    Args:
        case: backbone and input size.
        photos: folder of JPEGs.
        rows: file for TensorFlow's feature rows ``[PHOTOS, width]``, as .npy.
    """
    blobs = [path.read_bytes() for path in sorted(photos.glob("*.jpg"))[:PHOTOS]]
    options = [*case.options, "--photos", str(photos), "--count", str(PHOTOS)]
    head_options = ["--rows", str(PHOTOS), "--width", str(case.width), "--batch", str(BATCH), "--steps", str(STEPS)]
    with ExitStack() as stack:
        sides = [
            Side("benchmarks.sides.forward", "converter", *options),
            Side("benchmarks.sides.forward", "tensorflow", *options, *(["--rows", str(rows)] if rows else [])),
            Side("benchmarks.head.floor", *head_options),
        ]
        for side in sides:
            stack.enter_context(side)
        for side in sides:
            side.request("ready")
        yield lambda: Limits(
            decode_limit(blobs, InputSpec(case.size, case.size)), *(side.request("round") for side in sides)
        )


def decode_limit(blobs: Sequence[bytes], spec: InputSpec) -> float:
    """Seconds to decode JPEGs from memory on all cores."""
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        start = time.perf_counter()
        for _ in pool.map(lambda blob: decode(blob, spec), blobs):
            pass
        return time.perf_counter() - start


def fetch_limit(bucket: S3Store, keys: Sequence[str]) -> float:
    """Seconds to get every object."""
    with ThreadPoolExecutor(_CLIENTS) as pool:
        start = time.perf_counter()
        for _ in pool.map(lambda key: len(obstore.get(bucket, key).bytes()), keys):
            pass
        return time.perf_counter() - start


def _fetching(rounds: int) -> list[str]:
    """Measure a table row, with a server on this machine, which uses the same cores."""
    with tempfile.TemporaryDirectory() as folder, running_s3(Path(folder)) as server:
        bucket = server.bucket("photos")
        keys = put_photos(bucket, FETCHED, USUAL)
        seconds = statistics.median(fetch_limit(bucket, keys) for _ in range(rounds))
    return [f"fetch, obstore only, {server.name} on loopback", f"{FETCHED / seconds:.0f} photos/s", ""]


def _rows(case: Case, photos: Path, rounds: int) -> Iterator[list[str]]:
    with measure_limits(case, photos) as measure:
        limits = median([measure() for _ in range(rounds)])
    yield ["decode, Pillow only", f"{PHOTOS / limits.decode:.0f} photos/s", f"{limits.decode:.2f} s"]
    yield ["forward, bare LiteRT", f"{PHOTOS / limits.litert:.1f} photos/s", f"{limits.litert:.2f} s"]
    yield ["forward, TensorFlow", f"{PHOTOS / limits.tensorflow:.1f} photos/s", f"{limits.tensorflow:.2f} s"]
    yield ["head, matrix products and updates", f"{STEPS / limits.head:.0f} steps/s", f"{limits.head:.2f} s"]
    yield ["sum of decode, the faster forward, and head", "", f"**{limits.total:.2f} s**"]


@click.command()
@click.option("--only", type=click.Choice([case.backbone for case in CASES]))
@click.option("--rounds", default=3, show_default=True)
@click.option("--quick", is_flag=True, help="EfficientNet-Lite0 only.")
def main(only: str | None, rounds: int, quick: bool) -> None:
    """Print a table per backbone: rates, and the seconds of the seed job at these rates; medians over the rounds."""
    command = "python -m benchmarks.limits"
    with tempfile.TemporaryDirectory() as folder:
        photos = (real_photos() or seed_photos(Path(folder), PHOTOS)) / "train_img"
        for case in CASES:
            if case.backbone == (only or (CASES[0].backbone if quick else case.backbone)):
                print_table(command, ("limit", case.name, f"{PHOTOS} photos"), _rows(case, photos, rounds))
    print_table(command, ("limit", "rate", ""), [_fetching(rounds)])


if __name__ == "__main__":
    main()
