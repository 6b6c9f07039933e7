"""What an event asks for, told by its content."""

import base64
import binascii
from collections.abc import Mapping
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
class Direct:
    """A direct invocation: one photo, as its bytes or as an ``s3://`` URI, whose answer is returned."""

    image: bytes | None = None
    uri: str | None = None


def parse(event: Mapping[str, Any]) -> Notification | Direct:
    """The request in an event.

    Keys of S3 notifications are URL-encoded, a space as ``+``; they are decoded here. ``s3:TestEvent``, which S3 sends
    when a notification is set up, is a notification of nothing, and so are removals and changes of tags.
    Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html

    Raises:
        InputError: the event has none of the known shapes, or its image is not base64.
    """
    if not isinstance(event, Mapping):
        raise InputError(f"an event is an object, not {type(event).__name__}")
    if event.get("Event") == "s3:TestEvent":
        return Notification(())
    records = event.get("Records")
    if isinstance(records, list) and all(isinstance(one, Mapping) and "s3" in one for one in records):
        created = (record for record in records if str(record.get("eventName", _CREATED)).startswith(_CREATED))
        return Notification(tuple(_photo(record["s3"]) for record in created))
    if isinstance(event.get("image"), str):
        return Direct(image=_decoded(event["image"]))
    if isinstance(event.get("s3"), str) and event["s3"].startswith("s3://"):
        return Direct(uri=event["s3"])
    raise InputError(
        f"unknown event with the keys {sorted(event)}",
        hint='send an S3 notification, {"image": "<base64>"} or {"s3": "s3://bucket/key"}',
    )


def _photo(part: Mapping[str, Any]) -> S3Photo:
    try:
        return S3Photo(part["bucket"]["name"], unquote_plus(part["object"]["key"]))
    except (LookupError, TypeError, AttributeError) as error:
        raise InputError(f"an S3 record lacks its {error}") from error


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InputError(f"the image is not base64 ({error})") from error
