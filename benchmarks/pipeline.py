"""Speed of feature extraction from an S3 server, compared with its parts alone: fetch, decode, forward pass.

The server runs on the same cores and takes part of them, also when the fetch limit is measured. Parts that share cores
cannot be as fast together as the slowest part alone. The smaller backbone is therefore measured again with its forward
pass on a core of its own, like a GPU, and everything else, including the server, on the first core.
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

from benchmarks.helpers.photos import USUAL
from benchmarks.helpers.processes import print_table
from benchmarks.helpers.s3_server import put_photos, running_s3
from benchmarks.limits import decode_limit, fetch_limit
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
        """Print nothing."""


@contextmanager
def on_core(core: int) -> Iterator[None]:
    """Pin this thread, and all threads and processes that it starts, to a core."""
    previous = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, previous)


def with_own_core(forward: ForwardPass, core: int) -> ForwardPass:
    """Pin the threads of a forward pass to ``core``. It requests each image on the thread that then runs it."""

    def pin_thread(image: Any) -> Any:
        os.sched_setaffinity(0, {core})
        return image()

    def run(items: Source[Any]) -> Iterator[tuple[Any, Any]]:
        return forward.run((name, partial(pin_thread, image)) for name, image in items)

    return replace(forward, run=run)


def forward_limit(forward: ForwardPass, blobs: list[bytes], spec: InputSpec) -> float:
    """Seconds of the forward pass over photos that are already decoded."""
    images = [decode(blob, spec) for blob in blobs]
    start = time.perf_counter()
    for _ in forward.run((number, partial(lambda image: image, image)) for number, image in enumerate(images)):
        pass
    return time.perf_counter() - start


def extraction_seconds(backbone: FrozenBackbone, forward: ForwardPass, folder: Path) -> float:
    """Seconds from the S3 server to feature rows in a new feature store."""
    examples = read_dataset("s3://photos").examples
    store = FeatureStore.open(str(folder))
    return extract_features(
        examples, backbone.feature_request, store, backbone.spec, lambda: forward, _Quiet()
    ).counts.seconds


def measure(name: str, bucket: S3Store, keys: list[str], rounds: int, own_core: int | None = None) -> list[str]:
    """Measure a table row: medians over rounds in which the parts take turns."""
    weights = "default" if name == "efficientnet_lite0" else "none"
    backbone = FrozenBackbone(TrainOptions("s3://photos", "", backbone=name, weights=weights))
    forward = backbone.forward_pass() if own_core is None else with_own_core(backbone.forward_pass(), own_core)
    blobs = [USUAL.jpeg(number) for number in range(len(keys))]
    seconds: list[list[float]] = []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            parts = [
                fetch_limit(bucket, keys),
                decode_limit(blobs, backbone.spec),
                forward_limit(forward, blobs, backbone.spec),
            ]
            seconds.append([*parts, extraction_seconds(backbone, forward, Path(folder))])
    *parts, extraction = (statistics.median(column) for column in zip(*seconds, strict=True))
    rates = [f"{len(keys) / part:.0f}" for part in (*parts, extraction)]
    return [
        f"{name} {backbone.spec.width}{'' if own_core is None else ', forward pass on its own core'}",
        *rates,
        f"**{max(parts) / extraction:.2f}**",
        f"{sum(parts) / extraction:.2f}",
    ]


@click.command()
@click.option("--photos", default=300, show_default=True)
@click.option("--rounds", default=3, show_default=True)
@click.option("--quick", is_flag=True, help="EfficientNet-Lite0 only, one round.")
def main(photos: int, rounds: int, quick: bool) -> None:
    """Print photos/s of each part and of the extraction, and its speed relative to the slowest part and to the sum."""
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
    header = ("photos/s", "fetch", "decode", "forward", "S3 to features", "of the slowest part", "of the parts' sum")
    print_table(f"python -m benchmarks.pipeline ({server.name} on loopback)", header, rows)


if __name__ == "__main__":
    main()
