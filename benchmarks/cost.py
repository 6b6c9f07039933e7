"""What training, keeping and predicting cost, by ``transferlite/cloud/prices.json`` and the assumptions it prints.

Calculated: nothing is measured here. Rates that were measured are named with the benchmark that did; the others are
said to be assumed. Every one is an option.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import click

from train_job.reporting.cost import prediction_price
from transferlite.cloud.prices import fargate_hour, price_table

SIZES = (200, 10_000, 1_000_000)
"""Photos of the worked table."""
GPU = "g4dn.xlarge"
_NIGHTS = 30
_ROWS_PER_SHARD = 20_000
"""New photos that are worth a machine of their own: ``transferlite plan --photos-per-shard``."""


def _assumed(default: float, unit: str, why: str) -> Any:
    return field(default=default, metadata={"unit": unit, "why": why})


@dataclass(frozen=True)
class Assumptions:
    """What the prices are multiplied by; each has its unit and where it comes from in its metadata."""

    photo_mb: float = _assumed(2, "MB a photo", "assumed")
    new_share: float = _assumed(0.01, "of the photos are new each night", "assumed")
    cpu_photos: float = _assumed(
        79, "photos/s from S3 to rows on 4 vCPUs", "measured on two cores, taken for 4 vCPUs: `benchmarks.pipeline`"
    )
    gpu_photos: float = _assumed(400, f"photos/s from S3 to rows on a {GPU}", "assumed: no GPU was there to measure")
    cpu_row_us: float = _assumed(
        64, "µs a row and epoch of the head on 4 vCPUs", "measured so too: `benchmarks.head.rows`"
    )
    gpu_row_us: float = _assumed(5, f"µs a row and epoch of the head on a {GPU}", "assumed")
    epochs: float = _assumed(100, "epochs over all photos, old and new", "`transferlite train`'s default")
    fixed_s: float = _assumed(
        24, "s of a training for imports, exports and the gate", "measured: `benchmarks.seed_job`"
    )
    start_s: float = _assumed(90, "s that each machine is paid for before it works, and the check in all", "assumed")
    shards: float = _assumed(16, "machines at most for the rows, one for 20,000 photos", "`Shards` of the template")
    row_kb: float = _assumed(4, "kB a photo in the feature store", "2.6 of them the row of EfficientNet-Lite0")
    version_mb: float = _assumed(
        60, "MB a published version, 30 of which are kept", "sizes of EfficientNet-Lite0's files"
    )
    float32_ms: float = _assumed(
        34, "ms of a float32 prediction on one vCPU", "measured, busy: `benchmarks.runtimes.variants`"
    )
    int8_ms: float = _assumed(
        13, "ms of an int8 prediction on one vCPU", "measured, busy: `benchmarks.runtimes.variants`"
    )
    around_ms: float = _assumed(40, "ms to fetch and decode a photo and write its record", "assumed")
    memory_mb: float = _assumed(1024, "MB of the function", "`FunctionMemory` of the template")
    arriving: float = _assumed(1, "photos/s that come day and night, to a machine that waits for them", "assumed")


@dataclass(frozen=True)
class Machine:
    """What trains: USD an hour, photos a second to rows, and seconds a row and epoch of the head."""

    name: str
    usd_per_hour: float
    photos: float
    row_seconds: float


@dataclass(frozen=True)
class Training:
    """One training: hours from start to end, and USD of machines and of requests to S3."""

    hours: float
    machines_usd: float
    requests_usd: float


def machines(prices: Mapping[str, Any], of: Assumptions) -> tuple[Machine, Machine]:
    """The template's two: a Fargate task and a machine with one GPU."""
    fargate = fargate_hour(prices, "x86_64", 4, 16)
    gpu = float(prices["ec2_hour"][GPU]["usd"])
    return (
        Machine("Fargate, 4 vCPU, 16 GiB", fargate, of.cpu_photos, of.cpu_row_us / 1e6),
        Machine(f"{GPU}, one GPU", gpu, of.gpu_photos, of.gpu_row_us / 1e6),
    )


def training(prices: Mapping[str, Any], of: Assumptions, photos: int, new: int, on: Machine) -> Training:
    """A check, rows of the ``new`` photos over as many machines as they are worth, and a head on all ``photos``."""
    shards = min(int(of.shards), max(1, math.ceil(new / _ROWS_PER_SHARD)))
    extra = shards if shards > 1 else 0  # one machine makes the rows and trains
    rows, head = new / on.photos, photos * of.epochs * on.row_seconds
    seconds = rows + head + of.fixed_s + of.start_s * (1 + extra)
    check = fargate_hour(prices, "x86_64", 1, 8) * of.start_s / 3600
    wait = of.start_s * (3 if extra else 2)
    lists = photos / 1000 * (2 + extra)
    puts = prices["s3"]["thousand_puts_and_lists"] / 1000
    return Training(
        (wait + rows / shards + head + of.fixed_s) / 3600,
        seconds / 3600 * on.usd_per_hour + check,
        new * prices["s3"]["thousand_gets"] / 1000 + lists * puts,
    )


