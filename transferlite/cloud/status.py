"""Report what a stack is doing: its model, queues, trainings, schedule and alarms."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from transferlite.cloud.schedule import Schedule, read_schedule
from transferlite.cloud.stack import DeployedStack, client, translate_aws_errors
from transferlite.errors import NotFoundError
from transferlite.registry.open_registry import Registry

_SHOWN_RUNS = 5
_QUEUE_LENGTH = "ApproximateNumberOfMessages"


def read_status(stack: DeployedStack) -> dict[str, Any]:
    """Collect the status as JSON types."""
    return {
        "stack": stack.name,
        "status": stack.status,
        "outputs": dict(stack.outputs),
        "schedule": asdict(read_schedule(stack)),
        "model": _production_model(stack),
        "waiting": _queue_length(stack, "IncomingQueueUrl"),
        "given_up": _queue_length(stack, "DeadLettersUrl"),
        "runs": _latest_runs(stack),
        "alarms": _alarms(stack),
    }


def _production_model(stack: DeployedStack) -> str | None:
    try:
        return Registry.open(stack.registry).channel("production").model_id
    except NotFoundError:
        return None


def _queue_length(stack: DeployedStack, output: str) -> int:
    with translate_aws_errors(output):
        response = client("sqs").get_queue_attributes(QueueUrl=stack.outputs[output], AttributeNames=[_QUEUE_LENGTH])
    return int(response["Attributes"][_QUEUE_LENGTH])


def _latest_runs(stack: DeployedStack) -> list[dict[str, str]]:
    with translate_aws_errors(stack.training):
        page = client("stepfunctions").list_executions(stateMachineArn=stack.training, maxResults=_SHOWN_RUNS)
    return [
        {"name": run["name"], "status": run["status"], "started": run["startDate"].isoformat(timespec="seconds")}
        for run in page["executions"]
    ]


def _alarms(stack: DeployedStack) -> dict[str, str]:
    with translate_aws_errors("CloudWatch"):
        pages = client("cloudwatch").get_paginator("describe_alarms").paginate(AlarmNamePrefix=f"{stack.name}-")
        return {alarm["AlarmName"]: alarm["StateValue"] for page in pages for alarm in page["MetricAlarms"]}


def status_lines(status: dict[str, Any]) -> Iterator[str]:
    """Format the result of :func:`read_status` as text."""
    yield f"{status['stack']}: {status['status']}"
    for name, value in status["outputs"].items():
        yield f"  {name:<20} {value}"
    yield f"schedule  {Schedule(**status['schedule'])}"
    yield f"model     {status['model'] or 'none yet'}"
    yield f"photos    {status['waiting']} waiting, {status['given_up']} in the dead-letter queue"
    yield "trainings " + ("" if status["runs"] else "none yet")
    for run in status["runs"]:
        yield f"  {run['started']}  {run['status']:<9} {run['name']}"
    firing = [name for name, state in status["alarms"].items() if state == "ALARM"]
    yield f"alarms    {len(status['alarms'])}, " + (f"firing: {', '.join(firing)}" if firing else "none firing")
    problems = problems_of(status)
    yield "health    " + (f"attention: {'; '.join(problems)}" if problems else "green")


def problems_of(status: dict[str, Any]) -> list[str]:
    """What needs attention in the result of :func:`read_status`; empty if nothing does."""
    firing = [name for name, state in status["alarms"].items() if state == "ALARM"]
    found = [] if status["status"].endswith("_COMPLETE") else [f"the stack is {status['status']}"]
    found += ["the last training failed"] if status["runs"] and status["runs"][0]["status"] == "FAILED" else []
    found += [f"{status['given_up']} photos in the dead-letter queue"] if status["given_up"] else []
    return found + [f"alarm {name}" for name in firing]
