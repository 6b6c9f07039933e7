import itertools
import json
import random
from typing import Any

import pytest

from inference_lambda.events.s3 import S3Photo
from inference_lambda.records.prediction_record import MOST_KEY_BYTES, record_key, write_record
from transferlite.errors import ConflictError, UnavailableError
from transferlite.storage.store import Blob, MemoryStore

KEY = record_key(S3Photo("b", "cat.jpg"))


def record(etag: str | None = "e1", model: str = "m1", **more: Any) -> dict[str, Any]:
    seen = {} if etag is None else {"etag": etag}
    return {"image": "s3://b/cat.jpg", **seen, "model_id": model, "label": "cat", **more}


def write(store: MemoryStore, one: dict[str, Any], current: bool = True) -> dict[str, Any] | None:
    return write_record(store, KEY, one, lambda: current)


def stored(store: MemoryStore) -> Any:
    return json.loads(store.get(KEY).data)


class CountingStore(MemoryStore):
    """A store that counts the writes that were done."""

    written = 0

    def put(self, key: str, data: bytes, *, if_absent: bool = False, if_match: str | None = None) -> str:
        etag = super().put(key, data, if_absent=if_absent, if_match=if_match)
        self.written += 1
        return etag


# -- where a record is -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("photo", "key"),
    [
        (S3Photo("b", "a/cat.jpg"), "predictions/b/a/cat.jpg.json"),
        (S3Photo("b", "a/cat.jpg", "v1"), "predictions/b/a/cat.jpg@v1.json"),
        (S3Photo("b", "ein Hund+100% 猫.jpg"), "predictions/b/ein Hund+100% 猫.jpg.json"),
        (S3Photo("b", "/cat.jpg"), "predictions/b//cat.jpg.json"),
    ],
)
def test_a_record_is_named_for_bucket_key_and_version(photo: S3Photo, key: str) -> None:
    assert record_key(photo) == key


def test_photos_of_one_key_in_two_buckets_have_two_records() -> None:
    assert record_key(S3Photo("b", "cat.jpg")) != record_key(S3Photo("c", "cat.jpg"))


@pytest.mark.parametrize("letter", ["x", "é", "猫", "🐈"])
def test_the_record_of_the_longest_key_has_a_key_that_s3_takes(letter: str) -> None:
    key = letter * (MOST_KEY_BYTES // len(letter.encode()))
    photos = [S3Photo("b" * 63, key), S3Photo("b" * 63, key, "v1"), S3Photo("b" * 63, key[:-1] + "z")]
    keys = [record_key(photo) for photo in photos]
    assert len(set(keys)) == 3
    for one in keys:
        assert len(one.encode()) <= MOST_KEY_BYTES
        assert one.startswith(f"predictions/{'b' * 63}/{letter}")
        assert one.endswith(".json")


def test_a_key_is_cut_only_where_it_must_be() -> None:
    room = MOST_KEY_BYTES - len("predictions/b/.json")
    assert record_key(S3Photo("b", "x" * room)) == f"predictions/b/{'x' * room}.json"
    assert "~" in record_key(S3Photo("b", "x" * (room + 1)))


# -- written once, and never older over newer ------------------------------------------------------------------------


def test_the_same_event_twice_writes_once() -> None:
    store = CountingStore()
    for _ in range(2):
        assert write(store, record()) == record()
    assert store.written == 1


def test_what_another_function_wrote_of_the_same_photo_and_model_stands() -> None:
    store = CountingStore()
    write(store, record(score=0.5))
    assert write(store, record(score=0.5000001)) == record(score=0.5)
    assert store.written == 1


def test_a_new_model_replaces_the_record() -> None:
    store = MemoryStore()
    write(store, record(model="m1"))
    assert write(store, record(model="m2")) == record(model="m2")
    assert stored(store)["model_id"] == "m2"


def test_newer_content_replaces_the_record_and_older_does_not() -> None:
    store = MemoryStore()
    write(store, record("old"))
    assert write(store, record("new"), current=True) == record("new")
    assert write(store, record("old"), current=False) is None
    assert stored(store)["etag"] == "new"


def test_that_a_photo_is_missing_replaces_nothing() -> None:
    store = MemoryStore()
    write(store, record())
    assert write(store, record(None, error={"code": "missing"})) == record()
    assert stored(store) == record()


def test_a_photo_that_came_back_replaces_that_it_was_missing() -> None:
    store = MemoryStore()
    write(store, record(None, error={"code": "missing"}))
    assert write(store, record(), current=False) == record()


@pytest.mark.parametrize("junk", [b"", b"{", b"[]", b"\xff", b"{}"])
def test_what_is_no_record_is_replaced(junk: bytes) -> None:
    store = MemoryStore()
    store.put(KEY, junk)
    write(store, record())
    assert stored(store) == record()


def test_where_others_write_without_end_the_photo_is_sent_again() -> None:
    numbers = itertools.count()

    class Contended(MemoryStore):
        def get(self, key: str, max_bytes: int | None = None) -> Blob:
            found = super().get(key, max_bytes)
            super().put(key, json.dumps(record(f"other{next(numbers)}")).encode())
            return found

    store = Contended()
    store.put(KEY, b"{}")
    with pytest.raises(ConflictError, match="others keep writing it"):
        write(store, record())


def test_a_write_that_fails_is_no_record() -> None:
    class Down(MemoryStore):
        def put(self, key: str, data: bytes, *, if_absent: bool = False, if_match: str | None = None) -> str:
            raise UnavailableError("S3 answered 503")

    with pytest.raises(UnavailableError):
        write(Down(), record())


class World(MemoryStore):
    """An object that is overwritten, and functions that label it, any of which may run between two steps of another."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.random = random.Random(seed)
        self.content = 0
        self.events = [0]
        self.left = 12
        self.depth = 0

    def get(self, key: str, max_bytes: int | None = None) -> Blob:
        self.meanwhile()
        return super().get(key, max_bytes)

    def put(self, key: str, data: bytes, *, if_absent: bool = False, if_match: str | None = None) -> str:
        self.meanwhile()
        return super().put(key, data, if_absent=if_absent, if_match=if_match)

    def is_current(self, content: int) -> bool:
        self.meanwhile()
        return content == self.content

    def meanwhile(self) -> None:
        """Perhaps the object is overwritten here, or an event is delivered, again or for the first time."""
        if self.left <= 0 or self.depth > 3:
            return
        self.left -= 1
        what = self.random.random()
        if what < 0.3:
            self.content += 1
            self.events.append(self.content)
        elif what < 0.7 and self.events:
            place = self.random.randrange(len(self.events))
            event = self.events[place] if self.random.random() < 0.3 else self.events.pop(place)
            self.deliver(event)

    def deliver(self, event: int) -> None:
        self.depth += 1
        try:
            for _ in range(3):
                seen = self.content
                self.meanwhile()
                one = record(f"e{seen}")
                if write_record(self, KEY, one, lambda seen=seen: self.is_current(seen)):  # type: ignore[misc]
                    return
            self.events.append(event)
        except ConflictError:
            self.events.append(event)
        finally:
            self.depth -= 1


@pytest.mark.parametrize("part", range(4))
def test_in_whatever_order_events_come_the_record_is_of_the_last_content(part: int) -> None:
    overwritten = 0
    for seed in range(1000 * part, 1000 * (part + 1)):
        world = World(seed)
        while world.events:
            world.deliver(world.events.pop(world.random.randrange(len(world.events))))
        world.left = 0
        assert stored(world)["etag"] == f"e{world.content}", seed
        overwritten += world.content > 0
    assert overwritten > 400
