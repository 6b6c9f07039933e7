"""Lambda's SQS event source with the function, in a process that kills itself at random, on an S3 that fails at random.

``python -m tests.inference_lambda.queue_worker QUEUE_URL SEED FAILING DYING``: ``FAILING`` is the share of S3 calls
that get a 503, ``DYING`` the share of calls just before or after which the process kills itself.
"""

import os
import random
import signal
import sys
import time
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import boto3

from inference_lambda.handler import lambda_handler
from transferlite.storage.s3_boto3 import s3_client

FORBIDDEN = "forbidden"
"""Substring of the keys of photos that the function may not read."""


def main(url: str, seed: int, failing: float, dying: float) -> None:
    """Pass messages to the function until the process dies; print ``batch`` or ``refused`` for each batch or 503."""
    rng = random.Random(seed)

    def maybe_die(**_: Any) -> None:
        if rng.random() < dying:
            os.kill(os.getpid(), signal.SIGKILL)

    def maybe_fail(params: dict[str, Any], **_: Any) -> Any:
        if FORBIDDEN in params["url_path"] and params["method"] == "GET":
            return _error_response("AccessDenied", 403)
        if rng.random() < failing:
            print("refused", flush=True)
            return _error_response("SlowDown", 503)
        return None

    sqs = boto3.client("sqs")
    for client, service in ((s3_client(), "s3"), (sqs, "sqs.DeleteMessage")):
        client.meta.events.register(f"before-call.{service}", maybe_die)
        client.meta.events.register(f"after-call.{service}", maybe_die)
    for operation in ("GetObject", "PutObject", "HeadObject"):
        s3_client().meta.events.register(f"before-call.s3.{operation}", maybe_fail)
    while True:
        received = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", [])
        if received:
            print("batch", flush=True)
            _process_batch(sqs, url, received)
        else:
            time.sleep(0.05)


def _error_response(code: str, status: int) -> Any:
    error = {"Error": {"Code": code, "Message": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return SimpleNamespace(status_code=status), error


def _process_batch(sqs: Any, url: str, received: list[Any]) -> None:
    """Delete the messages that succeeded, and make the failed ones visible again at once."""
    records = [
        {"messageId": message["MessageId"], "body": message["Body"], "eventSource": "aws:sqs"} for message in received
    ]
    reply = lambda_handler({"Records": records}, SimpleNamespace(aws_request_id="test"))
    failed = {failure["itemIdentifier"] for failure in reply["batchItemFailures"]}
    for message in received:
        with suppress(sqs.exceptions.ReceiptHandleIsInvalid):  # after a slow batch, another worker has the message
            if message["MessageId"] in failed:
                sqs.change_message_visibility(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=0)
            else:
                sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4]))
