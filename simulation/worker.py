"""Worker process: one execution environment of the function with Lambda's SQS event source.

Messages in the function's failure list become visible again at once; those of a killed worker become visible after
their visibility timeout. The file ``busy`` exists while the worker has a batch.
"""

import sys
from contextlib import suppress
from pathlib import Path

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from inference_lambda.handler import lambda_handler

_RECORD_FIELDS = {"messageId": "MessageId", "receiptHandle": "ReceiptHandle", "body": "Body"}


def main(queue_url: str, busy: Path) -> None:
    """Process messages until the process is killed.

    Args:
        queue_url: URL of the queue.
        busy: path of the busy file.
    """
    sqs = boto3.client("sqs", config=Config(retries={"mode": "standard", "max_attempts": 10}))
    while True:
        response = sqs.receive_message(QueueUrl=queue_url, MaxNumberOfMessages=10, WaitTimeSeconds=1)
        messages = response.get("Messages", [])
        if not messages:
            continue
        busy.touch()
        records = [
            {name: message[key] for name, key in _RECORD_FIELDS.items()} | {"eventSource": "aws:sqs"}
            for message in messages
        ]
        try:
            reply = lambda_handler({"Records": records}, None)
            failed = {failure["itemIdentifier"] for failure in reply["batchItemFailures"]}
        except Exception:  # as in Lambda, the whole batch is delivered again
            failed = {message["MessageId"] for message in messages}
        for message in messages:
            handle = {"QueueUrl": queue_url, "ReceiptHandle": message["ReceiptHandle"]}
            # ignore errors: a retried request may find the message deleted; a message that stays is delivered again
            with suppress(BotoCoreError, ClientError):
                if message["MessageId"] in failed:
                    sqs.change_message_visibility(**handle, VisibilityTimeout=0)
                else:
                    sqs.delete_message(**handle)
        busy.unlink()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
