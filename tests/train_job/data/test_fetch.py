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
    monkeypatch.setattr(S3Store, "get", lambda *_: pytest.fail("boto3 was used"))


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


@pytest.mark.parametrize(("max_bytes", "expected"), [(10, b"0123456789"), (4, b"0123"), (11, b"0123456789")])
def test_no_more_than_max_bytes_are_read(
    max_bytes: int, expected: bytes, bucket: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.put_object(Bucket=BUCKET, Key="a", Body=b"0123456789")
    no_boto(monkeypatch)
    assert fetch(f"s3://{BUCKET}/a", max_bytes).data == expected


def test_an_empty_object_is_empty(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket.put_object(Bucket=BUCKET, Key="a", Body=b"")
    no_boto(monkeypatch)
    assert fetch(f"s3://{BUCKET}/a", 5).data == b""


def test_a_missing_object_gives_the_same_error_as_boto3(bucket: Any) -> None:
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
class Requests:
    """Requests that a server received: the headers of each GET, and the number of HEADs."""

    gets: list[Message] = field(default_factory=list)
    heads: int = 0


Response = Callable[[BaseHTTPRequestHandler, int], None]
Serve = Callable[[Response], Requests]


def send(
    handler: BaseHTTPRequestHandler, cut: int = 0, status: int = 200, body: bytes = b"x" * 1000, etag: str = "e"
) -> None:
    """Respond as S3 does, without the last ``cut`` bytes."""
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


def refuse(code: str) -> Response:
    body = f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode()
    return lambda handler, _: send(handler, status=403, body=body)


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """Starts a server of a bucket in eu-north-1 that responds to every GET with a function of its number."""
    servers = []

    def start(respond: Response) -> Requests:
        requests = Requests()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                requests.gets.append(self.headers)
                respond(self, len(requests.gets))

            def do_HEAD(self) -> None:
                requests.heads += 1
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
        return requests

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()
    s3_client.cache_clear()
    module._open_bucket.cache_clear()


def test_a_truncated_response_is_resumed(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    body = bytes(range(250)) * 4
    requests = serve(lambda handler, number: send(handler, cut=100 if number < 3 else 0, body=body))
    no_boto(monkeypatch)
    assert fetch("s3://some-bucket/a.jpg", 5000).data == body
    assert [headers["Range"] for headers in requests.gets] == [None, "bytes=900-999", "bytes=900-999"]


def test_a_photo_that_changes_while_it_is_read_is_not_put_together_from_both(serve: Serve) -> None:
    def respond(handler: BaseHTTPRequestHandler, number: int) -> None:
        if number == 1:
            send(handler, cut=400)
        else:
            send(handler, body=b"y" * 1000, etag="new")

    serve(respond)
    assert fetch("s3://some-bucket/a.jpg", 5000) == Blob(b"y" * 1000, '"new"')


def test_a_slow_down_response_is_retried(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    requests = serve(lambda handler, number: send(handler, status=503 if number < 3 else 200))
    no_boto(monkeypatch)
    assert fetch("s3://some-bucket/a.jpg", 5000).data == b"x" * 1000
    assert len(requests.gets) == 3


@pytest.mark.parametrize("part", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n", None])
def test_a_stalled_response_is_retried(part: bytes | None, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()
    waited_out: list[int] = []

    def respond(handler: BaseHTTPRequestHandler, number: int) -> None:
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

    monkeypatch.setattr(module, "_TIMEOUTS", module._TIMEOUTS | {"read_timeout": "200ms"})
    serve(respond)
    no_boto(monkeypatch)
    try:
        assert fetch("s3://some-bucket/a.jpg", 5000).data == b"x" * 1000
    finally:
        over.set()
    assert not waited_out


def test_a_response_that_is_always_truncated_fails(serve: Serve) -> None:
    requests = serve(lambda handler, _: send(handler, cut=1))
    with pytest.raises(UnavailableError):
        fetch("s3://some-bucket/a.jpg", 5000)
    assert len(requests.gets) < 30


@pytest.mark.parametrize(
    ("code", "kind", "message"),
    [
        ("AccessDenied", AccessDeniedError, "access denied"),
        ("ExpiredToken", AccessDeniedError, "access denied"),
        ("InvalidObjectState", NotFoundError, "is archived"),
    ],
)
def test_a_refusal_is_reported_at_once(code: str, kind: type[Exception], message: str, serve: Serve) -> None:
    requests = serve(refuse(code))
    with pytest.raises(kind, match=f"^s3://some-bucket/a.jpg: {message}"):
        fetch("s3://some-bucket/a.jpg", 5000)
    assert len(requests.gets) == 2


# -- one configuration, boto3's ---------------------------------------------------------------------------------------


def test_requests_are_signed_for_the_region_that_the_bucket_is_in(serve: Serve) -> None:
    requests = serve(lambda handler, _: send(handler))
    fetch("s3://some-bucket/a.jpg", 5000)
    assert "Credential=test/" in requests.gets[0]["Authorization"]
    assert "/eu-north-1/s3/" in requests.gets[0]["Authorization"]


def test_many_threads_open_a_bucket_once(serve: Serve) -> None:
    requests = serve(lambda handler, _: send(handler))
    together = threading.Barrier(16, timeout=30)

    def fetch_numbered(number: int) -> Blob:
        together.wait()
        return fetch(f"s3://some-bucket/{number}.jpg", 5000)

    with ThreadPoolExecutor(16) as pool:
        assert len(list(pool.map(fetch_numbered, range(16)))) == 16
    assert (len(requests.gets), requests.heads) == (16, 1)


def test_an_endpoint_in_the_configuration_file_is_used(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = serve(lambda handler, _: send(handler))
    (tmp_path / "config").write_text(f"[default]\nendpoint_url = {os.environ['AWS_ENDPOINT_URL']}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    no_boto(monkeypatch)
    assert fetch("s3://some-bucket/a.jpg", 5000).data == b"x" * 1000
    assert len(requests.gets) == 1


def test_a_certificate_that_boto3_trusts_is_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "roots.pem").write_bytes(b"a certificate")
    monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "roots.pem"))
    monkeypatch.setattr(module, "S3Store", lambda *_, **options: options)
    monkeypatch.setattr(module, "_region", lambda _: "eu-west-3")
    options: Any = module._open_bucket.__wrapped__("some-bucket", "https://minio.example")
    assert options["client_options"]["root_certificate"] == b"a certificate"


def test_without_credentials_no_request_is_sent(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    requests = serve(lambda handler, _: send(handler))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(AccessDeniedError, match="no AWS credentials found"):
        fetch("s3://some-bucket/a.jpg", 5000)
    assert requests.gets == []


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
def test_a_bucket_has_the_url_that_its_service_needs(
    endpoint: str, bucket: str, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_region", lambda _: "eu-west-3")
    store = module._open_bucket.__wrapped__(bucket, endpoint)
    assert store is not None
    url = obstore.sign(store, "GET", "a.jpg", timedelta(minutes=1))
    assert url.startswith(f"{address}/a.jpg?")
    assert "%2Feu-west-3%2Fs3%2F" in url
