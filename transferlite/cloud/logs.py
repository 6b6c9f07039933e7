"""The logs of a stack's jobs and of its function."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime

from transferlite.cloud.stack import client, translate_aws_errors

SECONDS_BETWEEN = 3.0


def read_logs(group: str, since: float) -> Iterator[tuple[int, str, str]]:
    """Each line since then (seconds since 1970): when in milliseconds, of which stream, what."""
    with translate_aws_errors(f"log group {group}"):
        pages = client("logs").get_paginator("filter_log_events")
        for page in pages.paginate(logGroupName=group, startTime=int(since * 1000)):
            for event in page["events"]:
                yield event["timestamp"], event["logStreamName"], event["message"].rstrip()


def follow_logs(group: str, since: float) -> Iterator[tuple[int, str, str]]:
    """The same, and what is written from now on, for ever. CloudWatch may tell a line late, but never twice here."""
    seen: set[tuple[int, str, str]] = set()
    while True:
        for line in read_logs(group, since):
            if line not in seen:
                seen.add(line)
                yield line
        since = max([since, *(one[0] / 1000 - 60 for one in seen)])
        seen = {one for one in seen if one[0] / 1000 >= since}
        time.sleep(SECONDS_BETWEEN)


def shown(line: tuple[int, str, str]) -> str:
    """A line for people, its time in UTC."""
    when, _, text = line
    return f"{datetime.fromtimestamp(when / 1000, UTC):%H:%M:%S}  {text}"
