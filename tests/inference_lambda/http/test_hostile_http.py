"""Hostile HTTP requests get only 2xx and 4xx, use bounded memory, and reveal nothing internal.

``TRANSFERLITE_TEST_FUZZED`` sets the number of requests generated from the OpenAPI document (default 80).
"""

import http.client
import io
import json
import os
import random
import re
import socket
import struct
import zlib
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from PIL import Image
from schemathesis import Case, GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

from inference_lambda.http.openapi import DOCUMENT
from tests.conftest import BUCKET, Trained
from tests.inference_lambda.serving import RunningServer, serving
from tests.pictures import jpeg
from tests.transferlite.damage import damaged, written

FUZZED = int(os.environ.get("TRANSFERLITE_TEST_FUZZED", "80"))
MAX_MEMORY = 1100 * 2**20
"""Bytes that the server needs for the largest photo on each of its two threads, and for itself."""
INTERNAL = (b"Traceback", b'File "', b"site-packages", b".py", b"Error(", b"/tmp", b"boto", b"PIL")
"""Strings that no response may contain."""


@pytest.fixture(scope="module")
def s3_bucket(s3_server: str) -> str:
    """S3 with an allowed and a private bucket, each with one photo; returns its endpoint."""
    import boto3

    options = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1"}
    client = boto3.client("s3", endpoint_url=s3_server, **options)
    for name in (BUCKET, "private"):
        client.create_bucket(Bucket=name)
        client.put_object(Bucket=name, Key="photo.jpg", Body=jpeg("red"))
    return s3_server


