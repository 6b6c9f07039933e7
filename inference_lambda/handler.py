"""Entry point of the Lambda function: ``inference_lambda.handler.lambda_handler``."""

import math
import os
import time
from dataclasses import replace
from functools import cache
from typing import Any

from inference_lambda.cold_start import load_before_first_event
from inference_lambda.events.batch_operations import BatchOperationsJob
from inference_lambda.events.distributed_map import MapItems
from inference_lambda.events.http import HttpRequest
from inference_lambda.events.http_reply import http_reply
from inference_lambda.events.parse import DriftCheck, ParsedEvent, parse_event
from inference_lambda.events.ping import Ping
from inference_lambda.events.s3 import S3Notification
from inference_lambda.events.sqs import SqsBatch
from inference_lambda.http.api import Api
from inference_lambda.observability.telemetry import begin_invocation, log_as_json
from inference_lambda.service import Service
from inference_lambda.settings import HttpSettings, Settings
from transferlite.storage.deadline import end_calls_before

if "AWS_LAMBDA_FUNCTION_NAME" in os.environ:
    log_as_json()


@cache
def _service() -> Service:
    """Service of this execution environment, created once and kept with its model."""
    return Service(Settings.from_environment())


@cache
def _api() -> Api:
    return Api(HttpSettings.from_environment(), _service)


def lambda_handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Label the photos of an event, or answer an HTTP request or a direct invocation.

    Args:
        event: an HTTP request from a function URL, API Gateway or a load balancer; an S3 notification from S3,
            EventBridge or SNS; SQS messages with S3 notifications; tasks of S3 Batch Operations; items of Step
            Functions' Distributed Map; ``{"image": "<base64>"}`` or ``{"s3": "s3://bucket/key"}``, optionally with
            ``"model": MODEL_ID``; ``{"drift": {"since": "7d"}}``; or a warm-up ping or a schedule's default event.
        context: Lambda's context, for its request id and remaining time; with any other object, time is unlimited.

    Returns:
        For an HTTP request the response, also for errors (see ``http/openapi.py``).
        For an S3 notification ``{"labelled", "unusable", "records"}``, for map items the two counts. Each record is
        also stored as ``predictions/<bucket>/<key>.json`` in the output bucket.
        For SQS ``{"batchItemFailures"}``; for Batch Operations one result per task.
        For a direct invocation ``{"model_id", "label", "score", "top"}`` or ``{"error": {"code", "message"}}``.
        For a ping ``{"acknowledged": SOURCE}``.

    Raises:
        InputError: the event or the function's environment is invalid.
        TransferLiteError: S3 or the registry failed; the event's source should retry.
    """
    begin_invocation(context)
    end_calls_before(time.monotonic() + _seconds_left(context))
    try:
        return _dispatch(parse_event(event), context)
    finally:
        if _service.cache_info().currsize:
            _service().metrics.flush()


def _dispatch(event: ParsedEvent, context: object) -> dict[str, Any]:
    if isinstance(event, HttpRequest):
        return http_reply(event, _api().respond(replace(event, seconds_left=_seconds_left(context))))
    if isinstance(event, Ping):
        return {"acknowledged": event.source}
    deadline = time.monotonic() + _seconds_left(context)
    if isinstance(event, SqsBatch):
        return _service().label_sqs_batch(event, deadline)
    if isinstance(event, S3Notification):
        return _service().label_notification(event, deadline)
    if isinstance(event, BatchOperationsJob):
        return _service().label_batch_operations(event, deadline)
    if isinstance(event, MapItems):
        return _service().label_map_items(event, deadline)
    if isinstance(event, DriftCheck):
        return _service().check_drift(event)
    return _service().predict_direct(event)


def load_model() -> str:
    """Load the current model before the first event and return its id.

    Raises:
        TransferLiteError: the environment is invalid, or no model can be loaded.
    """
    return _service().model.get().manifest.model_id


def _seconds_left(context: object) -> float:
    remaining = getattr(context, "get_remaining_time_in_millis", None)
    return remaining() / 1000 if remaining else math.inf


if "AWS_LAMBDA_RUNTIME_API" in os.environ:
    load_before_first_event(_service)
