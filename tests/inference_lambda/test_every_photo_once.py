"""Many photos, some unusable, through a queue to functions that are killed at random, on an S3 that fails at random.

``TRANSFERLITE_TEST_EVENTS`` sets the number of photos (default 300).
"""

import json
import os
import random
import subprocess
import sys
import time
from collections import Counter, deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote_plus

import boto3
import pytest

from inference_lambda import handler
from inference_lambda.events.s3 import S3Photo
from inference_lambda.records.write_record import record_key
from tests.conftest import Trained
from tests.inference_lambda.queue_worker import FORBIDDEN
from tests.pictures import jpeg
from transferlite.storage.s3_boto3 import s3_client

ROOT = Path(__file__).parents[2]
PHOTOS = int(os.environ.get("TRANSFERLITE_TEST_EVENTS", "300"))
BAD, DUPLICATED, REFUSED = 0.05, 0.01, 0.03
DYING, SOON = 0.0015, 0.02
"""Share of calls before or after which a function dies: about 1 batch in 10 is interrupted; SOON is for the first."""
WORKERS = 3
MAX_QUEUED = 100
"""Most messages kept in a queue, as moto scans all of them for each call."""
VISIBLE_AGAIN = 5
"""Visibility timeout in seconds: after it, a message of a dead function is delivered again."""
MAX_RECEIVES = 20
INPUT, OUTPUT, CLEAN = "many-photos", "many-predictions", "many-clean"
NAMES = ("{}.jpg", "a b/{}.jpg", "a+b/{}.jpg", "100%/{}.jpg", "%2B/{}.jpg", "猫/é {}.jpg")
POISON = ["not JSON", json.dumps({"image": "AAAA"}), json.dumps({"Records": [{"s3": {}}]})]


@pytest.fixture
def clients(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Any, Any]]:
    """S3 and SQS clients of a moto server in a separate process."""
    command = [sys.executable, "-m", "tests.inference_lambda.queue_server"]
    server = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.stdout.readline().strip())
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        s3_client.cache_clear()
        yield s3_client(), boto3.client("sqs")
    finally:
        s3_client.cache_clear()
        server.kill()
        server.wait()


def queue(sqs: Any, name: str, **attributes: str) -> tuple[str, str]:
    """Create a queue; return its URL and ARN."""
    url = sqs.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    return url, arn


def take_all(sqs: Any, url: str) -> list[str]:
    """Remove all messages of a queue and return their bodies."""
    bodies: list[str] = []
    while received := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", []):
        bodies += [message["Body"] for message in received]
        entries = [{"Id": str(n), "ReceiptHandle": message["ReceiptHandle"]} for n, message in enumerate(received)]
        sqs.delete_message_batch(QueueUrl=url, Entries=entries)
    return bodies


def left(sqs: Any, url: str) -> int:
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    found = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
    return sum(int(found[name]) for name in names)


def send(sqs: Any, url: str, bodies: list[str]) -> None:
    for start in range(0, len(bodies), 10):
        entries = [{"Id": str(n), "MessageBody": body} for n, body in enumerate(bodies[start : start + 10])]
        sqs.send_message_batch(QueueUrl=url, Entries=entries)


def put_photos(s3: Any, sqs: Any, notifications: str, rng: random.Random) -> tuple[list[str], list[str]]:
    """Upload photos under awkward keys in random order: usable, unusable, and three that the function may not read.

    Returns their keys and the bodies of S3's notifications.
    """
    keys = [NAMES[number % len(NAMES)].format(number) for number in range(PHOTOS)]
    keys += [f"{FORBIDDEN}/{number}.jpg" for number in range(3)]
    rng.shuffle(keys)
    good = [jpeg(colour, number) for colour in ("blue", "red") for number in range(20)]
    bad = [b"", b"%PDF-1.7", good[0][:-9], good[0][:40]]
    bodies = []
    for number, key in enumerate(keys):
        s3.put_object(Bucket=INPUT, Key=key, Body=rng.choice(bad if rng.random() < BAD else good))
        if number % MAX_QUEUED == 0:
            bodies += take_all(sqs, notifications)
    bodies += take_all(sqs, notifications)
    return keys, [body for body in bodies if "s3:TestEvent" not in body]


