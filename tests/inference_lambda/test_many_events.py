"""Many events in one process: a queue, an S3 that fails at random, and a function that dies between any two steps.

``TRANSFERLITE_TEST_EVENTS`` sets the number of photos (default 300). ``test_every_photo_once.py`` does the same, more
slowly, with real processes.
"""

import json
import os
import random
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

import pytest

from inference_lambda import handler, service
from inference_lambda.current_model import CurrentModel
from inference_lambda.events.s3 import S3Photo
from inference_lambda.handler import lambda_handler
from inference_lambda.observability import telemetry
from inference_lambda.records import photo_source
from inference_lambda.records.write_record import record_key
from tests.inference_lambda.colours import colour_predictor
from tests.inference_lambda.notifications import eventbridge, notification, through_sns
from tests.pictures import COLOURS, jpeg
from transferlite.errors import AccessDeniedError, UnavailableError
from transferlite.storage.store import Blob, Entry, MemoryStore

PHOTOS = int(os.environ.get("TRANSFERLITE_TEST_EVENTS", "300"))
BAD, REFUSED, TWICE = 0.05, 0.03, 0.01
KILLED = 0.01
"""Share of steps before or after which the function dies."""
BATCH, MAX_RECEIVES = 10, 20
NAMES = ("{}.jpg", "a b/{}.jpg", "a+b/{}.jpg", "100%/{}.jpg", "%2B/{}.jpg", "猫/é {}.jpg")
FORMS: tuple[Callable[[str, str], Any], ...] = (
    notification,
    eventbridge,
    lambda bucket, key: through_sns(notification(bucket, key)),
)


class Killed(BaseException):
    """Death of the function's process."""


class FlakyS3:
    """S3 that fails at random; ``counts`` has refused calls, deaths of the function and writes."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.counts: Counter[str] = Counter()
        self.stores: dict[str, FlakyStore] = {}
        self.calm = False

    def open_store(self, uri: str) -> "FlakyStore":
        return self.stores.setdefault(uri, FlakyStore(uri, self))

    def maybe_die(self) -> None:
        if not self.calm and self.random.random() < KILLED:
            self.counts["killed"] += 1
            raise Killed

    def maybe_refuse(self, key: str) -> None:
        if key.startswith("forbidden/"):
            raise AccessDeniedError("access denied")
        if not self.calm and self.random.random() < REFUSED:
            self.counts["refused"] += 1
            raise UnavailableError("S3 answered 503 SlowDown")


class FlakyStore(MemoryStore):
    """Bucket of this S3."""

    def __init__(self, uri: str, world: FlakyS3) -> None:
        super().__init__(uri)
        self._world = world

    def get(self, key: str, max_bytes: int | None = None) -> Blob:
        blob: Blob = self._step(key, lambda: super(FlakyStore, self).get(key, max_bytes))
        return blob

    def head(self, key: str) -> Entry:
        blob = self._step(key, lambda: super(FlakyStore, self).get(key))
        return Entry(key, len(blob.data), blob.etag)

    def put(self, key: str, data: bytes, *, if_absent: bool = False, if_match: str | None = None) -> str:
        def put() -> str:
            written = super(FlakyStore, self).put(key, data, if_absent=if_absent, if_match=if_match)
            self._world.counts["written"] += 1
            return written

        etag: str = self._step(key, put)
        return etag

    def _step(self, key: str, call: Callable[[], Any]) -> Any:
        self._world.maybe_die()
        self._world.maybe_refuse(key)
        result = call()
        self._world.maybe_die()
        return result


class Queue:
    """SQS with Lambda's event source: failed messages are delivered again, up to MAX_RECEIVES times."""

    def __init__(self, bodies: list[str]) -> None:
        self.waiting = deque((str(number), body, 0) for number, body in enumerate(bodies))
        self.dead: list[str] = []
        self.batches = 0

    def drain(self, world: FlakyS3) -> None:
        while self.waiting:
            taken = [self.waiting.popleft() for _ in range(min(BATCH, len(self.waiting)))]
            self.batches += 1
            failed = self._deliver(taken, world)
            for name, body, receives in taken:
                if name in failed and receives + 1 < MAX_RECEIVES:
                    self.waiting.insert(world.random.randrange(len(self.waiting) + 1), (name, body, receives + 1))
                elif name in failed:
                    self.dead.append(body)

    @staticmethod
    def _deliver(taken: list[tuple[str, str, int]], world: FlakyS3) -> set[str]:
        records = [{"messageId": name, "body": body, "eventSource": "aws:sqs"} for name, body, _ in taken]
        try:
            reply = lambda_handler({"Records": records}, None)
            world.maybe_die()  # the reply is lost
        except Killed:
            handler._service.cache_clear()
            return {name for name, _, _ in taken}
        return {failure["itemIdentifier"] for failure in reply["batchItemFailures"]}


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> FlakyS3:
    """S3 for photos and records, and a function whose model predicts colours."""
    made = FlakyS3(PHOTOS)
    monkeypatch.setenv("TRANSFERLITE_REGISTRY", "unused")
    for module in (service, photo_source):
        monkeypatch.setattr(module, "open_store", made.open_store)
    predictor = colour_predictor()
    monkeypatch.setattr(CurrentModel, "get", lambda *_: predictor)
    monkeypatch.setattr(telemetry.log, "disabled", True)
    return made


