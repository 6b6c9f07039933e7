"""A stack in moto with every option on: the resources of each option, and their use."""

import ast
import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.kms import utils as moto_kms

from inference_lambda import handler
from tests.conftest import Trained
from tests.pictures import jpeg
from tests.template.batch import Batch
from tests.template.conftest import simulated_aws
from tests.template.stack import Stack, deploy
from tests.template.test_state_machine import jobs, run
from tests.transferlite.keys import sign_digest
from transferlite.cli.main import run as run_command
from transferlite.errors import UntrustedError
from transferlite.predict.predictor import Predictor

ON = {
    "FunctionUrl": "iam",
    "CorsOrigins": "https://example.com,https://example.org",
    "Signing": "on",
    "ScheduleState": "ENABLED",
    "DriftState": "ENABLED",
    "TrainAfterLabels": "3",
    "Compute": "gpu",
    "Tracing": "Active",
    "ReserveConcurrency": "on",
    "FunctionConcurrency": "5",
    "PhotoTags": "on",
    "EventBus": "default",
    "Lines": "on",
    "Metrics": "on",
    "AlarmEmail": "you@example.com",
}
PHOTOS = Callable[[int], None]


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """One stack for all tests of this file; they tolerate what earlier tests left in it."""
    with simulated_aws():
        deployed = deploy(**ON)
        boto3.client("lambda").update_event_source_mapping(UUID=deployed.ids["IncomingQueueTrigger"], Enabled=False)
        yield deployed


