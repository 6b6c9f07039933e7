"""Events without work: warm-up pings, and the default event of a schedule.

Sources: https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-create-rule-schedule.html,
https://docs.aws.amazon.com/scheduler/latest/UserGuide/managing-targets-templated.html,
https://github.com/juanjoDiaz/serverless-plugin-warmup, https://github.com/jeremydaly/lambda-warmer
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_SCHEDULERS = ("aws.events", "aws.scheduler")
_WARM_UP_SOURCE = "serverless-plugin-warmup"
_WARM_UP_KEYS = ("warmup", "warmer")


@dataclass(frozen=True)
class Ping:
    """Event that is acknowledged and changes nothing.

    Attributes:
        source: what sent it, e.g. ``aws.events`` or ``warmup``.
    """

    source: str


def parse_ping(event: Mapping[str, Any]) -> Ping | None:
    """Parse ``{"warmup": true}``, ``{"warmer": true}``, a warm-up plugin's ping or a schedule's default event."""
    source = event.get("source")
    if source == _WARM_UP_SOURCE or (source in _SCHEDULERS and event.get("detail-type") == "Scheduled Event"):
        return Ping(str(source))
    return next((Ping(key) for key in _WARM_UP_KEYS if event.get(key) is True), None)