@pytest.fixture(scope="module")
def served(trained: Trained, s3_bucket: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    environment = {
        "AWS_ENDPOINT_URL": s3_bucket,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "NO_PROXY": "127.0.0.1",
        "TRANSFERLITE_ALLOWED_BUCKETS": BUCKET,
    }
    folder = tmp_path_factory.mktemp("serve")
    with serving(folder, "--registry", str(trained.registry), **environment) as running:
        yield running
        assert running.process.poll() is None
        assert running.peak_memory() < MAX_MEMORY, f"{running.peak_memory() / 2**20:.0f} MiB"
        assert running.request("GET", "/health")[0] == 200
        assert list((folder).glob("transferlite-serve-*")) != []


def check(status: int, headers: dict[str, str], content: bytes) -> None:
    """Check that a response is 2xx or 4xx, reveals nothing internal, and is a problem (RFC 9457) if 4xx."""
    assert 200 <= status < 300 or 400 <= status < 500, (status, content)
    if status >= 400:
        assert not [word for word in INTERNAL if word in content], content
        if content:
            assert headers["content-type"] == "application/problem+json"
            assert json.loads(content)["status"] == status


# -- generated from the OpenAPI document -------------------------------------------------------------------------------

PICTURES = written()


def bodies() -> st.SearchStrategy[bytes]:
    """Images of every format, intact and damaged, and random bytes."""
    whole = st.sampled_from(PICTURES)
    broken = st.builds(lambda data, seed: damaged(data, PICTURES, random.Random(seed)), whole, st.integers(0, 2**32))
    return st.one_of(broken, whole, st.binary(max_size=300))


schemathesis.openapi.media_type("image/*", bodies())
schemathesis.openapi.media_type("application/octet-stream", bodies())
SCHEMA = schemathesis.openapi.from_dict(DOCUMENT)
PREDICT = SCHEMA["/predict"]["POST"]
CASES = st.one_of(
    PREDICT.as_strategy(query={"explain": 1}),
    PREDICT.as_strategy(),
    PREDICT.as_strategy(generation_mode=GenerationMode.NEGATIVE),
    SCHEMA.as_strategy(),
    SCHEMA.as_strategy(generation_mode=GenerationMode.NEGATIVE),
)


def test_generated_requests_get_documented_responses(served: RunningServer) -> None:
    statuses: Counter[int] = Counter()

    @settings(
        max_examples=FUZZED,
        phases=[Phase.generate],
        derandomize="TRANSFERLITE_TEST_FUZZED" not in os.environ,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=CASES)
    def send_case(case: Case[Any]) -> None:
        response = case.call(base_url=served.url)
        headers = {name: values[0] for name, values in response.headers.items()}
        check(response.status_code, headers, response.content)
        case.validate_response(response, excluded_checks=[positive_data_acceptance])
        statuses[response.status_code] += 1

    send_case()
    assert statuses.total() >= FUZZED
    print(
        f"{statuses.total()} requests: {dict(sorted(statuses.items()))}; {served.peak_memory() / 2**20:.0f} MiB at most"
    )


# -- written by hand ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "/../../etc/passwd", "/..%2f..%2fetc%2fpasswd", "/%2e%2e/%2e%2e/etc/passwd", "/predict/../model", "//model",
        "/model/%00", "/model%0d%0aSet-Cookie:%20a=b", "/page.html", "/settings.py", "/.env", "/predict/" + "a/" * 2000,
        "/" + "%F0%9F%90%88" * 500, "/model;jsessionid=1", "/PREDICT", "http://169.254.169.254/latest/meta-data", "*",
        "/model?" + "a=1&" * 5000, "/model?%ff=%fe&%00", "/model?model=../../etc/passwd", "/model?model=%2e%2e%2fx",
        "/model?model=one%00", "/model?model=" + "a" * 20_000,
    ],
    ids=lambda path: path[:40],
)  # fmt: skip
def test_no_path_escapes_the_documented_paths(path: str, served: RunningServer) -> None:
    for method in ("GET", "POST", "PUT", "TRACE"):
        status, headers, content = served.request(method, path)
        check(status, headers, content)
        assert status in {400, 404, 405}
        assert "set-cookie" not in headers
        assert b"root:" not in content


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 500,
        b"GET / HTTP/1.1\r\n" + b"X: " + b"a" * 200_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET /\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
        b"POST /predict HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST /predict HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"GET /model HTTP/1.1\r\nHost: a\r\nX-Api-Key: \xff\xfe\r\nConnection: close\r\n\r\n",
        b"GET /model HTTP/1.1\r\nHost: a\r\nX-A: b\x00c\r\n\r\n",
        b"GET /model HTTP/1.1\r\nHost: a\r\nX-A: b\r\n c\r\nContent-Length : 3\r\n\r\nabc",
        b"GET /model HTTP/1.1\r\nHost: a\r\nOrigin: https://a\rSet-Cookie: x=y\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\nabcde",
        b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 5\r\n\r\nabcde",
        b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        b"CONNECT 169.254.169.254:80 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    ],
    ids=lambda sent: repr(sent[:60]),
)
def test_malformed_http_gets_4xx_or_no_response(sent: bytes, served: RunningServer) -> None:
    address = urlsplit(served.url)
    with socket.create_connection((str(address.hostname), int(address.port or 0)), timeout=20) as line:
        response = http.client.HTTPResponse(line)
        try:
            line.sendall(sent)
            response.begin()
            content = response.read()
        except ConnectionError:
            return  # the server closed the connection before reading everything
    assert response.status in {200, 400, 404, 405, 422, 501}
    assert not [word for word in INTERNAL if word in content]
    assert response.getheader("set-cookie") is None
    assert response.getheader("x-a") is None


@pytest.mark.parametrize(
    ("claimed", "sent", "statuses"),
    [
        (500_000, 100, []),
        (10**22, 100, [400]),
        (len(jpeg("red")) + 9, len(jpeg("red")), []),
        (len(jpeg("red")), None, [200]),
    ],
    ids=["body too short", "length too large", "photo too short", "body too long"],
)
def test_a_wrong_content_length_gets_no_prediction_of_unsent_bytes(
    claimed: int, sent: int | None, statuses: list[int], served: RunningServer
) -> None:
    """Bytes after the claimed length are another request, not part of the photo."""
    address = urlsplit(served.url)
    head = f"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: image/jpeg\r\nContent-Length: {claimed}\r\n\r\n"
    more = b"GET /nowhere HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" if sent is None else b""
    with socket.create_connection((str(address.hostname), int(address.port or 0)), timeout=20) as line:
        line.sendall(head.encode() + jpeg("red")[:sent] + more)
        if not more:
            line.shutdown(socket.SHUT_WR)
        received = b"".join(iter(lambda: line.recv(65536), b""))
    received_statuses = [int(status) for status in re.findall(rb"HTTP/1.1 (\d{3}) ", received)]
    assert received_statuses == [*statuses, *([404] if more else [])]
    assert served.request("GET", "/health")[0] == 200


