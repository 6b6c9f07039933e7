"""What Lambda's event source does for a queue, in a process that may die at any moment, on an S3 that fails at times.

``python -m tests.inference_lambda.queue_worker QUEUE_URL SEED FAILING DYING``: ``FAILING`` is the share of calls to S3
that are answered 503, ``DYING`` the share of all calls just before or just after which the process kills itself.
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
"""Photos with this in their key may not be read."""


def main(url: str, seed: int, failing: float, dying: float) -> None:
    """Take messages and hand them to the function until the process is ended; tell of each thing as a word a line."""
    chance = random.Random(seed)

    def perhaps_die(**_: Any) -> None:
        if chance.random() < dying:
            os.kill(os.getpid(), signal.SIGKILL)

    def perhaps_fail(params: dict[str, Any], **_: Any) -> Any:
        if FORBIDDEN in params["url_path"] and params["method"] == "GET":
            return _refusal("AccessDenied", 403)
        if chance.random() < failing:
            print("refused", flush=True)
            return _refusal("SlowDown", 503)
        return None

    sqs = boto3.client("sqs")
    for client, service in ((s3_client(), "s3"), (sqs, "sqs.DeleteMessage")):
        client.meta.events.register(f"before-call.{service}", perhaps_die)
        client.meta.events.register(f"after-call.{service}", perhaps_die)
    for operation in ("GetObject", "PutObject", "HeadObject"):
        s3_client().meta.events.register(f"before-call.s3.{operation}", perhaps_fail)
    while True:
        received = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", [])
        if received:
            print("batch", flush=True)
            _hand_over(sqs, url, received)
        else:
            time.sleep(0.05)


def _refusal(code: str, status: int) -> Any:
    error = {"Error": {"Code": code, "Message": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return SimpleNamespace(status_code=status), error


def _hand_over(sqs: Any, url: str, received: list[Any]) -> None:
    """Delete what did not fail. What failed is seen again at once, as if its visibility timeout were over."""
    records = [{"messageId": one["MessageId"], "body": one["Body"], "eventSource": "aws:sqs"} for one in received]
    answer = lambda_handler({"Records": records}, SimpleNamespace(aws_request_id="test"))
    failed = {one["itemIdentifier"] for one in answer["batchItemFailures"]}
    for one in received:
        with suppress(sqs.exceptions.ReceiptHandleIsInvalid):  # a slow batch: others were handed the message meanwhile
            if one["MessageId"] in failed:
                sqs.change_message_visibility(QueueUrl=url, ReceiptHandle=one["ReceiptHandle"], VisibilityTimeout=0)
            else:
                sqs.delete_message(QueueUrl=url, ReceiptHandle=one["ReceiptHandle"])


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4]))
