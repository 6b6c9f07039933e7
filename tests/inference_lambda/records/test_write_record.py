import itertools
import json
import random
from typing import Any

import pytest

from inference_lambda.events.s3 import S3Photo
from inference_lambda.records.write_record import MAX_KEY_BYTES, record_key, write_record
from transferlite.errors import ConflictError, UnavailableError
from transferlite.storage.store import Blob, MemoryStore

KEY = record_key(S3Photo("b", "cat.jpg"))


def record(etag: str | None = "e1", model: str = "m1", **more: Any) -> dict[str, Any]:
    seen = {} if etag is None else {"etag": etag}
    return {"image": "s3://b/cat.jpg", **seen, "model_id": model, "label": "cat", **more}


def write(store: MemoryStore, new_record: dict[str, Any], current: bool = True) -> dict[str, Any] | None:
    return write_record(store, KEY, new_record, lambda: current)


def stored(store: MemoryStore) -> Any:
    return json.loads(store.get(KEY).data)


class CountingStore(MemoryStore):
    """Store that counts its writes."""

    written = 0

    def put(self, key: str, data: bytes, *, if_absent: bool = False, if_match: str | None = None) -> str:
        etag = super().put(key, data, if_absent=if_absent, if_match=if_match)
        self.written += 1
        return etag


# -- record key --------------------------------------------------------------------------------------------------------


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
def test_the_record_key_of_the_longest_photo_key_fits_s3(letter: str) -> None:
    key = letter * (MAX_KEY_BYTES // len(letter.encode()))
    photos = [S3Photo("b" * 63, key), S3Photo("b" * 63, key, "v1"), S3Photo("b" * 63, key[:-1] + "z")]
    keys = [record_key(photo) for photo in photos]
    assert len(set(keys)) == 3
    for record_name in keys:
        assert len(record_name.encode()) <= MAX_KEY_BYTES
        assert record_name.startswith(f"predictions/{'b' * 63}/{letter}")
        assert record_name.endswith(".json")


def test_only_a_too_long_key_is_cut() -> None:
    room = MAX_KEY_BYTES - len("predictions/b/.json")
    assert record_key(S3Photo("b", "x" * room)) == f"predictions/b/{'x' * room}.json"
    assert "~" in record_key(S3Photo("b", "x" * (room + 1)))


# -- writing -----------------------------------------------------------------------------------------------------------


def test_the_same_event_twice_writes_once() -> None:
    store = CountingStore()
    for _ in range(2):
        assert write(store, record()) == record()
    assert store.written == 1


def test_another_functions_record_of_the_same_photo_and_model_stays() -> None:
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


def test_a_missing_photo_replaces_no_record() -> None:
    store = MemoryStore()
    write(store, record())
    assert write(store, record(None, error={"code": "missing"})) == record()
    assert stored(store) == record()


def test_a_restored_photo_replaces_its_missing_record() -> None:
    store = MemoryStore()
    write(store, record(None, error={"code": "missing"}))
    assert write(store, record(), current=False) == record()


@pytest.mark.parametrize("junk", [b"", b"{", b"[]", b"\xff", b"{}"])
def test_an_object_that_is_not_a_record_is_replaced(junk: bytes) -> None:
    store = MemoryStore()
    store.put(KEY, junk)
    write(store, record())
    assert stored(store) == record()


def test_endless_concurrent_writes_raise_a_conflict() -> None:
    numbers = itertools.count()

    class Contended(MemoryStore):
        def get(self, key: str, max_bytes: int | None = None) -> Blob:
            blob = super().get(key, max_bytes)
            super().put(key, json.dumps(record(f"other{next(numbers)}")).encode())
            return blob

    store = Contended()
    store.put(KEY, b"{}")
    with pytest.raises(ConflictError, match="other writers keep changing the record"):
        write(store, record())


def test_a_failed_write_raises() -> None:
    class Down(MemoryStore):
        def put(self, key: str, data: bytes, *, if_absent: bool = False, if_match: str | None = None) -> str:
            raise UnavailableError("S3 answered 503")

    with pytest.raises(UnavailableError):
        write(Down(), record())


class ContendedStore(MemoryStore):
    """An object that is overwritten, and functions that label it; any may run between two steps of another."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.random = random.Random(seed)
        self.content = 0
        self.events = [0]
        self.left = 12
        self.depth = 0

    def get(self, key: str, max_bytes: int | None = None) -> Blob:
        self.interleave()
        return super().get(key, max_bytes)

    def put(self, key: str, data: bytes, *, if_absent: bool = False, if_match: str | None = None) -> str:
        self.interleave()
        return super().put(key, data, if_absent=if_absent, if_match=if_match)

    def is_current(self, content: int) -> bool:
        self.interleave()
        return content == self.content

    def interleave(self) -> None:
        """Overwrite the object or deliver an event, at random, as another process might at this point."""
        if self.left <= 0 or self.depth > 3:
            return
        self.left -= 1
        choice = self.random.random()
        if choice < 0.3:
            self.content += 1
            self.events.append(self.content)
        elif choice < 0.7 and self.events:
            i = self.random.randrange(len(self.events))
            event = self.events[i] if self.random.random() < 0.3 else self.events.pop(i)
            self.deliver(event)

    def deliver(self, event: int) -> None:
        self.depth += 1
        try:
            for _ in range(3):
                seen = self.content
                self.interleave()
                new_record = record(f"e{seen}")
                if write_record(self, KEY, new_record, lambda seen=seen: self.is_current(seen)):  # type: ignore[misc]
                    return
            self.events.append(event)
        except ConflictError:
            self.events.append(event)
        finally:
            self.depth -= 1


@pytest.mark.parametrize("part", range(4))
def test_the_record_describes_the_last_content_whatever_the_order_of_events(part: int) -> None:
    overwritten = 0
    for seed in range(1000 * part, 1000 * (part + 1)):
        world = ContendedStore(seed)
        while world.events:
            world.deliver(world.events.pop(world.random.randrange(len(world.events))))
        world.left = 0
        assert stored(world)["etag"] == f"e{world.content}", seed
        overwritten += world.content > 0
    assert overwritten > 400