FORM = "multipart/form-data; boundary=edge"
HEAD = b'--edge\r\nContent-Disposition: form-data; name="p"; filename="a.jpg"\r\n\r\n'


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("multipart/form-data", HEAD),
        ("multipart/form-data; boundary=", HEAD),
        ("multipart/form-data; boundary=" + "b" * 60_000, HEAD),
        ("multipart/form-data; boundary=\"\\\"", HEAD),
        (FORM, b"--edge"),
        (FORM, b"--edge\r\n" * 100_000),
        (FORM, b"--edge\r\n" + b"A: b\r\n" * 100_000),
        (FORM, b"--edge\r\nContent-Disposition: form-data; filename=" + b"a" * 1_000_000),
        (FORM, HEAD + b"\r\n--edg" * 100_000),
        (FORM, HEAD + b"\r\n" + HEAD * 200 + b"--edge--"),
        ("application/json", b"[" * 3_000_000),
        ("application/json", b'{"image": ' + b"9" * 1_000_000 + b"}"),
        ("application/json", b'{"image": "' + b"A" * 4_000_001 + b'"}'),
        ("application/json", b'{"image": "\\ud800"}'),
        ("application/json", b'{"s3_uri": "s3://test-bucket/\\ud800"}'),
        ("application/json", b'{"image": "AAAA", "image": "s3://private/x"}'),
        ("application/json; charset=utf-7", b"+AHsAfQ-"),
        ("application/json", b"\xff\xfe{\0}\0"),
        ("text/plain", b"hello"),
        ("image/svg+xml", b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>'),
        ("image/jpeg", b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>'),
        ("image/jpeg", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) (r) file\n"),
        ("image/jpeg; \x01", b"x"),
        ("é/ü", b"x"),
        ("a" * 50_000, b"x"),
        ("image/jpeg", b"\0" * 10_000_000),
        ("application/json", b"{" + b" " * 10_000_000),
        (FORM, HEAD + b"\0" * 10_000_000),
    ],
    ids=lambda value: repr(value[:50]),
)  # fmt: skip
def test_a_malformed_body_gets_4xx(kind: str, body: bytes, served: RunningServer) -> None:
    status, headers, content = served.request("POST", "/predict?explain=1", body, content_type=kind.encode("latin-1"))
    check(status, headers, content)
    assert status >= 400
    assert b"root:" not in content


def test_a_compressed_body_is_refused(served: RunningServer) -> None:
    packed = zlib.compress(bytes(2**26), 1) * 9
    status, headers, content = served.request("POST", "/predict", packed, content_encoding="deflate")
    check(status, headers, content)
    assert status == 415


def test_many_large_bodies_at_once_are_all_refused(served: RunningServer) -> None:
    with ThreadPoolExecutor(12) as pool:
        responses = list(pool.map(lambda _: served.request("POST", "/predict", b"\0" * 10_000_000), range(36)))
    for response in responses:
        check(*response)
    assert {status for status, *_ in responses} == {413}


# -- bombs -------------------------------------------------------------------------------------------------------------


