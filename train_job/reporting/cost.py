"""Estimate the cost of a run, and of predictions on Lambda, at the list prices of ``prices.json``.

The estimate leaves out taxes, storage, S3 requests and the start of a machine, and assumes that another machine takes
as many seconds as the one that was measured.
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
"""Memory sizes in MB. At 1,769 MB a function has one vCPU: https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html"""

_VCPU_MB = 1769
_MIN_BILLED_SECONDS = 60.0
"""Shortest time that EC2 and Fargate bill."""
_FARGATE_TASK = (4, 16.0)
"""vCPU and GiB of the Fargate price if the job did not run on Fargate itself."""


@dataclass(frozen=True)
class Machine:
    """The machine that a run was measured on; ``vcpu`` and ``gib`` are set for Fargate tasks only."""

    name: str
    kind: str = ""
    vcpu: float = 0.0
    gib: float = 0.0


@dataclass(frozen=True)
class RunPrice:
    """Cost of a run's seconds on a kind of machine.

    Attributes:
        machine: instance type, or Fargate.
        what: description of the machine.
        usd_per_hour: list price.
        usd: cost of the run.
        measured: whether the run was measured on this machine.
    """

    machine: str
    what: str
    usd_per_hour: float
    usd: float
    measured: bool


@dataclass(frozen=True)
class PredictionPrice:
    """Cost of 1,000 predictions of a variant on Lambda; ``milliseconds`` is the time of the model alone."""

    variant: str
    architecture: str
    memory_mb: int
    milliseconds: float
    usd_per_1000: float


@dataclass(frozen=True)
class CostReceipt:
    """Estimated cost in USD of a run and of its model's predictions.

    Attributes:
        region: region of the prices.
        date: date of the prices.
        source: source of the prices.
        machine: machine that the run was measured on.
        seconds: duration of the run.
        photos: number of photos of the run.
        training: cost of the run on several machines, the cheapest first.
        predictions: cost on Lambda by variant, architecture and memory.
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
        """The receipt as JSON values."""
        return asdict(self)


def cost_receipt(
    seconds: Mapping[str, float],
    photos: int,
    milliseconds: Mapping[str, float | None] | None = None,
    machine: Machine | None = None,
) -> CostReceipt:
    """Estimate the cost of a run.

    Args:
        seconds: seconds by phase; the duration is ``total``, or the sum if that is missing.
        photos: number of photos of the run.
        milliseconds: time of one prediction on one thread, by variant; None if it was not measured.
        machine: machine that the run was measured on; None detects it.
    """
    prices = price_table()
    machine = machine or this_machine()
    total = seconds.get("total", sum(seconds.values()))
    training = sorted(_training(prices, total, machine), key=lambda line: line.usd)
    measured = {name: value for name, value in (milliseconds or {}).items() if value is not None}
    predictions = [
        prediction_price(prices, name, value, architecture, memory)
        for name, value in measured.items()
        for architecture in prices["lambda"]["gib_second"]
        for memory in LAMBDA_MEMORIES
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
    """Estimate the cost of 1,000 calls of a Lambda function with ``memory`` MB.

    ``milliseconds`` is the time of a prediction on one thread with a whole vCPU. Below 1,769 MB the function has part
    of a vCPU, and more memory does not speed up one thread. Lambda bills each call in whole milliseconds.
    """
    on_lambda = milliseconds / min(1.0, memory / _VCPU_MB)
    billed_seconds = max(1, math.ceil(on_lambda)) / 1000
    duration = billed_seconds * memory / 1024 * prices["lambda"]["gib_second"][architecture]
    usd = 1000 * (duration + prices["lambda"]["million_requests"] / 1e6)
    return PredictionPrice(variant, architecture, memory, on_lambda, usd)


def _training(prices: Mapping[str, Any], seconds: float, machine: Machine) -> list[RunPrice]:
    hours = max(seconds, _MIN_BILLED_SECONDS) / 3600
    lines = [
        RunPrice(name, price["what"], price["usd"], price["usd"] * hours, machine.kind == name)
        for name, price in prices["ec2_hour"].items()
    ]
    on_fargate = machine.kind == "fargate"
    vcpu, gib = (machine.vcpu, machine.gib) if on_fargate else _FARGATE_TASK
    own_architecture = _architecture()
    for architecture in prices["fargate_hour"]:
        hourly = fargate_hour(prices, architecture, vcpu, gib)
        what = f"{vcpu:g} vCPU, {gib:g} GiB, {architecture}"
        lines.append(RunPrice("Fargate", what, hourly, hourly * hours, on_fargate and architecture == own_architecture))
    return lines


# -- where the job runs ------------------------------------------------------------------------------------------


def this_machine(environment: Mapping[str, str] | None = None) -> Machine:
    """Detect the machine: from ``$TRANSFERLITE_MACHINE``, else from the ECS task's metadata, else its cores.

    EC2's metadata service is not called: outside EC2 it would time out, and containers may not reach it.
    """
    environment = os.environ if environment is None else environment
    instance_type = environment.get(MACHINE, "").strip()
    if instance_type:
        return Machine(instance_type, instance_type)
    task = _ecs_task(environment.get("ECS_CONTAINER_METADATA_URI_V4", ""))
    limits = task.get("Limits") or {}
    if task.get("LaunchType") == "FARGATE" and {"CPU", "Memory"} <= limits.keys():
        vcpu, gib = float(limits["CPU"]), float(limits["Memory"]) / 1024
        return Machine(f"a Fargate task with {vcpu:g} vCPU and {gib:g} GiB", "fargate", vcpu, gib)
    if environment.get("AWS_BATCH_JOB_ID") or task:
        return Machine(f"an ECS or AWS Batch job with {_cores()} (set {MACHINE} to name its instance type)")
    return Machine(f"this machine, {_cores()}, {_architecture()}")


def _ecs_task(uri: str) -> dict[str, Any]:
    """Read the task's metadata, which ECS serves on a link-local address; empty outside ECS or on any error.

    https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-metadata-endpoint-v4-fargate.html
    """
    if not uri.startswith("http://"):
        return {}
    without_proxy = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with without_proxy.open(f"{uri}/task", timeout=1) as response:
            metadata = json.loads(response.read(2**20))
    except (OSError, ValueError):
        return {}
    return metadata if isinstance(metadata, dict) else {}


def _cores() -> str:
    cores = len(os.sched_getaffinity(0))
    return f"{cores} core{'s' if cores > 1 else ''}"


def _architecture() -> str:
    machine = platform.machine().lower()
    return {"aarch64": "arm64", "amd64": "x86_64"}.get(machine, machine)
