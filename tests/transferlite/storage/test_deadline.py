"""Calls that end in time, whatever the server does."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.transferlite.storage.scripted_s3 import Answer, Request, ScriptedS3, content
from transferlite.errors import NotFoundError, UnavailableError
from transferlite.storage import deadline
from transferlite.storage.deadline import DeadlineStore, call_in_time, end_calls_before
from transferlite.storage.locations import open_store
from transferlite.storage.s3_boto3 import s3_client
from transferlite.storage.store import MemoryStore

WHOLE = b"photo" * 20_000


@pytest.fixture(params=["obstore", "boto3"])
def in_function(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """Start a scripted S3 server, and open its bucket as a function does, with a limit of 0.6 s a call."""
    monkeypatch.setattr(deadline, "CALL_SECONDS", 0.6)
    servers: list[ScriptedS3] = []

    def start(script: Callable[[Request], Answer]) -> Any:
        servers.append(ScriptedS3(script))
        monkeypatch.setenv("AWS_ENDPOINT_URL", servers[-1].endpoint)
        monkeypatch.setenv("AWS_LAMBDA_RUNTIME_API", "127.0.0.1:9")
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, "test")
        monkeypatch.setenv("AWS_REGION", "us-east-1")
        monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
        monkeypatch.delenv("AWS_PROFILE", raising=False)
        if request.param == "boto3":
            monkeypatch.setenv("AWS_USE_FIPS_ENDPOINT", "false")
        s3_client.cache_clear()
        return open_store("s3://bucket")

    yield start
    s3_client.cache_clear()
    for server in servers:
        server.close()


@pytest.mark.parametrize(
    "answer",
    [
        Answer(silent=True),
        Answer(200, WHOLE, {"ETag": '"e"'}, sent=1000, stalls=True),
        Answer(200, WHOLE, {"ETag": '"e"'}, sent=1000, trickles=True),
        Answer(200, WHOLE, {"ETag": '"e"'}, sent=1000, reset=True),
    ],
    ids=["silent", "stalled", "trickling", "resetting"],
)
def test_a_read_ends_in_time_whatever_the_server_does(in_function: Callable[..., Any], answer: Answer) -> None:
    store = in_function(lambda _: answer)
    started = time.monotonic()
    with pytest.raises(UnavailableError):
        store.get("k")
    assert time.monotonic() - started < 20  # sockets alone would wait for 60 s, several times


def test_a_stalled_write_ends_in_time(in_function: Callable[..., Any]) -> None:
    store = in_function(lambda _: Answer(silent=True))
    with pytest.raises(UnavailableError, match=r"no complete answer within 0\.6 s"):
        store.put("k", b"record", if_absent=True)


def test_a_healthy_server_answers_through_the_deadline(in_function: Callable[..., Any]) -> None:
    store = in_function(lambda request: content(WHOLE, request))
    assert store.uri == "s3://bucket"
    assert store.get("k").data == WHOLE
    assert b"".join(store.stream("k")) == WHOLE


def test_errors_and_items_pass_through() -> None:
    memory = MemoryStore()
    store = DeadlineStore(memory)
    memory.put("a", b"1")
    assert [entry.key for entry in store.entries()] == ["a"]
    with pytest.raises(NotFoundError):
        store.get("b")


def test_the_limit_follows_the_time_that_is_left() -> None:
    end_calls_before(time.monotonic() + 2.7)
    try:
        with pytest.raises(UnavailableError, match=r"within 0\.[567]"):
            call_in_time(lambda: threading.Event().wait(30), "s3://b/k")
    finally:
        end_calls_before(float("inf"))
