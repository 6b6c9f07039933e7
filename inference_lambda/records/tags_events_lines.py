"""Optional output besides the record: tags on the photo, an EventBridge event, and JSON lines for Athena.

A setting turns each on. If one fails, its photo is delivered and labelled again, so writing twice must do no harm: tags
are the same, and lines of the same photos have the same key. An event may arrive twice, as EventBridge's own may.
"""

import hashlib
import json
import re
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

from inference_lambda.events.outcomes import Outcome, PhotoResult
from inference_lambda.observability.telemetry import log
from inference_lambda.records import photo_source
from inference_lambda.records.write_record import record_bytes, record_key
from inference_lambda.settings import Settings
from transferlite.errors import AccessDeniedError, InputError, NotFoundError, TransferLiteError, UnavailableError
from transferlite.storage.store import Store

EVENT_SOURCE = "transferlite"
_MAX_EVENTS = 10
"""Events per request. Source: https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_PutEvents.html"""


def write_tags_events_lines(results: Sequence[PhotoResult], output: Store, settings: Settings) -> list[PhotoResult]:
    """Write what the settings turn on for each photo with a record; return the results, with failures marked."""
    written = list(results)
    if settings.tags:
        written = [_write_tags(result) for result in written]
    if settings.event_bus:
        written = _send_events(written, output, settings.event_bus)
    if settings.lines_prefix:
        written = _write_lines(written, output, settings.lines_prefix)
    return written


def _with_record(results: Iterable[PhotoResult]) -> list[int]:
    """Return the indices of the results that have a record and need no retry."""
    return [i for i, result in enumerate(results) if result.record is not None and not result.outcome.retry]


# -- tags ------------------------------------------------------------------------------------------------------------


def record_tags(record: Mapping[str, Any]) -> dict[str, str]:
    """Return the tags for a record, limited to the characters S3 accepts and to 256 per value."""
    label = record["label"] if "label" in record else f"error:{record['error']['code']}"
    tags = {"label": label, "model": record["model_id"]}
    if "score" in record:
        tags["score"] = f"{record['score']:.4f}"
    return {f"transferlite:{name}": re.sub(r"[^\w\s+\-=.:/@]", "_", value)[:256] for name, value in tags.items()}


def _write_tags(result: PhotoResult) -> PhotoResult:
    if result.outcome.retry or result.record is None or "etag" not in result.record:
        return result
    try:
        photo_source.add_tags(result.photo, record_tags(result.record))
    except (NotFoundError, InputError) as error:  # the photo was deleted or has 10 tags: a retry would not help
        log.warning(json.dumps({"event": "not-tagged", "image": result.photo.uri, "reason": str(error)}))
    except Exception as error:
        return result.with_error(error)
    return result


# -- events ----------------------------------------------------------------------------------------------------------


def _send_events(results: list[PhotoResult], output: Store, bus: str) -> list[PhotoResult]:
    indices = _with_record(results)
    for start in range(0, len(indices), _MAX_EVENTS):
        chunk = indices[start : start + _MAX_EVENTS]
        try:
            errors = _put_events([_event_entry(results[i], output, bus) for i in chunk])
        except Exception as error:
            errors = [error] * len(chunk)
        for i, error_of_event in zip(chunk, errors, strict=True):
            if error_of_event is not None:
                results[i] = results[i].with_error(error_of_event)
    return results


def _event_entry(result: PhotoResult, output: Store, bus: str) -> dict[str, str]:
    kind = "Photo Labelled" if result.outcome is Outcome.LABELLED else "Photo Unusable"
    detail = {"record": f"{output.uri}/{record_key(result.photo)}", **(result.record or {})}
    return {"Source": EVENT_SOURCE, "DetailType": kind, "Detail": json.dumps(detail), "EventBusName": bus}


def _put_events(entries: list[dict[str, str]]) -> list[Exception | None]:
    """Send events in one request and return each event's error, or None if EventBridge accepted it."""
    import botocore.exceptions as aws

    try:
        outcomes = _events_client().put_events(Entries=entries)["Entries"]
    except aws.ClientError as error:
        outcomes = [{"ErrorCode": error.response.get("Error", {}).get("Code", "")}] * len(entries)
    except aws.BotoCoreError as error:
        raise UnavailableError(f"EventBridge did not answer ({error})") from error
    return [_event_error(outcome["ErrorCode"]) if outcome.get("ErrorCode") else None for outcome in outcomes]


def _event_error(code: str) -> TransferLiteError:
    if code in {"ThrottlingException", "InternalException", "InternalFailure", "ServiceUnavailable"}:
        return UnavailableError(f"EventBridge answered {code}")
    if code.startswith(("AccessDenied", "NotAuthorized")):
        return AccessDeniedError(f"EventBridge answered {code}", hint="grant the role events:PutEvents on the bus")
    return TransferLiteError(f"EventBridge answered {code}", hint="check TRANSFERLITE_EVENT_BUS")


@cache
def _events_client() -> Any:
    import boto3
    from botocore.config import Config

    return boto3.client("events", config=Config(retries={"mode": "standard", "max_attempts": 3}))


# -- lines -----------------------------------------------------------------------------------------------------------


def _write_lines(results: list[PhotoResult], output: Store, prefix: str) -> list[PhotoResult]:
    """Write the records as JSON lines, one object per day; its name is a hash of its content."""
    lines_by_day: dict[str, set[bytes]] = defaultdict(set)
    indices = _with_record(results)
    for i in indices:
        record = results[i].record or {}
        day = record.get("modified", time.strftime("%Y-%m-%d", time.gmtime()))[:10]
        lines_by_day[day].add(record_bytes(record))
    try:
        for day, lines in lines_by_day.items():
            data = b"\n".join(sorted(lines)) + b"\n"
            output.put(f"{prefix}dt={day}/{hashlib.sha256(data).hexdigest()[:32]}.json", data)
    except Exception as error:
        for i in indices:
            results[i] = results[i].with_error(error)
    return results
