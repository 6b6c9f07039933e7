"""New photos as S3 tells of them: by itself, through EventBridge or SNS, and in messages of an SQS queue.

Sources: https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html,
https://docs.aws.amazon.com/AmazonS3/latest/userguide/ev-events.html,
https://docs.aws.amazon.com/lambda/latest/dg/with-sqs.html, https://docs.aws.amazon.com/lambda/latest/dg/with-sns.html
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_plus

from transferlite.errors import InputError

_CREATED = "ObjectCreated"


@dataclass(frozen=True)
class S3Photo:
    """An object to label; ``key`` is the object's own, not encoded.

    ``version`` is the version that the event is about; empty in a bucket without versions: then the current content.
    """

    bucket: str
    key: str
    version: str = ""

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


def batch_of(event: Mapping[str, Any]) -> Batch | None:
    """The messages of an SQS event, None for anything else."""
    records = _records(event)
    if records and all(one.get("eventSource") == "aws:sqs" for one in records):
        return Batch(tuple(_message(one) for one in records))
    return None


def notification_of(event: Mapping[str, Any]) -> Notification | None:
    """The photos of a notification of S3, EventBridge or SNS, None for anything else.

    Keys of S3's own notifications are URL-encoded, a space as ``+``; EventBridge's are not. ``s3:TestEvent``, which S3
    sends when a notification is set up, is a notification of nothing, and so are removals and changes of tags.

    Raises:
        InputError: a record lacks its bucket or key, or a message of SNS is none of S3.
    """
    records = _records(event)
    if records and all(one.get("EventSource") == "aws:sns" for one in records):
        return Notification(tuple(photo for one in records for photo in _published(one)))
    return _plain_notification(event)


def _plain_notification(event: Mapping[str, Any]) -> Notification | None:
    if event.get("Event") == "s3:TestEvent":
        return Notification(())
    if event.get("source") == "aws.s3" and isinstance(event.get("detail"), Mapping):
        created = event.get("detail-type") == "Object Created"
        return Notification((_photo(event["detail"], str, "version-id"),) if created else ())
    records = _records(event)
    if event.get("Records") != records or not all("s3" in one for one in records):
        return None
    created_ones = (one for one in records if str(one.get("eventName", _CREATED)).startswith(_CREATED))
    return Notification(tuple(_photo(one["s3"], unquote_plus, "versionId") for one in created_ones))


def _records(event: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    records = event.get("Records")
    return records if isinstance(records, list) and all(isinstance(one, Mapping) for one in records) else []


def _published(record: Mapping[str, Any]) -> tuple[S3Photo, ...]:
    """The photos of one message that SNS invokes the function with."""
    try:
        content = _content(record["Sns"]["Message"])
    except (LookupError, TypeError) as error:
        raise InputError(f"a record of SNS lacks its {error}") from error
    if isinstance(content, InputError):
        raise content
    return content.photos


def _message(record: Mapping[str, Any]) -> Message:
    return Message(str(record.get("messageId", "")), _content(record.get("body")))


def _content(text: Any) -> Notification | InputError:
    """The notification in a message's text, as S3 or EventBridge sent it, or as SNS passed it on."""
    try:
        body = json.loads(text)
        if isinstance(body, Mapping) and body.get("Type") == "Notification":
            body = json.loads(body["Message"])
        found = _plain_notification(body) if isinstance(body, Mapping) else None
        return found or InputError("the message is no notification of S3")
    except InputError as error:
        return error
    except (LookupError, TypeError, ValueError, RecursionError) as error:
        return InputError(f"the message is not JSON of S3 ({error})")


def _photo(part: Mapping[str, Any], decode: Callable[[str], str], version: str) -> S3Photo:
    try:
        found = part["object"]
        return S3Photo(part["bucket"]["name"], decode(found["key"]), version_of(found.get(version)))
    except (LookupError, TypeError, AttributeError) as error:
        raise InputError(f"an S3 record lacks its {error}") from error


def version_of(told: Any) -> str:
    """A version id as an event tells it. Objects without versions have none, or ``null``, which may be overwritten."""
    return told if isinstance(told, str) and told != "null" else ""
