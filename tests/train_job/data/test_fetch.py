import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import obstore
import pytest

from tests.conftest import BUCKET
from train_job.data import load_photos as module
from train_job.data.load_photos import fetch
from transferlite.errors import AccessDeniedError, MissingStoreError, NotFoundError, UnavailableError
from transferlite.storage.s3_boto3 import S3Store, s3_client
from transferlite.storage.store import Blob

KEYS = [
    "a.jpg",
    "a b+c%20d#e?f=g.jpg",
    "ü/日本.jpg",
    "quote'\"*(x)!~.jpg",
    "back\\slash.jpg",
    "&<>.jpg",
    " a ..b/.c ",
    "%2F/%2e",
]
ODD_KEYS = ["/lead.jpg", "x//y.jpg", "x/./z.jpg", "x/../w.jpg", "./here.jpg", "tab\tin.jpg"]


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


@dataclass
class Asked:
    """What a server was asked: the headers of each GET, and the number of HEADs."""

    gets: list[Message] = field(default_factory=list)
    heads: int = 0


Answer = Callable[[BaseHTTPRequestHandler, int], None]
Serve = Callable[[Answer], Asked]


def send(
    handler: BaseHTTPRequestHandler, cut: int = 0, status: int = 200, body: bytes = b"x" * 1000, etag: str = "e"
) -> None:
    """Answer as S3 does, without the last ``cut`` bytes."""
    start, _, end = handler.headers.get("Range", "").removeprefix("bytes=").partition("-")
    part = body[int(start or 0) : int(end or len(body)) + 1]
    handler.send_response(206 if start and status == 200 else status)
    if start:
        handler.send_header("Content-Range", f"bytes {start}-{int(start) + len(part) - 1}/{len(body)}")
    handler.send_header("Content-Length", str(len(part)))
    handler.send_header("ETag", f'"{etag}"')
    handler.send_header("Last-Modified", "Tue, 24 Nov 2026 10:00:00 GMT")
    handler.end_headers()
    handler.wfile.write(part[: len(part) - cut])
    handler.close_connection = True


def refuse(code: str) -> Answer:
    body = f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode()
    return lambda handler, _: send(handler, status=403, body=body)


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """Starts a server of a bucket in eu-north-1 that answers every GET by a function of its number."""
    servers = []

    def start(answer: Answer) -> Asked:
        asked = Asked()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                asked.gets.append(self.headers)
                answer(self, len(asked.gets))

            def do_HEAD(self) -> None:
                asked.heads += 1
                self.send_response(403)
                self.send_header("x-amz-bucket-region", "eu-north-1")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                return

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
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


