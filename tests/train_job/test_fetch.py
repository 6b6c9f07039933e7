import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from runtime.errors import AccessDeniedError, MissingStoreError, NotFoundError, UnavailableError
from runtime.s3 import S3Store, s3_client
from tests.conftest import BUCKET
from train_job import fetch as module
from train_job.fetch import fetch

KEYS = ["a.jpg", "a b+c%20d#e?f=g.jpg", "ü/日本.jpg", "quote'\"*(x)!~.jpg", "back\\slash.jpg", "&<>.jpg"]
ODD_KEYS = ["/lead.jpg", "x//y.jpg", "x/./z.jpg", "x/../w.jpg", "./here.jpg"]


def no_boto(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(S3Store, "get", lambda *_: pytest.fail("boto3 was asked"))


@pytest.mark.parametrize("key", KEYS)
def test_an_objects_bytes_and_etag_are_those_that_boto3_sees(
    key: str, bucket: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    etag = bucket.put_object(Bucket=BUCKET, Key=key, Body=key.encode())["ETag"]
    no_boto(monkeypatch)
    blob = fetch(f"s3://{BUCKET}/{key}", 1000)
    assert (blob.data, blob.etag) == (key.encode(), etag)


@pytest.mark.parametrize("key", ODD_KEYS)
def test_a_key_that_the_fast_client_would_rewrite_names_its_own_object(key: str, bucket: Any) -> None:
    for name in (key, "lead.jpg", "x/y.jpg", "x/z.jpg", "w.jpg", "here.jpg"):
        bucket.put_object(Bucket=BUCKET, Key=name, Body=name.encode())
    assert fetch(f"s3://{BUCKET}/{key}", 1000).data == key.encode()


@pytest.mark.parametrize(("most", "expected"), [(10, b"0123456789"), (4, b"0123"), (11, b"0123456789")])
def test_no_more_is_read_than_asked_for(
    most: int, expected: bytes, bucket: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.put_object(Bucket=BUCKET, Key="a", Body=b"0123456789")
    no_boto(monkeypatch)
    assert fetch(f"s3://{BUCKET}/a", most).data == expected


def test_an_empty_object_is_empty(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket.put_object(Bucket=BUCKET, Key="a", Body=b"")
    no_boto(monkeypatch)
    assert fetch(f"s3://{BUCKET}/a", 5).data == b""


def test_what_is_missing_is_told_as_boto3_tells_it(bucket: Any) -> None:
    with pytest.raises(NotFoundError, match=f"^s3://{BUCKET}/gone: does not exist$"):
        fetch(f"s3://{BUCKET}/gone", 5)
    with pytest.raises(MissingStoreError, match="there is no bucket"):
        fetch("s3://no-such-bucket/a", 5)


def test_a_file_is_read_from_its_folder(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"0123")
    assert fetch(str(tmp_path / "a.jpg"), 3).data == b"012"
    with pytest.raises(NotFoundError):
        fetch(str(tmp_path / "b.jpg"), 3)


# -- a server that fails ----------------------------------------------------------------------------------------------

Answer = Callable[[BaseHTTPRequestHandler, int], None]


def whole(handler: BaseHTTPRequestHandler, cut: int = 0, status: int = 200, body: bytes = b"x" * 1000) -> None:
    handler.send_response(status)
    handler.send_header("Content-Length", str(len(body)))
    handler.send_header("ETag", '"e"')
    handler.send_header("Last-Modified", "Tue, 24 Nov 2026 10:00:00 GMT")
    handler.end_headers()
    handler.wfile.write(body[: len(body) - cut])
    handler.wfile.flush()
    handler.close_connection = True


def denied(handler: BaseHTTPRequestHandler) -> None:
    text = b"<Error><Code>AccessDenied</Code><Message>no</Message></Error>"
    whole(handler, status=403, body=text)


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Answer], list[int]]]:
    """Starts a server that answers every request by a function of its number; gives the list of numbers asked for."""
    servers = []

    def start(answer: Answer) -> list[int]:
        asked: list[int] = []

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                asked.append(len(asked) + 1)
                answer(self, len(asked))

            def log_message(self, *_: Any) -> None:
                return

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        s3_client.cache_clear()
        return asked

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()
    s3_client.cache_clear()
    module._bucket.cache_clear()


def test_an_answer_that_is_cut_is_asked_for_again(serve: Callable[[Answer], list[int]]) -> None:
    asked = serve(lambda handler, number: whole(handler, cut=400 if number == 1 else 0))
    assert fetch("s3://some-bucket/a.jpg", 5000).data == b"x" * 1000
    assert len(asked) >= 2


def test_a_server_that_asks_to_slow_down_is_asked_again(serve: Callable[[Answer], list[int]]) -> None:
    asked = serve(lambda handler, number: whole(handler, status=503 if number < 3 else 200))
    assert fetch("s3://some-bucket/a.jpg", 5000).data == b"x" * 1000
    assert len(asked) == 3


def test_answers_that_are_always_cut_are_no_photo(serve: Callable[[Answer], list[int]]) -> None:
    asked = serve(lambda handler, _: whole(handler, cut=1))
    with pytest.raises(UnavailableError):
        fetch("s3://some-bucket/a.jpg", 5000)
    assert len(asked) < 30


def test_a_refusal_is_told_at_once(serve: Callable[[Answer], list[int]]) -> None:
    asked = serve(lambda handler, _: denied(handler))
    with pytest.raises(AccessDeniedError, match="access denied"):
        fetch("s3://some-bucket/a.jpg", 5000)
    assert len(asked) <= 3
