import asyncio
import base64
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from inference_lambda import handler
from inference_lambda.handler import lambda_handler
from inference_lambda.http.asgi import asgi_application
from inference_lambda.http.body import MAX_BODY_BYTES
from tests.conftest import Trained
from tests.inference_lambda.models import publish
from tests.inference_lambda.serving import RunningServer, serving
from tests.pictures import jpeg
from transferlite.cli.main import run

RED = jpeg("red", 99)
FORM = "multipart/form-data; boundary=edge"
FORM_BODY = b'--edge\r\nContent-Disposition: form-data; name="p"; filename="a.jpg"\r\n\r\n' + RED + b"\r\n--edge--\r\n"
CONNECTION_HEADERS = {"date", "content-length", "transfer-encoding", "connection"}


@pytest.fixture(scope="module")
def served(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with serving(tmp_path_factory.mktemp("serve"), "--registry", str(trained.registry)) as running:
        yield running


@pytest.fixture
def function(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The handler, with the server's settings, and the model loaded before the first event as in the server."""
    monkeypatch.setenv("TRANSFERLITE_REGISTRY", str(trained.registry))
    handler._service.cache_clear()
    handler._api.cache_clear()
    handler.load_model()
    yield lambda_handler
    handler._service.cache_clear()
    handler._api.cache_clear()


def event(method: str, target: str, body: bytes, headers: dict[str, str]) -> dict[str, Any]:
    """Return the event of a function URL for a request, written independently of ``asgi.py``."""
    path, _, query = target.partition("?")
    return {
        "version": "2.0",
        "rawPath": path,
        "rawQueryString": query,
        "headers": {name.replace("_", "-"): text for name, text in headers.items()},
        "requestContext": {"http": {"method": method, "path": path}, "stage": "$default"},
        "body": base64.b64encode(body).decode(),
        "isBase64Encoded": True,
    }


@pytest.mark.parametrize(
    ("method", "target", "body", "headers"),
    [
        ("GET", "/", b"", {}),
        ("GET", "/health", b"", {"origin": "https://a.example"}),
        ("GET", "/model", b"", {}),
        ("GET", "/openapi.json", b"", {}),
        ("HEAD", "/model", b"", {}),
        ("OPTIONS", "/predict", b"", {}),
        ("POST", "/predict?top=1&threshold=1", RED, {"content_type": "image/jpeg"}),
        ("POST", "/predict?explain=1", RED, {}),
        ("POST", "/predict", FORM_BODY, {"content_type": FORM}),
        (
            "POST",
            "/predict",
            json.dumps({"image": base64.b64encode(RED).decode()}).encode(),
            {"content_type": "application/json"},
        ),
        ("POST", "/predict", b'{"s3_uri": "s3://b/k.jpg"}', {"content_type": "application/json"}),
        ("POST", "/predict", b"\xff", {"content_type": "application/json"}),
        ("POST", "/predict", b"", {}),
        ("POST", "/predict", b"\x00" * 10_000_000, {"content_type": "image/jpeg"}),
        ("POST", "/predict?top=%31&top=2", RED, {}),
        ("POST", "/predict?model=20990101-000000-00000000", RED, {}),
        ("GET", "/predict", b"", {}),
        ("BREW", "/model", b"", {}),
        ("GET", "/../../etc/passwd", b"", {}),
        ("GET", "/%2e%2e/model%00", b"", {}),
        ("GET", "//model", b"", {}),
    ],
    ids=lambda value: str(value)[:40],
)
def test_the_server_responds_as_the_function_does(
    method: str, target: str, body: bytes, headers: dict[str, str], served: RunningServer, function: Any
) -> None:
    expected = function(event(method, target, body, headers), None)
    status, response_headers, content = served.request(method, target, body or None, **headers)
    assert (status, content.decode()) == (expected["statusCode"], expected["body"])
    assert {name: text for name, text in response_headers.items() if name not in CONNECTION_HEADERS} == expected[
        "headers"
    ]


def test_a_promotion_is_followed_after_the_refresh_time_of_serve(trained: Trained, tmp_path: Path) -> None:
    registry = publish(str(tmp_path / "registry"), trained, "one", "two")
    with serving(tmp_path / "serve", "--registry", registry.store.uri, "--refresh", "0") as served:
        for model_id in ("one", "two"):
            registry.promote(model_id, "production")
            assert json.loads(served.request("GET", "/model")[2])["model_id"] == model_id


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_bundle_is_served_until_a_signal_and_no_files_remain(
    how: signal.Signals, trained: Trained, tmp_path: Path
) -> None:
    with serving(tmp_path / "serve", "--bundle", str(trained.bundle), TRANSFERLITE_API_KEY="secret") as served:
        assert served.request("POST", "/predict", RED)[0] == 401
        prediction = json.loads(served.request("POST", "/predict", RED, x_api_key="secret")[2])
        assert (prediction["label"], prediction["model_id"]) == ("red", trained.bundle.name)
        assert [path.name for path in (tmp_path / "serve").iterdir() if path.is_dir()] != []
        assert served.stop(how) == (0, "stopped\n")
    assert [path.name for path in (tmp_path / "serve").iterdir()] == ["log"]
    assert (trained.bundle / "float32.tflite").is_file()


def test_a_running_request_finishes_before_shutdown(trained: Trained, tmp_path: Path) -> None:
    with serving(tmp_path / "serve", "--bundle", str(trained.bundle)) as served:
        address = urlsplit(served.url)
        with socket.create_connection((str(address.hostname), int(address.port or 0)), timeout=30) as line:
            head = f"POST /predict HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: {len(RED)}\r\n\r\n"
            line.sendall(head.encode())
            assert line.recv(1000).startswith(b"HTTP/1.1 100")
            served.process.send_signal(signal.SIGTERM)
            line.sendall(RED)
            response = line.makefile("rb").read()
        assert response.startswith(b"HTTP/1.1 200 OK")
        assert b'"label": "red"' in response
        assert served.process.wait(30) == 0


def test_invalid_options_are_reported_before_listening(
    tmp_path: Path, trained: Trained, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["serve"]) == 2
    assert "either --registry or --bundle" in capsys.readouterr().err
    assert run(["serve", "--port", "0", "--bundle", str(tmp_path)]) == 2
    assert "holds no bundle" in capsys.readouterr().err
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert run(["serve", "--port", str(port), "--bundle", str(trained.bundle)]) == 2
    assert f"127.0.0.1:{port}: cannot listen on this address" in capsys.readouterr().err


def test_a_cold_start_imports_only_what_predicting_needs(trained: Trained, tmp_path: Path) -> None:
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(RED)
    program = """
import base64, sys
from inference_lambda.handler import lambda_handler
event = {"rawPath": "/predict", "requestContext": {"http": {"method": "POST"}}, "isBase64Encoded": True}
answer = lambda_handler(event | {"body": base64.b64encode(open(sys.argv[1], "rb").read()).decode()}, None)
print(answer["statusCode"], *sys.modules)
"""
    environment = os.environ | {"TRANSFERLITE_REGISTRY": str(trained.registry)}
    words = [sys.executable, "-c", program, str(photo)]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
    status, *loaded = done.stdout.split()
    assert status == "200"
    ours = {name.rpartition(".")[2] for name in loaded if name.startswith(("inference_lambda.", "transferlite."))}
    assert "predictor" in ours
    assert not ours & {"page", "openapi", "explanation", "explain", "asgi", "serve"}
    assert not {"uvicorn", "asyncio", "click", "PIL.ImageFilter"} & set(loaded)


# -- the ASGI application alone ----------------------------------------------------------------------------------------

SCOPE = {
    "type": "http",
    "http_version": "1.1",
    "method": "POST",
    "raw_path": b"/predict",
    "query_string": b"",
    "headers": [(b"X-Twice", b"a"), (b"x-twice", b"b")],
}


def play(*messages: dict[str, Any]) -> tuple[list[dict[str, Any]], list[dict[str, Any]], int]:
    """Send a request in parts; return the handler's events, the ASGI messages sent, and the number of parts read."""
    events: list[dict[str, Any]] = []
    sent: list[dict[str, Any]] = []
    waiting = list(messages)

    def function(event: dict[str, Any], _: object) -> dict[str, Any]:
        events.append(event)
        return {"statusCode": 200, "headers": {"a": "b"}, "body": "é"}

    async def receive() -> dict[str, Any]:
        return waiting.pop(0)

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    with ThreadPoolExecutor(1) as pool:
        asyncio.run(asgi_application(function, pool)(SCOPE, receive, send))
    return events, sent, len(messages) - len(waiting)


def part(size: int, more: bool = True) -> dict[str, Any]:
    return {"type": "http.request", "body": b"x" * size, "more_body": more}


def test_a_request_may_arrive_in_parts() -> None:
    (event,), sent, _ = play(part(3), part(0), part(2, more=False))
    assert base64.b64decode(event["body"]) == b"xxxxx"
    assert event["headers"] == {"x-twice": "a,b"}
    assert sent[0] == {
        "type": "http.response.start",
        "status": 200,
        "headers": [(b"a", b"b"), (b"content-length", b"2")],
    }
    assert sent[1]["body"] == "é".encode()


def test_a_large_body_is_cut_one_byte_over_the_limit() -> None:
    (event,), _, read = play(*[part(2**20)] * 9, part(1, more=False))
    assert len(base64.b64decode(event["body"])) == MAX_BODY_BYTES + 1
    assert read == 10


def test_an_endless_body_is_not_read_forever() -> None:
    (_,), sent, read = play(*[part(2**24)] * 9)
    assert (read, len(sent)) == (4, 2)


def test_a_disconnected_client_is_not_handled() -> None:
    events, sent, _ = play(part(3), {"type": "http.disconnect"})
    assert events == sent == []
