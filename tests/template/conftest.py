"""Fixtures: a stack in moto, its state machine, its AWS Batch and its notifications."""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import boto3
import pytest
from moto import mock_aws

from tests.pictures import jpeg
from tests.template.batch import Batch, make_finish
from tests.template.stack import DEFINITION, PARAMETERS, Stack, Template, deploy, read_template, resolved, transformed
from transferlite.storage.s3_boto3 import s3_client

SIMULATED = {"stepfunctions": {"execute_state_machine": True}, "batch": {"use_docker": False}}


@pytest.fixture(scope="session")
def template() -> Template:
    return transformed()


@contextmanager
def simulated_aws(more: dict[str, Any] | None = None) -> Iterator[None]:
    """Run an empty moto account for all clients until the context ends.

    Args:
        more: further moto options.
    """
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
    """AWS Batch of this test; jobs succeed unless the test sets ``ends``."""
    from moto.batch_simple.models import BatchSimpleBackend

    fake_batch = Batch()
    monkeypatch.setattr(BatchSimpleBackend, "_mark_job_as_finished", make_finish(fake_batch))
    return fake_batch


@pytest.fixture
def photos(stack: Stack) -> Callable[[int], None]:
    """Function that uploads a number of labelled photos to the data bucket."""

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
            child = value.pop(key)
            _recase(child, change)
            value[change(key[0]) + key[1:]] = child
    elif isinstance(value, list):
        for child in value:
            _recase(child, change)


def _use_step_functions_casing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use PascalCase for parameters and results of every service, as Step Functions does, and read bodies as text."""
    from moto.stepfunctions.parser.asl.component.state.exec.state_task.service import (
        state_task_service_aws_sdk as sdk,
    )
    from moto.stepfunctions.parser.asl.component.state.exec.state_task.service import (
        state_task_service_batch as batch,
    )

    def normalise_parameters(self: Any, parameters: dict[str, Any], *_: Any, **__: Any) -> None:
        if self.resource.service_name == "batch" or self.resource.api_name == "sfn":
            _recase(parameters, str.lower)

    def normalise_response(self: Any, response: dict[str, Any], *_: Any, **__: Any) -> None:
        if "Body" in response:
            response["Body"] = response["Body"].read().decode()
        _recase(response, str.upper)

    for service in (sdk.StateTaskServiceAwsSdk, batch.StateTaskServiceBatch):
        monkeypatch.setattr(service, "_normalise_parameters", normalise_parameters)
        monkeypatch.setattr(service, "_normalise_response", normalise_response)


@pytest.fixture
def machine(stack: Stack, batch: Batch, monkeypatch: pytest.MonkeyPatch) -> str:
    """Create the state machine as deployed; its calls use Step Functions' casing."""
    _use_step_functions_casing(monkeypatch)
    template = read_template()
    defaults = {name: parameter.get("Default") for name, parameter in template["Parameters"].items()} | PARAMETERS
    properties = template["Resources"]["TrainingStateMachine"]["Properties"]
    with_gpus = defaults | {"Compute": "gpu"} | stack.ids
    values = {name: str(resolved(value, with_gpus)) for name, value in _substitutions(properties).items()}
    definition = re.sub(r"\$\{(\w+)\}", lambda match: values[match[1]], DEFINITION.read_text())
    created = boto3.client("stepfunctions").create_state_machine(
        name=resolved(properties["Name"], PARAMETERS),
        definition=definition,
        roleArn="arn:aws:iam::123456789012:role/training",
    )
    assert created["stateMachineArn"] == stack.outputs["TrainingArn"]
    return str(created["stateMachineArn"])


def _substitutions(properties: Any) -> dict[str, Any]:
    substitutions: dict[str, Any] = properties["DefinitionSubstitutions"]
    return substitutions


@pytest.fixture
def notifications(stack: Stack) -> Any:
    """Function that returns the subjects and messages sent to the topic so far."""
    sqs = boto3.client("sqs")
    url = sqs.create_queue(QueueName="notifications")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    boto3.client("sns").subscribe(TopicArn=stack.outputs["TopicArn"], Protocol="sqs", Endpoint=arn)

    def read() -> list[tuple[str, str]]:
        received = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", [])
        bodies = [json.loads(message["Body"]) for message in received]
        return [(body["Subject"], body["Message"]) for body in bodies]

    return read
