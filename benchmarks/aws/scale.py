"""Simulate distributed work on AWS for many photos: array jobs of AWS Batch, and predictions by Lambda.

Rates of this project are those of ``benchmarks.aws.cost``; AWS's quotas are cited. Nothing is run on AWS.
"""

import heapq
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import click
import numpy as np

from benchmarks.aws.cost import Assumptions, duration, events, table, usd
from train_job.pipeline.retrain_decision import MAX_SHARDS, count_shards
from train_job.reporting.cost import prediction_price
from transferlite.cloud.prices import fargate_hour, price_table

_AWS = "https://docs.aws.amazon.com"
QUOTAS: dict[str, tuple[float, str, str]] = {
    "gets": (5500, "GETs/s per prefix of S3", f"{_AWS}/AmazonS3/latest/userguide/optimizing-performance.html"),
    "puts": (3500, "PUTs/s per prefix of S3", f"{_AWS}/AmazonS3/latest/userguide/optimizing-performance.html"),
    "children": (10_000, "children of an array job", f"{_AWS}/batch/latest/userguide/array_jobs.html"),
    "launches": (20, "Fargate tasks started/s", f"{_AWS}/AmazonECS/latest/developerguide/throttling.html"),
    "queue_start": (5, "batches at once when a queue fills", f"{_AWS}/lambda/latest/dg/services-sqs-scaling.html"),
    "queue_ramp": (300, "more batches at once per minute", f"{_AWS}/lambda/latest/dg/services-sqs-scaling.html"),
    "lambda_ramp": (1000, "more executions at once per 10 s", f"{_AWS}/lambda/latest/dg/lambda-concurrency.html"),
    "lambda_limit": (1000, "executions at once in an account", f"{_AWS}/lambda/latest/dg/gettingstarted-limits.html"),
    "map_children": (
        10_000,
        "children of a Distributed Map at once",
        f"{_AWS}/step-functions/latest/dg/service-quotas.html",
    ),
}
"""AWS's default quotas: value, meaning and source. Most can be raised."""
_VCPUS_PER_CHILD = 4
_PHOTOS_PER_SHARD = 20_000
_KEYS_PER_LIST = 1000
_ITEMS_PER_MAP_CHILD = 100
_MEMORY_GB = 16.0
"""Memory of the training job in the template."""


@dataclass(frozen=True)
class ArrayJob:
    """Result of a simulated array job: hours to its end, machine hours, Spot interruptions and peak GETs/s."""

    hours: float
    machine_hours: float
    interruptions: int
    gets_per_second: float


def simulate_array(
    photos: int, shards: int, at_once: int, assumptions: Assumptions, list_s: float, reclaims: float, seed: int = 0
) -> ArrayJob:
    """Simulate an array job: children start in order as machines become free, and read the listing before they extract.

    A photo's hash chooses its child, so children differ in size. A reclaimed child starts again and keeps its features.

    Args:
        photos: new photos.
        shards: children of the job.
        at_once: machines at once.
        assumptions: rates of the project.
        list_s: seconds that each attempt spends on labels and listings.
        reclaims: Spot interruptions per machine hour.
        seed: seed of sizes and interruptions.
    """
    random = np.random.default_rng(seed)
    sizes = random.multinomial(photos, [1 / shards] * shards)
    free = [0.0] * min(at_once, shards)  # times at which machines become free
    total, interruptions, end, launch = 0.0, 0, 0.0, QUOTAS["launches"][0]
    for number, size in enumerate(sizes):
        begin = max(heapq.heappop(free), number / launch)
        fixed, left, now = assumptions.start_s + list_s, size / assumptions.cpu_photos, begin
        while True:
            reclaimed = random.exponential(3600 / reclaims) if reclaims else math.inf
            if reclaimed >= fixed + left:
                now += fixed + left
                break
            now += reclaimed
            left -= max(0.0, reclaimed - fixed)
            interruptions += 1
        total += now - begin
        end = max(end, now)
        heapq.heappush(free, now)
    rate = min(at_once, shards) * assumptions.cpu_photos
    return ArrayJob(end / 3600, total / 3600, interruptions, rate)


@dataclass(frozen=True)
class Way:
    """A way to predict many photos: executions at its start, more per second, and at most."""

    name: str
    start: float
    per_second: float
    limit: float


WAYS = (
    Way("queue, FunctionConcurrency 10", QUOTAS["queue_start"][0], QUOTAS["queue_ramp"][0] / 60, 10),
    Way("queue, FunctionConcurrency 1,000", QUOTAS["queue_start"][0], QUOTAS["queue_ramp"][0] / 60, 1000),
    Way("S3 Batch Operations", 1, QUOTAS["lambda_ramp"][0] / 10, QUOTAS["lambda_limit"][0]),
    Way("Distributed Map", 1, QUOTAS["lambda_ramp"][0] / 10, QUOTAS["lambda_limit"][0]),
)


@dataclass(frozen=True)
class Predicted:
    """Result of simulated predictions: seconds until full concurrency, seconds in total, and the peak rate."""

    ramp_seconds: float
    seconds: float
    photos_per_second: float


def simulate_predictions(photos: int, way: Way, photo_ms: float, prefixes: int) -> Predicted:
    """Simulate second by second: concurrency grows to its limit, and S3 takes at most its rate for each prefix."""
    s3 = prefixes * min(QUOTAS["gets"][0], QUOTAS["puts"][0])  # each photo is one GET and one PUT of its record
    done, second = 0.0, 0
    while True:
        concurrency = min(way.limit, way.start + way.per_second * second)
        rate = min(concurrency / photo_ms * 1000, s3)
        if concurrency >= way.limit or rate >= s3:
            break
        if done + rate >= photos:
            return Predicted(second, second + (photos - done) / rate, rate)
        done, second = done + rate, second + 1
    return Predicted(second, second + max(0.0, photos - done) / rate, rate)


