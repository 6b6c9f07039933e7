"""The handler under AWS's own runtime client, in a separate process that gets events from a local Runtime API."""

import base64
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.conftest import BUCKET, Trained
from tests.inference_lambda.models import publish
from tests.inference_lambda.pausable_proxy import PausableProxy
from tests.inference_lambda.runtime_api import Function, deliver, drain
from tests.pictures import jpeg
from transferlite import Predictor

PHOTO = jpeg("red", 7)
DIRECT = {"image": base64.b64encode(PHOTO).decode()}


@pytest.fixture
def registry(trained: Trained, tmp_path: Path) -> str:
    return publish(str(tmp_path / "registry"), trained, "one").store.uri


@pytest.fixture
def function(registry: str) -> Iterator[Function]:
    with Function({"TRANSFERLITE_REGISTRY": registry}) as function:
        yield function


def test_cold_and_warm_predictions_equal_the_predictors(function: Function, trained: Trained) -> None:
    expected = Predictor.load(trained.bundle)(PHOTO).to_dict() | {"model_id": "one"}
    cold, warm = function.invoke(DIRECT), function.invoke(DIRECT)
    assert (cold.cold, cold.error, warm.cold, warm.error) == (True, None, False, None)
    assert cold.init_seconds > 0 == warm.init_seconds
    for result in (cold, warm):
        assert result.payload["score"] == pytest.approx(expected["score"], abs=1e-5)
        assert {**result.payload, "score": 0, "top": 0} == {**expected, "score": 0, "top": 0}


def test_an_error_is_returned_and_the_process_stays_alive(function: Function) -> None:
    first = function.invoke({"nonsense": 1})
    assert first.error is not None
    assert first.error["errorType"] == "InputError"
    assert "unknown event with the keys ['nonsense']" in first.error["errorMessage"]
    assert function.invoke({"image": base64.b64encode(b"no photo").decode()}).payload["error"]["code"] == "not-image"
    good = function.invoke(DIRECT)
    assert (good.payload["label"], good.cold) == ("red", False)


def test_invalid_settings_fail_the_invocation_without_a_crash_loop() -> None:
    with Function({}) as function:
        for cold in (True, False):
            result = function.invoke(DIRECT)
            assert result.error is not None
            assert "TRANSFERLITE_REGISTRY is not set" in result.error["errorMessage"]
            assert result.cold is cold


def test_a_handler_that_cannot_be_imported_fails_initialisation(registry: str) -> None:
    command = [sys.executable, "-m", "awslambdaric", "inference_lambda.no_such.handler"]
    with Function({"TRANSFERLITE_REGISTRY": registry}, command) as function:
        for _ in range(2):
            result = function.invoke(DIRECT)
            assert result.error is not None
            assert (result.error["errorType"], result.cold) == ("Runtime.ImportModuleError", True)


def test_a_dead_process_is_restarted(function: Function) -> None:
    assert function.invoke(DIRECT).error is None
    os.kill(function.pid, signal.SIGSTOP)
    os.kill(function.pid, signal.SIGKILL)
    again = [function.invoke(DIRECT) for _ in range(2)]
    assert again[-1].payload["label"] == "red"


@pytest.fixture
def gate(s3_server: str, bucket: Any) -> Iterator[PausableProxy]:
    gate = PausableProxy(s3_server)
    gate.open.set()
    yield gate
    gate.close()


BATCH, RECEIVES = 10, 5
"""Batch size and receive count of the template."""
KEYS = ("in/ein Hund+100% 猫 é.jpg", "in/plain.jpg", "in/a=b&c/1.jpg")


@pytest.fixture
def photos(bucket: Any, s3_server: str, trained: Trained) -> str:
    """Registry and photos in S3; returns the URL of the queue that S3 notifies of new photos below ``in/``."""
    publish(f"s3://{BUCKET}/registry", trained, "one")
    sqs = boto3.client("sqs", endpoint_url=s3_server)
    url = str(sqs.create_queue(QueueName="photos", Attributes={"VisibilityTimeout": "0"})["QueueUrl"])
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    rules = {"Key": {"FilterRules": [{"Name": "prefix", "Value": "in/"}]}}
    queues = [{"QueueArn": arn, "Events": ["s3:ObjectCreated:*"], "Filter": rules}]
    bucket.put_bucket_notification_configuration(
        Bucket=BUCKET, NotificationConfiguration={"QueueConfigurations": queues}
    )
    bucket.create_bucket(Bucket="predictions")
    for key in KEYS:
        bucket.put_object(Bucket=BUCKET, Key=key, Body=PHOTO)
    bucket.put_object(Bucket=BUCKET, Key="in/broken.jpg", Body=b"no photo")
    return url


def environment(endpoint: str) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "TRANSFERLITE_REGISTRY": f"s3://{BUCKET}/registry",
        "TRANSFERLITE_OUTPUT_BUCKET": "predictions",
        "TRANSFERLITE_INPUTS": f"s3://{BUCKET}/in/",
    }


def records(bucket: Any) -> dict[str, str]:
    """Return each record's label or error code, by the record's key."""
    listed = bucket.list_objects_v2(Bucket="predictions").get("Contents", ())
    bodies = {item["Key"]: bucket.get_object(Bucket="predictions", Key=item["Key"])["Body"].read() for item in listed}
    read = {key: json.loads(body) for key, body in bodies.items()}
    return {key: record.get("label") or record["error"]["code"] for key, record in read.items()}


EXPECTED = {f"predictions/{BUCKET}/{key}.json": "red" for key in KEYS}
EXPECTED[f"predictions/{BUCKET}/in/broken.jpg.json"] = "not-image"


