"""A training in the cloud, started and followed: its states, its jobs on AWS Batch, and what they cost so far."""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from transferlite.cloud.prices import fargate_hour, price_table
from transferlite.cloud.stack import DeployedStack, client, translate_aws_errors
from transferlite.registry.versions import new_model_id, utc_now

SECONDS_BETWEEN = 10.0
"""How often AWS is asked."""
_GPU = "g4dn.xlarge"
"""Whose price stands for a GPU machine's: Batch does not say in the job which type it took."""


@dataclass(frozen=True)
class BatchJob:
    """A job of AWS Batch: ``seconds`` that its machines ran, all children together, and their list price so far."""

    id: str
    name: str
    status: str
    seconds: float
    usd: float
    note: str = ""


@dataclass(frozen=True)
class Progress:
    """An execution at one moment. ``status`` is Step Functions'; ``state`` the last one that it entered."""

    status: str
    state: str
    jobs: tuple[BatchJob, ...]

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen."""
        return self.status != "RUNNING"

    @property
    def refused(self) -> bool:
        """Whether a version was published and not promoted."""
        return self.status == "SUCCEEDED" and self.state == "Refused"

    @property
    def usd(self) -> float:
        """The list price on demand of the jobs' seconds: an estimate, and on Spot more than is paid."""
        return sum(job.usd for job in self.jobs)

    def __str__(self) -> str:
        told = [f"{job.name} {job.status.lower()}{job.note} {_clock(job.seconds)}" for job in self.jobs]
        return f"{self.state}: {', '.join([*told, f'about ${self.usd:.3f}'])}"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}m{rest:02}s" if minutes else f"{rest}s"


def start(stack: DeployedStack, given: Mapping[str, Any]) -> str:
    """Start a training; returns the execution's ARN."""
    with translate_aws_errors(stack.training):
        started = client("stepfunctions").start_execution(
            stateMachineArn=stack.training, name=f"by-hand-{new_model_id(utc_now())}", input=json.dumps(given)
        )
    return str(started["executionArn"])


def read_progress(execution: str) -> Progress:
    """The execution as it is now."""
    with translate_aws_errors(execution):
        steps = client("stepfunctions")
        status = steps.describe_execution(executionArn=execution)["status"]
        events = list(_events(steps, execution))
    entered = [one["stateEnteredEventDetails"]["name"] for one in events if "stateEnteredEventDetails" in one]
    ids = [name for name in map(_job_of, events) if name]
    return Progress(status, entered[-1] if entered else "starting", tuple(_jobs(ids)))


def follow(execution: str, tell: Callable[[Progress], None]) -> Progress:
    """Look again and again, and tell, until it has ended."""
    while True:
        found = read_progress(execution)
        tell(found)
        if found.ended:
            return found
        time.sleep(SECONDS_BETWEEN)


def _events(steps: Any, execution: str) -> Iterator[dict[str, Any]]:
    token: dict[str, str] = {}
    while True:
        page = steps.get_execution_history(executionArn=execution, maxResults=1000, **token)
        yield from page["events"]
        if not page.get("nextToken"):
            return
        token = {"nextToken": page["nextToken"]}


def _job_of(event: Mapping[str, Any]) -> str:
    """The id of the Batch job that a state submitted, if that is what the event tells."""
    details = event.get("taskSubmittedEventDetails", {})
    if details.get("resourceType") != "batch":
        return ""
    told = json.loads(details.get("output") or "{}")
    return str(told.get("JobId") or told.get("jobId") or "")


def _jobs(ids: list[str]) -> Iterator[BatchJob]:
    if not ids:
        return
    with translate_aws_errors("AWS Batch"):
        found = {one["jobId"]: one for one in client("batch").describe_jobs(jobs=ids[:100])["jobs"]}
    for name in ids:
        if name in found:
            yield _job(found[name])


def _job(told: Mapping[str, Any]) -> BatchJob:
    summary = told.get("arrayProperties", {}).get("statusSummary") or {}
    size = told.get("arrayProperties", {}).get("size", 0)
    children = _children(told["jobId"]) if size else [told]
    seconds = sum(map(_seconds, children))
    note = f" ({summary.get('SUCCEEDED', 0)} of {size} done)" if size else ""
    return BatchJob(told["jobId"], told["jobName"], told["status"], seconds, seconds / 3600 * hourly(told), note)


def _children(job: str) -> list[Any]:
    with translate_aws_errors("AWS Batch"):
        batch, found = client("batch"), []
        for status in ("RUNNING", "SUCCEEDED", "FAILED"):
            for page in batch.get_paginator("list_jobs").paginate(arrayJobId=job, jobStatus=status):
                found += page["jobSummaryList"]
    return found


def _seconds(told: Mapping[str, Any]) -> float:
    """How long a job's container has run, in all its attempts but those that only wait."""
    attempts = [one for one in told.get("attempts", ()) if one.get("startedAt")]
    if told.get("status") == "RUNNING" or not attempts:
        attempts = [*attempts, told] if told.get("startedAt") else attempts
    now = time.time() * 1000
    return sum(float(one.get("stoppedAt") or now) - float(one["startedAt"]) for one in attempts) / 1000


def hourly(told: Mapping[str, Any]) -> float:
    """USD an hour of a job's machine by what the job asks for, at the list prices of ``prices.json``."""
    prices = price_table()
    asked = {one["type"]: float(one["value"]) for one in told.get("container", {}).get("resourceRequirements", ())}
    if asked.get("GPU"):
        return float(prices["ec2_hour"][_GPU]["usd"])
    return fargate_hour(prices, "x86_64", asked.get("VCPU", 0), asked.get("MEMORY", 0) / 1024)
