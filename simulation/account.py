"""Simulated AWS account on moto's server: buckets, and a queue with dead-letter queue that S3 notifies of uploads."""

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

from simulation.faults import Faults, faulty_proxy
from transferlite.packaging.demo import local_s3
from transferlite.registry.open_registry import Registry
from transferlite.storage.s3_boto3 import s3_client

DATA, MODELS, PREDICTIONS = "sim-data", "sim-models", "sim-predictions"
REGISTRY = f"s3://{MODELS}/registry"
VISIBILITY_SECONDS = 4
MAX_RECEIVES = 12
"""Receives before a message moves to the dead-letter queue; enough that kills and faults never move a valid one."""


@dataclass
class Account:
    """Simulated account.

    Attributes:
        rng: decides everything random.
        environment: variables of processes in the account, whose S3 and SQS are behind the faulty proxy.
        queue_url: URL of the queue for new photos.
        dead_letter_url: URL of its dead-letter queue.
        usable: classes of the usable photos uploaded so far, by key.
        unusable: keys of the unusable files uploaded so far.
    """

    rng: random.Random
    environment: Mapping[str, str]
    queue_url: str
    dead_letter_url: str
    usable: dict[str, str] = field(default_factory=dict)
    unusable: set[str] = field(default_factory=set)

    @property
    def registry(self) -> Registry:
        """Registry, read without faults."""
        return Registry.open(REGISTRY)

    def put(self, key: str, data: bytes) -> None:
        """Put an object into the data bucket; S3 notifies the queue of keys below incoming/."""
        s3_client().put_object(Bucket=DATA, Key=key, Body=data)

    def read(self, key: str) -> bytes:
        """Read an object of the data bucket."""
        data: bytes = s3_client().get_object(Bucket=DATA, Key=key)["Body"].read()
        return data

    def upload(self, key: str, data: bytes, label: str | None) -> None:
        """Upload a photo to label; ``label`` is its class, None for an unusable file."""
        self.put(key, data)
        if label is None:
            self.unusable.add(key)
        else:
            self.usable[key] = label

    def repeat_event(self, key: str) -> None:
        """Send an upload's event again, as S3 sometimes does."""
        part = {"bucket": {"name": DATA}, "object": {"key": quote_plus(key, safe="/")}}
        event = {"Records": [{"eventSource": "aws:s3", "eventName": "ObjectCreated:Put", "s3": part}]}
        self.send(json.dumps(event))

    def send(self, text: str) -> None:
        """Send any message to the queue."""
        boto3.client("sqs").send_message(QueueUrl=self.queue_url, MessageBody=text)

    def count_messages(self) -> int:
        """Count the messages in the queue, including those that a worker has."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        response = boto3.client("sqs").get_queue_attributes(QueueUrl=self.queue_url, AttributeNames=names)
        return sum(int(value) for value in response["Attributes"].values())

    def dead_letters(self) -> list[str]:
        """Return the bodies of all messages in the dead-letter queue."""
        sqs = boto3.client("sqs")
        bodies: dict[str, str] = {}
        while messages := sqs.receive_message(QueueUrl=self.dead_letter_url, MaxNumberOfMessages=10).get("Messages"):
            bodies |= {message["MessageId"]: message["Body"] for message in messages}
        return list(bodies.values())

    def records(self) -> list[dict[str, Any]]:
        """Return every record in the prediction bucket."""
        pages = s3_client().get_paginator("list_objects_v2").paginate(Bucket=PREDICTIONS)
        keys = [item["Key"] for page in pages for item in page.get("Contents", [])]
        return [json.loads(s3_client().get_object(Bucket=PREDICTIONS, Key=key)["Body"].read()) for key in keys]


@contextmanager
def create_account(seed: int, faults: Faults) -> Iterator[Account]:
    """Create an account with empty buckets; it exists until the context ends."""
    with local_s3() as endpoint, faulty_proxy(endpoint, faults) as faulty_endpoint:
        reset = urllib.request.Request(f"{endpoint}/moto-api/reset", method="POST")
        urllib.request.urlopen(reset).close()  # all moto servers of a process share one account
        for bucket in (DATA, MODELS, PREDICTIONS):
            s3_client().create_bucket(Bucket=bucket)
        queue_url, dead_letter_url = _create_queues()
        environment = os.environ | {
            "AWS_ENDPOINT_URL": faulty_endpoint,
            "TRANSFERLITE_REGISTRY": REGISTRY,
            "TRANSFERLITE_OUTPUT_BUCKET": PREDICTIONS,
            "TRANSFERLITE_INPUTS": f"s3://{DATA}/incoming/",
            "TRANSFERLITE_REFRESH_SECONDS": "1",
        }
        yield Account(random.Random(seed), environment, queue_url, dead_letter_url)


def _create_queues() -> tuple[str, str]:
    """Create the queue that S3 notifies of new objects below incoming/, and its dead-letter queue; return both URLs."""
    sqs = boto3.client("sqs")
    dead_letter_url = sqs.create_queue(QueueName="sim-dead")["QueueUrl"]
    redrive = {"deadLetterTargetArn": _queue_arn(dead_letter_url), "maxReceiveCount": MAX_RECEIVES}
    attributes = {"VisibilityTimeout": str(VISIBILITY_SECONDS), "RedrivePolicy": json.dumps(redrive)}
    queue_url = sqs.create_queue(QueueName="sim-incoming", Attributes=attributes)["QueueUrl"]
    rules = [{"Name": "prefix", "Value": "incoming/"}]
    configuration = {
        "QueueArn": _queue_arn(queue_url),
        "Events": ["s3:ObjectCreated:*"],
        "Filter": {"Key": {"FilterRules": rules}},
    }
    s3_client().put_bucket_notification_configuration(
        Bucket=DATA, NotificationConfiguration={"QueueConfigurations": [configuration]}
    )
    time.sleep(0.1)
    return queue_url, dead_letter_url


def _queue_arn(url: str) -> str:
    response = boto3.client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
    return str(response["Attributes"]["QueueArn"])
