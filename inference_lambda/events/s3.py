"""S3 event notifications, sent by S3 itself, through EventBridge or through SNS.

Sources: https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html,
https://docs.aws.amazon.com/AmazonS3/latest/userguide/ev-events.html,
https://docs.aws.amazon.com/lambda/latest/dg/with-sns.html
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_plus

from inference_lambda.events.bucket_name import bucket_name
from transferlite.errors import InputError

_CREATED = "ObjectCreated"


@dataclass(frozen=True)
class S3Photo:
    """S3 object to label.

    Attributes:
        bucket: name of the bucket.
        key: object key, not URL-encoded.
        version_id: S3 version that the event names; empty in a bucket without versioning, for the current content.
    """

    bucket: str
    key: str
    version_id: str = ""

    @property
    def uri(self) -> str:
        """``s3://bucket/key``."""
        return f"s3://{self.bucket}/{self.key}"


@dataclass(frozen=True)
class S3Notification:
    """Photos named by one S3 notification; each gets a record in the output bucket."""

    photos: tuple[S3Photo, ...]


def parse_s3_notification(event: Mapping[str, Any]) -> S3Notification | None:
    """Parse a notification from S3, EventBridge or SNS; return None for any other event.

    S3 URL-encodes keys (a space becomes ``+``); EventBridge does not. ``s3:TestEvent``, deletions and tag changes give
    a notification without photos.

    Raises:
        InputError: a record has no bucket or key or an access point's ARN, or an SNS message is not an S3 notification.
    """
    records = event_records(event)
    if records and all(record.get("EventSource") == "aws:sns" for record in records):
        return S3Notification(tuple(photo for record in records for photo in _sns_photos(record)))
    return _parse_bare_notification(event)


def event_records(event: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the event's ``Records`` if it is a list of objects, else an empty list."""
    records = event.get("Records")
    return records if isinstance(records, list) and all(isinstance(each, Mapping) for each in records) else []


def parse_message_text(text: Any) -> S3Notification | InputError:
    """Parse the text of an SNS or SQS message; return the error, not raise it, so that other messages proceed.

    SNS may have wrapped the notification on its way to SQS.
    """
    try:
        body = json.loads(text)
        if isinstance(body, Mapping) and body.get("Type") == "Notification":
            body = json.loads(body["Message"])
        notification = _parse_bare_notification(body) if isinstance(body, Mapping) else None
        return notification or InputError("the message is not an S3 notification")
    except InputError as error:
        return error
    except (LookupError, TypeError, ValueError, RecursionError) as error:
        return InputError(f"the message is not the JSON of an S3 notification ({error})")


def version_id_of(value: Any) -> str:
    """Return an event's version id, or empty for a missing one and for ``null``, which S3 may overwrite."""
    return value if isinstance(value, str) and value != "null" else ""


def _parse_bare_notification(event: Mapping[str, Any]) -> S3Notification | None:
    """Parse a notification that SNS has not wrapped."""
    if event.get("Event") == "s3:TestEvent":
        return S3Notification(())
    if event.get("source") == "aws.s3" and isinstance(event.get("detail"), Mapping):
        created = event.get("detail-type") == "Object Created"
        return S3Notification((_photo(event["detail"], str, "version-id"),) if created else ())
    records = event_records(event)
    if event.get("Records") != records or not all("s3" in record for record in records):
        return None
    created_records = (record for record in records if str(record.get("eventName", _CREATED)).startswith(_CREATED))
    return S3Notification(tuple(_photo(record["s3"], unquote_plus, "versionId") for record in created_records))


def _sns_photos(record: Mapping[str, Any]) -> tuple[S3Photo, ...]:
    try:
        content = parse_message_text(record["Sns"]["Message"])
    except (LookupError, TypeError) as error:
        raise InputError(f"malformed SNS record: {error!r}") from error
    if isinstance(content, InputError):
        raise content
    return content.photos


def _photo(part: Mapping[str, Any], decode_key: Callable[[str], str], version_field: str) -> S3Photo:
    try:
        s3_object = part["object"]
        key, version_id = decode_key(s3_object["key"]), version_id_of(s3_object.get(version_field))
        return S3Photo(bucket_name(part["bucket"]["name"]), key, version_id)
    except (LookupError, TypeError, AttributeError) as error:
        raise InputError(f"malformed S3 record: {error!r}") from error
