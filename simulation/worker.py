"""One execution environment of the function, driven as Lambda's event source mapping does: batches in, answers out.

Messages that the handler names as failed become visible again at once; those of a worker that is killed when their
visibility timeout is over. While it has a batch there is a file ``busy``, where it was told.
"""

import sys
from contextlib import suppress
from pathlib import Path

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from inference_lambda.handler import lambda_handler

_ATTRIBUTES = {"messageId": "MessageId", "receiptHandle": "ReceiptHandle", "body": "Body"}


def main(queue: str, busy: Path) -> None:
    """Drain the queue until the process is ended."""
    sqs = boto3.client("sqs", config=Config(retries={"mode": "standard", "max_attempts": 10}))
    while True:
        messages = sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10, WaitTimeSeconds=1).get("Messages", [])
        if not messages:
            continue
        busy.touch()
        records = [
            {name: one[key] for name, key in _ATTRIBUTES.items()} | {"eventSource": "aws:sqs"} for one in messages
        ]
        try:
            answer = lambda_handler({"Records": records}, None)
            failed = {one["itemIdentifier"] for one in answer["batchItemFailures"]}
        except Exception:  # as Lambda does: the whole batch is sent again
            failed = {one["MessageId"] for one in messages}
        for one in messages:
            handle = {"QueueUrl": queue, "ReceiptHandle": one["ReceiptHandle"]}
            # a repeated request finds its work done, and a message that stays comes again
            with suppress(BotoCoreError, ClientError):
                if one["MessageId"] in failed:
                    sqs.change_message_visibility(**handle, VisibilityTimeout=0)
                else:
                    sqs.delete_message(**handle)
        busy.unlink()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