def left(sqs: Any, url: str) -> int:
    return int(
        sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]["ApproximateNumberOfMessages"]
    )


def test_photos_of_queued_notifications_are_labelled_and_the_queue_is_emptied(
    photos: str, bucket: Any, s3_server: str
) -> None:
    sqs = boto3.client("sqs", endpoint_url=s3_server)
    with Function(environment(s3_server)) as function:
        results = drain(sqs, photos, function)
    assert [result.error for result in results] == [None] * len(results)
    assert [result.cold for result in results] == [True] + [False] * (len(results) - 1)
    assert records(bucket) == EXPECTED
    assert left(sqs, photos) == 0


def test_photos_whose_storage_stalls_are_labelled_later_by_the_same_process(
    photos: str, bucket: Any, s3_server: str, gate: PausableProxy
) -> None:
    sqs = boto3.client("sqs", endpoint_url=s3_server)
    with Function(environment(gate.endpoint), timeout=4.0) as function:
        function.start()
        process = function.pid
        gate.open.clear()
        late = deliver(sqs, photos, function)
        assert late is not None
        assert late.error is None
        assert len(late.payload["batchItemFailures"]) == len(KEYS) + 1
        assert records(bucket) == {}
        gate.open.set()
        function.timeout = 60.0
        again = drain(sqs, photos, function)
        assert (again[0].cold, function.pid) == (False, process)
    assert records(bucket) == EXPECTED
    assert left(sqs, photos) == 0


def test_an_allocation_beyond_the_size_of_the_function_is_an_error_of_the_photo(registry: str) -> None:
    with Function({"TRANSFERLITE_REGISTRY": registry}, memory=512) as function:
        function.start()
        limits = Path(f"/proc/{function.pid}/limits").read_text()
        assert f"Max data size             {512 * 2**20} " in limits
        assert function.invoke(DIRECT).payload["label"] == "red"


POISONED_START = """
import os
from transferlite.images import decoder
original = decoder._open_image
def poisoned(data):
    if b"POISON" in data:
        os.kill(os.getpid(), 9)
    return original(data)
decoder._open_image = poisoned
"""


def test_a_photo_that_kills_the_process_alone_becomes_a_dead_letter(
    photos: str, bucket: Any, s3_server: str, tmp_path: Path
) -> None:
    sqs = boto3.client("sqs", endpoint_url=s3_server)
    drain_unread(sqs, photos)
    dead = sqs.create_queue(QueueName="dead")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    redrive = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": RECEIVES})
    sqs.set_queue_attributes(QueueUrl=photos, Attributes={"RedrivePolicy": redrive})
    for number in range(BATCH - 1):
        bucket.put_object(Bucket=BUCKET, Key=f"in/{number}.jpg", Body=PHOTO)
    bucket.put_object(Bucket=BUCKET, Key="in/poison.jpg", Body=PHOTO + b"POISON")
    (tmp_path / "sitecustomize.py").write_text(POISONED_START)
    folders = {"PYTHONPATH": str(tmp_path), "TMPDIR": str(tmp_path)}
    with Function(environment(s3_server) | folders) as function:
        results = drain(sqs, photos, function, BATCH)
        log = function.log
    errors = [result.error["errorType"] for result in results if result.error is not None]
    assert errors == ["Runtime.ExitError"], log
    labelled = {f"predictions/{BUCKET}/in/{number}.jpg.json" for number in range(BATCH - 1)}
    assert set(records(bucket)) == labelled
    (letter,) = sqs.receive_message(QueueUrl=dead, MaxNumberOfMessages=10)["Messages"]
    assert "in%2Fpoison.jpg" in letter["Body"]


def drain_unread(sqs: Any, url: str) -> None:
    while received := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
        for message in received:
            sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])


# -- before the first event --------------------------------------------------------------------------------------------


def test_the_model_is_loaded_before_the_first_event(function: Function, registry: str) -> None:
    function.start()
    shutil.rmtree(registry)
    result = function.invoke(DIRECT)
    assert (result.payload["label"], result.cold) == ("red", False)


def test_a_model_missing_at_start_is_loaded_by_the_first_event(trained: Trained, tmp_path: Path) -> None:
    with Function({"TRANSFERLITE_REGISTRY": str(tmp_path / "registry")}) as function:
        function.start()
        assert '"event": "not-ready"' in function.log
        publish(str(tmp_path / "registry"), trained, "one")
        result = function.invoke(DIRECT)
        assert (result.payload["label"], result.cold) == ("red", False)


def test_a_resumed_snapshot_has_the_model_and_follows_the_channel(
    s3_server: str, bucket: Any, trained: Trained
) -> None:
    opened = publish(f"s3://{BUCKET}/registry", trained, "two", "one")
    snapshot = {"AWS_LAMBDA_INITIALIZATION_TYPE": "snap-start", "TRANSFERLITE_REFRESH_SECONDS": "3600"}
    with Function(environment(s3_server) | snapshot) as function:
        function.start()
        assert '"event": "not-ready"' not in function.log
        opened.promote("two", "production")
        assert function.invoke(DIRECT).payload["model_id"] == "two"
        opened.promote("one", "production")
        assert function.invoke(DIRECT).payload["model_id"] == "two"  # the pointer is cached for an hour


def test_importing_the_handler_loads_no_inference_library() -> None:
    code = "import sys, inference_lambda.handler; print({'numpy', 'PIL', 'boto3', 'obstore'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "set()\n", done.stderr
