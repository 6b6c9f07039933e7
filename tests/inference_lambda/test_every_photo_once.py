"""Many photos, some bad, through a queue to functions that are killed at random, on an S3 that fails at times.

300 photos by default; ``TRANSFERLITE_TEST_EVENTS=10000`` for as many.
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
from inference_lambda.records.prediction_record import record_key
from tests.conftest import Trained
from tests.inference_lambda.queue_worker import FORBIDDEN
from tests.pictures import jpeg
from transferlite.storage.s3_boto3 import s3_client

ROOT = Path(__file__).parents[2]
PHOTOS = int(os.environ.get("TRANSFERLITE_TEST_EVENTS", "300"))
BAD, DUPLICATED, REFUSED = 0.05, 0.01, 0.03
DYING, SOON = 0.0015, 0.02
"""The share of all calls before and after which a function dies: about one batch in ten is cut by it."""
WORKERS = 3
SOME = 100
"""Messages that wait in a queue at most about so many: moto looks at all of them for each."""
VISIBLE_AGAIN = 5
"""Seconds after which a message that a dead function had taken is handed over again."""
MOST_RECEIVES = 20
INPUT, OUTPUT, CLEAN = "many-photos", "many-predictions", "many-clean"
NAMES = ("{}.jpg", "a b/{}.jpg", "a+b/{}.jpg", "100%/{}.jpg", "%2B/{}.jpg", "猫/é {}.jpg")
POISON = ["not JSON", json.dumps({"image": "AAAA"}), json.dumps({"Records": [{"s3": {}}]})]


@pytest.fixture
def clients(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Any, Any]]:
    """S3 and SQS, served by moto in a process of its own."""
    words = [sys.executable, "-m", "tests.inference_lambda.queue_server"]
    server = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True)
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
    """A new queue's URL and ARN."""
    url = sqs.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    return url, arn


def taken(sqs: Any, url: str) -> list[str]:
    """The bodies of all messages of a queue, which is empty then."""
    bodies: list[str] = []
    while received := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", []):
        bodies += [one["Body"] for one in received]
        entries = [{"Id": str(n), "ReceiptHandle": one["ReceiptHandle"]} for n, one in enumerate(received)]
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


def put_photos(s3: Any, sqs: Any, told: str, chance: random.Random) -> tuple[list[str], list[str]]:
    """Photos under awkward keys, in random order: good ones, bad ones, and three that may not be read.

    The values are their keys, and the messages in which S3 told of them.
    """
    keys = [NAMES[number % len(NAMES)].format(number) for number in range(PHOTOS)]
    keys += [f"{FORBIDDEN}/{number}.jpg" for number in range(3)]
    chance.shuffle(keys)
    good = [jpeg(colour, number) for colour in ("blue", "red") for number in range(20)]
    bad = [b"", b"%PDF-1.7", good[0][:-9], good[0][:40]]
    bodies = []
    for number, key in enumerate(keys):
        s3.put_object(Bucket=INPUT, Key=key, Body=chance.choice(bad if chance.random() < BAD else good))
        if number % SOME == 0:
            bodies += taken(sqs, told)
    bodies += taken(sqs, told)
    return keys, [body for body in bodies if "s3:TestEvent" not in body]


class Workers:
    """Functions at work, one started anew for each that died; ``ended`` counts how they did."""

    def __init__(self, url: str, log: Path) -> None:
        self.ended: Counter[int] = Counter()
        self._words = [sys.executable, "-m", "tests.inference_lambda.queue_worker", url]
        self._log = log
        self.errors = log.with_suffix(".errors")
        self._alive = [self._started() for _ in range(WORKERS)]

    def _started(self) -> subprocess.Popen[bytes]:
        """A new one. The first ones do not live long, so that some die however few photos there are."""
        number = self.ended.total()
        dying = DYING if number else SOON
        words = [*self._words, str(number), str(REFUSED), str(dying)]
        with self._log.open("ab") as told, self.errors.open("ab") as errors:
            return subprocess.Popen(words, cwd=ROOT, stdout=told, stderr=errors)

    def revive(self) -> None:
        """Start a new one for each that died."""
        for place, process in enumerate(self._alive):
            if process.poll() is not None:
                self.ended[process.returncode] += 1
                self._alive[place] = self._started()

    def stop(self) -> None:
        for process in self._alive:
            process.kill()
            process.wait()


