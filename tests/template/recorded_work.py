"""What our own code asks of AWS from a first photo to a second model and its predictions, as the template runs it."""

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
from tests.template.requests_made import Requests, requests_recorded
from tests.template.stack import transformed
from tests.train_job.small_backbones import share_built_backbones
from transferlite.cli.main import run
from transferlite.packaging.demo import local_s3
from transferlite.storage.s3_boto3 import s3_client


def put_photos(colours: str, numbers: range) -> None:
    """Photos of each colour, and the table that labels every photo there is."""
    s3, bucket = boto3.client("s3"), OUR_BUCKETS["DataBucket"]
    for name in [f"{colour}/{number}.jpg" for colour in colours.split() for number in numbers]:
        colour, _, number = name.removesuffix(".jpg").partition("/")
        s3.put_object(Bucket=bucket, Key=f"photos/{name}", Body=jpeg(colour, int(number)))
    found = s3.list_objects_v2(Bucket=bucket, Prefix="photos/")["Contents"]
    names = [one["Key"].removeprefix("photos/") for one in found]
    table = "\n".join(["File Name,Label", *(f"{name},{name.split('/')[0]}" for name in names)])
    s3.put_object(Bucket=bucket, Key="labels.csv", Body=table.encode())


def command(account: Account, state: str) -> list[str]:
    """What the state machine has a job run, of an execution that is named ``one-run``."""
    overrides = service_needs.definition(account)["States"][state]["Parameters"]["ContainerOverrides"]
    if "Command" in overrides:
        return [str(word) for word in overrides["Command"]]
    text = overrides["Command.$"].removeprefix("States.Array(")
    text = text.replace("$$.Execution.Name", "'one-run'").replace("$.given.new_labels", "'0'")
    text = re.sub(r"States\.Format\('([^']*)', '([^']*)'\)", lambda found: f"'{found[1].format(found[2])}'", text)
    return re.findall(r"'([^']*)'", text)


@contextmanager
def as_role(role: str, **environment: str) -> Iterator[None]:
    """Meanwhile, every request is signed with the role's own key."""
    from train_job.data.load_photos import _open_bucket as of_job

    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"AWS_ACCESS_KEY_ID": role, "AWS_REGION": "us-east-1", **environment}.items():
            patch.setenv(name, value)
        for cached in (s3_client, of_job, handler._service):
            cached.cache_clear()
        yield
    for cached in (s3_client, of_job, handler._service):
        cached.cache_clear()


def train_twice(account: Account) -> None:
    """Plan, rows, training; then more photos, a warm start, a merge of small parts; and attempts that come too late."""
    job = account.properties("CpuJobDefinition")["ContainerProperties"]
    environment = {one["Name"]: one["Value"] for one in job["Environment"]}
    small = ["--image-size", "64"]
    short = [*small, "--epochs", "3", "--variants", "float32", "--hidden-units", "8"]
    for numbers in (range(12), range(12, 14)):
        put_photos("blue red", numbers)
        with as_role("CheckJobRole"):
            assert run(command(account, "CheckData")) == 0
        with as_role("TrainingJobRole", **environment, AWS_BATCH_JOB_ARRAY_INDEX="0", AWS_BATCH_JOB_ARRAY_SIZE="2"):
            assert run([*command(account, "ExtractFeatures"), *small]) == 0
        more = ["--warm-start"] if numbers[0] else []
        for attempt in ("1", "2"):
            with as_role("TrainingJobRole", **environment, AWS_BATCH_JOB_ID="job", AWS_BATCH_JOB_ATTEMPT=attempt):
                assert run([*command(account, "Train"), *short, *more]) == 0


def label(account: Account) -> None:
    """Photos of an event, with and without a version, twice each, and a photo that a caller names."""
    data, s3 = OUR_BUCKETS["DataBucket"], boto3.client("s3")
    s3.put_bucket_versioning(Bucket=data, VersioningConfiguration={"Status": "Enabled"})
    version = s3.put_object(Bucket=data, Key="incoming/a.jpg", Body=jpeg("red"))["VersionId"]
    s3.put_object(Bucket=data, Key="incoming/bad.jpg", Body=b"no photo")
    photos: list[dict[str, Any]] = [{"key": "incoming/a.jpg", "versionId": version}, {"key": "incoming/bad.jpg"}]
    written = [{"eventSource": "aws:s3", "eventName": "ObjectCreated:Put", "eventVersion": "2.1"} for _ in photos]
    events = [
        one | {"s3": {"bucket": {"name": data}, "object": photo | {"sequencer": "0A", "size": 1, "eTag": "1"}}}
        for one, photo in zip(written, photos, strict=True)
    ]
    records = [
        {"messageId": str(number), "eventSource": "aws:sqs", "body": json.dumps({"Records": [event]})}
        for number, event in enumerate(events)
    ]
    with as_role("InferenceRole", **account.properties("InferenceFunction")["Environment"]["Variables"]):
        for _ in range(2):  # a queue may hand a message over twice: then the record that is there is read
            assert handler.lambda_handler({"Records": records}, None) == {"batchItemFailures": []}
        assert handler.lambda_handler({"s3": f"s3://{data}/incoming/a.jpg"}, None)["label"] == "red"
        (found,) = handler.lambda_handler({"drift": {"since": "7d"}}, None)["models"]
        assert found["photos"] == 1


def look_for_drift(account: Account) -> None:
    """As the schedule has it done."""
    given = json.loads(account.properties("DriftSchedule")["Target"]["Input"])
    with as_role("DriftJobRole"):
        assert run(given["ContainerOverrides"]["Command"]) in {0, 3}


@contextmanager
def _small_and_quick(folder: Path) -> Iterator[None]:
    def sign(self: Any, message: bytes, signing_algorithm: str) -> bytes:
        assert signing_algorithm == "ECDSA_SHA_256"
        return bytes(self.private_key.sign(message, ec.ECDSA(Prehashed(hashes.SHA256()))))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(moto_kms.ECDSAPrivateKey, "sign", sign)  # moto hashes a digest once more
        patch.setattr("train_job.extraction.frozen_backbone.MAX_SMALL_PARTS", 1)
        patch.setattr("train_job.head.fit.SHORT_SECONDS", 0.0)  # so that a state is saved
        patch.setattr(tempfile, "tempdir", str(folder))
        yield


def work_recorded(folder: Path) -> tuple[Account, Requests]:
    """The account, and what was asked for in it by each role of ours; ``folder`` is for what is written meanwhile."""
    with local_s3() as url, requests_recorded() as requests, _small_and_quick(folder), share_built_backbones():
        reset = urllib.request.Request(f"{url}/moto-api/reset", method="POST")
        urllib.request.urlopen(reset).close()
        for bucket in OUR_BUCKETS.values():
            s3_client().create_bucket(Bucket=bucket)
        key = boto3.client("kms").create_key(KeyUsage="SIGN_VERIFY", KeySpec="ECC_NIST_P256")["KeyMetadata"]
        account = Account(transformed(), {"SigningKey": key["Arn"]})
        train_twice(account)
        label(account)
        look_for_drift(account)
        urllib.request.urlopen(reset).close()
    return account, requests
