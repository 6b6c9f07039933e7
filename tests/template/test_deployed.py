"""The stack in moto: photos in, predictions out."""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from inference_lambda import handler
from tests.conftest import Trained
from tests.pictures import jpeg
from tests.template.stack import Stack

# -- predictions -------------------------------------------------------------------------------------------------------


@pytest.fixture
def function(stack: Stack, trained: Trained, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Set the stack's environment in this process and upload a model; :func:`drain` is the event source."""
    boto3.client("lambda").update_event_source_mapping(UUID=stack.ids["IncomingQueueTrigger"], Enabled=False)
    name = stack.outputs["InferenceFunctionName"]
    configured = boto3.client("lambda").get_function_configuration(FunctionName=name)
    for key, value in configured["Environment"]["Variables"].items():
        monkeypatch.setenv(key, value)
    bucket, _, prefix = stack.outputs["RegistryUri"].removeprefix("s3://").partition("/")
    for path in (path for path in trained.registry.rglob("*") if path.is_file() and "saved_model" not in path.parts):
        boto3.client("s3").upload_file(str(path), bucket, f"{prefix}/{path.relative_to(trained.registry)}")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    handler._service.cache_clear()
    yield
    handler._service.cache_clear()


def drain(url: str) -> list[Any]:
    """Pass messages to the function, as Lambda's event source does; delete those that succeed, return the replies."""
    sqs, replies = boto3.client("sqs"), []
    while received := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", []):
        records = [
            {"messageId": message["MessageId"], "body": message["Body"], "eventSource": "aws:sqs"}
            for message in received
        ]
        reply = handler.lambda_handler({"Records": records}, None)
        failed = {failure["itemIdentifier"] for failure in reply["batchItemFailures"]}
        for message in received:
            if message["MessageId"] not in failed:
                sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        replies.append(reply)
    return replies


@pytest.mark.usefixtures("function")
def test_only_photos_below_incoming_are_labelled(stack: Stack) -> None:
    s3, data = boto3.client("s3"), stack.outputs["DataBucketName"]
    for key in ("incoming/a b+c.jpg", "incoming/猫/1.jpg", "photos/not this one.jpg"):
        s3.put_object(Bucket=data, Key=key, Body=jpeg("red"))
    s3.put_object(Bucket=data, Key="incoming/broken.jpg", Body=b"no photo")
    assert drain(stack.outputs["IncomingQueueUrl"]) != []
    items = s3.list_objects_v2(Bucket=stack.outputs["PredictionBucketName"])["Contents"]
    records = {
        item["Key"]: json.loads(
            s3.get_object(Bucket=stack.outputs["PredictionBucketName"], Key=item["Key"])["Body"].read()
        )
        for item in items
    }
    labels = {key: record.get("label") or record["error"]["code"] for key, record in records.items()}
    assert labels == {
        f"predictions/{data}/incoming/a b+c.jpg.json": "red",
        f"predictions/{data}/incoming/猫/1.jpg.json": "red",
        f"predictions/{data}/incoming/broken.jpg.json": "not-image",
    }


@pytest.mark.usefixtures("function")
def test_a_message_that_always_fails_reaches_the_dead_letter_queue(stack: Stack) -> None:
    sqs, url = boto3.client("sqs"), stack.outputs["IncomingQueueUrl"]
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"VisibilityTimeout": "0"})
    sqs.send_message(QueueUrl=url, MessageBody="poison")
    assert len(drain(url)) == 5
    (dead,) = sqs.receive_message(QueueUrl=stack.outputs["DeadLettersUrl"])["Messages"]
    assert dead["Body"] == "poison"
