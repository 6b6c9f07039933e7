"""``transferlite cloud`` against a stack in moto."""

import io
import json
import os
import runpy
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import boto3
import pytest

from tests.conftest import Trained
from tests.template.batch import Batch, End
from tests.template.stack import NAME, PARAMETERS, Stack
from transferlite.cli import cloud_deploy
from transferlite.cli.main import run as run_command
from transferlite.cloud import run as cloud_run
from transferlite.cloud import stack as cloud_stack
from transferlite.cloud.buckets import delete_code_bucket
from transferlite.cloud.prices import price_table
from transferlite.cloud.run import hourly_price
from transferlite.cloud.stack import DeployedStack, find_stack

AddPhotos = Callable[[int], None]
Out = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def use_the_test_stack(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRANSFERLITE_STACK", NAME)
    monkeypatch.setattr(cloud_run, "POLL_SECONDS", 0.1)
    cloud_stack._session.cache_clear()


def run(*words: str) -> int:
    return run_command(["cloud", *words])


def publish(stack: Stack, trained: Trained) -> None:
    bucket = stack.ids["ModelBucket"]
    for path in (path for path in trained.registry.rglob("*") if path.is_file() and "saved_model" not in path.parts):
        boto3.client("s3").upload_file(str(path), bucket, f"registry/{path.relative_to(trained.registry)}")


def test_status_of_an_empty_stack_and_of_a_busy_one(
    stack: Stack, machine: str, photos: AddPhotos, trained: Trained, capsys: Out
) -> None:
    assert run("status") == 0
    out = capsys.readouterr().out
    assert "model     none yet" in out
    assert "trainings none yet" in out
    assert "schedule  off, cron(0 3 ? * SUN *) UTC" in out
    publish(stack, trained)
    boto3.client("lambda").update_event_source_mapping(UUID=stack.ids["IncomingQueueTrigger"], Enabled=False)
    boto3.client("s3").put_object(Bucket=stack.outputs["DataBucketName"], Key="incoming/a.jpg", Body=b"a")
    name = boto3.client("cloudwatch").describe_alarms()["MetricAlarms"][0]["AlarmName"]
    boto3.client("cloudwatch").set_alarm_state(AlarmName=name, StateValue="ALARM", StateReason="test")
    photos(2)
    assert run("run", "--detach") == 0
    assert run("status", "--json") == 0
    status = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert status["model"] == trained.result.manifest.model_id
    assert status["waiting"] == 1
    assert status["outputs"]["TrainingArn"] == machine
    assert status["runs"][0]["status"] in {"RUNNING", "SUCCEEDED"}
    assert status["alarms"][name] == "ALARM"
    assert len(status["alarms"]) == 7


@pytest.mark.usefixtures("machine")
def test_a_run_is_followed_with_its_jobs_and_costs_to_its_report(
    stack: Stack, photos: AddPhotos, trained: Trained, capsys: Out
) -> None:
    photos(4)
    publish(stack, trained)
    assert run("run", "--compute", "cpu") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("started arn:aws:states:")
    assert "check succeeded" in lines[-2]
    assert "train succeeded" in lines[-2]
    assert "about $" in lines[-2]
    report = Path(lines[-1].partition(": ")[2])
    assert report.read_bytes() == (trained.bundle / "report.html").read_bytes()


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize(("end", "status", "message"), [(3, 3, "not promoted"), (1, 1, "ended as FAILED")])
def test_a_run_ends_with_the_status_of_a_training(
    stack: Stack, photos: AddPhotos, batch: Batch, capsys: Out, end: int, status: int, message: str
) -> None:
    photos(4)
    batch.ends["train"] = [End(end)]
    assert run("run") == status
    out, err = capsys.readouterr()
    assert message in out + err


@pytest.mark.usefixtures("stack", "machine")
def test_a_run_with_too_few_new_labels_does_not_train(photos: AddPhotos, capsys: Out) -> None:
    photos(4)
    assert run("run", "--new-labels", "9") == 0
    assert capsys.readouterr().out.splitlines()[-1] == "not training: fewer new labels than --new-labels 9"


def test_the_price_of_a_job_is_that_of_the_requested_resources() -> None:
    prices = price_table()

    def requesting(**resources: str) -> dict[str, object]:
        return {
            "container": {"resourceRequirements": [{"type": name, "value": value} for name, value in resources.items()]}
        }

    assert hourly_price(requesting(GPU="1", VCPU="4", MEMORY="14000")) == prices["ec2_hour"]["g4dn.xlarge"]["usd"]
    fargate = prices["fargate_hour"]["x86_64"]
    assert hourly_price(requesting(VCPU="4", MEMORY="16384")) == pytest.approx(
        4 * fargate["vcpu"] + 16 * fargate["gib"]
    )


@pytest.mark.usefixtures("stack")
def test_schedule_changes_the_schedule_and_keeps_its_target(capsys: Out) -> None:
    before = boto3.client("scheduler").get_schedule(Name=f"{NAME}-training")
    assert run("schedule", "on", "--when", "cron(0 4 * * ? *)", "--timezone", "Europe/Berlin") == 0
    assert capsys.readouterr().out == "on, cron(0 4 * * ? *) Europe/Berlin\n"
    after = boto3.client("scheduler").get_schedule(Name=f"{NAME}-training")
    assert (after["State"], after["ScheduleExpression"]) == ("ENABLED", "cron(0 4 * * ? *)")
    assert (after["Target"], after["FlexibleTimeWindow"]) == (before["Target"], before["FlexibleTimeWindow"])
    assert run("schedule", "off") == 0
    assert run("schedule", "show") == 0
    assert capsys.readouterr().out == "off, cron(0 4 * * ? *) Europe/Berlin\n" * 2


@pytest.mark.usefixtures("stack")
def test_logs_are_those_of_the_jobs_or_of_the_function(capsys: Out) -> None:
    logs, now = boto3.client("logs"), int(time.time() * 1000)
    for kind, age in (("train", 0), ("inference", 0), ("train", 7_200_000)):
        group, stream = f"/transferlite/{NAME}/{kind}", f"{kind}-{age}"
        logs.create_log_stream(logGroupName=group, logStreamName=stream)
        logs.put_log_events(
            logGroupName=group, logStreamName=stream, logEvents=[{"timestamp": now - age, "message": f"of {stream}"}]
        )
    assert run("logs") == 0
    assert [line[10:] for line in capsys.readouterr().out.splitlines()] == ["of train-0"]
    assert run("logs", "--since", "3h", "train") == 0
    assert "of train-7200000" in capsys.readouterr().out
    assert run("logs", "function") == 0
    assert "of inference-0" in capsys.readouterr().out


@pytest.mark.usefixtures("stack")
def test_destroy_asks_prints_what_is_kept_and_deletes(capsys: Out, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket = {"Type": "AWS::S3::Bucket", "DeletionPolicy": "Retain", "Properties": {"BucketName": "small-models"}}
    boto3.client("cloudformation").create_stack(  # moto does not delete a network in the order of its parts
        StackName="small", TemplateBody=json.dumps({"Resources": {"ModelBucket": bucket}})
    )
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    assert run("destroy", "--stack", "small") == 130
    assert "bucket small-models" in capsys.readouterr().out
    assert find_stack("small").status == "CREATE_COMPLETE"
    assert run("destroy", "--stack", "small", "--yes") == 0
    assert capsys.readouterr().out.endswith("deleted small\n")
    assert run("status", "--stack", "small") == 2


@pytest.mark.usefixtures("stack")
def test_a_missing_stack_is_reported(capsys: Out) -> None:
    assert run("status", "--stack", "other") == 2
    assert "stack other: does not exist" in capsys.readouterr().err


@pytest.fixture
def sam(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """Fake SAM CLI; the returned function gives the arguments of its last call."""
    program = tmp_path / "sam"
    program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {tmp_path}/words\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return lambda: (tmp_path / "words").read_text().splitlines()


def parameters_of(words: list[str]) -> dict[str, str]:
    pairs = [word.partition("=") for word in words[words.index("--parameter-overrides") + 1 :]]
    return {name: value.strip('"') for name, _, value in pairs}


@pytest.mark.usefixtures("stack")
def test_a_deployment_keeps_the_schedule_but_for_what_it_sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CloudFormation resets a schedule whose properties a deployment changes, as this stand-in for sam does."""
    (tmp_path / "sam").write_text(
        f"""#!{sys.executable}
import boto3
scheduler = boto3.client("scheduler")
old = scheduler.get_schedule(Name="{NAME}-training")
changed = {{"State": "DISABLED", "ScheduleExpression": "rate(9 days)"}}
scheduler.update_schedule(**{{key: old[key] for key in ("Name", "Target", "FlexibleTimeWindow")}} | changed)
"""
    )
    (tmp_path / "sam").chmod(0o755)
    reset = runpy.run_path  # the stand-in runs in this process, where moto is
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(
        "transferlite.cloud.deploy.subprocess.run",
        lambda words, check: subprocess.CompletedProcess(words, int(bool(reset(words[0]) is None))),
    )
    assert run("schedule", "on", "--when", "rate(2 days)") == 0
    assert run("deploy") == 0
    schedule = boto3.client("scheduler").get_schedule(Name=f"{NAME}-training")
    assert (schedule["State"], schedule["ScheduleExpression"]) == ("ENABLED", "rate(2 days)")
    assert run("deploy", "--set", "Schedule=rate(9 days)") == 0
    schedule = boto3.client("scheduler").get_schedule(Name=f"{NAME}-training")
    assert (schedule["State"], schedule["ScheduleExpression"]) == ("ENABLED", "rate(9 days)")


@pytest.mark.usefixtures("stack")
def test_tags_become_digests_once_they_are_in_ecr(sam: Callable[[], list[str]], capsys: Out) -> None:
    ecr, uri = boto3.client("ecr"), "123456789012.dkr.ecr.eu-central-1.amazonaws.com/transferlite"
    ecr.create_repository(repositoryName="transferlite")
    for tag in ("train", "inference"):
        manifest = json.dumps(
            {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": {"digest": tag}}
        )
        ecr.put_image(repositoryName="transferlite", imageManifest=manifest, imageTag=tag)
    found = {
        image["imageTags"][0]: image["imageDigest"]
        for image in ecr.describe_images(repositoryName="transferlite")["imageDetails"]
    }
    cpu = ("--set", "Compute=cpu")  # for a GPU, the image's labels are read, which moto cannot
    assert run("deploy", "--train-image", f"{uri}:train", "--inference-image", f"{uri}:inference", *cpu) == 0
    parameters = parameters_of(sam())
    assert parameters["TrainImage"] == f"{uri}@{found['train']}"
    assert parameters["InferenceImage"] == f"{uri}@{found['inference']}"
    assert run("deploy", "--train-image", f"{uri}:other") == 2
    assert f"{uri}:other: there is no such image; push it first" in capsys.readouterr().err


@pytest.mark.usefixtures("stack")
def test_deploy_is_sam_deploy_with_the_parameters(sam: Callable[[], list[str]], tmp_path: Path, capsys: Out) -> None:
    assert run("deploy", "--train-image", "a/train:1", "--set", "Compute=gpu", "--set", "Schedule=rate(1 day)") == 0
    words = sam()
    assert words[:2] == ["deploy", "--template-file"]
    assert words[2] != "template.yaml"  # the packaged one, wherever the command runs
    assert words[words.index("--stack-name") + 1] == NAME
    assert words[-3:] == ['Compute="gpu"', 'Schedule="rate(1 day)"', 'TrainImage="a/train:1"']
    assert f"s3://{NAME}-models/registry" in capsys.readouterr().out
    (tmp_path / "sam").write_text("#!/bin/sh\nexit 7\n")
    assert run("deploy") == 1
    assert "sam deploy failed with exit status 7" in capsys.readouterr().err


@pytest.mark.usefixtures("stack")
@pytest.mark.parametrize("version", ["", ":1", "@sha256:0", ":1@sha256:0"])
def test_sam_gets_the_repository_of_the_training_image(sam: Callable[[], list[str]], version: str) -> None:
    repository = "registry.example/a/b"
    assert run("deploy", "--train-image", repository + version) == 0
    words = sam()
    assert words[words.index("--image-repository") + 1] == repository
    assert run("deploy", "--function-zip", "s3://code/lambda.zip") == 0  # then the repository of the deployed image
    words = sam()
    assert words[words.index("--image-repository") + 1] == PARAMETERS["TrainImage"].removesuffix(":1")


@pytest.mark.usefixtures("stack", "sam")
@pytest.mark.parametrize(
    ("words", "missing"),
    [
        (("--train-image", "a/train:1"), "stack new: stack does not exist yet, and the function is not set; pass "),
        (("--inference-image", "a/inference:1"), "/transferlite:train: there is no such image; push it first"),
        (("--function-zip", "s3://code/lambda.zip"), "/transferlite:train: there is no such image; push it first"),
    ],
)
def test_a_first_deployment_needs_the_training_image_and_the_function(
    words: tuple[str, ...], missing: str, capsys: Out
) -> None:
    assert run("deploy", "--stack", "new", *words) == 2
    assert missing in capsys.readouterr().err


@pytest.mark.usefixtures("stack")
def test_deploy_uploads_a_zip_under_a_key_of_its_content(sam: Callable[[], list[str]], tmp_path: Path) -> None:
    boto3.client("s3").create_bucket(Bucket="code", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    keys = []
    for content in (b"one", b"two", b"two"):
        (tmp_path / "lambda.zip").write_bytes(content)
        assert run("deploy", "--function-zip", str(tmp_path / "lambda.zip"), "--code-bucket", "code") == 0
        parameters = parameters_of(sam())
        keys.append(parameters.pop("CodeKey"))
        assert parameters == {"FunctionPackage": "Zip", "CodeBucket": "code"}
        assert boto3.client("s3").get_object(Bucket="code", Key=keys[-1])["Body"].read() == content
    assert keys[0] != keys[1] == keys[2]


@pytest.mark.usefixtures("stack")
def test_a_zip_without_a_bucket_gets_one_which_destroy_deletes(sam: Callable[[], list[str]]) -> None:
    assert run("deploy", "--function-zip", __file__) == 0
    assert parameters_of(sam())["CodeBucket"] == f"{NAME}-code"
    (item,) = boto3.client("s3").list_objects_v2(Bucket=f"{NAME}-code")["Contents"]
    assert item["Key"] == parameters_of(sam())["CodeKey"]
    delete_code_bucket(NAME)
    delete_code_bucket(NAME)
    assert f"{NAME}-code" not in {bucket["Name"] for bucket in boto3.client("s3").list_buckets()["Buckets"]}


@pytest.mark.usefixtures("stack")
def test_deploy_takes_a_zip_that_is_in_s3_or_an_image(sam: Callable[[], list[str]]) -> None:
    assert run("deploy", "--function-zip", "s3://code/a/lambda.zip") == 0
    assert parameters_of(sam()) == {"FunctionPackage": "Zip", "CodeBucket": "code", "CodeKey": "a/lambda.zip"}
    assert run("deploy", "--inference-image", "a/inference:1") == 0
    assert parameters_of(sam()) == {"FunctionPackage": "Image", "InferenceImage": "a/inference:1"}


@pytest.mark.usefixtures("stack", "sam")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("s3://code",), "s3://code: is not an S3 object"),
        (("no.zip",), "no.zip: file does not exist"),
        ((__file__, "--inference-image", "a/inference:1"), "only one of --inference-image and --function-zip"),
    ],
)
def test_a_wrong_zip_is_reported(words: tuple[str, ...], message: str, capsys: Out) -> None:
    assert run("deploy", "--function-zip", *words) == 2
    assert message in capsys.readouterr().err


def test_a_missing_sam_cli_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Out) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert run("deploy") == 2
    assert "the SAM CLI is not installed" in capsys.readouterr().err


@pytest.mark.parametrize("url", ["off", "iam", "key", "public"])
def test_a_public_url_is_warned_of(url: str, monkeypatch: pytest.MonkeyPatch, capsys: Out) -> None:
    deployed = DeployedStack(NAME, "UPDATE_COMPLETE", {"FunctionUrl": "https://url"}, {"FunctionUrl": url})
    monkeypatch.setattr("transferlite.cloud.stack.find_stack", lambda name: deployed)
    cloud_deploy._after(NAME)
    printed = capsys.readouterr()
    assert "https://url" in printed.out
    assert ("anyone who finds" in printed.err) is (url == "public")
