"""Turn the training schedule of a stack on or off, through EventBridge Scheduler.

The schedule is changed itself, not by a parameter of the stack: a later ``sam deploy`` passes the parameters that its
samconfig.toml holds, and CloudFormation changes only a resource whose own properties differ from the last deployment.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from transferlite.cloud.stack import DeployedStack, client, find_stack, translate_aws_errors
from transferlite.errors import NotFoundError

_KEPT = ("Description", "FlexibleTimeWindow", "GroupName", "KmsKeyArn", "Name", "StartDate", "EndDate", "Target")
"""What an update passes on unchanged; EventBridge Scheduler resets what is missing."""


@dataclass(frozen=True)
class Schedule:
    """State (ENABLED or DISABLED), expression such as ``rate(1 day)``, and time zone."""

    state: str
    when: str
    timezone: str

    def __str__(self) -> str:
        return f"{'on' if self.state == 'ENABLED' else 'off'}, {self.when} {self.timezone}"


def read_schedule(stack: DeployedStack) -> Schedule:
    """Read the schedule as EventBridge Scheduler has it now."""
    return _from_response(_get(stack))


def change_schedule(
    stack: DeployedStack, state: str | None = None, when: str | None = None, timezone: str | None = None
) -> Schedule:
    """Change what is given and return the new schedule."""
    found = _get(stack)
    old = _from_response(found)
    new = Schedule(state or old.state, when or old.when, timezone or old.timezone)
    if new != old:
        with translate_aws_errors(f"schedule of stack {stack.name}"):
            client("scheduler").update_schedule(
                **{name: found[name] for name in _KEPT if found.get(name) is not None},
                State=new.state,
                ScheduleExpression=new.when,
                ScheduleExpressionTimezone=new.timezone,
            )
    return new


@contextmanager
def kept_schedule(stack: str, parameters: Mapping[str, str]) -> Iterator[None]:
    """Keep the schedule of a deployed stack over a deployment, but for what ``parameters`` names."""
    try:
        deployed: DeployedStack | None = find_stack(stack)
    except NotFoundError:
        deployed = None
    if deployed is None or "ScheduleName" not in deployed.outputs:
        yield
        return
    old = read_schedule(deployed)
    yield
    change_schedule(
        find_stack(stack),
        state=None if "ScheduleState" in parameters else old.state,
        when=None if "Schedule" in parameters else old.when,
        timezone=None if "ScheduleTimezone" in parameters else old.timezone,
    )


def _get(stack: DeployedStack) -> Any:
    with translate_aws_errors(f"schedule of stack {stack.name}"):
        return client("scheduler").get_schedule(Name=_name(stack))


def _name(stack: DeployedStack) -> str:
    if "ScheduleName" not in stack.outputs:
        hint = "deploy the newest template"
        raise NotFoundError("has no output ScheduleName", where=f"stack {stack.name}", hint=hint)
    return stack.outputs["ScheduleName"]


def _from_response(found: Any) -> Schedule:
    return Schedule(found["State"], found["ScheduleExpression"], found.get("ScheduleExpressionTimezone", "UTC"))
