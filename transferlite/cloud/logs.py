"""Read the CloudWatch logs of a stack's training jobs or of its Lambda function."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import NamedTuple

from transferlite.cloud.stack import client, translate_aws_errors

POLL_SECONDS = 3.0
_LATE_SECONDS = 60
"""Age up to which events are read again, because CloudWatch may deliver them late."""


class LogLine(NamedTuple):
    """One log event: time in milliseconds since 1970, log stream, text."""

    milliseconds: int
    stream: str
    text: str

    def __str__(self) -> str:
        return f"{datetime.fromtimestamp(self.milliseconds / 1000, UTC):%H:%M:%S}  {self.text}"


def read_logs(group: str, since: float) -> Iterator[LogLine]:
    """Yield the lines of a log group since ``since``, in seconds since 1970."""
    with translate_aws_errors(f"log group {group}"):
        pages = client("logs").get_paginator("filter_log_events")
        for page in pages.paginate(logGroupName=group, startTime=int(since * 1000)):
            for event in page["events"]:
                yield LogLine(event["timestamp"], event["logStreamName"], event["message"].rstrip())


def follow_logs(group: str, since: float) -> Iterator[LogLine]:
    """Yield the lines since ``since``, then new lines forever, each once, including those that arrive late."""
    seen: set[LogLine] = set()
    while True:
        for line in read_logs(group, since):
            if line not in seen:
                seen.add(line)
                yield line
        since = max([since, *(line.milliseconds / 1000 - _LATE_SECONDS for line in seen)])
        seen = {line for line in seen if line.milliseconds / 1000 >= since}
        time.sleep(POLL_SECONDS)
