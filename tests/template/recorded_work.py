"""Run the jobs and the function as the template does, from first photo to second model, and record their AWS calls."""

import json
import re
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from moto.kms import utils as moto_kms

from inference_lambda import handler
from tests.pictures import jpeg
from tests.template import service_needs
from tests.template.policies import OUR_BUCKETS, Account
from tests.template.requests_made import Requests, record_requests
from tests.template.stack import transformed
from tests.train_job.small_backbones import share_built_backbones
from transferlite.cli.main import run
from transferlite.packaging.demo import local_s3
from transferlite.storage.s3_boto3 import s3_client


def put_photos(colours: str, numbers: range) -> None:
    """Upload photos of each colour, and the CSV file that labels every photo in the bucket."""
    s3, bucket = boto3.client("s3"), OUR_BUCKETS["DataBucket"]
    for name in [f"{colour}/{number}.jpg" for colour in colours.split() for number in numbers]:
        colour, _, number = name.removesuffix(".jpg").partition("/")
        s3.put_object(Bucket=bucket, Key=f"photos/{name}", Body=jpeg(colour, int(number)))
    items = s3.list_objects_v2(Bucket=bucket, Prefix="photos/")["Contents"]
    names = [item["Key"].removeprefix("photos/") for item in items]
    table = "\n".join(["File Name,Label", *(f"{name},{name.split('/')[0]}" for name in names)])
    s3.put_object(Bucket=bucket, Key="labels.csv", Body=table.encode())


def job_command(account: Account, state: str) -> list[str]:
    """Return the command of a state's job in an execution named ``one-run``."""
    overrides = service_needs.definition(account)["States"][state]["Parameters"]["ContainerOverrides"]
    if "Command" in overrides:
        return [str(word) for word in overrides["Command"]]
    text = overrides["Command.$"].removeprefix("States.Array(")
    text = text.replace("$$.Execution.Name", "'one-run'").replace("$.given.new_labels", "'0'")
    text = re.sub(r"States\.Format\('([^']*)', '([^']*)'\)", lambda match: f"'{match[1].format(match[2])}'", text)
    return re.findall(r"'([^']*)'", text)


@contextmanager
def as_role(role: str, **environment: str) -> Iterator[None]:
    """Sign every request with the role's own key until the context ends."""
    from inference_lambda.records.tags_events_lines import _events_client
    from train_job.data.load_photos import _open_bucket as open_photo_bucket

    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"AWS_ACCESS_KEY_ID": role, "AWS_REGION": "us-east-1", **environment}.items():
            patch.setenv(name, value)
        patch.setattr(boto3, "DEFAULT_SESSION", None)  # it keeps the first role's key
        for cached in (s3_client, open_photo_bucket, handler._service, _events_client):
            cached.cache_clear()
        yield
    for cached in (s3_client, open_photo_bucket, handler._service, _events_client):
        cached.cache_clear()


def train_twice(account: Account) -> None:
    """Plan, extract features and train; repeat with more photos and a warm start. Each training job runs twice."""
    job = account.properties("CpuJobDefinition")["ContainerProperties"]
    environment = {variable["Name"]: variable["Value"] for variable in job["Environment"]}
    small = ["--image-size", "64"]
    short = [*small, "--epochs", "3", "--variants", "float32", "--hidden-units", "8"]
    for numbers in (range(12), range(12, 14)):
        put_photos("blue red", numbers)
        with as_role("CheckJobRole"):
            assert run(job_command(account, "CheckData")) == 0
        with as_role("TrainingJobRole", **environment, AWS_BATCH_JOB_ARRAY_INDEX="0", AWS_BATCH_JOB_ARRAY_SIZE="2"):
            assert run([*job_command(account, "ExtractFeatures"), *small]) == 0
        more = ["--warm-start"] if numbers[0] else []
        for attempt in ("1", "2"):
            with as_role("TrainingJobRole", **environment, AWS_BATCH_JOB_ID="job", AWS_BATCH_JOB_ATTEMPT=attempt):
                assert run([*job_command(account, "Train"), *short, *more]) == 0


def label_photos(account: Account) -> None:
    """Label photos of SQS events twice, with and without version, then run a direct invocation and a drift check."""
    data, s3 = OUR_BUCKETS["DataBucket"], boto3.client("s3")
    s3.put_bucket_versioning(Bucket=data, VersioningConfiguration={"Status": "Enabled"})
    version = s3.put_object(Bucket=data, Key="incoming/a.jpg", Body=jpeg("red"))["VersionId"]
    s3.put_object(Bucket=data, Key="incoming/bad.jpg", Body=b"no photo")
    photos: list[dict[str, Any]] = [{"key": "incoming/a.jpg", "versionId": version}, {"key": "incoming/bad.jpg"}]
    s3_records = [{"eventSource": "aws:s3", "eventName": "ObjectCreated:Put", "eventVersion": "2.1"} for _ in photos]
    events = [
        record | {"s3": {"bucket": {"name": data}, "object": photo | {"sequencer": "0A", "size": 1, "eTag": "1"}}}
        for record, photo in zip(s3_records, photos, strict=True)
    ]
    records = [
        {"messageId": str(number), "eventSource": "aws:sqs", "body": json.dumps({"Records": [event]})}
        for number, event in enumerate(events)
    ]
    with as_role("InferenceRole", **account.properties("InferenceFunction")["Environment"]["Variables"]):
        for _ in range(2):  # SQS may deliver a message twice; the function then reads the existing record
            assert handler.lambda_handler({"Records": records}, None) == {"batchItemFailures": []}
        assert handler.lambda_handler({"s3": f"s3://{data}/incoming/a.jpg"}, None)["label"] == "red"
        (drift,) = handler.lambda_handler({"drift": {"since": "7d"}}, None)["models"]
        assert drift["photos"] == 1


def check_drift(account: Account) -> None:
    """Run the drift job with the schedule's command."""
    schedule_input = json.loads(account.properties("DriftSchedule")["Target"]["Input"])
    with as_role("DriftJobRole"):
        assert run(schedule_input["ContainerOverrides"]["Command"]) in {0, 3}


@contextmanager
def _reduced_work(folder: Path) -> Iterator[None]:
    def sign(self: Any, message: bytes, signing_algorithm: str) -> bytes:
        assert signing_algorithm == "ECDSA_SHA_256"
        return bytes(self.private_key.sign(message, ec.ECDSA(Prehashed(hashes.SHA256()))))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(moto_kms.ECDSAPrivateKey, "sign", sign)  # moto would hash the digest again
        patch.setattr("train_job.extraction.frozen_backbone.MAX_SMALL_PARTS", 1)
        patch.setattr("train_job.head.fit.SHORT_SECONDS", 0.0)  # so that checkpoints are saved
        patch.setattr(tempfile, "tempdir", str(folder))
        yield


def record_work(folder: Path) -> tuple[Account, Requests]:
    """Do all the work; return the account and the requests by role. ``folder`` is for temporary files."""
    with local_s3() as url, record_requests() as requests, _reduced_work(folder), share_built_backbones():
        reset = urllib.request.Request(f"{url}/moto-api/reset", method="POST")
        urllib.request.urlopen(reset).close()
        for bucket in OUR_BUCKETS.values():
            s3_client().create_bucket(Bucket=bucket)
        key = boto3.client("kms").create_key(KeyUsage="SIGN_VERIFY", KeySpec="ECC_NIST_P256")["KeyMetadata"]
        account = Account(transformed(), {"SigningKey": key["Arn"]})
        train_twice(account)
        label_photos(account)
        check_drift(account)
        urllib.request.urlopen(reset).close()
    return account, requests
