"""A stack in moto, its state machine, and what it tells."""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import boto3
import pytest
from moto import mock_aws

from tests.pictures import jpeg
from tests.template.batch import Batch, finisher
from tests.template.stack import DEFINITION, Stack, Template, deploy, resolved, transformed, written
from transferlite.storage.s3_boto3 import s3_client

SIMULATED = {"stepfunctions": {"execute_state_machine": True}, "batch": {"use_docker": False}}


@pytest.fixture(scope="session")
def template() -> Template:
    return transformed()


@contextmanager
def simulated_aws(more: dict[str, Any] | None = None) -> Iterator[None]:
    """An account of moto's, with nothing in it, that every client here finds; ``more`` are options of moto."""
    settings = {"ACCESS_KEY_ID": "test", "SECRET_ACCESS_KEY": "test", "DEFAULT_REGION": "eu-central-1"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(f"AWS_{name}", value)
        patch.delenv("AWS_ENDPOINT_URL", raising=False)
        s3_client.cache_clear()
        with mock_aws(config=SIMULATED | (more or {})):
            yield
        s3_client.cache_clear()


@pytest.fixture
def stack() -> Iterator[Stack]:
    with simulated_aws():
        yield deploy()


@pytest.fixture
def batch(monkeypatch: pytest.MonkeyPatch) -> Batch:
    """The Batch of this test; jobs succeed unless ``ends`` says otherwise."""
    from moto.batch_simple.models import BatchSimpleBackend

    made = Batch()
    monkeypatch.setattr(BatchSimpleBackend, "_mark_job_as_finished", finisher(made))
    return made


@pytest.fixture
def photos(stack: Stack) -> Callable[[int], None]:
    """A function that puts so many labelled photos into the data bucket."""

    def put(count: int) -> None:
        s3, names = boto3.client("s3"), [f"{number}.jpg" for number in range(count)]
        for name in names:
            s3.put_object(Bucket=stack.outputs["DataBucketName"], Key=f"photos/{name}", Body=jpeg("red", 8))
        rows = [f"{name},{'ab'[number % 2]}" for number, name in enumerate(names)]
        table = "\n".join(["File Name,Label", *rows])
        s3.put_object(Bucket=stack.outputs["DataBucketName"], Key="labels.csv", Body=table.encode())

    return put


def _recase(value: Any, change: Callable[[str], str]) -> None:
    """Change the first letter of every key, in place."""
    if isinstance(value, dict):
        for key in list(value):
            one = value.pop(key)
            _recase(one, change)
            value[change(key[0]) + key[1:]] = one
    elif isinstance(value, list):
        for one in value:
            _recase(one, change)


def _word_calls_as_step_functions_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its parameters and results are in PascalCase for every service, which moto passes on; a body is read as text."""
    from moto.stepfunctions.parser.asl.component.state.exec.state_task.service import (
        state_task_service_aws_sdk as sdk,
    )
    from moto.stepfunctions.parser.asl.component.state.exec.state_task.service import (
        state_task_service_batch as batch,
    )

    def asked(self: Any, parameters: dict[str, Any], *_: Any, **__: Any) -> None:
        if self.resource.service_name == "batch" or self.resource.api_name == "sfn":
            _recase(parameters, str.lower)

    def answered(self: Any, response: dict[str, Any], *_: Any, **__: Any) -> None:
        if "Body" in response:
            response["Body"] = response["Body"].read().decode()
        _recase(response, str.upper)

    for service in (sdk.StateTaskServiceAwsSdk, batch.StateTaskServiceBatch):
        monkeypatch.setattr(service, "_normalise_parameters", asked)
        monkeypatch.setattr(service, "_normalise_response", answered)


@pytest.fixture
def machine(stack: Stack, batch: Batch, monkeypatch: pytest.MonkeyPatch) -> str:
    """The state machine as deployed, whose calls are worded as Step Functions words them."""
    _word_calls_as_step_functions_does(monkeypatch)
    template = written()
    defaults = {name: one.get("Default") for name, one in template["Parameters"].items()}
    properties = template["Resources"]["TrainingStateMachine"]["Properties"]
    values = {name: str(resolved(value, defaults | stack.ids)) for name, value in _given(properties).items()}
    definition = re.sub(r"\$\{(\w+)\}", lambda found: values[found[1]], DEFINITION.read_text())
    created = boto3.client("stepfunctions").create_state_machine(
        name=resolved(properties["Name"], {}), definition=definition, roleArn="arn:aws:iam::123456789012:role/training"
    )
    assert created["stateMachineArn"] == stack.outputs["TrainingArn"]
    return str(created["stateMachineArn"])


def _given(properties: Any) -> dict[str, Any]:
    given: dict[str, Any] = properties["DefinitionSubstitutions"]
    return given


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
