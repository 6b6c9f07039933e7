"""The simulated account: buckets, a queue with dead letters, uploads that notify it, on moto's server behind faults."""

import json
import os
import random
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote_plus

import boto3

from simulation.faults import Faults, faulty
from transferlite.packaging.demo import local_s3
from transferlite.registry.open_registry import Registry
from transferlite.storage.s3_boto3 import s3_client

DATA, MODELS, PREDICTIONS = "sim-data", "sim-models", "sim-predictions"
REGISTRY = f"s3://{MODELS}/registry"
VISIBILITY_SECONDS = 4
RECEIVES = 12
"""A message that was received so often goes to the dead letters: kills and faults must not make a good one do so."""


@dataclass
class World:
    """The account, and what was put into it.

    Attributes:
        chance: decides what happens when.
        environment: of the processes that live in it; their S3 is the faulty one.
        queue: the URL of the queue of new photos.
        dead: the URL of its dead letters.
        good: keys of usable photos that were uploaded, with their class.
        bad: keys of unusable ones.
    """

    chance: random.Random
    environment: Mapping[str, str]
    queue: str
    dead: str
    good: dict[str, str] = field(default_factory=dict)
    bad: set[str] = field(default_factory=set)

    @property
    def registry(self) -> Registry:
        """The registry, without faults."""
        return Registry.open(REGISTRY)

    def put(self, key: str, data: bytes) -> None:
        """Put an object into the data bucket; below incoming/ S3 notifies the queue."""
        s3_client().put_object(Bucket=DATA, Key=key, Body=data)

    def read(self, key: str) -> bytes:
        """An object of the data bucket."""
        data: bytes = s3_client().get_object(Bucket=DATA, Key=key)["Body"].read()
        return data

    def upload(self, key: str, data: bytes, label: str | None) -> None:
        """A new photo to answer; ``label`` is None for one that cannot be used."""
        self.put(key, data)
        if label is None:
            self.bad.add(key)
        else:
            self.good[key] = label

    def repeat(self, key: str) -> None:
        """The same event again, as S3 delivers some twice."""
        name = {"bucket": {"name": DATA}, "object": {"key": quote_plus(key, safe="/")}}
        event = {"Records": [{"eventSource": "aws:s3", "eventName": "ObjectCreated:Put", "s3": name}]}
        self.send(json.dumps(event))

    def send(self, text: str) -> None:
        """A message of any kind."""
        boto3.client("sqs").send_message(QueueUrl=self.queue, MessageBody=text)

    def waiting(self) -> int:
        """Messages in the queue, seen by a worker or not."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        found = boto3.client("sqs").get_queue_attributes(QueueUrl=self.queue, AttributeNames=names)["Attributes"]
        return sum(int(value) for value in found.values())

    def dead_letters(self) -> list[str]:
        """The bodies of all dead letters."""
        sqs = boto3.client("sqs")
        bodies: dict[str, str] = {}
        while messages := sqs.receive_message(QueueUrl=self.dead, MaxNumberOfMessages=10).get("Messages"):
            bodies |= {one["MessageId"]: one["Body"] for one in messages}
        return list(bodies.values())

    def records(self) -> list[dict[str, Any]]:
        """Every record in the predictions' bucket."""
        pages = s3_client().get_paginator("list_objects_v2").paginate(Bucket=PREDICTIONS)
        keys = [one["Key"] for page in pages for one in page.get("Contents", [])]
        return [json.loads(s3_client().get_object(Bucket=PREDICTIONS, Key=key)["Body"].read()) for key in keys]


@contextmanager
def new_world(seed: int, faults: Faults) -> Iterator[World]:
    """An account with empty buckets, until the context ends."""
    with local_s3() as endpoint, faulty(endpoint, faults) as bad_day:
        reset = urllib.request.Request(f"{endpoint}/moto-api/reset", method="POST")
        urllib.request.urlopen(reset).close()  # moto's servers of one process are one account
        for bucket in (DATA, MODELS, PREDICTIONS):
            s3_client().create_bucket(Bucket=bucket)
        queue, dead = _queues()
        environment = os.environ | {
            "AWS_ENDPOINT_URL": bad_day,
            "TRANSFERLITE_REGISTRY": REGISTRY,
            "TRANSFERLITE_OUTPUT_BUCKET": PREDICTIONS,
            "TRANSFERLITE_INPUTS": f"s3://{DATA}/incoming/",
            "TRANSFERLITE_REFRESH_SECONDS": "1",
        }
        yield World(random.Random(seed), environment, queue, dead)


def _queues() -> tuple[str, str]:
    """A queue of what is new below incoming/ in the data bucket, and its dead letters; returns their URLs."""
    sqs = boto3.client("sqs")
    dead = sqs.create_queue(QueueName="sim-dead")["QueueUrl"]
    redrive = {"deadLetterTargetArn": _arn(dead), "maxReceiveCount": RECEIVES}
    attributes = {"VisibilityTimeout": str(VISIBILITY_SECONDS), "RedrivePolicy": json.dumps(redrive)}
    queue = sqs.create_queue(QueueName="sim-incoming", Attributes=attributes)["QueueUrl"]
    rules = [{"Name": "prefix", "Value": "incoming/"}]
    wanted = {"QueueArn": _arn(queue), "Events": ["s3:ObjectCreated:*"], "Filter": {"Key": {"FilterRules": rules}}}
    s3_client().put_bucket_notification_configuration(
        Bucket=DATA, NotificationConfiguration={"QueueConfigurations": [wanted]}
    )
    time.sleep(0.1)
    return queue, dead


def _arn(queue: str) -> str:
    found = boto3.client("sqs").get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])
    return str(found["Attributes"]["QueueArn"])
