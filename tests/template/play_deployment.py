"""Play docs/deploy.md and changes of a stack against a local AWS with the real SAM CLI: ``make test-deploy``.

The Makefile passes the interpreters of two environments: one with the SAM CLI and the AWS CLI, one with the emulator.
docker is a stand-in that registers an image in the local ECR; no image is built here.
"""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.conftest import Trained
from tests.installed import Install
from tests.pictures import jpeg
from tests.template.stack import ROOT

TOOLS, EMULATOR = (Path(os.environ.get(name, "")) for name in ("TRANSFERLITE_SAM", "TRANSFERLITE_EMULATOR"))
DOCKER = """#!{python}
import json, sys
import boto3
if sys.argv[1] == "push":
    repository, _, tag = sys.argv[2].rpartition("/")[2].partition(":")
    manifest = {{"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json"}}
    boto3.client("ecr").put_image(repositoryName=repository, imageManifest=json.dumps(manifest), imageTag=tag)
"""
Play = Callable[..., str]


def function_python() -> str:
    """Interpreter of the function's version, which loads the wheels of the zip. Skips the test if there is none."""
    found = [shutil.which("python3.12"), *map(str, Path.home().glob(".pyenv/versions/3.12*/bin/python3.12"))]
    for path in filter(None, found):
        if subprocess.run([path, "-c", ""], capture_output=True, check=False).returncode == 0:
            return path
    pytest.skip("needs Python 3.12, the function's version, on PATH")


@pytest.fixture(scope="module")
def emulator(installed: Install, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Start a local AWS; yields the environment of the commands that use it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    programs, log = tmp_path_factory.mktemp("programs"), tmp_path_factory.mktemp("emulator") / "log"
    (programs / "docker").write_text(DOCKER.format(python=sys.executable))
    (programs / "docker").chmod(0o755)
    path = f"{programs}:{installed.venv / 'bin'}:{TOOLS.parent}:{os.environ['PATH']}"
    settings = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "eu-central-1",
        "SAM_CLI_TELEMETRY": "0",
        "PATH": path,
    }
    words: list[str | Path] = [
        EMULATOR,
        Path(__file__).with_name("emulator.py"),
        str(port),
        installed.venv / "bin" / "transferlite",
    ]
    started = [*words, function_python()]
    with log.open("w") as out, subprocess.Popen(started, stdout=out, stderr=out, env=os.environ | settings) as server:
        try:
            _wait_for(port, server)
            yield settings
        finally:
            server.terminate()


