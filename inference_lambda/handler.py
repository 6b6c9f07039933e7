"""The function's entry point: ``inference_lambda.handler.lambda_handler``."""

from functools import cache
from typing import Any

from inference_lambda.events import Batch, Notification, parse
from inference_lambda.service import Service
from inference_lambda.settings import Settings


@cache
def _service() -> Service:
    """The service of this execution environment, made at the first event and kept with its model."""
    return Service(Settings.from_environment())


def lambda_handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Label the photos of an S3 notification, or answer a direct invocation.

    Args:
        event: an S3 notification, by itself, through EventBridge, or either of them in messages of an SQS queue;
            ``{"image": "<base64>"}`` or ``{"s3": "s3://bucket/key"}``.
        context: Lambda's; not used.

    Returns:
        For a notification ``{"labelled", "unusable", "records"}``, each record also written as
        ``predictions/<key>.json`` in the output bucket. For a queue ``{"batchItemFailures"}``. For a direct invocation
        the prediction: ``{"model_id", "label", "score", "top"}``, or ``{"error": {"code", "message"}}``.

    Raises:
        InputError: the event or the function's environment is wrong.
        TransferLiteError: the store refused or did not answer; Lambda's retry sends the event again.
    """
    request = parse(event)
    if isinstance(request, Batch):
        return _service().drain(request)
    if isinstance(request, Notification):
        return _service().label(request)
    return _service().answer(request)
