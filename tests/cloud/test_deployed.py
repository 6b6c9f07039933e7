"""The stack in moto, used as it is meant to be: photos in, predictions out."""

import json
import re
import tempfile
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.client import BaseClient

from inference_lambda import handler
from tests.cloud.stack import Stack, transformed
from tests.conftest import Trained
from tests.pictures import jpeg

# -- predictions ------------------------------------------------------------------------------------------------------


@pytest.fixture
def function(stack: Stack, trained: Trained, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """The function in the stack's environment, with a model in its registry; its event source is :func:`drain`."""
    boto3.client("lambda").update_event_source_mapping(UUID=stack.ids["InferenceFunctionIncoming"], Enabled=False)
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
    """What Lambda's event source does: hand messages over, delete those that did not fail. Returns the answers."""
    sqs, answers = boto3.client("sqs"), []
    while received := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", []):
        records = [{"messageId": one["MessageId"], "body": one["Body"], "eventSource": "aws:sqs"} for one in received]
        answer = handler.lambda_handler({"Records": records}, None)
        failed = {one["itemIdentifier"] for one in answer["batchItemFailures"]}
        for one in received:
            if one["MessageId"] not in failed:
                sqs.delete_message(QueueUrl=url, ReceiptHandle=one["ReceiptHandle"])
        answers.append(answer)
    return answers


@pytest.mark.usefixtures("function")
def test_photos_put_below_incoming_are_labelled_and_no_others(stack: Stack) -> None:
    s3, data = boto3.client("s3"), stack.outputs["DataBucketName"]
    for key in ("incoming/a b+c.jpg", "incoming/猫/1.jpg", "photos/not this one.jpg"):
        s3.put_object(Bucket=data, Key=key, Body=jpeg("red"))
    s3.put_object(Bucket=data, Key="incoming/broken.jpg", Body=b"no photo")
    assert drain(stack.outputs["IncomingQueueUrl"]) != []
    found = s3.list_objects_v2(Bucket=stack.outputs["PredictionBucketName"])["Contents"]
    records = {
        one["Key"]: json.loads(
            s3.get_object(Bucket=stack.outputs["PredictionBucketName"], Key=one["Key"])["Body"].read()
        )
        for one in found
    }
    labels = {key: record.get("label") or record["error"]["code"] for key, record in records.items()}
    assert labels == {
        f"predictions/{data}/incoming/a b+c.jpg.json": "red",
        f"predictions/{data}/incoming/猫/1.jpg.json": "red",
        f"predictions/{data}/incoming/broken.jpg.json": "not-image",
    }


@pytest.mark.usefixtures("function")
def test_a_message_that_always_fails_ends_among_the_dead_letters(stack: Stack) -> None:
    sqs, url = boto3.client("sqs"), stack.outputs["IncomingQueueUrl"]
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"VisibilityTimeout": "0"})
    sqs.send_message(QueueUrl=url, MessageBody="poison")
    assert len(drain(url)) == 5
    (dead,) = sqs.receive_message(QueueUrl=stack.outputs["DeadLettersUrl"])["Messages"]
    assert dead["Body"] == "poison"


# -- what the function may do ------------------------------------------------------------------------------------------

NEEDS = {
    "GetObject": "s3:GetObject",
    "HeadObject": "s3:GetObject",
    "DownloadFile": "s3:GetObject",
    "PutObject": "s3:PutObject",
    "ListObjectsV2": "s3:ListBucket",
}
"""Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/using-with-s3-policy-actions.html"""
BY_LAMBDA = {"sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"}
"""What Lambda's event source does in the function's name: https://docs.aws.amazon.com/lambda/latest/dg/with-sqs.html"""
BY_LOGGING = {"logs:CreateLogStream", "logs:PutLogEvents"}
FOR_VERSIONS = {"s3:GetObjectVersion"}
"""Events name a version only once the data bucket is given versions."""
FOR_A_CLEAR_ANSWER = {"s3:ListBucket"}
"""Without it S3 answers 403 for an object that is not there: it is granted, and no call uses it."""


def granted(stack: Stack, role: str) -> list[tuple[str, str]]:
    """Each action of a role's own policies, with the pattern of what it may be done to."""

    def named(resource: Any) -> str:
        if "Fn::GetAtt" in resource:
            return f"arn:aws:s3:::{stack.ids[resource['Fn::GetAtt'][0]]}"
        return re.sub(r"\$\{(\w+)\.Arn\}", lambda found: f"arn:aws:s3:::{stack.ids[found[1]]}", resource["Fn::Sub"])

    pairs = []
    for policy in transformed()["Resources"][role]["Properties"]["Policies"]:
        for statement in policy["PolicyDocument"]["Statement"]:
            if "Fn::If" in statement:
                continue  # of the signing key, which is off
            actions, resources = statement["Action"], statement["Resource"]
            actions = actions if isinstance(actions, list) else [actions]
            resources = resources if isinstance(resources, list) else [resources]
            pairs += [(action, named(resource)) for action in actions for resource in resources]
    return pairs


@pytest.mark.usefixtures("function")
def test_the_function_may_do_what_it_does_and_no_more(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, str]] = []
    data = stack.outputs["DataBucketName"]
    boto3.client("s3").put_object(Bucket=data, Key="incoming/a.jpg", Body=jpeg("red"))
    boto3.client("s3").put_object(Bucket=data, Key="incoming/bad.jpg", Body=b"no photo")
    events = boto3.client("sqs").receive_message(QueueUrl=stack.outputs["IncomingQueueUrl"], MaxNumberOfMessages=10)
    original = BaseClient._make_api_call

    def recorded(self: Any, name: str, parameters: dict[str, Any]) -> Any:
        key = parameters.get("Key")
        calls.append((NEEDS[name], f"arn:aws:s3:::{parameters['Bucket']}" + (f"/{key}" if key else "")))
        return original(self, name, parameters)

    monkeypatch.setattr(BaseClient, "_make_api_call", recorded)
    records = [
        {"messageId": one["MessageId"], "body": one["Body"], "eventSource": "aws:sqs"} for one in events["Messages"]
    ]
    for _ in range(2):  # a queue may hand a message over twice: then the record that is there is read
        assert handler.lambda_handler({"Records": records}, None) == {"batchItemFailures": []}
    allowed = granted(stack, "InferenceRole")
    for action, target in calls:
        assert any(action == one and fnmatchcase(target, pattern) for one, pattern in allowed), (action, target)
    unused = {
        (one, pattern)
        for one, pattern in allowed
        if one not in BY_LAMBDA | BY_LOGGING | FOR_A_CLEAR_ANSWER | FOR_VERSIONS
        and not any(action == one and fnmatchcase(target, pattern) for action, target in calls)
    }
    assert unused == set()
