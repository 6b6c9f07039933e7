"""The stack in moto, used as it is meant to be: photos in, predictions out; the schedule's input, jobs out."""

import json
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.client import BaseClient
from moto import mock_aws

from inference_lambda import handler
from tests.cloud.stack import DEFINITION, deploy, transformed, written
from tests.conftest import Trained
from tests.pictures import jpeg

SIMULATED = {"stepfunctions": {"execute_state_machine": True}, "batch": {"use_docker": False}}


@dataclass(frozen=True)
class Stack:
    """A deployed stack: its outputs, and each resource's physical id."""

    outputs: dict[str, str]
    ids: dict[str, str]


@pytest.fixture
def stack(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stack]:
    for name, value in {"ACCESS_KEY_ID": "test", "SECRET_ACCESS_KEY": "test", "DEFAULT_REGION": "eu-central-1"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with mock_aws(config=SIMULATED):
        yield Stack(*deploy())


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


# -- the training machine ---------------------------------------------------------------------------------------------


def _recase(value: Any, change: Callable[[str], str]) -> None:
    """Change the first letter of every key, in place."""
    if isinstance(value, dict):
        for key in list(value):
            value[change(key[0]) + key[1:]] = one = value.pop(key)
            _recase(one, change)
    elif isinstance(value, list):
        for one in value:
            _recase(one, change)


@pytest.fixture
def machine(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> str:
    """The state machine as deployed; Step Functions writes Batch's parameters in PascalCase, which moto passes on."""
    from moto.stepfunctions.parser.asl.component.state.exec.state_task.service import state_task_service_batch as moto

    def to_batch(_self: Any, parameters: dict[str, Any], *_: Any, **__: Any) -> None:
        _recase(parameters, str.lower)

    def from_batch(_self: Any, response: dict[str, Any], *_: Any, **__: Any) -> None:
        _recase(response, str.upper)

    monkeypatch.setattr(moto.StateTaskServiceBatch, "_normalise_parameters", to_batch)
    monkeypatch.setattr(moto.StateTaskServiceBatch, "_normalise_response", from_batch)
    given = written()["Resources"]["Training"]["Properties"]["DefinitionSubstitutions"]
    values = {name: stack.ids.get(str(value.get("Ref")), f"the {name}") for name, value in given.items()}
    definition = re.sub(r"\$\{(\w+)\}", lambda found: values[found[1]], DEFINITION.read_text())
    created = boto3.client("stepfunctions").create_state_machine(
        name="training", definition=definition, roleArn="arn:aws:iam::123456789012:role/training"
    )
    return str(created["stateMachineArn"])


def run(machine: str, given: dict[str, Any]) -> str:
    """Start it and wait; returns how it ended."""
    client = boto3.client("stepfunctions")
    started = client.start_execution(stateMachineArn=machine, name="run", input=json.dumps(given))
    for _ in range(600):
        status = client.describe_execution(executionArn=started["executionArn"])["status"]
        if status != "RUNNING":
            return str(status)
        time.sleep(0.1)
    raise AssertionError("the execution does not end")


def jobs(stack: Stack, queue: str) -> list[Any]:
    """The jobs in a queue; each has the number of its ``children``, which are jobs as well and not listed here."""
    batch = boto3.client("batch")
    ids = [one["jobId"] for one in batch.list_jobs(jobQueue=stack.ids[queue])["jobSummaryList"]]
    found = [batch.describe_jobs(jobs=[name])["jobs"][0] for name in ids if ":" not in name]
    return [job | {"children": sum(name.startswith(f"{job['jobId']}:") for name in ids)} for job in found]


@pytest.fixture
def told(stack: Stack) -> Any:
    """A function that returns the subjects and messages sent to the topic so far."""
    sqs = boto3.client("sqs")
    url = sqs.create_queue(QueueName="told")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    boto3.client("sns").subscribe(TopicArn=stack.outputs["TopicArn"], Protocol="sqs", Endpoint=arn)

    def read() -> list[tuple[str, str]]:
        bodies = [json.loads(one["Body"]) for one in sqs.receive_message(QueueUrl=url).get("Messages", [])]
        return [(body["Subject"], body["Message"]) for body in bodies]

    return read


@pytest.mark.parametrize("given", [{"compute": "cpu", "shards": 1}, {}])
def test_what_the_schedule_starts_is_one_training(stack: Stack, machine: str, told: Any, given: dict[str, Any]) -> None:
    assert run(machine, given) == "SUCCEEDED"
    (job,) = jobs(stack, "CpuQueue")
    assert job["jobName"] == "train"
    assert job["container"]["command"][:3] == ["train", "--images", "the Photos"]
    assert job["jobDefinition"] == stack.ids["CpuJob"]
    ((subject, message),) = told()
    assert subject == "TransferLite: a new version is published"
    assert job["jobId"] in message
    assert jobs(stack, "GpuQueue") == []


def test_many_photos_are_shared_out_before_they_are_trained_on(stack: Stack, machine: str) -> None:
    assert run(machine, {"compute": "gpu", "shards": 4}) == "SUCCEEDED"
    found = {job["jobName"]: job for job in jobs(stack, "GpuQueue")}
    assert set(found) == {"extract-features", "train"}
    assert {name: job["children"] for name, job in found.items()} == {"extract-features": 4, "train": 0}
    assert found["extract-features"]["container"]["command"][:2] == ["features", "extract"]


@pytest.mark.parametrize("shards", [1, 2])
def test_a_job_that_fails_is_told_and_fails_the_run(
    stack: Stack, machine: str, told: Any, shards: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOTO_SIMPLE_BATCH_FAIL_AFTER", "0")
    assert run(machine, {"compute": "cpu", "shards": shards}) == "FAILED"
    ((subject, message),) = told()
    assert subject == "TransferLite: a training failed"
    assert message.startswith("States.TaskFailed: ")
    assert "has not changed" in message
    assert len(jobs(stack, "CpuQueue")) == 1  # nothing is trained on rows that are not there


@pytest.mark.parametrize(("status", "ends", "says"), [(3, "SUCCEEDED", "not promoted"), (13, "FAILED", "failed")])
def test_a_version_that_is_refused_is_told_and_is_no_failure(
    stack: Stack, machine: str, told: Any, monkeypatch: pytest.MonkeyPatch, status: int, ends: str, says: str
) -> None:
    from moto.stepfunctions.parser.asl.component.state.exec.state_task.service import state_task_service_batch as moto

    as_it_was = moto.StateTaskServiceBatch._normalise_response

    def with_status(self: Any, response: dict[str, Any], *more: Any, **named: Any) -> None:
        as_it_was(self, response, *more, **named)
        for job in response.get("Jobs", []):
            job["Container"]["ExitCode"] = status

    monkeypatch.setattr(moto.StateTaskServiceBatch, "_normalise_response", with_status)
    monkeypatch.setenv("MOTO_SIMPLE_BATCH_FAIL_AFTER", "0")
    assert run(machine, {"compute": "cpu"}) == ends
    ((subject, _),) = told()
    assert says in subject
