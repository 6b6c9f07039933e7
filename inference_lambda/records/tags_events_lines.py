"""What may go with a record, each if a setting asks for it: tags on the photo, an event, and lines for Athena.

All of it can be done twice without harm, for a photo whose companions failed is sent again. Tags are the same, lines of
the same photos have the same name; an event may come twice, as EventBridge's may anyway.
"""

import hashlib
import json
import re
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

from inference_lambda.events.outcomes import Outcome, Result
from inference_lambda.observability.telemetry import log
from inference_lambda.records import photo_source
from inference_lambda.records.prediction_record import record_bytes, record_key
from inference_lambda.settings import Settings
from transferlite.errors import AccessDeniedError, InputError, NotFoundError, TransferLiteError, UnavailableError
from transferlite.storage.store import Store

SOURCE = "transferlite"
_ENTRIES = 10
"""Events in one request. Source: https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_PutEvents.html"""


def accompany(results: Sequence[Result], output: Store, settings: Settings) -> list[Result]:
    """Do what the settings ask for with each photo that has a record; one for which it failed is to be sent again."""
    found = list(results)
    if settings.tags:
        found = [_tagged(one) for one in found]
    if settings.event_bus:
        found = _told(found, output, settings.event_bus)
    if settings.lines:
        found = _lined(found, output, settings.lines)
    return found


def _recorded(results: Iterable[Result]) -> list[int]:
    return [place for place, one in enumerate(results) if one.record is not None and not one.outcome.again]


# -- tags ------------------------------------------------------------------------------------------------------------


def tags_of(record: Mapping[str, Any]) -> dict[str, str]:
    """The tags for a record, in the characters that S3 takes, 256 at most."""
    said = record["label"] if "label" in record else f"error:{record['error']['code']}"
    tags = {"label": said, "model": record["model_id"]}
    if "score" in record:
        tags["score"] = f"{record['score']:.4f}"
    return {f"transferlite:{name}": re.sub(r"[^\w\s+\-=.:/@]", "_", value)[:256] for name, value in tags.items()}


def _tagged(result: Result) -> Result:
    if result.outcome.again or result.record is None or "etag" not in result.record:
        return result
    try:
        photo_source.tag(result.photo, tags_of(result.record))
    except (NotFoundError, InputError) as error:  # deleted since, or full of tags: to send it again would not help
        log.warning(json.dumps({"event": "not-tagged", "image": result.photo.uri, "reason": str(error)}))
    except Exception as error:
        return result.failed(error)
    return result


# -- events ----------------------------------------------------------------------------------------------------------


def _told(results: list[Result], output: Store, bus: str) -> list[Result]:
    places = _recorded(results)
    for start in range(0, len(places), _ENTRIES):
        some = places[start : start + _ENTRIES]
        try:
            errors = _put_events([_entry(results[place], output, bus) for place in some])
        except Exception as error:
            errors = [error] * len(some)
        for place, problem in zip(some, errors, strict=True):
            if problem is not None:
                results[place] = results[place].failed(problem)
    return results


def _entry(result: Result, output: Store, bus: str) -> dict[str, str]:
    kind = "Photo Labelled" if result.outcome is Outcome.LABELLED else "Photo Unusable"
    detail = {"record": f"{output.uri}/{record_key(result.photo)}", **(result.record or {})}
    return {"Source": SOURCE, "DetailType": kind, "Detail": json.dumps(detail), "EventBusName": bus}


def _put_events(entries: list[dict[str, str]]) -> list[Exception | None]:
    """Tell EventBridge, which answers for each event by itself."""
    import botocore.exceptions as aws

    try:
        answers = _events_client().put_events(Entries=entries)["Entries"]
    except aws.ClientError as error:
        answers = [{"ErrorCode": error.response.get("Error", {}).get("Code", "")}] * len(entries)
    except aws.BotoCoreError as error:
        raise UnavailableError(f"EventBridge did not answer ({error})") from error
    return [_event_error(one["ErrorCode"]) if one.get("ErrorCode") else None for one in answers]


def _event_error(code: str) -> TransferLiteError:
    if code in {"ThrottlingException", "InternalException", "InternalFailure", "ServiceUnavailable"}:
        return UnavailableError(f"EventBridge answered {code}")
    if code.startswith(("AccessDenied", "NotAuthorized")):
        return AccessDeniedError(f"EventBridge answered {code}", hint="the role needs events:PutEvents on the bus")
    return TransferLiteError(f"EventBridge answered {code}", hint="look at TRANSFERLITE_EVENT_BUS")


@cache
def _events_client() -> Any:
    import boto3
    from botocore.config import Config

    return boto3.client("events", config=Config(retries={"mode": "standard", "max_attempts": 3}))


# -- lines -----------------------------------------------------------------------------------------------------------


def _lined(results: list[Result], output: Store, prefix: str) -> list[Result]:
    days: dict[str, set[bytes]] = defaultdict(set)
    places = _recorded(results)
    for place in places:
        record = results[place].record or {}
        days[record.get("modified", time.strftime("%Y-%m-%d", time.gmtime()))[:10]].add(record_bytes(record))
    try:
        for day, lines in days.items():
            data = b"\n".join(sorted(lines)) + b"\n"
            output.put(f"{prefix}dt={day}/{hashlib.sha256(data).hexdigest()[:32]}.json", data)
    except Exception as error:
        for place in places:
            results[place] = results[place].failed(error)
    return results