def test_an_answer_that_is_cut_is_gone_on_with(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    body = bytes(range(250)) * 4
    asked = serve(lambda handler, number: send(handler, cut=100 if number < 3 else 0, body=body))
    no_boto(monkeypatch)
    assert fetch("s3://some-bucket/a.jpg", 5000).data == body
    assert [headers["Range"] for headers in asked.gets] == [None, "bytes=900-999", "bytes=900-999"]


def test_a_photo_that_changes_while_it_is_read_is_not_put_together_from_both(serve: Serve) -> None:
    def answer(handler: BaseHTTPRequestHandler, number: int) -> None:
        if number == 1:
            send(handler, cut=400)
        else:
            send(handler, body=b"y" * 1000, etag="new")

    serve(answer)
    assert fetch("s3://some-bucket/a.jpg", 5000) == Blob(b"y" * 1000, '"new"')


def test_a_server_that_asks_to_slow_down_is_asked_again(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = serve(lambda handler, number: send(handler, status=503 if number < 3 else 200))
    no_boto(monkeypatch)
    assert fetch("s3://some-bucket/a.jpg", 5000).data == b"x" * 1000
    assert len(asked.gets) == 3


@pytest.mark.parametrize("part", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n", None])
def test_a_server_that_falls_silent_is_asked_again(
    part: bytes | None, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    over = threading.Event()
    waited_out: list[int] = []

    def answer(handler: BaseHTTPRequestHandler, number: int) -> None:
        if number > 1:
            return send(handler)
        if part is None:
            send(handler, cut=10)
            handler.wfile.flush()
        else:
            handler.wfile.write(part)
        handler.close_connection = True
        if not over.wait(20):
            waited_out.append(number)
        return None

    monkeypatch.setattr(module, "_TIMES", module._TIMES | {"read_timeout": "200ms"})
    serve(answer)
    no_boto(monkeypatch)
    try:
        assert fetch("s3://some-bucket/a.jpg", 5000).data == b"x" * 1000
    finally:
        over.set()
    assert not waited_out


def test_answers_that_are_always_cut_are_no_photo(serve: Serve) -> None:
    asked = serve(lambda handler, _: send(handler, cut=1))
    with pytest.raises(UnavailableError):
        fetch("s3://some-bucket/a.jpg", 5000)
    assert len(asked.gets) < 30


@pytest.mark.parametrize(
    ("code", "kind", "message"),
    [
        ("AccessDenied", AccessDeniedError, "access denied"),
        ("ExpiredToken", AccessDeniedError, "access denied"),
        ("InvalidObjectState", NotFoundError, "is archived"),
    ],
)
def test_a_refusal_is_told_at_once(code: str, kind: type[Exception], message: str, serve: Serve) -> None:
    asked = serve(refuse(code))
    with pytest.raises(kind, match=f"^s3://some-bucket/a.jpg: {message}"):
        fetch("s3://some-bucket/a.jpg", 5000)
    assert len(asked.gets) == 2


# -- one configuration, boto3's ---------------------------------------------------------------------------------------


def test_requests_are_signed_for_the_region_that_the_bucket_is_in(serve: Serve) -> None:
    asked = serve(lambda handler, _: send(handler))
    fetch("s3://some-bucket/a.jpg", 5000)
    assert "Credential=test/" in asked.gets[0]["Authorization"]
    assert "/eu-north-1/s3/" in asked.gets[0]["Authorization"]


def test_many_threads_set_a_bucket_up_once(serve: Serve) -> None:
    asked = serve(lambda handler, _: send(handler))
    together = threading.Barrier(16, timeout=30)

    def one(number: int) -> Blob:
        together.wait()
        return fetch(f"s3://some-bucket/{number}.jpg", 5000)

    with ThreadPoolExecutor(16) as pool:
        assert len(list(pool.map(one, range(16)))) == 16
    assert (len(asked.gets), asked.heads) == (16, 1)


def test_an_endpoint_in_the_configuration_file_is_used(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = serve(lambda handler, _: send(handler))
    (tmp_path / "config").write_text(f"[default]\nendpoint_url = {os.environ['AWS_ENDPOINT_URL']}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    no_boto(monkeypatch)
    assert fetch("s3://some-bucket/a.jpg", 5000).data == b"x" * 1000
    assert len(asked.gets) == 1


def test_a_certificate_that_boto3_is_told_to_trust_is_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "roots.pem").write_bytes(b"a certificate")
    monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "roots.pem"))
    monkeypatch.setattr(module, "S3Store", lambda *_, **options: options)
    monkeypatch.setattr(module, "_region", lambda _: "eu-west-3")
    options: Any = module._bucket.__wrapped__("some-bucket", "https://minio.example")
    assert options["client_options"]["root_certificate"] == b"a certificate"


def test_without_credentials_nothing_is_asked(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = serve(lambda handler, _: send(handler))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(AccessDeniedError, match="no AWS credentials found"):
        fetch("s3://some-bucket/a.jpg", 5000)
    assert asked.gets == []


@pytest.mark.parametrize(
    ("endpoint", "bucket", "address"),
    [
        ("https://s3.amazonaws.com", "photos", "https://photos.s3.eu-west-3.amazonaws.com"),
        ("https://s3.us-east-1.amazonaws.com", "photos", "https://photos.s3.eu-west-3.amazonaws.com"),
        ("https://s3.us-east-1.amazonaws.com", "my.photos", "https://s3.eu-west-3.amazonaws.com/my.photos"),
        ("https://s3.cn-north-1.amazonaws.com.cn", "b", "https://s3.cn-north-1.amazonaws.com.cn/b"),
        ("https://s3.dualstack.eu-west-3.amazonaws.com", "b", "https://s3.dualstack.eu-west-3.amazonaws.com/b"),
        ("https://minio.example:9000/", "photos", "https://minio.example:9000/photos"),
    ],
)
def test_a_bucket_is_addressed_as_its_service_wants(
    endpoint: str, bucket: str, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_region", lambda _: "eu-west-3")
    store = module._bucket.__wrapped__(bucket, endpoint)
    assert store is not None
    url = obstore.sign(store, "GET", "a.jpg", timedelta(minutes=1))
    assert url.startswith(f"{address}/a.jpg?")
    assert "%2Feu-west-3%2Fs3%2F" in url
