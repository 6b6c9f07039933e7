"""Find out from an event's content which source sent it, and parse it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from inference_lambda.events.base64_text import decode_base64
from inference_lambda.events.batch_operations import BatchOperationsJob, parse_batch_operations_job
from inference_lambda.events.bucket_name import arn_hint
from inference_lambda.events.distributed_map import MapItems, parse_map_items
from inference_lambda.events.http import HttpRequest, parse_http_request
from inference_lambda.events.ping import Ping, parse_ping
from inference_lambda.events.s3 import S3Notification, parse_s3_notification
from inference_lambda.events.sqs import SqsBatch, parse_sqs_batch
from transferlite.errors import InputError


@dataclass(frozen=True)
class DirectInvocation:
    """Direct invocation with one photo; the function returns its prediction.

    Attributes:
        image: encoded photo, or None.
        uri: ``s3://`` URI of the photo, or None.
        model_id: model version to use; None for the current one.
    """

    image: bytes | None = None
    uri: str | None = None
    model_id: str | None = None


@dataclass(frozen=True)
class DriftCheck:
    """Request to compare predictions made after ``since`` with the model's validation photos."""

    since: str


ParsedEvent = (
    S3Notification | SqsBatch | BatchOperationsJob | MapItems | HttpRequest | DirectInvocation | DriftCheck | Ping
)

_PARSERS = (
    parse_http_request,
    parse_sqs_batch,
    parse_s3_notification,
    parse_batch_operations_job,
    parse_map_items,
)


def parse_event(event: Mapping[str, Any]) -> ParsedEvent:
    """Parse an event of any supported source.

    Raises:
        InputError: the format is unknown, or a part is missing or malformed.
    """
    if not isinstance(event, Mapping):
        raise InputError(f"the event is of type {type(event).__name__}, not a JSON object")
    for parse in (*_PARSERS, _parse_direct_invocation, _parse_drift_check, parse_ping):
        parsed = parse(event)
        if parsed is not None:
            return parsed
    raise InputError(
        f"unknown event with the keys {sorted(map(str, event))}",
        hint='send an S3 notification, {"image": "<base64>"} or {"s3": "s3://bucket/key"}',
    )


def _parse_direct_invocation(event: Mapping[str, Any]) -> DirectInvocation | None:
    if isinstance(event.get("image"), str):
        return DirectInvocation(image=_decode_base64(event["image"]), model_id=_model_id(event))
    uri = event.get("s3")
    if not isinstance(uri, str):
        return None
    hint = arn_hint(uri)
    if hint:
        raise InputError("the event's s3 is an ARN", hint=hint)
    return DirectInvocation(uri=uri, model_id=_model_id(event)) if uri.startswith("s3://") else None


def _model_id(event: Mapping[str, Any]) -> str | None:
    model_id = event.get("model")
    if model_id is not None and not isinstance(model_id, str):
        raise InputError("the event's model is not a string", hint='send {"image": ..., "model": "MODEL_ID"}')
    return model_id


def _parse_drift_check(event: Mapping[str, Any]) -> DriftCheck | None:
    drift = event.get("drift")
    return DriftCheck(str(drift.get("since", "7d"))) if isinstance(drift, Mapping) else None


def _decode_base64(text: str) -> bytes:
    try:
        return decode_base64(text)
    except ValueError as error:
        raise InputError(f"the image is not base64 ({error})") from error
