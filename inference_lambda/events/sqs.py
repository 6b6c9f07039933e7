"""SQS messages that carry S3 notifications, directly or through SNS or EventBridge.

Source: https://docs.aws.amazon.com/lambda/latest/dg/with-sqs.html
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from inference_lambda.events.s3 import S3Notification, S3Photo, event_records, parse_message_text
from transferlite.errors import InputError


@dataclass(frozen=True)
class SqsMessage:
    """One SQS message.

    Attributes:
        id: its id in the batch.
        content: the notification in its body, or the error that parsing the body gave.
        receives: how many times the queue has delivered it, this time included.
    """

    id: str
    content: S3Notification | InputError
    receives: int = 1

    @property
    def photos(self) -> tuple[S3Photo, ...]:
        """Photos that the message names; none if its body is malformed."""
        return self.content.photos if isinstance(self.content, S3Notification) else ()


@dataclass(frozen=True)
class SqsBatch:
    """Batch of SQS messages; each succeeds or fails on its own."""

    messages: tuple[SqsMessage, ...]

    @property
    def photos(self) -> list[S3Photo]:
        """Photos of all messages, in message order."""
        return [photo for message in self.messages for photo in message.photos]

    @property
    def repeated_photos(self) -> frozenset[S3Photo]:
        """Photos of the messages that were delivered before: one of them may have ended the process."""
        return frozenset(photo for message in self.messages if message.receives > 1 for photo in message.photos)


def parse_sqs_batch(event: Mapping[str, Any]) -> SqsBatch | None:
    """Parse an SQS event; return None for any other event."""
    records = event_records(event)
    if records and all(record.get("eventSource") == "aws:sqs" for record in records):
        return SqsBatch(tuple(_message(record) for record in records))
    return None


def _message(record: Mapping[str, Any]) -> SqsMessage:
    attributes = record.get("attributes")
    count = attributes.get("ApproximateReceiveCount") if isinstance(attributes, Mapping) else None
    receives = int(count) if isinstance(count, str) and count.isdecimal() else 1
    return SqsMessage(str(record.get("messageId", "")), parse_message_text(record.get("body")), receives)
