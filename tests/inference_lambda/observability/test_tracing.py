"""X-Ray subsegments of the function, received on a UDP socket in place of the X-Ray daemon."""

import base64
import json
import os
import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from inference_lambda import handler
from inference_lambda.current_model import CurrentModel
from inference_lambda.observability.tracing import Trace, daemon_address, parent_segment
from tests.conftest import BUCKET, Trained
from tests.inference_lambda.colours import colour_predictor
from tests.inference_lambda.golden import golden
from tests.inference_lambda.models import publish
from tests.inference_lambda.notifications import messages, notification
from tests.inference_lambda.runtime_api import Function
from tests.pictures import jpeg
from tests.transferlite.faults import refuse

OUTPUT = "test-predictions"
TRACE, SEGMENT = "1-5759e988-bd862e3fe1be46a994272793", "53995c3f42cd8ad8"
SAMPLED = f"Root={TRACE};Parent={SEGMENT};Sampled=1;Lineage=1:a87bd80c:0"

_ID = {"type": "string", "pattern": "^[0-9a-f]{16}$"}
_PART: dict[str, Any] = {
    "id": _ID,
    "name": {"type": "string", "pattern": r"^[\w\s.:/%&#=+\\@-]{1,200}$"},
    "start_time": {"type": "number"},
    "end_time": {"type": "number"},
    "error": {"const": True},
    "fault": {"const": True},
    "cause": {
        "type": "object",
        "required": ["exceptions"],
        "properties": {
            "exceptions": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["id", "message", "type"],
                    "properties": {"id": _ID, "message": {"type": "string"}, "type": {"type": "string"}},
                    "additionalProperties": False,
                },
            }
        },
        "additionalProperties": False,
    },
}
_NAMES = {"type": "object", "propertyNames": {"pattern": "^[A-Za-z0-9_]+$"}}
DOCUMENT = {
    "type": "object",
    "required": ["id", "name", "start_time", "end_time", "trace_id", "parent_id", "type"],
    "properties": {
        **_PART,
        "trace_id": {"type": "string", "pattern": "^1-[0-9a-f]{8}-[0-9a-f]{24}$"},
        "parent_id": _ID,
        "type": {"const": "subsegment"},
        "annotations": {**_NAMES, "additionalProperties": {"type": "string", "maxLength": 1000}},
        "metadata": {"type": "object", "additionalProperties": {"type": "object"}},
        "subsegments": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["id", "name", "start_time", "end_time"],
                "properties": _PART,
                "additionalProperties": False,
            },
        },
    },
    "additionalProperties": False,
}
"""JSON schema of a separately sent subsegment: https://docs.aws.amazon.com/xray/latest/devguide/xray-api-segmentdocuments.html"""
VALIDATOR = jsonschema.Draft202012Validator(DOCUMENT)


class XrayDaemon:
    """UDP socket in place of the X-Ray daemon."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.settimeout(0.2)
        self.address = f"127.0.0.1:{self._socket.getsockname()[1]}"

    def received(self) -> list[dict[str, Any]]:
        """Return the documents received so far, each checked against the protocol and the schema."""
        documents: list[dict[str, Any]] = []
        while True:
            try:
                head, _, body = self._socket.recv(65536).partition(b"\n")
            except TimeoutError:
                return documents
            assert json.loads(head) == {"format": "json", "version": 1}
            document = json.loads(body)
            VALIDATOR.validate(document)
            parts = [document, *document.get("subsegments", ())]
            assert len({part["id"] for part in parts}) == len(parts)
            for part in parts:
                assert document["start_time"] - 0.001 <= part["start_time"] <= part["end_time"]
                assert part["end_time"] <= document["end_time"] + 0.001 <= time.time() + 1
            documents.append(document)

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def xray() -> Iterator[XrayDaemon]:
    daemon = XrayDaemon()
    yield daemon
    daemon.close()


def phases(document: dict[str, Any]) -> list[str]:
    """Return a photo's phases, with a flag where one failed: ``Decode error``."""
    flags = ("error", "fault")
    return [" ".join([phase["name"], *(flag for flag in flags if flag in phase)]) for phase in document["subsegments"]]


