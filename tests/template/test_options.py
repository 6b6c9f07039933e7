"""A stack with every option on, in moto: what each creates, and its use."""

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
    "FunctionUrl": "on",
    "CorsOrigins": "https://example.com,https://example.org",
    "Signing": "on",
    "ScheduleState": "ENABLED",
    "DriftState": "ENABLED",
    "TrainAfterLabels": "3",
    "Compute": "gpu",
    "Tracing": "Active",
    "ReservedConcurrency": "5",
    "AlarmEmail": "you@example.com",
}
PHOTOS = Callable[[int], None]


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """One stack for all of them; a test that runs trainings or events is content with what others left."""
    with simulated_aws():
        made = deploy(**ON)
        boto3.client("lambda").update_event_source_mapping(UUID=made.ids["IncomingQueueTrigger"], Enabled=False)
        yield made


@pytest.fixture(autouse=True)
def _where_the_stack_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")


def policy(stack: Stack, role: str, name: str) -> dict[str, Any]:
    """A role's policy as it was created: its statements by their names."""
    document = boto3.client("iam").get_role_policy(RoleName=stack.ids[role], PolicyName=name)["PolicyDocument"]
    read = ast.literal_eval(document) if isinstance(document, str) else document  # moto writes it as Python does
    return {one["Sid"]: one for one in read["Statement"]}


def environment(stack: Stack) -> dict[str, str]:
    found = boto3.client("lambda").get_function_configuration(FunctionName=stack.outputs["InferenceFunctionName"])
    return dict(found["Environment"]["Variables"])


def test_the_address_asks_for_iam_and_lets_the_named_pages_call(stack: Stack) -> None:
    made = boto3.client("lambda").get_function_url_config(FunctionName=stack.outputs["InferenceFunctionName"])
    assert made["AuthType"] == "AWS_IAM"
    assert made["Cors"]["AllowOrigins"] == ["https://example.com", "https://example.org"]
    assert set(made["Cors"]["AllowMethods"]) == {"GET", "POST"}
    assert "authorization" in made["Cors"]["AllowHeaders"]


def test_concurrency_is_reserved(stack: Stack) -> None:
    name = stack.outputs["InferenceFunctionName"]
    assert boto3.client("lambda").get_function_concurrency(FunctionName=name)["ReservedConcurrentExecutions"] == 5


def test_the_function_may_send_its_traces(stack: Stack) -> None:
    """moto's CloudFormation passes TracingConfig over: the template's own check stands for it."""
    granted = policy(stack, "InferenceRole", "label-photos")["Trace"]
    assert granted["Action"] == ["xray:PutTraceSegments", "xray:PutTelemetryRecords"]


def test_alarms_are_told_by_mail(stack: Stack) -> None:
    (found,) = boto3.client("sns").list_subscriptions_by_topic(TopicArn=stack.outputs["TopicArn"])["Subscriptions"]
    assert (found["Protocol"], found["Endpoint"]) == ("email", "you@example.com")


# -- signing ----------------------------------------------------------------------------------------------------------


def test_the_key_signs_for_trainings_and_is_known_to_the_function(stack: Stack) -> None:
    key = boto3.client("kms").describe_key(KeyId="alias/photos-models")["KeyMetadata"]
    assert key["Arn"] == stack.outputs["SigningKeyArn"]
    assert (key["KeySpec"], key["KeyUsage"]) == ("ECC_NIST_P256", "SIGN_VERIFY")
    assert policy(stack, "TrainingJobRole", "train")["Sign"]["Resource"] == key["Arn"]
    assert policy(stack, "InferenceRole", "label-photos")["KnowTheKey"]["Action"] == "kms:GetPublicKey"
    for job in ("CpuJobDefinition", "GpuJobDefinition"):
        (made,) = boto3.client("batch").describe_job_definitions(jobDefinitions=[stack.ids[job]])["jobDefinitions"]
        wanted = {"name": "TRANSFERLITE_SIGNING_KEY", "value": f"awskms:///{key['Arn']}"}
        assert wanted in made["containerProperties"]["environment"]


def test_the_function_takes_a_model_once_the_stacks_key_has_signed_it(
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


# -- what starts by itself --------------------------------------------------------------------------------------------


def schedule(name: str) -> Any:
    return boto3.client("scheduler").get_schedule(Name=name)


def new_labels() -> tuple[Any, Any]:
    """The rule, and its target."""
    events = boto3.client("events")
    (rule,) = (one for one in events.list_rules()["Rules"] if "NewLabelsRule" in one["Name"])
    (target,) = events.list_targets_by_rule(Rule=rule["Name"])["Targets"]
    return rule, target


def test_the_schedule_and_enough_new_labels_start_trainings_on_gpus(
    stack: Stack, machine: str, photos: PHOTOS, batch: Batch
) -> None:
    made, (_, target) = schedule("photos-training"), new_labels()
    assert (made["State"], made["Target"]["Arn"], target["Arn"]) == ("ENABLED", machine, machine)
    assert json.loads(made["Target"]["Input"]) == {"compute": "gpu"}
    photos(2)
    assert run(machine, json.loads(target["Input"]), "few-labels") == "SUCCEEDED"
    assert batch.attempts == {"check": 1}
    photos(3)
    assert run(machine, json.loads(target["Input"]), "enough-labels") == "SUCCEEDED"
    assert batch.attempts == {"check": 2, "train": 1}
    assert run(machine, json.loads(made["Target"]["Input"]), "by-the-schedule") == "SUCCEEDED"
    assert batch.attempts == {"check": 3, "train": 2}
    assert list(jobs(stack, "GpuJobQueue")) == ["train"]


def test_the_labels_and_no_photo_are_told_as_new_labels(stack: Stack) -> None:
    """moto starts no execution for a rule: a queue stands for the state machine."""
    sqs, events, s3 = boto3.client("sqs"), boto3.client("events"), boto3.client("s3")
    url = sqs.create_queue(QueueName="heard")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    rule, target = new_labels()
    events.put_targets(Rule=rule["Name"], Targets=[{"Id": target["Id"], "Arn": arn}])
    for key in ("photos/labels.csv", "labels.csv", "incoming/a.jpg"):
        s3.put_object(Bucket=stack.ids["DataBucket"], Key=key, Body=b"a")
    heard = [json.loads(one["Body"]) for one in sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10)["Messages"]]
    events.put_targets(Rule=rule["Name"], Targets=[target])
    assert [one["detail"]["object"]["key"] for one in heard] == ["labels.csv"]


def test_drift_is_a_job_submitted_as_the_schedule_does(stack: Stack) -> None:
    made = schedule("photos-drift")
    assert (made["State"], made["Target"]["Arn"]) == ("ENABLED", "arn:aws:scheduler:::aws-sdk:batch:submitJob")
    call = json.loads(made["Target"]["Input"])
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
    (found,) = boto3.client("logs").describe_metric_filters(logGroupName=stack.outputs["TrainLogGroup"])[
        "metricFilters"
    ]
    assert found["metricTransformations"][0]["metricName"] == "photos-PredictionDrift"