class Workers:
    """Worker processes; each dead one is replaced. ``ended`` counts exit codes."""

    def __init__(self, url: str, log: Path) -> None:
        self.ended: Counter[int] = Counter()
        self._command = [sys.executable, "-m", "tests.inference_lambda.queue_worker", url]
        self._log = log
        self.errors = log.with_suffix(".errors")
        self._alive = [self._start() for _ in range(WORKERS)]

    def _start(self) -> subprocess.Popen[bytes]:
        """Start a worker. The first ones die soon, so that some die even with few photos."""
        number = self.ended.total()
        dying = DYING if number else SOON
        command = [*self._command, str(number), str(REFUSED), str(dying)]
        with self._log.open("ab") as log_file, self.errors.open("ab") as errors:
            return subprocess.Popen(command, cwd=ROOT, stdout=log_file, stderr=errors)

    def replace_dead(self) -> None:
        """Replace each dead worker."""
        for i, process in enumerate(self._alive):
            if process.poll() is not None:
                self.ended[process.returncode] += 1
                self._alive[i] = self._start()

    def stop(self) -> None:
        for process in self._alive:
            process.kill()
            process.wait()


def stored(s3: Any, bucket: str) -> dict[str, bytes]:
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket)
    keys = [item["Key"] for page in pages for item in page.get("Contents", ())]
    return {key: s3.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys}


def drain(sqs: Any, incoming: str, bodies: list[str], log: Path) -> tuple[Workers, float]:
    """Send all bodies and let workers, which die now and then, empty the queue; returns them and the seconds."""
    started, workers, to_send = time.monotonic(), Workers(incoming, log), deque(bodies)
    try:
        while to_send or left(sqs, incoming):
            assert time.monotonic() - started < 120 + PHOTOS
            if to_send and left(sqs, incoming) < MAX_QUEUED:
                send(sqs, incoming, [to_send.popleft() for _ in range(min(MAX_QUEUED, len(to_send)))])
            time.sleep(0.2)
            workers.replace_dead()
    finally:
        workers.stop()
    return workers, time.monotonic() - started


def test_every_photo_ends_with_one_record_as_in_a_clean_run(
    clients: tuple[Any, Any], trained: Trained, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    s3, sqs = clients
    rng = random.Random(PHOTOS)
    for name in (INPUT, OUTPUT, CLEAN):
        s3.create_bucket(Bucket=name)
    notifications, notifications_arn = queue(sqs, "notifications")
    dead, dead_arn = queue(sqs, "dead")
    redrive = json.dumps({"deadLetterTargetArn": dead_arn, "maxReceiveCount": MAX_RECEIVES})
    incoming, _ = queue(sqs, "incoming", VisibilityTimeout=str(VISIBLE_AGAIN), RedrivePolicy=redrive)
    notified = {"QueueConfigurations": [{"QueueArn": notifications_arn, "Events": ["s3:ObjectCreated:*"]}]}
    s3.put_bucket_notification_configuration(Bucket=INPUT, NotificationConfiguration=notified)
    keys, bodies = put_photos(s3, sqs, notifications, rng)
    assert len(bodies) == len(keys)
    bodies += rng.sample(bodies, max(int(DUPLICATED * len(bodies)), 1))
    rng.shuffle(bodies)
    bodies[len(bodies) // 2 : len(bodies) // 2] = POISON

    monkeypatch.setenv("TRANSFERLITE_REGISTRY", str(trained.registry))
    monkeypatch.setenv("TRANSFERLITE_OUTPUT_BUCKET", OUTPUT)
    log = tmp_path / "log"
    workers, took = drain(sqs, incoming, bodies, log)

    monkeypatch.setenv("TRANSFERLITE_OUTPUT_BUCKET", CLEAN)
    handler._service.cache_clear()
    for body in set(bodies) - set(POISON):
        if FORBIDDEN not in body:
            handler.lambda_handler(json.loads(body), None)
    handler._service.cache_clear()

    dead_letters = take_all(sqs, dead)
    named = {
        unquote_plus(json.loads(body)["Records"][0]["s3"]["object"]["key"])
        for body in dead_letters
        if body not in POISON
    }
    stored_records, clean = stored(s3, OUTPUT), stored(s3, CLEAN)
    log_words = Counter(log.read_text().split())
    errors = sum("error" in json.loads(data) for data in stored_records.values())
    print(
        f"\n{len(keys)} photos, {len(bodies)} messages in {log_words['batch']} batches, {took:.0f} s:"
        f" {len(stored_records)} records, {errors} of them errors; {log_words['refused']} calls refused,"
        f" {workers.ended[-9]} functions killed, {len(dead_letters)} dead letters"
    )
    assert set(stored_records) == {record_key(S3Photo(INPUT, key)) for key in keys if FORBIDDEN not in key}
    assert stored_records == clean
    assert sorted(body for body in dead_letters if body in POISON) == sorted(POISON)
    assert named == {key for key in keys if FORBIDDEN in key}
    assert errors > 0
    assert log_words["refused"] > 0
    assert set(workers.ended) == {-9}, workers.errors.read_text()[-2000:]
