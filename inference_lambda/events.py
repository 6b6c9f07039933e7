"""What an event asks for, told by its content."""

import base64
import binascii
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_plus

from runtime.errors import InputError

_CREATED = "ObjectCreated"


@dataclass(frozen=True)
class S3Photo:
    """An object that S3 says was created."""

    bucket: str
    key: str

    @property
    def uri(self) -> str:
        """``s3://bucket/key``."""
        return f"s3://{self.bucket}/{self.key}"


@dataclass(frozen=True)
class Notification:
    """An S3 event notification: the photos to label, each to get a record in the output bucket."""

    photos: tuple[S3Photo, ...]


@dataclass(frozen=True)
class Message:
    """One message of a queue: the photos it names, or what is wrong with it."""

    id: str
    content: Notification | InputError


@dataclass(frozen=True)
class Batch:
    """Messages of an SQS queue, each to succeed or fail on its own."""

    messages: tuple[Message, ...]


@dataclass(frozen=True)
class Direct:
    """A direct invocation: one photo, as its bytes or as an ``s3://`` URI, whose answer is returned."""

    image: bytes | None = None
    uri: str | None = None


def parse(event: Mapping[str, Any]) -> Notification | Batch | Direct:
    """The request in an event.

    Keys of S3 notifications are URL-encoded, a space as ``+``; EventBridge's are not. ``s3:TestEvent``, which S3 sends
    when a notification is set up, is a notification of nothing, and so are removals and changes of tags.
    Sources: https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html,
    https://docs.aws.amazon.com/AmazonS3/latest/userguide/ev-events.html,
    https://docs.aws.amazon.com/lambda/latest/dg/with-sqs.html

    Raises:
        InputError: the event has none of the known shapes, or its image is not base64.
    """
    if not isinstance(event, Mapping):
        raise InputError(f"an event is an object, not {type(event).__name__}")
    records = _records(event)
    if records and all(one.get("eventSource") == "aws:sqs" for one in records):
        return Batch(tuple(_message(one) for one in records))
    notification = _notification(event)
    if notification is not None:
        return notification
    if isinstance(event.get("image"), str):
        return Direct(image=_decoded(event["image"]))
    if isinstance(event.get("s3"), str) and event["s3"].startswith("s3://"):
        return Direct(uri=event["s3"])
    raise InputError(
        f"unknown event with the keys {sorted(event)}",
        hint='send an S3 notification, {"image": "<base64>"} or {"s3": "s3://bucket/key"}',
    )


def _records(event: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    records = event.get("Records")
    return records if isinstance(records, list) and all(isinstance(one, Mapping) for one in records) else []


def _notification(event: Mapping[str, Any]) -> Notification | None:
    """The photos of an S3 notification or an EventBridge event, None for anything else."""
    if event.get("Event") == "s3:TestEvent":
        return Notification(())
    if event.get("source") == "aws.s3" and isinstance(event.get("detail"), Mapping):
        created = event.get("detail-type") == "Object Created"
        return Notification((_photo(event["detail"], str),) if created else ())
    records = _records(event)
    if event.get("Records") != records or not all("s3" in one for one in records):
        return None
    created_ones = (one for one in records if str(one.get("eventName", _CREATED)).startswith(_CREATED))
    return Notification(tuple(_photo(one["s3"], unquote_plus) for one in created_ones))


def _message(record: Mapping[str, Any]) -> Message:
    """A message whose body is a notification as S3 or EventBridge sent it, or as SNS passed it on."""
    try:
        body = json.loads(record["body"])
        if isinstance(body, Mapping) and body.get("Type") == "Notification":
            body = json.loads(body["Message"])
        content = _notification(body) if isinstance(body, Mapping) else None
        return Message(record["messageId"], content or InputError("the message is no notification of S3"))
    except InputError as error:
        return Message(record["messageId"], error)
    except (LookupError, TypeError, ValueError, RecursionError) as error:
        return Message(record["messageId"], InputError(f"the message is not JSON of S3 ({error})"))


def _photo(part: Mapping[str, Any], decode: Callable[[str], str]) -> S3Photo:
    try:
        return S3Photo(part["bucket"]["name"], decode(part["object"]["key"]))
    except (LookupError, TypeError, AttributeError) as error:
        raise InputError(f"an S3 record lacks its {error}") from error


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InputError(f"the image is not base64 ({error})") from error
