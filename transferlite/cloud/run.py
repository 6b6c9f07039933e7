"""Start a training in the cloud and follow it: states, AWS Batch jobs and their cost so far."""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from transferlite.cloud.prices import fargate_hour, price_table
from transferlite.cloud.stack import DeployedStack, client, translate_aws_errors
from transferlite.registry.versions import new_model_id, utc_now

POLL_SECONDS = 10.0
_GPU_MACHINE = "g4dn.xlarge"
"""Machine whose price is used for GPU jobs: Batch does not report which instance type a job got."""


@dataclass(frozen=True)
class BatchJob:
    """An AWS Batch job: ``seconds`` of machine time over all child jobs, and their list price in USD so far."""

    id: str
    name: str
    status: str
    seconds: float
    usd: float
    note: str = ""


@dataclass(frozen=True)
class Progress:
    """State of an execution: Step Functions' ``status`` and the ``state`` entered last."""

    status: str
    state: str
    jobs: tuple[BatchJob, ...]

    @property
    def ended(self) -> bool:
        """Whether the execution is over."""
        return self.status != "RUNNING"

    @property
    def refused(self) -> bool:
        """Whether a version was published but not promoted."""
        return self.status == "SUCCEEDED" and self.state == "Refused"

    @property
    def usd(self) -> float:
        """Estimated cost in USD: on-demand list price of the jobs' seconds. Spot costs less."""
        return sum(job.usd for job in self.jobs)

    def __str__(self) -> str:
        jobs = [f"{job.name} {job.status.lower()}{job.note} {_duration(job.seconds)}" for job in self.jobs]
        return f"{self.state}: {', '.join([*jobs, f'about ${self.usd:.3f}'])}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}m{rest:02}s" if minutes else f"{rest}s"


def start(stack: DeployedStack, parameters: Mapping[str, Any]) -> str:
    """Start a training; return the execution's ARN."""
    with translate_aws_errors(stack.training):
        execution = client("stepfunctions").start_execution(
            stateMachineArn=stack.training, name=f"by-hand-{new_model_id(utc_now())}", input=json.dumps(parameters)
        )
    return str(execution["executionArn"])


def read_progress(execution: str) -> Progress:
    """Read the current state of an execution from Step Functions and Batch."""
    with translate_aws_errors(execution):
        steps = client("stepfunctions")
        status = steps.describe_execution(executionArn=execution)["status"]
        events = list(_events(steps, execution))
    states = [event["stateEnteredEventDetails"]["name"] for event in events if "stateEnteredEventDetails" in event]
    job_ids = [job_id for job_id in map(_submitted_job, events) if job_id]
    return Progress(status, states[-1] if states else "starting", tuple(_jobs(job_ids)))


def follow(execution: str, on_progress: Callable[[Progress], None]) -> Progress:
    """Poll an execution until it ends, and report each state to ``on_progress``; return the last."""
    while True:
        progress = read_progress(execution)
        on_progress(progress)
        if progress.ended:
            return progress
        time.sleep(POLL_SECONDS)


def _events(steps: Any, execution: str) -> Iterator[dict[str, Any]]:
    token: dict[str, str] = {}
    while True:
        page = steps.get_execution_history(executionArn=execution, maxResults=1000, **token)
        yield from page["events"]
        if not page.get("nextToken"):
            return
        token = {"nextToken": page["nextToken"]}


def _submitted_job(event: Mapping[str, Any]) -> str:
    """Id of the Batch job that the event reports as submitted; empty for other events."""
    details = event.get("taskSubmittedEventDetails", {})
    if details.get("resourceType") != "batch":
        return ""
    output = json.loads(details.get("output") or "{}")
    return str(output.get("JobId") or output.get("jobId") or "")


def _jobs(ids: list[str]) -> Iterator[BatchJob]:
    if not ids:
        return
    with translate_aws_errors("AWS Batch"):
        details = {job["jobId"]: job for job in client("batch").describe_jobs(jobs=ids[:100])["jobs"]}
    yield from (_batch_job(details[job_id]) for job_id in ids if job_id in details)


def _batch_job(details: Mapping[str, Any]) -> BatchJob:
    array = details.get("arrayProperties", {})
    size = array.get("size", 0)
    done = (array.get("statusSummary") or {}).get("SUCCEEDED", 0)
    seconds = sum(map(_machine_seconds, _children(details["jobId"]) if size else [details]))
    return BatchJob(
        id=details["jobId"],
        name=details["jobName"],
        status=details["status"],
        seconds=seconds,
        usd=seconds / 3600 * hourly_price(details),
        note=f" ({done} of {size} done)" if size else "",
    )


def _children(job_id: str) -> list[Any]:
    """The child jobs of an array job that have started."""
    with translate_aws_errors("AWS Batch"):
        batch, children = client("batch"), []
        for status in ("RUNNING", "SUCCEEDED", "FAILED"):
            for page in batch.get_paginator("list_jobs").paginate(arrayJobId=job_id, jobStatus=status):
                children += page["jobSummaryList"]
    return children


def _machine_seconds(details: Mapping[str, Any]) -> float:
    """Seconds that a job's container ran, over all its attempts."""
    attempts = [attempt for attempt in details.get("attempts", ()) if attempt.get("startedAt")]
    if (details.get("status") == "RUNNING" or not attempts) and details.get("startedAt"):
        attempts.append(details)  # the current attempt, which Batch does not list yet
    now = time.time() * 1000
    return sum(float(attempt.get("stoppedAt") or now) - float(attempt["startedAt"]) for attempt in attempts) / 1000


def hourly_price(details: Mapping[str, Any]) -> float:
    """List price in USD per hour for the resources that a job requests."""
    prices = price_table()
    requirements = details.get("container", {}).get("resourceRequirements", ())
    requested = {requirement["type"]: float(requirement["value"]) for requirement in requirements}
    if requested.get("GPU"):
        return float(prices["ec2_hour"][_GPU_MACHINE]["usd"])
    return fargate_hour(prices, "x86_64", requested.get("VCPU", 0), requested.get("MEMORY", 0) / 1024)
