"""Calculate the cost of training, storage and prediction from ``transferlite/cloud/prices.json`` and assumptions.

Nothing is measured here. Each assumption is an option and is printed with its source: the benchmark that measured it,
or "assumed".
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import click

from train_job.pipeline.retrain_decision import count_shards
from train_job.reporting.cost import prediction_price
from transferlite.cloud.prices import fargate_hour, price_table

SIZES = (200, 10_000, 1_000_000)
"""Photos in the rows of the table."""
GPU = "g4dn.xlarge"
_NIGHTS = 30
_PHOTOS_PER_SHARD = 20_000
"""New photos per machine; the default of ``transferlite plan --photos-per-shard``."""


def _assumed(default: float, unit: str, source: str) -> Any:
    return field(default=default, metadata={"unit": unit, "source": source})


@dataclass(frozen=True)
class Assumptions:
    """Quantities that the prices are multiplied with. The metadata of each has its unit and its source."""

    photo_mb: float = _assumed(2, "MB per photo", "assumed")
    new_share: float = _assumed(0.01, "of the photos are new each night", "assumed")
    cpu_photos: float = _assumed(
        79,
        "photos/s from S3 to feature rows on 4 vCPUs",
        "measured on two cores, taken for 4 vCPUs: `benchmarks.pipeline`",
    )
    gpu_photos: float = _assumed(400, f"photos/s from S3 to feature rows on a {GPU}", "assumed: not measured on a GPU")
    cpu_row_us: float = _assumed(
        64,
        "µs per feature row and epoch of the head on 4 vCPUs",
        "measured on two cores, taken for 4 vCPUs: `benchmarks.head.rows`",
    )
    gpu_row_us: float = _assumed(5, f"µs per feature row and epoch of the head on a {GPU}", "assumed")
    epochs: float = _assumed(100, "epochs over all photos, old and new", "default of `transferlite train`")
    fixed_s: float = _assumed(24, "s per training for imports, export and gate", "measured: `benchmarks.seed_job`")
    start_s: float = _assumed(90, "s paid per machine before it starts work, and for the check in total", "assumed")
    shards: float = _assumed(
        16, "machines at most for extracting features, one per 20,000 photos", "`Shards` of the template"
    )
    row_kb: float = _assumed(4, "kB per photo in the feature store", "2.6 kB is a feature row of EfficientNet-Lite0")
    version_mb: float = _assumed(
        60, "MB per published version; 30 versions are kept", "sizes of EfficientNet-Lite0's files"
    )
    float32_ms: float = _assumed(
        34, "ms per float32 prediction on one vCPU", "measured on a busy machine: `benchmarks.runtimes.variants`"
    )
    int8_ms: float = _assumed(
        13, "ms per int8 prediction on one vCPU", "measured on a busy machine: `benchmarks.runtimes.variants`"
    )
    around_ms: float = _assumed(40, "ms to fetch and decode a photo and write its record", "assumed")
    memory_mb: float = _assumed(1024, "MB of memory of the function", "`FunctionMemory` of the template")
    arriving: float = _assumed(1, "photos/s arriving day and night, for the machines that are always on", "assumed")


@dataclass(frozen=True)
class Machine:
    """A machine for training: USD per hour, photos/s to feature rows, seconds per row and epoch of the head."""

    name: str
    usd_per_hour: float
    photos: float
    row_seconds: float


@dataclass(frozen=True)
class Training:
    """One training: hours from start to end, and USD for machines and for requests to S3."""

    hours: float
    machines_usd: float
    requests_usd: float


def machines(prices: Mapping[str, Any], assumptions: Assumptions) -> tuple[Machine, Machine]:
    """The template's two machines: a Fargate task, and an instance with one GPU."""
    fargate = fargate_hour(prices, "x86_64", 4, 16)
    gpu = float(prices["ec2_hour"][GPU]["usd"])
    return (
        Machine("Fargate, 4 vCPU, 16 GiB", fargate, assumptions.cpu_photos, assumptions.cpu_row_us / 1e6),
        Machine(f"{GPU}, one GPU", gpu, assumptions.gpu_photos, assumptions.gpu_row_us / 1e6),
    )


def training(prices: Mapping[str, Any], assumptions: Assumptions, photos: int, new: int, on: Machine) -> Training:
    """Cost of the check, of extracting ``new`` photos on one or more machines, and of training on all ``photos``."""
    shards = count_shards(new, int(assumptions.shards), _PHOTOS_PER_SHARD)
    extra = shards if shards > 1 else 0  # with a single shard, the training machine also extracts
    rows, head = new / on.photos, photos * assumptions.epochs * on.row_seconds
    seconds = rows + head + assumptions.fixed_s + assumptions.start_s * (1 + extra)
    check = fargate_hour(prices, "x86_64", 1, 8) * assumptions.start_s / 3600
    wait = assumptions.start_s * (3 if extra else 2)
    lists = photos / 1000 * (2 + extra)
    puts = prices["s3"]["thousand_puts_and_lists"] / 1000
    return Training(
        (wait + rows / shards + head + assumptions.fixed_s) / 3600,
        seconds / 3600 * on.usd_per_hour + check,
        new * prices["s3"]["thousand_gets"] / 1000 + lists * puts,
    )


def storage(prices: Mapping[str, Any], assumptions: Assumptions, photos: int) -> float:
    """USD per month for photos, their feature rows and one month's versions."""
    megabytes = photos * (assumptions.photo_mb + assumptions.row_kb / 1000) + _NIGHTS * assumptions.version_mb
    return float(megabytes / 1000 * prices["s3"]["gb_month"])