def stored(s3: Any, bucket: str) -> dict[str, bytes]:
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket)
    keys = [one["Key"] for page in pages for one in page.get("Contents", ())]
    return {key: s3.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys}


def test_every_photo_ends_with_one_record_as_in_a_clean_run(
    clients: tuple[Any, Any], trained: Trained, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    s3, sqs = clients
    chance = random.Random(PHOTOS)
    for name in (INPUT, OUTPUT, CLEAN):
        s3.create_bucket(Bucket=name)
    told, told_arn = queue(sqs, "told")
    dead, dead_arn = queue(sqs, "dead")
    redrive = json.dumps({"deadLetterTargetArn": dead_arn, "maxReceiveCount": MOST_RECEIVES})
    incoming, _ = queue(sqs, "incoming", VisibilityTimeout=str(VISIBLE_AGAIN), RedrivePolicy=redrive)
    notified = {"QueueConfigurations": [{"QueueArn": told_arn, "Events": ["s3:ObjectCreated:*"]}]}
    s3.put_bucket_notification_configuration(Bucket=INPUT, NotificationConfiguration=notified)
    keys, bodies = put_photos(s3, sqs, told, chance)
    assert len(bodies) == len(keys)
    bodies += chance.sample(bodies, max(int(DUPLICATED * len(bodies)), 1))
    chance.shuffle(bodies)
    bodies[len(bodies) // 2 : len(bodies) // 2] = POISON

    monkeypatch.setenv("TRANSFERLITE_REGISTRY", str(trained.registry))
    monkeypatch.setenv("TRANSFERLITE_OUTPUT_BUCKET", OUTPUT)
    log, begun = tmp_path / "log", time.monotonic()
    workers = Workers(incoming, log)
    try:
        to_send = deque(bodies)
        while to_send or left(sqs, incoming):
            assert time.monotonic() - begun < 120 + PHOTOS
            if to_send and left(sqs, incoming) < SOME:
                send(sqs, incoming, [to_send.popleft() for _ in range(min(SOME, len(to_send)))])
            time.sleep(0.2)
            workers.revive()
    finally:
        workers.stop()
    took = time.monotonic() - begun

    monkeypatch.setenv("TRANSFERLITE_OUTPUT_BUCKET", CLEAN)
    handler._service.cache_clear()
    for body in set(bodies) - set(POISON):
        if FORBIDDEN not in body:
            handler.lambda_handler(json.loads(body), None)
    handler._service.cache_clear()

    letters = taken(sqs, dead)
    named = {unquote_plus(json.loads(one)["Records"][0]["s3"]["object"]["key"]) for one in letters if one not in POISON}
    found, clean = stored(s3, OUTPUT), stored(s3, CLEAN)
    words = Counter(log.read_text().split())
    errors = sum("error" in json.loads(data) for data in found.values())
    print(
        f"\n{len(keys)} photos, {len(bodies)} messages in {words['batch']} batches, {took:.0f} s: {len(found)} records,"
        f" {errors} of them errors; {words['refused']} calls refused, {workers.ended[-9]} functions killed,"
        f" {len(letters)} dead letters"
    )
    assert set(found) == {record_key(S3Photo(INPUT, key)) for key in keys if FORBIDDEN not in key}
    assert found == clean
    assert sorted(one for one in letters if one in POISON) == sorted(POISON)
    assert named == {key for key in keys if FORBIDDEN in key}
    assert errors > 0
    assert words["refused"] > 0
    assert set(workers.ended) == {-9}, workers.errors.read_text()[-2000:]
