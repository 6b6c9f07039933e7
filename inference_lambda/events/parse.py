"""What an event asks for, told by its content."""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from inference_lambda.events.batch_operations import Job, job_of
from inference_lambda.events.distributed_map import Items, items_of
from inference_lambda.events.http import Request, request_of
from inference_lambda.events.s3 import Batch, Notification, batch_of, notification_of
from transferlite.errors import InputError


@dataclass(frozen=True)
class Direct:
    """A direct invocation: one photo, as its bytes or as an ``s3://`` URI, whose answer is returned.

    ``model_id`` is the version to ask, the one in service if None.
    """

    image: bytes | None = None
    uri: str | None = None
    model_id: str | None = None


@dataclass(frozen=True)
class DriftCheck:
    """A schedule's question whether what the model answered lately is like its validation photos: ``since`` when."""

    since: str


EventRequest = Notification | Batch | Job | Items | Request | Direct | DriftCheck


def parse(event: Mapping[str, Any]) -> EventRequest:
    """The request in an event.

    Raises:
        InputError: the event has none of the known shapes, or its image is not base64.
    """
    if not isinstance(event, Mapping):
        raise InputError(f"an event is an object, not {type(event).__name__}")
    for shape in (request_of, batch_of, notification_of, job_of, items_of, _direct, _drift_check):
        found = shape(event)
        if found is not None:
            return found
    raise InputError(
        f"unknown event with the keys {sorted(map(str, event))}",
        hint='send an S3 notification, {"image": "<base64>"} or {"s3": "s3://bucket/key"}',
    )


def _direct(event: Mapping[str, Any]) -> Direct | None:
    if isinstance(event.get("image"), str):
        return Direct(image=_decoded(event["image"]), model_id=_model_id(event))
    if isinstance(event.get("s3"), str) and event["s3"].startswith("s3://"):
        return Direct(uri=event["s3"], model_id=_model_id(event))
    return None


def _model_id(event: Mapping[str, Any]) -> str | None:
    model_id = event.get("model")
    if model_id is not None and not isinstance(model_id, str):
        raise InputError("the model is no text", hint='send the id of a version: {"image": ..., "model": "ID"}')
    return model_id


def _drift_check(event: Mapping[str, Any]) -> DriftCheck | None:
    asked = event.get("drift")
    return DriftCheck(str(asked.get("since", "7d"))) if isinstance(asked, Mapping) else None


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InputError(f"the image is not base64 ({error})") from error