def events(prices: Mapping[str, Any]) -> float:
    """USD for the events of 1,000 photos: EventBridge sends each to SQS, Lambda takes ten; one GET and PUT each."""
    s3, sqs, event = (
        prices["s3"],
        prices["sqs"]["million_requests"] / 1e6,
        prices["eventbridge"]["million_events"] / 1e6,
    )
    return float(s3["thousand_gets"] + s3["thousand_puts_and_lists"] + (1000 + 100 + 100) * sqs + 1000 * event)


def predictions(prices: Mapping[str, Any], assumptions: Assumptions) -> Iterator[tuple[str, float]]:
    """USD for 1,000 predictions by place, including S3 requests and, for Lambda, SQS."""
    for variant, milliseconds in (("float32", assumptions.float32_ms), ("int8", assumptions.int8_ms)):
        for architecture in prices["lambda"]["gib_second"]:
            price = prediction_price(
                prices, variant, milliseconds + assumptions.around_ms, architecture, int(assumptions.memory_mb)
            )
            place = f"Lambda, {assumptions.memory_mb:g} MB, {architecture}, {variant}: {price.milliseconds:.0f} ms"
            yield place, price.usd_per_1000 + events(prices)
    requests = prices["s3"]["thousand_gets"] + prices["s3"]["thousand_puts_and_lists"]
    for machine in machines(prices, assumptions):
        bulk = 1000 / machine.photos / 3600 * machine.usd_per_hour
        waiting = (
            math.ceil(assumptions.arriving / machine.photos) * 1000 / assumptions.arriving / 3600 * machine.usd_per_hour
        )
        yield f"{machine.name}: a bulk job, always busy", bulk + requests
        yield f"{machine.name}: always on, {assumptions.arriving:g} photos/s", waiting + requests


METRICS = 19
"""Custom metrics of the function without labels and error codes: docs/serving.md lists them."""
ALARMS = 7
"""Alarms of the template with its default parameters."""


def standing(prices: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """USD per month for what the stack keeps watching, busy or not; logs and custom metrics cost when they are sent."""
    watch = prices["cloudwatch"]
    yield f"{ALARMS} alarms", ALARMS * watch["alarm_month"]
    yield f"`Metrics=on`: {METRICS} metrics, if each is sent in every hour", METRICS * watch["metric_month"]
    yield "`Metrics=on`: each label and each kind of error", watch["metric_month"]
    yield "1 GB of logs", watch["log_gb"]


# -- the tables ---------------------------------------------------------------------------------------------------


def usd(amount: float) -> str:
    """Format with two decimals, or with two significant digits below 0.10."""
    return f"{amount:,.2f}" if amount >= 0.1 else f"{amount:#.2g}"


def duration(hours: float) -> str:
    """Format as hours, or as minutes below two hours."""
    return f"{hours * 60:.0f} min" if hours < 2 else f"{hours:.1f} h"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Format a markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _training_rows(prices: Mapping[str, Any], assumptions: Assumptions) -> Iterator[list[str]]:
    for photos in SIZES:
        for machine in machines(prices, assumptions):
            first = training(prices, assumptions, photos, photos, machine)
            night = training(prices, assumptions, photos, round(photos * assumptions.new_share), machine)
            first_usd, night_usd = (cost.machines_usd + cost.requests_usd for cost in (first, night))
            costs = usd(night_usd), usd(night_usd * _NIGHTS)
            yield [f"{photos:,}", machine.name, duration(first.hours), usd(first_usd), duration(night.hours), *costs]


def page(prices: Mapping[str, Any], assumptions: Assumptions) -> str:
    """The tables of ``docs/cost.md``, in markdown."""
    header = ["photos", "machine", "first training", "USD", "nightly retrain", "USD", f"USD for {_NIGHTS} nights"]
    put = prices["s3"]["thousand_puts_and_lists"] / 1000
    months = [[f"{photos:,}", usd(photos * put), usd(storage(prices, assumptions, photos))] for photos in SIZES]
    values = [
        [f"{getattr(assumptions, item.name):g} {item.metadata['unit']}", item.metadata["source"]]
        for item in fields(assumptions)
    ]
    return "\n".join(
        [
            f"List prices of {prices['region']}, {prices['date']}, {prices['currency']}; they may be out of date.\n",
            table(header, _training_rows(prices, assumptions)),
            table(["photos", "uploaded once, USD", "stored, USD per month"], months),
            table(
                ["1,000 predictions", "USD"], [[place, usd(price)] for place, price in predictions(prices, assumptions)]
            ),
            table(["watching, per month", "USD"], [[what, usd(price)] for what, price in standing(prices)]),
            table(["assumption", "source"], values),
        ]
    )


def _with_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add an option for each assumption, in their order."""
    for item in reversed(fields(Assumptions)):
        name, unit = f"--{item.name.replace('_', '-')}", item.metadata["unit"]
        positive = click.FloatRange(0, min_open=True)
        command = click.option(name, type=positive, default=item.default, show_default=True, help=unit)(command)
    return command


@click.command()
@_with_options
def main(**assumptions: float) -> None:
    """Print the cost of training, storage and prediction, and every assumption."""
    click.echo(page(price_table(), Assumptions(**assumptions)), nl=False)


if __name__ == "__main__":
    main()