# -- the tables --------------------------------------------------------------------------------------------------------


def _training_rows(
    sizes: list[int], prices: Any, assumptions: Assumptions, options: dict[str, Any]
) -> Iterator[list[str]]:
    for photos in sizes:
        for shards_limit, vcpus in ((16, 64), (MAX_SHARDS, 512)):  # the template's defaults, and raised limits
            shards = count_shards(photos, shards_limit, _PHOTOS_PER_SHARD)
            lists = photos / _KEYS_PER_LIST
            at_once = vcpus // _VCPUS_PER_CHILD
            list_s = lists * options["list_ms"] / 1000
            job = simulate_array(photos, shards, at_once, assumptions, list_s, options["reclaims"])
            hour = fargate_hour(prices, "x86_64", _VCPUS_PER_CHILD, 16)
            requests = photos / 1000 * prices["s3"]["thousand_gets"]
            requests += shards * lists / 1000 * prices["s3"]["thousand_puts_and_lists"]
            yield [
                f"{photos:,}",
                f"{shards_limit:,}, {vcpus:,}",
                f"{shards:,}",
                f"{min(at_once, shards):,}",
                duration(job.hours),
                str(job.interruptions),
                f"{job.gets_per_second:,.0f}",
                str(math.ceil(job.gets_per_second / QUOTAS["gets"][0])),
                usd(job.machine_hours * hour + requests),
                f"{photos * options['photo_kb'] / 1e6:,.0f} GB",
            ]


def _prediction_rows(sizes: list[int], prices: Any, assumptions: Assumptions, prefixes: int) -> Iterator[list[str]]:
    photo = prediction_price(
        prices, "float32", assumptions.float32_ms + assumptions.around_ms, "x86_64", int(assumptions.memory_mb)
    )
    for photos in sizes:
        for way in WAYS:
            played = simulate_predictions(photos, way, photo.milliseconds, prefixes)
            wanted = way.limit / photo.milliseconds * 1000
            cost = photos / 1000 * photo.usd_per_1000 + _engine(photos, way, prices, photo.milliseconds)
            yield [
                f"{photos:,}",
                way.name,
                f"{played.ramp_seconds:.0f} s",
                duration(played.seconds / 3600),
                f"{played.photos_per_second:,.0f}",
                str(math.ceil(wanted / min(QUOTAS["gets"][0], QUOTAS["puts"][0]))),
                usd(cost),
            ]


def _engine(photos: int, way: Way, prices: Any, photo_ms: float) -> float:
    """USD for requests to S3 and for the engine that hands the photos to the function."""
    s3 = photos / 1000 * (prices["s3"]["thousand_gets"] + prices["s3"]["thousand_puts_and_lists"])
    if way.name.startswith("queue"):
        return photos / 1000 * events(prices)
    if way.name == "S3 Batch Operations":
        return float(
            s3 + prices["batch_operations"]["job"] + photos / 1e6 * prices["batch_operations"]["million_objects"]
        )
    children, step = photos / _ITEMS_PER_MAP_CHILD, prices["step_functions"]
    seconds = _ITEMS_PER_MAP_CHILD * photo_ms / 1000
    return float(
        s3 + children * (step["million_express_requests"] / 1e6 + seconds * 0.0625 * step["express_gib_second"])
    )


def page(sizes: list[int], prefixes: int, **options: float) -> str:
    """The tables of ``docs/scale.md``, in markdown."""
    prices, assumptions = price_table(), Assumptions()
    training = [
        "photos",
        "`Shards`, `MaxVcpus`",
        "machines by `plan`",
        "at once",
        "until the end",
        "Spot interruptions",
    ]
    training += ["GETs/s", "prefixes for them", "USD", "memory of the photo list"]
    header = ["photos", "way", "ramp", f"until the end, {prefixes} prefix{'es' if prefixes > 1 else ''}", "photos/s"]
    quotas = [[f"{value:,g} {unit}", source] for value, unit, source in QUOTAS.values()]
    return "\n".join(
        [
            table(training, _training_rows(sizes, prices, assumptions, dict(options))),
            table([*header, "prefixes for full speed", "USD"], _prediction_rows(sizes, prices, assumptions, prefixes)),
            table(["quota", "source"], quotas),
        ]
    )


@click.command()
@click.option("--photos", default="1000000,100000000", show_default=True, help="Numbers of photos, comma-separated.")
@click.option(
    "--prefixes", default=1, show_default=True, type=click.IntRange(1), help="Prefixes that the keys spread over."
)
@click.option("--reclaims", default=0.05, show_default=True, help="Spot interruptions per machine hour (assumed).")
@click.option("--list-ms", default=100.0, show_default=True, help="Milliseconds per page of a listing (assumed).")
@click.option("--photo-kb", default=7.0, show_default=True, help="kB of memory per photo (measured: benchmarks.scale).")
def main(photos: str, prefixes: int, reclaims: float, list_ms: float, photo_kb: float) -> None:
    """Print time, requests and cost of feature extraction and of predictions, and AWS's quotas with their sources."""
    sizes = [int(number) for number in photos.split(",")]
    click.echo(page(sizes, prefixes, reclaims=reclaims, list_ms=list_ms, photo_kb=photo_kb), nl=False)


if __name__ == "__main__":
    main()