def storage(prices: Mapping[str, Any], of: Assumptions, photos: int) -> float:
    """USD a month of photos, their rows and a month's versions."""
    megabytes = photos * (of.photo_mb + of.row_kb / 1000) + _NIGHTS * of.version_mb
    return float(megabytes / 1000 * prices["s3"]["gb_month"])


def events(prices: Mapping[str, Any]) -> float:
    """USD of 1,000 photos on their way: S3 sends each to SQS, Lambda takes ten at once; a GET and a PUT each."""
    s3, sqs = prices["s3"], prices["sqs"]["million_requests"] / 1e6
    return float(s3["thousand_gets"] + s3["thousand_puts_and_lists"] + (1000 + 100 + 100) * sqs)


def predictions(prices: Mapping[str, Any], of: Assumptions) -> Iterator[tuple[str, float]]:
    """Where 1,000 predictions are made, and their USD with S3 and, before Lambda, SQS."""
    for variant, milliseconds in (("float32", of.float32_ms), ("int8", of.int8_ms)):
        for architecture in prices["lambda"]["gib_second"]:
            one = prediction_price(prices, variant, milliseconds + of.around_ms, architecture, int(of.memory_mb))
            where = f"Lambda, {of.memory_mb:g} MB, {architecture}, {variant}: {one.milliseconds:.0f} ms"
            yield where, one.usd_per_1000 + events(prices)
    requests = prices["s3"]["thousand_gets"] + prices["s3"]["thousand_puts_and_lists"]
    for machine in machines(prices, of):
        bulk = 1000 / machine.photos / 3600 * machine.usd_per_hour
        waiting = math.ceil(of.arriving / machine.photos) * 1000 / of.arriving / 3600 * machine.usd_per_hour
        yield f"{machine.name}: a bulk job, always busy", bulk + requests
        yield f"{machine.name}: always on, {of.arriving:g} photos/s", waiting + requests


# -- the tables ---------------------------------------------------------------------------------------------------


def usd(amount: float) -> str:
    """Two decimals, or two digits where that is nothing."""
    return f"{amount:,.2f}" if amount >= 0.1 else f"{amount:#.2g}"


def duration(hours: float) -> str:
    """Minutes below two hours."""
    return f"{hours * 60:.0f} min" if hours < 2 else f"{hours:.1f} h"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _training_rows(prices: Mapping[str, Any], of: Assumptions) -> Iterator[list[str]]:
    for photos in SIZES:
        for machine in machines(prices, of):
            first = training(prices, of, photos, photos, machine)
            night = training(prices, of, photos, round(photos * of.new_share), machine)
            first_usd, night_usd = (one.machines_usd + one.requests_usd for one in (first, night))
            costs = usd(night_usd), usd(night_usd * _NIGHTS)
            yield [f"{photos:,}", machine.name, duration(first.hours), usd(first_usd), duration(night.hours), *costs]


def page(prices: Mapping[str, Any], of: Assumptions) -> str:
    """The tables of ``docs/cost.md``, in markdown."""
    header = ["photos", "machine", "first training", "USD", "nightly retrain", "USD", f"USD of {_NIGHTS} nights"]
    put = prices["s3"]["thousand_puts_and_lists"] / 1000
    months = [[f"{photos:,}", usd(photos * put), usd(storage(prices, of, photos))] for photos in SIZES]
    values = [[f"{getattr(of, one.name):g} {one.metadata['unit']}", one.metadata["why"]] for one in fields(of)]
    return "\n".join(
        [
            f"List prices of {prices['region']}, {prices['date']}, {prices['currency']}; they may be stale.\n",
            table(header, _training_rows(prices, of)),
            table(["photos", "uploaded once, USD", "stored, USD a month"], months),
            table(["1,000 predictions", "USD"], [[where, usd(price)] for where, price in predictions(prices, of)]),
            table(["assumption", "from"], values),
        ]
    )


def _with_options(command: Callable[..., None]) -> Callable[..., None]:
    """An option for each assumption, in their order."""
    for one in reversed(fields(Assumptions)):
        name, words = f"--{one.name.replace('_', '-')}", one.metadata["unit"]
        positive = click.FloatRange(0, min_open=True)
        command = click.option(name, type=positive, default=one.default, show_default=True, help=words)(command)
    return command


@click.command()
@_with_options
def main(**given: float) -> None:
    """Print what training, keeping and predicting cost, and every assumption."""
    click.echo(page(price_table(), Assumptions(**given)), nl=False)


if __name__ == "__main__":
    main()
