"""Photos a second from an S3 server to rows, against each of its parts alone: fetch, decode, forward.

The server runs on the same cores, and so takes its share of the pipeline's; its fetch limit is measured the same way.
Where parts share the cores, they cannot be as fast together as the slowest is alone. So the smaller base is measured
once more with its forward pass on a core of its own, as a GPU is one, and all else, the server too, on the first.
"""

import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import click
from obstore.store import S3Store

from benchmarks.limits import decode_limit, fetch_limit
from benchmarks.photos import USUAL
from benchmarks.sides.processes import print_table
from benchmarks.sides.s3_server import put_photos, running_s3
from train_job.data.labels.read_labels import read_dataset
from train_job.extraction.extract_features import extract_features
from train_job.extraction.forward_pass import ForwardPass, Source
from train_job.extraction.frozen_backbone import FrozenBackbone
from train_job.options import TrainOptions
from train_job.progress import Reporter
from train_job.store.feature_store import FeatureStore
from transferlite.images.decoder import decode
from transferlite.images.input_spec import InputSpec


class _Quiet(Reporter):
    def line(self, text: str) -> None:
        """Say nothing."""


@contextmanager
def on_core(core: int) -> Iterator[None]:
    """This thread, and all threads and processes that it starts, on one core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def with_own_core(forward: ForwardPass, core: int) -> ForwardPass:
    """The same on threads that keep to ``core``: an image is asked for on the thread that then runs it."""

    def moved(image: Any) -> Any:
        os.sched_setaffinity(0, {core})
        return image()

    def run(items: Source[Any]) -> Iterator[tuple[Any, Any]]:
        return forward.run((name, partial(moved, image)) for name, image in items)

    return replace(forward, run=run)


def forward_limit(forward: ForwardPass, blobs: list[bytes], spec: InputSpec) -> float:
    """Seconds to run every photo forward that is decoded already."""
    images = [decode(blob, spec) for blob in blobs]
    start = time.perf_counter()
    for _ in forward.run((number, partial(lambda image: image, image)) for number, image in enumerate(images)):
        pass
    return time.perf_counter() - start


def whole(base: FrozenBackbone, forward: ForwardPass, folder: Path) -> float:
    """Seconds from the S3 server to rows in a new feature store."""
    examples = read_dataset("s3://photos").examples
    store = FeatureStore.open(str(folder))
    return extract_features(examples, base.feature_request, store, base.spec, lambda: forward, _Quiet()).counts.seconds


def measure(backbone: str, bucket: S3Store, keys: list[str], rounds: int, own_core: int | None = None) -> list[str]:
    """A row of the table: medians of rounds that take turns."""
    weights = "default" if backbone == "efficientnet_lite0" else "none"
    base = FrozenBackbone(TrainOptions("s3://photos", "", backbone=backbone, weights=weights))
    forward = base.forward_pass() if own_core is None else with_own_core(base.forward_pass(), own_core)
    blobs = [USUAL.jpeg(number) for number in range(len(keys))]
    seconds: list[list[float]] = []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            parts = [
                fetch_limit(bucket, keys),
                decode_limit(blobs, base.spec),
                forward_limit(forward, blobs, base.spec),
            ]
            seconds.append([*parts, whole(base, forward, Path(folder))])
    *parts, all_of_it = (statistics.median(column) for column in zip(*seconds, strict=True))
    rates = [f"{len(keys) / part:.0f}" for part in (*parts, all_of_it)]
    return [
        f"{backbone} {base.spec.width}{'' if own_core is None else ', forward on its own core'}",
        *rates,
        f"**{max(parts) / all_of_it:.2f}**",
        f"{sum(parts) / all_of_it:.2f}",
    ]


@click.command()
@click.option("--photos", default=300, show_default=True)
@click.option("--rounds", default=3, show_default=True)
@click.option("--quick", is_flag=True, help="EfficientNet-Lite0 only, one round.")
def main(photos: int, rounds: int, quick: bool) -> None:
    """Print photos a second of each part alone and of the pipeline, and its share of the slowest and of their sum."""
    backbones = ("efficientnet_lite0",) if quick else ("efficientnet_lite0", "inception_v3")
    with tempfile.TemporaryDirectory() as folder, running_s3(Path(folder)) as server:
        bucket = server.bucket("photos")
        keys = put_photos(bucket, photos, USUAL)
        rows = [measure(backbone, bucket, keys, 1 if quick else rounds) for backbone in backbones]
    first, *others = sorted(os.sched_getaffinity(0))
    if others:
        with on_core(first), tempfile.TemporaryDirectory() as folder, running_s3(Path(folder)) as server:
            bucket = server.bucket("photos")
            keys = put_photos(bucket, photos, USUAL)
            rows.append(measure("efficientnet_lite0", bucket, keys, 1 if quick else rounds, others[0]))
    header = ("photos/s", "fetch", "decode", "forward", "S3 to rows", "of the slowest part", "of the parts' sum")
    print_table(f"python -m benchmarks.pipeline ({server.name} on loopback)", header, rows)


if __name__ == "__main__":
    main()
