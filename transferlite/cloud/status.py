"""What a stack is doing: its model, its queue, its trainings, its alarms."""

from collections.abc import Iterator
from typing import Any

from transferlite.cloud.stack import DeployedStack, client, translate_aws_errors
from transferlite.errors import NotFoundError
from transferlite.registry.open_registry import Registry

_RUNS = 5
_DEPTH = "ApproximateNumberOfMessages"


def status_of(stack: DeployedStack) -> dict[str, Any]:
    """All of it, for JSON."""
    return {
        "stack": stack.name,
        "status": stack.status,
        "outputs": dict(stack.outputs),
        "schedule": schedule_of(stack),
        "model": _model(stack),
        "waiting": _depth(stack, "IncomingQueueUrl"),
        "given_up": _depth(stack, "DeadLettersUrl"),
        "runs": _runs(stack),
        "alarms": _alarms(stack),
    }


def schedule_of(stack: DeployedStack) -> dict[str, str]:
    """When it trains by itself, as the stack was last told."""
    told = stack.parameters
    return {
        "state": told.get("ScheduleState", "DISABLED"),
        "when": told.get("Schedule", ""),
        "timezone": told.get("ScheduleTimezone", ""),
    }


def _model(stack: DeployedStack) -> str | None:
    try:
        return Registry.open(stack.registry).channel("production").model_id
    except NotFoundError:
        return None


def _depth(stack: DeployedStack, output: str) -> int:
    with translate_aws_errors(output):
        asked = client("sqs").get_queue_attributes(QueueUrl=stack.outputs[output], AttributeNames=[_DEPTH])
    return int(asked["Attributes"][_DEPTH])


def _runs(stack: DeployedStack) -> list[dict[str, str]]:
    with translate_aws_errors(stack.training):
        found = client("stepfunctions").list_executions(stateMachineArn=stack.training, maxResults=_RUNS)
    return [
        {"name": one["name"], "status": one["status"], "started": one["startDate"].isoformat(timespec="seconds")}
        for one in found["executions"]
    ]


def _alarms(stack: DeployedStack) -> dict[str, str]:
    with translate_aws_errors("CloudWatch"):
        pages = client("cloudwatch").get_paginator("describe_alarms").paginate(AlarmNamePrefix=f"{stack.name}-")
        return {one["AlarmName"]: one["StateValue"] for page in pages for one in page["MetricAlarms"]}


def status_lines(told: dict[str, Any]) -> Iterator[str]:
    """The same for people."""
    yield f"{told['stack']}: {told['status']}"
    for name, value in told["outputs"].items():
        yield f"  {name:<20} {value}"
    when = told["schedule"]
    yield f"schedule  {'on' if when['state'] == 'ENABLED' else 'off'}, {when['when']} {when['timezone']}"
    yield f"model     {told['model'] or 'none yet'}"
    yield f"photos    {told['waiting']} waiting, {told['given_up']} given up"
    yield "trainings " + ("" if told["runs"] else "none yet")
    for one in told["runs"]:
        yield f"  {one['started']}  {one['status']:<9} {one['name']}"
    ringing = [name for name, state in told["alarms"].items() if state == "ALARM"]
    yield f"alarms    {len(told['alarms'])}, " + (f"ringing: {', '.join(ringing)}" if ringing else "none rings")