def png(width: int, height: int, depth: int, kind: int, rows: int) -> bytes:
    """Return a black PNG with ``rows`` rows of pixels, whatever its header says."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    line = 1 + (width * depth * {0: 1, 2: 3, 6: 4}[kind] + 7) // 8
    pack = zlib.compressobj(1)
    data = b"".join(pack.compress(bytes(line)) for _ in range(rows)) + pack.flush()
    head = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("width", "height", "depth", "kind", "rows", "status"),
    [
        (100_000, 100_000, 8, 2, 1, 413),
        (65_535, 2**31 - 1, 1, 0, 1, 413),
        (7072, 7072, 8, 2, 7072, 413),
        (65_536, 8, 1, 0, 8, 413),
        (7071, 7071, 1, 0, 7071, 200),
        (7071, 7071, 8, 6, 7071, 200),
        (7071, 7071, 16, 0, 7071, 200),
        (7071, 7071, 8, 2, 9, 200),
    ],
)
def test_a_decompression_bomb_is_refused_or_stays_within_memory(
    width: int, height: int, depth: int, kind: int, rows: int, status: int, served: RunningServer
) -> None:
    response = served.request("POST", "/predict", png(width, height, depth, kind, rows))
    check(*response)
    assert response[0] == status
    print(f"{served.peak_memory() / 2**20:.0f} MiB at most")


def test_a_float_tiff_stays_within_memory(served: RunningServer) -> None:
    file = io.BytesIO()
    Image.new("F", (7071, 7071)).save(file, "TIFF", compression="tiff_adobe_deflate")
    response = served.request("POST", "/predict", file.getvalue())
    check(*response)
    print(f"{served.peak_memory() / 2**20:.0f} MiB at most")


@pytest.mark.photos
def test_every_hard_file_gets_a_response(served: RunningServer, photo_sets: Path) -> None:
    folder = photo_sets / "hard_inputs"
    statuses: Counter[int] = Counter()
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix not in {".csv", ".md"}):
        response = served.request("POST", "/predict", path.read_bytes())
        check(*response)
        statuses[response[0]] += 1
    assert statuses.total() >= 209
    assert set(statuses) == {200, 400, 413, 422}
    print(f"{dict(statuses)}; {served.peak_memory() / 2**20:.0f} MiB at most")


# -- S3 objects --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("uri", "status"),
    [
        (f"s3://{BUCKET}/photo.jpg", 200),
        (f"s3://{BUCKET}/other.jpg", 404),
        (f"s3://{BUCKET}/?versions", 404),
        (f"s3://{BUCKET}//photo.jpg", 404),
        (f"s3://{BUCKET}/%2e%2e/private/photo.jpg", 404),
        (f"s3://{BUCKET}/../private/photo.jpg", 400),
        (f"s3://{BUCKET}/a/../../private/photo.jpg", 400),
        (f"s3://{BUCKET}", 400),
        ("s3://private/photo.jpg", 403),
        (f"s3://{BUCKET}@private/photo.jpg", 403),
        (f"s3://private@{BUCKET}/photo.jpg", 403),
        (f"s3://{BUCKET}%2f..%2fprivate/photo.jpg", 403),
        (f"s3://{BUCKET}\\..\\private/photo.jpg", 403),
        (f"s3://{BUCKET}/..\\private/photo.jpg", 404),
        (f"s3://{BUCKET}/..%2fprivate/photo.jpg", 404),
        (f"s3://{BUCKET}/%252e%252e/private/photo.jpg", 404),
        (f"s3://{BUCKET}/photo.jpg?versionId=null", 404),
        (f"s3://{BUCKET}/photo.jpg#x", 404),
        (f"s3://{BUCKET}/photo.jpg%00", 404),
        ("s3://arn:aws:s3:::private/photo.jpg", 400),
        (f"s3://arn:aws:s3:us-east-1:111122223333:accesspoint/{BUCKET}/photo.jpg", 400),
        (f"s3://private/../{BUCKET}/photo.jpg", 400),
        (f"s3://{BUCKET}.evil.example/photo.jpg", 403),
        (f"s3://evil.example#@{BUCKET}/photo.jpg", 403),
        (f"s3://{BUCKET}?x=/photo.jpg", 403),
        ("s3://127.0.0.1:80/latest/meta-data", 403),
        ("http://169.254.169.254/latest/meta-data", 400),
        ("file:///etc/passwd", 400),
        ("/etc/passwd", 400),
    ],
)
def test_only_objects_of_allowed_buckets_are_read(uri: str, status: int, served: RunningServer) -> None:
    body = json.dumps({"s3_uri": uri}).encode()
    response = served.request("POST", "/predict", body, content_type="application/json")
    check(*response)
    assert response[0] == status