def flags(document: dict[str, Any]) -> set[str]:
    return {flag for flag in ("error", "fault") if document.get(flag)}


# -- under Lambda's own runtime client ---------------------------------------------------------------------------------

GOOD, BAD, GONE = "in/ein Hund+100% 猫 é.jpg", "in/bad.jpg", "in/gone.jpg"
PHOTOS = messages(notification(BUCKET, GOOD, BAD), notification(BUCKET, GONE), notification("no-such-bucket", "a.jpg"))


@pytest.fixture
def function(bucket: Any, s3_server: str, trained: Trained, tmp_path: Path) -> Callable[..., Function]:
    """Factory of functions with a given trace header and daemon address, on an S3 with photos."""
    registry = publish(str(tmp_path / "registry"), trained, "one").store.uri
    bucket.create_bucket(Bucket=OUTPUT)
    bucket.put_object(Bucket=BUCKET, Key=GOOD, Body=jpeg("red"))
    bucket.put_object(Bucket=BUCKET, Key=BAD, Body=b"%PDF-1.7")
    environment = {"AWS_ENDPOINT_URL": s3_server, "TRANSFERLITE_OUTPUT_BUCKET": OUTPUT}

    def make(trace: str, address: str) -> Function:
        own = {"TRANSFERLITE_REGISTRY": registry, "AWS_XRAY_DAEMON_ADDRESS": address}
        return Function(environment | own, trace=trace)

    return make


def test_each_photo_of_a_traced_function_is_a_subsegment_of_its_phases(
    function: Callable[..., Function], xray: XrayDaemon
) -> None:
    with function(SAMPLED, xray.address) as traced:
        result = traced.invoke(PHOTOS)
        assert result.payload == {"batchItemFailures": [{"itemIdentifier": "m2"}]}
        good, bad, gone, refused = documents = xray.received()
        traced.invoke({"image": base64.b64encode(jpeg("blue")).decode()})
        (direct,) = xray.received()
    assert {(document["trace_id"], document["parent_id"], document["name"]) for document in [*documents, direct]} == {
        (TRACE, SEGMENT, "photo")
    }
    assert [phases(document) for document in documents] == [
        ["Fetch", "Decode", "Invoke", "Write"],
        ["Fetch", "Decode error", "Write"],
        ["Fetch error", "Write"],
        ["Fetch fault"],
    ]
    assert [flags(document) for document in documents] == [set(), {"error"}, {"error"}, {"fault"}]
    assert good["annotations"] == {"label": "red", "model_id": "one"}
    assert bad["annotations"] == {"code": "not-image", "model_id": "one"}
    assert gone["annotations"] == {"code": "missing", "model_id": "one"}
    assert refused["annotations"] == {"code": "no-bucket"}
    assert good["metadata"] == {"transferlite": {"image": f"s3://{BUCKET}/{GOOD}"}}
    (cause,) = bad["subsegments"][1]["cause"]["exceptions"]
    assert (cause["type"], "not an image" in cause["message"]) == ("PhotoError", True)
    assert phases(direct) == ["Decode", "Invoke"]
    assert direct["annotations"] == {"label": "blue", "model_id": "one"}
    assert "metadata" not in direct


def test_a_function_without_a_daemon_still_works(function: Callable[..., Function], xray: XrayDaemon) -> None:
    xray.close()
    with function(SAMPLED, xray.address) as traced:
        result = traced.invoke(PHOTOS)
        assert (result.error, result.payload) == (None, {"batchItemFailures": [{"itemIdentifier": "m2"}]})
        assert "Traceback" not in traced.log


# -- in this process ---------------------------------------------------------------------------------------------------


