"""Failure list of an SQS batch: ``{"batchItemFailures": [...]}``, the messages that SQS delivers again.

Source: https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html#services-sqs-batchfailurereporting
"""

import json
import logging
from collections.abc import Sequence
from typing import Any

from inference_lambda.events.outcomes import PhotoResult, first_error
from inference_lambda.events.sqs import SqsBatch
from transferlite.errors import InputError

_log = logging.getLogger("transferlite")


def sqs_reply(batch: SqsBatch, results: Sequence[PhotoResult]) -> dict[str, Any]:
    """List the messages that failed; SQS deletes all others.

    A message fails if its body is malformed or one of its photos has to be retried. A message that can never succeed is
    listed too: after the queue's maximum number of receives, SQS moves it to the dead-letter queue.

    Args:
        batch: the messages.
        results: one result per photo, in the order of ``batch.photos``.
    """
    remaining = iter(results)
    failed: list[str] = []
    for message in batch.messages:
        error = first_error([next(remaining) for _ in message.photos])
        error = message.content if isinstance(message.content, InputError) else error
        if error is not None:
            failed.append(message.id)
            _log.error(json.dumps({"event": "message-failed", "message_id": message.id, "reason": str(error)}))
    return {"batchItemFailures": [{"itemIdentifier": message_id} for message_id in failed]}