@pytest.fixture(autouse=True)
def aws(emulator: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Point this process and its commands to the local AWS."""
    for name, value in emulator.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)


def _wait_for(port: int, server: "subprocess.Popen[bytes]") -> None:
    for _ in range(600):
        assert server.poll() is None, "the emulator ended"
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    pytest.fail("the emulator does not start")


@pytest.fixture
def play(installed: Install) -> Play:
    """Function that runs shell lines in the empty folder, prints what they print, and returns it."""

    def run(lines: str, status: int = 0) -> str:
        shell = ["bash", "-euxo", "pipefail", "-c", lines]
        started = time.monotonic()
        done = subprocess.run(
            shell, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, cwd=installed.folder
        )
        print(f"{done.stdout}\n-- {time.monotonic() - started:.0f} s")
        assert done.returncode == status, done.stdout
        return done.stdout

    return run


def page() -> list[str]:
    """The shell blocks of the page's first section."""
    text = (
        (ROOT / "docs" / "deploy.md").read_text().partition("## From nothing to a prediction")[2].partition("\n## ")[0]
    )
    return re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def left_in_the_account() -> dict[str, list[str]]:
    """Names of all that costs money or bears a name, but for what the SAM CLI keeps for all stacks."""
    stacks = boto3.client("cloudformation").describe_stacks()["Stacks"]
    found = {
        "stacks": [stack["StackName"] for stack in stacks if not stack["StackStatus"].startswith("DELETE")],
        "buckets": [bucket["Name"] for bucket in boto3.client("s3").list_buckets()["Buckets"]],
        "functions": [item["FunctionName"] for item in boto3.client("lambda").list_functions()["Functions"]],
        "queues": boto3.client("sqs").list_queues().get("QueueUrls", []),
        "machines": [item["name"] for item in boto3.client("stepfunctions").list_state_machines()["stateMachines"]],
        "schedules": [item["Name"] for item in boto3.client("scheduler").list_schedules()["Schedules"]],
        "roles": [item["RoleName"] for item in boto3.client("iam").list_roles()["Roles"]],
        "logs": [item["logGroupName"] for item in boto3.client("logs").describe_log_groups()["logGroups"]],
        "batch": [item["jobQueueName"] for item in boto3.client("batch").describe_job_queues()["jobQueues"]],
    }
    return {kind: [name for name in names if "sam-cli-managed" not in name] for kind, names in found.items()}


def test_the_page_leads_from_nothing_to_a_prediction_and_back(installed: Install, play: Play) -> None:
    before = left_in_the_account()
    rows = ["File Name,Label"]
    (installed.folder / "photos").mkdir(exist_ok=True)
    for colour in ("red", "blue"):
        for number in range(20):
            (installed.folder / "photos" / f"{colour}.{number}.jpg").write_bytes(jpeg(colour, number))
            rows.append(f"{colour}.{number}.jpg,{colour}")
    (installed.folder / "labels.csv").write_text("\n".join(rows))
    (installed.folder / "new.jpg").write_bytes(jpeg("red", 77))
    blocks = page()
    assert len(blocks) >= 3
    printed = play("\n".join(blocks))
    assert '"label": "red"' in printed
    assert "health    green" in printed
    assert left_in_the_account() == before


@pytest.fixture
def holiday() -> Iterator[str]:
    """An existing bucket with an object and a notification of its own."""
    s3, name = boto3.client("s3"), "holiday-photos"
    s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    s3.put_object(Bucket=name, Key="theirs.txt", Body=b"theirs")
    topic = boto3.client("sns").create_topic(Name="theirs")["TopicArn"]
    theirs = {"TopicArn": topic, "Events": ["s3:ObjectCreated:*"], "Id": "theirs"}
    s3.put_bucket_notification_configuration(Bucket=name, NotificationConfiguration={"TopicConfigurations": [theirs]})
    yield name
    for item in s3.list_objects_v2(Bucket=name).get("Contents", ()):
        s3.delete_object(Bucket=name, Key=item["Key"])
    s3.delete_bucket(Bucket=name)
    boto3.client("sns").delete_topic(TopicArn=topic)


def upload(trained: Trained, registry: str) -> None:
    bucket, _, prefix = registry.removeprefix("s3://").partition("/")
    for path in (path for path in trained.registry.rglob("*") if path.is_file() and "saved_model" not in path.parts):
        boto3.client("s3").upload_file(str(path), bucket, f"{prefix}/{path.relative_to(trained.registry)}")


def stack_values(stack: str) -> tuple[dict[str, str], dict[str, str], str]:
    """Outputs, parameters and status of a stack."""
    (found,) = boto3.client("cloudformation").describe_stacks(StackName=stack)["Stacks"]
    outputs = {item["OutputKey"]: item["OutputValue"] for item in found["Outputs"]}
    return outputs, {item["ParameterKey"]: item["ParameterValue"] for item in found["Parameters"]}, found["StackStatus"]


def schedule(outputs: dict[str, str]) -> Any:
    found = boto3.client("scheduler").get_schedule(Name=outputs["ScheduleName"])
    return found["State"], found["ScheduleExpression"]


def test_a_stack_in_an_existing_bucket_is_changed_rolled_back_and_deleted(
    installed: Install, play: Play, holiday: str, trained: Trained
) -> None:
    """An upper-case name; a schedule that no later deployment turns off; the bucket is as before at the end."""
    before, s3, stack = left_in_the_account(), boto3.client("s3"), "TRANSFERLITE_STACK=Holiday-Photos"
    play(f"export {stack}; transferlite cloud build train --push; test -f lambda.zip || transferlite package function")
    create = f"transferlite cloud deploy --function-zip lambda.zip --data-bucket {holiday} --data-prefix team/"
    play(f"export {stack}; {create} --set 'Schedule=rate(2 days)'")
    outputs, _, _ = stack_values("Holiday-Photos")
    assert schedule(outputs) == ("DISABLED", "rate(2 days)")
    configuration = s3.get_bucket_notification_configuration(Bucket=holiday)
    assert configuration["TopicConfigurations"][0]["Id"] == "theirs"
    assert "EventBridgeConfiguration" in configuration
    upload(trained, outputs["RegistryUri"])
    (installed.folder / "one.jpg").write_bytes(jpeg("red", 3))
    assert '"label": "red"' in play(f"export {stack}; transferlite cloud test one.jpg --timeout 2m")

    # a changed parameter, and a plain `sam deploy` with what --guided would have written
    play(f"export {stack}; transferlite cloud schedule on; transferlite cloud deploy --set LogDays=7")
    assert schedule(outputs) == ("ENABLED", "rate(2 days)")
    _, parameters, _ = stack_values("Holiday-Photos")
    assert parameters["LogDays"] == "7"
    overrides = " ".join(f'{name}=\\"{value}\\"' for name, value in (parameters | {"LogDays": "14"}).items())
    folder = installed.folder / "sam"
    (folder / "train_job").mkdir(parents=True, exist_ok=True)
    shutil.copyfile(ROOT / "template.yaml", folder / "template.yaml")
    shutil.copyfile(ROOT / "train_job" / "training.asl.json", folder / "train_job" / "training.asl.json")
    lines = ["version = 0.1", "[default.deploy.parameters]", 'stack_name = "Holiday-Photos"', "resolve_s3 = true"]
    lines += ['capabilities = "CAPABILITY_IAM"', "confirm_changeset = false", f'parameter_overrides = "{overrides}"']
    lines += [f'image_repositories = ["InferenceFunction={parameters["TrainImage"].partition("@")[0]}"]']
    (folder / "samconfig.toml").write_text("\n".join(lines))
    play("cd sam; sam deploy")
    assert schedule(outputs) == ("ENABLED", "rate(2 days)")
    assert stack_values("Holiday-Photos")[1]["LogDays"] == "14"

    # a deployment that fails is rolled back: there is no such zip
    play(f"export {stack}; transferlite cloud deploy --function-zip s3://{holiday}/no.zip", status=1)
    assert stack_values("Holiday-Photos")[2] == "UPDATE_ROLLBACK_COMPLETE"
    assert stack_values("Holiday-Photos")[1]["CodeKey"] == parameters["CodeKey"]
    assert '"label": "red"' in play(f"export {stack}; transferlite cloud test one.jpg --timeout 2m")

    play(f"export {stack}; transferlite cloud destroy --yes")
    left = left_in_the_account()
    kept = sorted(set(left["buckets"]) - set(before["buckets"]))
    assert [name.rpartition("-")[2] for name in kept] == ["models", "predictions"]
    assert [item["Key"] for item in s3.list_objects_v2(Bucket=holiday)["Contents"]] == ["theirs.txt"]

    # deployed again, it takes over the models that it left
    play(f"export {stack}; transferlite cloud build train --push; {create}")
    assert stack_values("Holiday-Photos")[1]["ModelBucketState"] == "existing"
    assert '"label": "red"' in play(f"export {stack}; transferlite cloud test one.jpg --timeout 2m")
    play(f"export {stack}; transferlite cloud destroy --yes")
    for name in kept:
        subprocess.run(["aws", "s3", "rm", "--quiet", "--recursive", f"s3://{name}"], check=True)