def fill(world: FlakyS3) -> list[str]:
    """Upload photos, 5% of them unusable, and 3 more that may not be read; return their keys."""
    good = [jpeg(colour, number) for colour in COLOURS for number in range(20)]
    bad = [b"", b"%PDF-1.7", good[0][:-9], good[0][:40]]
    keys = [NAMES[number % len(NAMES)].format(number) for number in range(PHOTOS)]
    keys += [f"forbidden/{number}.jpg" for number in range(3)]
    photos = MemoryStore()
    for key in keys:
        photos.put(key, world.random.choice(bad if world.random.random() < BAD else good))
    world.open_store("s3://photos")._objects = photos._objects
    return keys


def test_every_photo_has_one_record_as_in_a_clean_run(world: FlakyS3, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = fill(world)
    poison = ["not JSON", json.dumps({"image": "AAAA"}), json.dumps({"Records": [{"s3": {}}]})]
    bodies = [json.dumps(world.random.choice(FORMS)("photos", key)) for key in keys]
    bodies += world.random.sample(bodies, int(TWICE * PHOTOS)) + poison
    world.random.shuffle(bodies)

    monkeypatch.setenv("TRANSFERLITE_OUTPUT_BUCKET", "out")
    handler._service.cache_clear()
    queue = Queue(bodies)
    queue.drain(world)
    stormy, counts = dict(world.open_store("s3://out")._objects), Counter(world.counts)

    world.calm = True
    monkeypatch.setenv("TRANSFERLITE_OUTPUT_BUCKET", "clean")
    handler._service.cache_clear()
    Queue([body for body in bodies if body not in poison and "forbidden" not in body]).drain(world)
    handler._service.cache_clear()
    clean = dict(world.open_store("s3://clean")._objects)

    errors = sum("error" in json.loads(data) for data in stormy.values())
    print(
        f"\n{len(keys)} photos, {len(bodies)} messages in {queue.batches} batches: {counts['refused']} calls refused,"
        f" {counts['killed']} functions killed, {len(stormy)} records ({errors} errors) in {counts['written']} writes,"
        f" {len(queue.dead)} dead letters"
    )
    assert set(stormy) == {record_key(S3Photo("photos", key)) for key in keys if not key.startswith("forbidden/")}
    assert stormy == clean
    assert counts["written"] == len(stormy)  # no record was written twice, although messages were delivered again
    assert 0 < errors < len(keys) / 5
    assert min(counts["refused"], counts["killed"]) > 0
    assert not queue.waiting
    assert sorted(body for body in queue.dead if body in poison) == sorted(poison)
    others = [body for body in queue.dead if body not in poison]
    assert all("forbidden" in body for body in others)
    assert {body for body in bodies if "forbidden" in body} == set(others)