@pytest.fixture
def traced(bucket: Any, xray: XrayDaemon, monkeypatch: pytest.MonkeyPatch) -> Iterator[XrayDaemon]:
    """Make this process a traced function; returns its daemon."""
    bucket.create_bucket(Bucket=OUTPUT)
    settings = {"REGISTRY": "unused", "OUTPUT_BUCKET": OUTPUT, "ALLOWED_BUCKETS": BUCKET}
    for name, value in settings.items():
        monkeypatch.setenv(f"TRANSFERLITE_{name}", value)
    monkeypatch.setenv("_X_AMZN_TRACE_ID", SAMPLED)
    monkeypatch.setenv("AWS_XRAY_DAEMON_ADDRESS", xray.address)
    predictor = colour_predictor()
    monkeypatch.setattr(CurrentModel, "get", lambda *_: predictor)
    handler._service.cache_clear()
    handler._api.cache_clear()
    bucket.put_object(Bucket=BUCKET, Key="a.jpg", Body=jpeg("red"))
    yield xray
    handler._service.cache_clear()
    handler._api.cache_clear()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AWS_XRAY_DAEMON_ADDRESS", "localhost:2000"),
        ("AWS_XRAY_DAEMON_ADDRESS", "127.0.0.1:x"),
        ("AWS_XRAY_DAEMON_ADDRESS", "127.0.0.1:123456789"),
        ("AWS_XRAY_DAEMON_ADDRESS", "a\x00b:2000"),
        ("AWS_XRAY_DAEMON_ADDRESS", "é" * 500 + ":2000"),
        ("_X_AMZN_TRACE_ID", SAMPLED.replace("Sampled=1", "Sampled=0")),
        ("_X_AMZN_TRACE_ID", ""),
    ],
)
def test_an_invalid_daemon_address_or_unsampled_trace_is_ignored(
    name: str, value: str, traced: XrayDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "\x00" in value:
        monkeypatch.setattr(handler._service().trace, "_environment", {**os.environ, name: value})
    else:
        monkeypatch.setenv(name, value)
    assert handler.lambda_handler(notification(BUCKET, "a.jpg"), None)["labelled"] == 1
    assert traced.received() == []


def test_a_full_socket_buffer_does_not_block_photos(xray: XrayDaemon) -> None:
    trace = Trace({"_X_AMZN_TRACE_ID": SAMPLED, "AWS_XRAY_DAEMON_ADDRESS": xray.address})
    for _ in range(1000):  # more than the socket's buffer holds
        with trace.photo("s3://b/" + "a" * 1000):
            pass
    assert 0 < len(xray.received()) < 1000


@pytest.mark.parametrize(
    ("operation", "key", "expected_phases"),
    [("GetObject", "a.jpg", ["Fetch fault"]), ("PutObject", ".json", ["Fetch", "Decode", "Invoke", "Write fault"])],
)
def test_an_s3_failure_is_a_fault_of_its_phase_and_photo(
    operation: str, key: str, expected_phases: list[str], traced: XrayDaemon
) -> None:
    refuse(operation, "SlowDown", 503, key)
    with pytest.raises(Exception, match="SlowDown"):
        handler.lambda_handler(notification(BUCKET, "a.jpg"), None)
    (document,) = traced.received()
    assert phases(document) == expected_phases
    assert flags(document) == {"fault"}
    assert document["annotations"]["code"] == "UnavailableError"


def over_http(content: Any, query: str = "") -> Any:
    event = golden("http_function_url") | {"rawQueryString": query, "isBase64Encoded": False}
    return event | {"headers": {"content-type": "application/json"}, "body": json.dumps(content)}


def test_a_photo_over_http_is_traced(traced: XrayDaemon) -> None:
    cases = [
        ({"s3_uri": f"s3://{BUCKET}/a.jpg"}, "explain=1", ["Fetch", "Decode", "Invoke", "Explain"], set()),
        ({"image": base64.b64encode(jpeg("red")).decode()}, "", ["Decode", "Invoke"], set()),
        ({"image": base64.b64encode(b"%PDF-1.7").decode()}, "", ["Decode error"], {"error"}),
        ({"s3_uri": f"s3://{BUCKET}/gone.jpg"}, "", ["Fetch error"], {"error"}),
    ]
    for content, query, expected_phases, expected_flags in cases:
        handler.lambda_handler(over_http(content, query), None)
        (document,) = traced.received()
        assert (phases(document), flags(document)) == (expected_phases, expected_flags)
    handler.lambda_handler(over_http({"s3_uri": "s3://other/a.jpg"}), None)
    handler.lambda_handler({"s3": f"s3://{BUCKET}/a.jpg"}, None)
    (document,) = traced.received()
    assert phases(document) == ["Fetch", "Decode", "Invoke"]


def test_a_long_annotation_is_cut(traced: XrayDaemon, monkeypatch: pytest.MonkeyPatch) -> None:
    predictor = colour_predictor(labels=("blue", "r" * 5000, "green"))
    monkeypatch.setattr(CurrentModel, "get", lambda *_: predictor)
    handler.lambda_handler(notification(BUCKET, "a.jpg"), None)
    (document,) = traced.received()
    assert document["annotations"]["label"] == "r" * 1000


def test_an_error_between_phases_is_a_fault(xray: XrayDaemon) -> None:
    trace = Trace({"_X_AMZN_TRACE_ID": SAMPLED, "AWS_XRAY_DAEMON_ADDRESS": xray.address})
    with suppress(RuntimeError), trace.photo():
        trace.add_phase("Fetch", 0.0, None)
        raise RuntimeError("a bug")
    trace.add_phase("Fetch", 0.0, None)
    with trace.photo():
        pass
    bug, well = xray.received()
    assert (phases(bug), flags(bug), bug["annotations"]) == (["Fetch"], {"fault"}, {"code": "internal"})
    assert (phases(well), flags(well), well["annotations"]) == ([], set(), {})
    assert vars(trace)["_phases"] is None


def test_without_a_traced_photo_no_phase_is_kept() -> None:
    trace = Trace({})
    trace.add_phase("Fetch", 0.1, None)
    with trace.photo("s3://b/a.jpg"):
        trace.add_phase("Fetch", 0.1, None)
    assert vars(trace)["_phases"] is None


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (SAMPLED, (TRACE, SEGMENT)),
        (f"Sampled=1;Parent={SEGMENT};Root={TRACE}", (TRACE, SEGMENT)),
        (SAMPLED.replace("=1;", "=0;"), None),
        (f"Root={TRACE};Parent={SEGMENT}", None),
        (f"Root={TRACE};Sampled=1", None),
        ("Sampled=1", None),
        ("nonsense", None),
        ("", None),
    ],
)
def test_only_a_sampled_trace_has_a_parent_segment(header: str, expected: tuple[str, str] | None) -> None:
    assert parent_segment(header) == expected


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("169.254.79.129:2000", ("169.254.79.129", "2000")),
        ("[::1]:2000", ("::1", "2000")),
        ("tcp:127.0.0.1:2000 udp:127.0.0.2:2001", ("127.0.0.2", "2001")),
        ("udp:127.0.0.2:2001 tcp:127.0.0.1:2000", ("127.0.0.2", "2001")),
        ("127.0.0.1", None),
        ("", None),
    ],
)
def test_the_daemon_address_is_parsed_as_the_sdk_does(address: str, expected: tuple[str, str] | None) -> None:
    assert daemon_address(address) == expected


def test_phases_have_the_same_names_in_traces_and_metrics() -> None:
    from inference_lambda.observability.telemetry import PHASES

    assert PHASES == ("Fetch", "Decode", "Invoke", "Explain", "Write")
    assert all(re.fullmatch(r"[A-Z]\w+", name) for name in PHASES)