@pytest.fixture(autouse=True)
def _use_the_stacks_region(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")


def policy(stack: Stack, role: str, name: str) -> dict[str, Any]:
    """Return the statements of a role's created policy, by Sid."""
    document = boto3.client("iam").get_role_policy(RoleName=stack.ids[role], PolicyName=name)["PolicyDocument"]
    read = ast.literal_eval(document) if isinstance(document, str) else document  # moto returns a Python literal
    return {statement["Sid"]: statement for statement in read["Statement"] if statement}  # moto keeps NoValue as None


def environment(stack: Stack) -> dict[str, str]:
    configuration = boto3.client("lambda").get_function_configuration(
        FunctionName=stack.outputs["InferenceFunctionName"]
    )
    return dict(configuration["Environment"]["Variables"])


def test_the_function_url_requires_iam_and_allows_configured_origins(stack: Stack) -> None:
    url_config = boto3.client("lambda").get_function_url_config(FunctionName=stack.outputs["InferenceFunctionName"])
    assert url_config["AuthType"] == "AWS_IAM"
    assert url_config["Cors"]["AllowOrigins"] == ["https://example.com", "https://example.org"]
    assert set(url_config["Cors"]["AllowMethods"]) == {"GET", "POST"}
    assert "authorization" in url_config["Cors"]["AllowHeaders"]


def test_optional_output_is_configured_in_the_function(stack: Stack) -> None:
    variables = environment(stack)
    assert variables["TRANSFERLITE_TAGS"] == "on"
    assert variables["TRANSFERLITE_EVENT_BUS"] == "default"
    assert variables["TRANSFERLITE_LINES"] == "labels/"
    assert variables["TRANSFERLITE_METRICS"] == "TransferLite"


def test_concurrency_is_reserved(stack: Stack) -> None:
    name = stack.outputs["InferenceFunctionName"]
    assert boto3.client("lambda").get_function_concurrency(FunctionName=name)["ReservedConcurrentExecutions"] == 5


def test_the_function_may_send_its_traces(stack: Stack) -> None:
    """moto's CloudFormation ignores TracingConfig; test_template.py checks it instead."""
    granted = policy(stack, "InferenceRole", "label-photos")["Trace"]
    assert granted["Action"] == ["xray:PutTraceSegments", "xray:PutTelemetryRecords"]


def test_alarms_are_sent_by_email(stack: Stack) -> None:
    (subscription,) = boto3.client("sns").list_subscriptions_by_topic(TopicArn=stack.outputs["TopicArn"])[
        "Subscriptions"
    ]
    assert (subscription["Protocol"], subscription["Endpoint"]) == ("email", "you@example.com")


# -- signing -----------------------------------------------------------------------------------------------------------


def test_trainings_may_sign_and_the_function_may_read_the_key(stack: Stack) -> None:
    key = boto3.client("kms").describe_key(KeyId="alias/photos-models")["KeyMetadata"]
    assert key["Arn"] == stack.outputs["SigningKeyArn"]
    assert (key["KeySpec"], key["KeyUsage"]) == ("ECC_NIST_P256", "SIGN_VERIFY")
    assert policy(stack, "TrainingJobRole", "train")["Sign"]["Resource"] == key["Arn"]
    assert policy(stack, "InferenceRole", "label-photos")["KnowTheKey"]["Action"] == "kms:GetPublicKey"
    for job in ("CpuJobDefinition", "GpuJobDefinition"):
        (job_definition,) = boto3.client("batch").describe_job_definitions(jobDefinitions=[stack.ids[job]])[
            "jobDefinitions"
        ]
        variable = {"name": "TRANSFERLITE_SIGNING_KEY", "value": f"awskms:///{key['Arn']}"}
        assert variable in job_definition["containerProperties"]["environment"]


def test_the_function_loads_a_model_signed_with_the_stacks_key(
    stack: Stack, trained: Trained, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    s3, bucket = boto3.client("s3"), stack.ids["ModelBucket"]
    for path in (path for path in trained.registry.rglob("*") if path.is_file() and "saved_model" not in path.parts):
        s3.upload_file(str(path), bucket, f"registry/{path.relative_to(trained.registry)}")
    for name, value in environment(stack).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(moto_kms.ECDSAPrivateKey, "sign", sign_digest)
    registry, key = stack.outputs["RegistryUri"], environment(stack)["TRANSFERLITE_PUBLIC_KEY"]
    with pytest.raises(UntrustedError):
        Predictor.from_registry(registry, public_key=key)
    assert run_command(["models", "sign", "--registry", registry, "--signing-key", key]) == 0
    s3.put_object(Bucket=stack.ids["DataBucket"], Key="incoming/a.jpg", Body=jpeg("red"))
    handler._service.cache_clear()
    answer = handler.lambda_handler({"s3": f"s3://{stack.ids['DataBucket']}/incoming/a.jpg"}, None)
    handler._service.cache_clear()
    assert answer["label"] == "red"


# -- schedules and rules -----------------------------------------------------------------------------------------------


def schedule(name: str) -> Any:
    return boto3.client("scheduler").get_schedule(Name=name)


def new_labels() -> tuple[Any, Any]:
    """Return the rule and its target."""
    events = boto3.client("events")
    (rule,) = (rule for rule in events.list_rules()["Rules"] if "NewLabelsRule" in rule["Name"])
    (target,) = events.list_targets_by_rule(Rule=rule["Name"])["Targets"]
    return rule, target


def test_the_schedule_and_enough_new_labels_start_trainings_on_gpus(
    stack: Stack, machine: str, photos: PHOTOS, batch: Batch
) -> None:
    training_schedule, (_, target) = schedule("photos-training"), new_labels()
    assert (training_schedule["State"], training_schedule["Target"]["Arn"], target["Arn"]) == (
        "ENABLED",
        machine,
        machine,
    )
    assert json.loads(training_schedule["Target"]["Input"]) == {"compute": "gpu"}
    photos(2)
    assert run(machine, json.loads(target["Input"]), "few-labels") == "SUCCEEDED"
    assert batch.attempts == {"check": 1}
    photos(3)
    assert run(machine, json.loads(target["Input"]), "enough-labels") == "SUCCEEDED"
    assert batch.attempts == {"check": 2, "await-gpu": 1, "train": 1}
    assert run(machine, json.loads(training_schedule["Target"]["Input"]), "by-the-schedule") == "SUCCEEDED"
    assert batch.attempts == {"check": 3, "await-gpu": 2, "train": 2}
    assert list(jobs(stack, "GpuJobQueue")) == ["await-gpu", "train"]


def test_only_the_labels_file_triggers_the_new_labels_rule(stack: Stack) -> None:
    """moto starts no execution for a rule, so a queue takes the place of the state machine."""
    sqs, events, s3 = boto3.client("sqs"), boto3.client("events"), boto3.client("s3")
    url = sqs.create_queue(QueueName="rule-target")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    rule, target = new_labels()
    events.put_targets(Rule=rule["Name"], Targets=[{"Id": target["Id"], "Arn": arn}])
    for key in ("photos/labels.csv", "labels.csv", "incoming/a.jpg"):
        s3.put_object(Bucket=stack.ids["DataBucket"], Key=key, Body=b"a")
    received = [
        json.loads(message["Body"]) for message in sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10)["Messages"]
    ]
    events.put_targets(Rule=rule["Name"], Targets=[target])
    assert [event["detail"]["object"]["key"] for event in received] == ["labels.csv"]


def test_the_drift_schedule_submits_a_valid_job(stack: Stack) -> None:
    drift_schedule = schedule("photos-drift")
    assert (drift_schedule["State"], drift_schedule["Target"]["Arn"]) == (
        "ENABLED",
        "arn:aws:scheduler:::aws-sdk:batch:submitJob",
    )
    call = json.loads(drift_schedule["Target"]["Input"])
    submitted = boto3.client("batch").submit_job(
        jobName=call["JobName"],
        jobQueue=call["JobQueue"],
        jobDefinition=call["JobDefinition"],
        containerOverrides={"command": call["ContainerOverrides"]["Command"]},
    )
    (job,) = boto3.client("batch").describe_jobs(jobs=[submitted["jobId"]])["jobs"]
    assert job["jobQueue"] == stack.ids["CpuJobQueue"]
    assert job["container"]["command"][:3] == [
        "drift",
        "--predictions",
        f"s3://{stack.ids['PredictionBucket']}/predictions",
    ]
    filters = boto3.client("logs").describe_metric_filters(logGroupName=stack.outputs["TrainLogGroup"])["metricFilters"]
    metrics = {metric_filter["metricTransformations"][0]["metricName"] for metric_filter in filters}
    assert metrics == {"photos-PredictionDrift", "photos-DriftChecks"}
