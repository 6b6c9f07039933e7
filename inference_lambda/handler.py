"""The function's entry point: ``inference_lambda.handler.lambda_handler``."""

import math
import os
import time
from dataclasses import replace
from functools import cache
from typing import Any

from inference_lambda.cold_start import prepare
from inference_lambda.events.batch_operations import Job
from inference_lambda.events.distributed_map import Items
from inference_lambda.events.http import Request, reply
from inference_lambda.events.parse import DriftCheck, EventRequest, parse
from inference_lambda.events.s3 import Batch, Notification
from inference_lambda.http.api import Api
from inference_lambda.observability.telemetry import begin, log_lines
from inference_lambda.service import Service
from inference_lambda.settings import HttpSettings, Settings

if "AWS_LAMBDA_FUNCTION_NAME" in os.environ:
    log_lines()


@cache
def _service() -> Service:
    """The service of this execution environment, made at the first event and kept with its model."""
    return Service(Settings.from_environment())


@cache
def _api() -> Api:
    return Api(HttpSettings.from_environment(), _service)


def lambda_handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Label the photos that an event names, or answer a direct invocation.

    Args:
        event: an HTTP request of a function URL, API Gateway or a load balancer; an S3 notification, by itself,
            through EventBridge or SNS, or any of them in messages of an SQS queue;
            tasks of S3 Batch Operations; items of Step Functions' Distributed Map;
            ``{"image": "<base64>"}`` or ``{"s3": "s3://bucket/key"}``, with ``"model": ID`` for another version;
            ``{"drift": {"since": "7d"}}``.
        context: Lambda's, whose request id is in every line of the log, and of which the time that is left is used;
            anything else has all the time.

    Returns:
        For an HTTP request its answer, errors included (see ``openapi.py``).
        For a notification ``{"labelled", "unusable", "records"}``, each record also written as
        ``predictions/<bucket>/<key>.json`` in the output bucket; for items the counts alone. For a queue
        ``{"batchItemFailures"}``, for Batch Operations a result per task. For a direct invocation the prediction:
        ``{"model_id", "label", "score", "top"}``, or ``{"error": {"code", "message"}}``.

    Raises:
        InputError: the event or the function's environment is wrong.
        TransferLiteError: the store refused or did not answer; the retry of the event's source sends it again.
    """
    begin(context)
    try:
        return _answer(parse(event), context)
    finally:
        if _service.cache_info().currsize:
            _service().metrics.flush()


def _answer(request: EventRequest, context: object) -> dict[str, Any]:
    if isinstance(request, Request):
        return reply(request, _api().respond(replace(request, seconds_left=_seconds_left(context))))
    deadline = time.monotonic() + _seconds_left(context)
    if isinstance(request, Batch):
        return _service().drain(request, deadline)
    if isinstance(request, Notification):
        return _service().label(request, deadline)
    if isinstance(request, Job):
        return _service().run(request, deadline)
    if isinstance(request, Items):
        return _service().label_items(request, deadline)
    if isinstance(request, DriftCheck):
        return _service().check_drift(request)
    return _service().answer(request)


def model_in_service() -> str:
    """Load the model now, rather than with the first event, and return its id.

    Raises:
        TransferLiteError: the environment is wrong, or no model can be served.
    """
    return _service().model.get().manifest.model_id


def _seconds_left(context: object) -> float:
    left = getattr(context, "get_remaining_time_in_millis", None)
    return left() / 1000 if left else math.inf


if "AWS_LAMBDA_RUNTIME_API" in os.environ:
    prepare(_service)
