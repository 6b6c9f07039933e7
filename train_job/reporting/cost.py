"""The cost receipt: what the seconds of a run, and predictions on Lambda, cost at the list prices of ``prices.json``.

Estimates, and said to be: the prices have a date, taxes, storage, requests to S3 and the start of a machine are not in
them, and a run's seconds are those of the machine it ran on.
"""

import json
import math
import os
import platform
import urllib.request
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from transferlite.cloud.prices import fargate_hour, price_table
from transferlite.environment import MACHINE

LAMBDA_MEMORIES = (512, 1024, 1769, 3008, 10240)
"""MB. At 1,769 MB a function has one vCPU: https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html"""

_VCPU_MB = 1769
_LEAST_SECONDS = 60.0
"""What EC2 and Fargate bill at least."""
_FARGATE_TASK = (4, 16.0)
"""vCPU and GiB of the Fargate line where the job did not run on Fargate itself."""


@dataclass(frozen=True)
class Machine:
    """What a run was measured on; ``vcpu`` and ``gib`` are known of a Fargate task only."""

    name: str
    kind: str = ""
    vcpu: float = 0.0
    gib: float = 0.0


@dataclass(frozen=True)
class RunPrice:
    """What a run costs where its seconds are spent on one machine; ``measured`` where that is the very machine."""

    machine: str
    what: str
    usd_per_hour: float
    usd: float
    measured: bool


@dataclass(frozen=True)
class PredictionPrice:
    """1,000 predictions of one variant on a Lambda function: ``milliseconds`` each, of the model alone."""

    variant: str
    architecture: str
    memory_mb: int
    milliseconds: float
    usd_per_1000: float


@dataclass(frozen=True)
class CostReceipt:
    """What a run cost and its model's predictions will, in USD.

    Attributes:
        region: of the prices.
        date: of the prices.
        source: of the prices, in words.
        machine: where the seconds were measured.
        seconds: of the whole run.
        photos: that it was given.
        training: the run on several machines, the cheapest first.
        predictions: on Lambda, by variant, architecture and memory.
    """

    region: str
    date: str
    source: str
    machine: str
    seconds: float
    photos: int
    training: tuple[RunPrice, ...]
    predictions: tuple[PredictionPrice, ...]

    def to_dict(self) -> dict[str, Any]:
        """The form for JSON."""
        return asdict(self)


def receipt(
    seconds: Mapping[str, float],
    photos: int,
    milliseconds: Mapping[str, float | None] | None = None,
    machine: Machine | None = None,
) -> CostReceipt:
    """The receipt of one run.

    Args:
        seconds: by phase; ``total``, where it is given, is the whole, and otherwise their sum.
        photos: that the run was given.
        milliseconds: of one prediction on one thread, by variant; None where it was not measured.
        machine: where the seconds were measured; None finds out.
    """
    prices = price_table()
    machine = machine or this_machine()
    total = seconds.get("total", sum(seconds.values()))
    training = sorted(_training(prices, total, machine), key=lambda line: line.usd)
    measured = {name: value for name, value in (milliseconds or {}).items() if value is not None}
    predictions = [
        prediction_price(prices, name, value, *on) for name, value in measured.items() for on in _functions(prices)
    ]
    return CostReceipt(
        prices["region"],
        prices["date"],
        prices["source"],
        machine.name,
        total,
        photos,
        tuple(training),
        tuple(predictions),
    )


def prediction_price(
    prices: Mapping[str, Any], variant: str, milliseconds: float, architecture: str, memory: int
) -> PredictionPrice:
    """1,000 calls of a function: ``milliseconds`` each of one thread with a vCPU, ``memory`` in MB.

    One thread has a vCPU's share below 1,769 MB, and gains nothing above; each call is billed to the next ms.
    """
    slowed = milliseconds / min(1.0, memory / _VCPU_MB)
    billed = max(1, math.ceil(slowed)) / 1000
    duration = billed * memory / 1024 * prices["lambda"]["gib_second"][architecture]
    usd = 1000 * (duration + prices["lambda"]["million_requests"] / 1e6)
    return PredictionPrice(variant, architecture, memory, slowed, usd)


def _training(prices: Mapping[str, Any], seconds: float, machine: Machine) -> list[RunPrice]:
    hours = max(seconds, _LEAST_SECONDS) / 3600
    lines = [
        RunPrice(name, price["what"], price["usd"], price["usd"] * hours, machine.kind == name)
        for name, price in prices["ec2_hour"].items()
    ]
    on_fargate = machine.kind == "fargate"
    vcpu, gib = (machine.vcpu, machine.gib) if on_fargate else _FARGATE_TASK
    here = _architecture()
    for architecture in prices["fargate_hour"]:
        hourly = fargate_hour(prices, architecture, vcpu, gib)
        what = f"{vcpu:g} vCPU, {gib:g} GiB, {architecture}"
        lines.append(RunPrice("Fargate", what, hourly, hourly * hours, on_fargate and architecture == here))
    return lines


def _functions(prices: Mapping[str, Any]) -> list[tuple[str, int]]:
    return [(architecture, memory) for architecture in prices["lambda"]["gib_second"] for memory in LAMBDA_MEMORIES]


# -- where the job runs ------------------------------------------------------------------------------------------


def this_machine(environment: Mapping[str, str] | None = None) -> Machine:
    """What the job runs on: what ``$TRANSFERLITE_MACHINE`` says, else the ECS task's metadata, else cores.

    EC2's own metadata is not asked: a laptop would wait for an answer, and a container may not be allowed it.
    """
    environment = os.environ if environment is None else environment
    told = environment.get(MACHINE, "").strip()
    if told:
        return Machine(told, told)
    task = _ecs_task(environment.get("ECS_CONTAINER_METADATA_URI_V4", ""))
    limits = task.get("Limits") or {}
    if task.get("LaunchType") == "FARGATE" and {"CPU", "Memory"} <= limits.keys():
        vcpu, gib = float(limits["CPU"]), float(limits["Memory"]) / 1024
        return Machine(f"a Fargate task with {vcpu:g} vCPU and {gib:g} GiB", "fargate", vcpu, gib)
    if environment.get("AWS_BATCH_JOB_ID") or task:
        return Machine(f"an ECS or AWS Batch job with {_cores()} (set {MACHINE} to name its instance type)")
    return Machine(f"this machine, {_cores()}, {_architecture()}")


def _ecs_task(uri: str) -> dict[str, Any]:
    """The task's metadata, which ECS serves on a link-local address; empty where there is none.

    https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-metadata-endpoint-v4-fargate.html
    """
    if not uri.startswith("http://"):
        return {}
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(f"{uri}/task", timeout=1) as answer:
            found = json.loads(answer.read(2**20))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _cores() -> str:
    cores = len(os.sched_getaffinity(0))
    return f"{cores} core{'s' if cores > 1 else ''}"


def _architecture() -> str:
    machine = platform.machine().lower()
    return {"aarch64": "arm64", "amd64": "x86_64"}.get(machine, machine)
