import base64
import hashlib
import hmac
import io
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import openapi_spec_validator
import pytest

from inference_lambda.events.http import HttpRequest, HttpResponse, HttpSource
from inference_lambda.events.http_reply import http_reply
from inference_lambda.events.parse import parse_event
from inference_lambda.http import api as http_api
from inference_lambda.http.api import Api
from inference_lambda.http.body import MAX_BODY_BYTES
from inference_lambda.http.openapi import DOCUMENT
from inference_lambda.service import Service
from inference_lambda.settings import HttpSettings, Settings
from tests.inference_lambda.colours import LABELS, colour_predictor
from tests.inference_lambda.golden import BUCKET, KEY, NAMES, golden
from tests.pictures import jpeg
from transferlite.errors import (
    AccessDeniedError,
    BundleError,
    InputError,
    NotFoundError,
    TransferLiteError,
    UnavailableError,
)
from transferlite.predict.predictor import Predictor

RED = jpeg("red")
URI = f"s3://{BUCKET}/{KEY}"
HTTP = [name for name in NAMES if name.startswith("http_")]


@pytest.fixture
def objects(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes | TransferLiteError]:
    """Content of S3, or its error, by URI."""
    held: dict[str, bytes | TransferLiteError] = {URI: RED}

    def read(uri: str, max_bytes: int) -> bytes:
        assert max_bytes
        content = held.get(uri, NotFoundError("secret reason", where=uri))
        if isinstance(content, TransferLiteError):
            raise content
        return content

    monkeypatch.setattr(http_api, "read_uri", read)
    return held


def versions(**changes: Any) -> Callable[[str | None], Predictor]:
    """Return a lookup of model versions that knows only the current one."""
    predictor = colour_predictor(**changes)

    def get(model_id: str | None = None) -> Predictor:
        if model_id in {None, predictor.manifest.model_id}:
            return predictor
        raise BundleError("secret") if model_id == "broken" else NotFoundError("secret")

    return get


@pytest.fixture
def api(objects: object, monkeypatch: pytest.MonkeyPatch) -> Api:
    """API without key or CORS settings, whose callers may request objects of one bucket."""
    assert objects
    service = Service(Settings("unused", None, allowed_buckets=frozenset({BUCKET})))
    monkeypatch.setattr(service.model, "get", versions())
    monkeypatch.setattr(service.model, "loaded", service.model.get)
    return Api(HttpSettings(), lambda: service)


def with_settings(api: Api, settings: HttpSettings) -> Api:
    return Api(settings, api._service)


def get(path: str, method: str = "GET", **headers: str) -> HttpRequest:
    return HttpRequest(
        HttpSource.PAYLOAD_V2, method, path, headers={name.replace("_", "-"): text for name, text in headers.items()}
    )


def post(data: bytes, kind: str = "image/jpeg", path: str = "/predict", **query: str) -> HttpRequest:
    body = base64.b64encode(data).decode()
    return HttpRequest(
        HttpSource.PAYLOAD_V2,
        "POST",
        path,
        "",
        {"content-type": kind} if kind else {},
        tuple(query.items()),
        body,
        True,
    )


def post_json(content: Any) -> HttpRequest:
    return post(json.dumps(content).encode(), "application/json")


def content_of(response: HttpResponse) -> Any:
    assert response.text is not None
    return json.loads(response.text)


def check_problem(response: HttpResponse, status: int, code: str) -> None:
    """Check that a response is an RFC 9457 problem as documented, and reveals nothing internal."""
    assert response.headers["content-type"] == "application/problem+json"
    problem = content_of(response)
    assert (response.status, problem["status"]) == (status, status)
    assert problem["type"] == f"urn:transferlite:problem:{code}"
    check_schema(problem, "Problem")
    assert "secret" not in json.dumps(problem)


def check_schema(content: Any, name: str) -> None:
    jsonschema.validate(content, {"$ref": f"#/components/schemas/{name}", "components": DOCUMENT["components"]})


# -- request sources ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", HTTP)
def test_every_source_gets_a_reply_in_its_format(name: str, api: Api) -> None:
    request = parse_event(golden(name))
    assert isinstance(request, HttpRequest)
    reply = http_reply(request, api.respond(request))
    content = json.loads(reply["body"])
    assert reply["statusCode"] == 200
    assert reply["isBase64Encoded"] is False
    assert ("statusDescription" in reply) == ("alb" in name)
    if name == "http_alb_multi":
        assert reply["multiValueHeaders"]["content-type"] == ["application/json"]
        assert "headers" not in reply
    else:
        assert reply["headers"]["content-type"] == "application/json"
    if name == "http_alb_health":
        assert content == {"status": "ok", "model_id": "20260131-235959-3f9a1c07", "key": "none"}
    else:
        assert (content["label"], len(content["top"])) == ("red", 2)


def test_a_load_balancer_reply_has_a_status_description(api: Api) -> None:
    request = HttpRequest(HttpSource.LOAD_BALANCER, "GET", "/nowhere")
    assert http_reply(request, api.respond(request))["statusDescription"] == "404 Not Found"


@pytest.mark.parametrize(
    ("base", "stage", "path", "status"),
    [
        ("", "", "/health", 200),
        ("", "", "/health/", 200),
        ("", "prod", "/prod/health", 200),
        ("", "prod", "/health", 200),
        ("", "health", "/health", 200),
        ("/photos", "", "/photos/health", 200),
        ("/photos", "prod", "/photos/prod/health", 200),
        ("", "prod", "/production/health", 404),
        ("/photos", "", "/photoshealth", 404),
        ("", "", "/prod/health", 404),
        ("", "", "//health", 404),
        ("", "", "/x/../health", 404),
        ("", "", "/health%2f", 404),
        ("", "", "", 200),
        ("", "", "/", 200),
        ("", "prod", "/prod", 200),
        ("", "prod", "/prod/", 200),
        ("/photos", "", "/photos", 200),
        ("/photos", "prod", "/photos/prod/", 200),
        ("/photos", "prod", "/photos/production", 404),
    ],
)
def test_paths_are_found_below_a_stage_and_a_base_path(base: str, stage: str, path: str, status: int, api: Api) -> None:
    assert (
        with_settings(api, HttpSettings(base_path=base))
        .respond(HttpRequest(HttpSource.PAYLOAD_V2, "GET", path, stage))
        .status
        == status
    )


def test_a_websocket_event_is_not_an_http_request() -> None:
    with pytest.raises(InputError, match="unknown event"):
        parse_event({"requestContext": {"routeKey": "$connect", "eventType": "CONNECT"}})


# -- a photo -----------------------------------------------------------------------------------------------------------


def form(*parts: tuple[str, bytes], boundary: str = "edge") -> bytes:
    """Return a form body; each part has the parameters of its content disposition, and its content."""
    lines = b""
    for disposition, data in parts:
        lines += f"--{boundary}\r\nContent-Disposition: form-data; {disposition}\r\n\r\n".encode() + data + b"\r\n"
    return lines + f"--{boundary}--\r\n".encode()


FILE = 'name="photo"; filename="ein Hund+100% 猫.jpg"'
FORM = "multipart/form-data; boundary=edge"


@pytest.mark.parametrize(
    "request_",
    [
        post(RED),
        post(RED, ""),
        post(RED, "application/octet-stream"),
        post(RED, "IMAGE/PNG; charset=binary"),
        post_json({"image": base64.b64encode(RED).decode()}),
        post_json({"s3_uri": URI}),
        post(form((FILE, RED)), FORM),
        post(form(('name="note"', b"mine"), (FILE, RED)), FORM),
        post(form((FILE, RED), boundary="a b'?"), 'multipart/form-data; boundary="a b\'?"'),
        post(RED, path="/predict/"),
    ],
    ids=["jpeg", "no type", "octets", "wrong image type", "json", "uri", "form", "field too", "odd boundary", "slash"],
)
def test_a_photo_is_labelled_however_it_is_sent(request_: HttpRequest, api: Api) -> None:
    response = api.respond(request_)
    assert content_of(response) == colour_predictor()(RED).to_dict()
    check_schema(content_of(response), "Prediction")


@pytest.mark.parametrize(
    ("query", "label", "count"),
    [
        ({}, "unknown", 3),
        ({"top": "1"}, "unknown", 1),
        ({"top": "1000"}, "unknown", len(LABELS)),
        ({"threshold": "0.3"}, "red", 3),
        ({"threshold": "1"}, "unknown", 3),
    ],
)
def test_the_query_may_set_top_and_threshold(
    query: dict[str, str], label: str, count: int, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api._service().model, "get", versions(threshold=0.99))
    prediction = content_of(api.respond(post(RED, **query)))
    assert (prediction["label"], len(prediction["top"]), prediction["top"][0]["label"]) == (label, count, "red")


@pytest.mark.parametrize(
    "query",
    [
        {"top": "0"}, {"top": "-1"}, {"top": "1001"}, {"top": "9" * 5000}, {"top": "²"}, {"top": ""},
        {"threshold": "nan"}, {"threshold": "2"}, {"threshold": "x"}, {"treshold": "0.5"}, {"explain": "yes"},
        {"explain": ""}, {"model": ""}, {"model": "../other"}, {"model": "x" * 101},
    ],
)  # fmt: skip
def test_an_invalid_query_is_refused(query: dict[str, str], api: Api) -> None:
    check_problem(api.respond(post(RED, **query)), 400, "bad-query")


def bomb() -> bytes:
    """Return a PNG whose header claims 100,000 x 100,000 pixels."""
    import struct
    import zlib

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")


GZIP = {"content-encoding": "gzip"}


def post_text(text: str, is_base64: bool = False) -> HttpRequest:
    """Return a request whose gateway passed the photo on as text."""
    headers = {"content-type": "image/jpeg"}
    return HttpRequest(HttpSource.PAYLOAD_V1, "POST", "/predict", headers=headers, body=text, is_base64=is_base64)


@pytest.mark.parametrize(
    ("request_", "status", "code"),
    [
        (post(b""), 400, "empty"),
        (post_json({"image": ""}), 400, "empty"),
        (post(b"%PDF-1.7"), 422, "not-image"),
        (post(RED[:-20]), 422, "truncated"),
        (post(bomb()), 413, "too-large"),
        (post(b"x" * (MAX_BODY_BYTES + 1)), 413, "body-too-large"),
        (post(b"{}", "text/plain"), 415, "unsupported-type"),
        (post(RED, "application/x-www-form-urlencoded"), 415, "unsupported-type"),
        (HttpRequest(HttpSource.PAYLOAD_V1, "POST", "/predict", headers=GZIP, body="x"), 415, "unsupported-encoding"),
        (post_text("\ufffd\ufffd\0"), 400, "body-was-text"),
        (post_text("\ud800"), 400, "body-was-text"),
        (post_text("no base64!", is_base64=True), 400, "bad-body"),
        (post(b"{", "application/json"), 400, "bad-json"),
        (post(b"[" * 100_000, "application/json"), 400, "bad-json"),
        (post(b"\xff", "application/json"), 400, "bad-json"),
        (post_json([]), 400, "bad-json"),
        (post_json({}), 400, "bad-json"),
        (post_json({"image": 5}), 400, "bad-json"),
        (post_json({"image": "AAAA", "s3_uri": URI}), 400, "bad-json"),
        (post_json({"image": "data:image/svg+xml,%3Csvg%3E"}), 400, "bad-base64"),
        (post_json({"image": "é"}), 400, "bad-base64"),
        (post_json({"s3_uri": "https://example.org/x.jpg"}), 400, "bad-uri"),
        (post_json({"s3_uri": "/etc/passwd"}), 400, "bad-uri"),
        (post_json({"s3_uri": f"s3://{BUCKET}"}), 400, "bad-uri"),
        (post_json({"s3_uri": f"s3://{BUCKET}/in/"}), 400, "bad-uri"),
        (post_json({"s3_uri": f"s3:///{BUCKET}/x.jpg"}), 400, "bad-uri"),
        (post_json({"s3_uri": f"s3://{BUCKET}/../other/x.jpg"}), 400, "bad-uri"),
        (post_json({"s3_uri": f"s3://{BUCKET}/in/.."}), 400, "bad-uri"),
        (post_json({"s3_uri": f"s3://{BUCKET}/./x.jpg"}), 400, "bad-uri"),
        (post_json({"s3_uri": f"s3://{BUCKET}/\ud800.jpg"}), 400, "bad-uri"),
        (post_json({"s3_uri": f"s3://{BUCKET}/a\r\nHost: other"}), 400, "bad-uri"),
        (post_json({"s3_uri": f"s3://{BUCKET}/{'猫' * 342}"}), 400, "bad-uri"),
        (post_json({"s3_uri": f"S3://{BUCKET}/x.jpg"}), 400, "bad-uri"),
        (post_json({"s3_uri": f"s3://{BUCKET.upper()}/x.jpg"}), 403, "bucket-not-allowed"),
        (post_json({"s3_uri": "s3://arn:aws:s3:us-east-1:1:accesspoint/x.jpg"}), 400, "bad-uri"),
        (post_json({"s3_uri": "s3://169.254.169.254/latest/meta-data"}), 403, "bucket-not-allowed"),
        (post_json({"s3_uri": f"s3://{BUCKET}@other/x.jpg"}), 403, "bucket-not-allowed"),
        (post_json({"s3_uri": "s3://other/x.jpg"}), 403, "bucket-not-allowed"),
        (post_json({"s3_uri": f"s3://other@{BUCKET}/x.jpg"}), 403, "bucket-not-allowed"),
        (post_json({"s3_uri": f"s3://key:secret@{BUCKET}/x.jpg"}), 403, "bucket-not-allowed"),
        (post_json({"s3_uri": f"s3://{BUCKET}:443/x.jpg"}), 403, "bucket-not-allowed"),
        (post_json({"s3_uri": f"s3://{BUCKET}%2f..%2fother/x.jpg"}), 403, "bucket-not-allowed"),
        (post_json({"s3_uri": f"s3://{BUCKET}\\..\\other/x.jpg"}), 403, "bucket-not-allowed"),
        (post_json({"s3_uri": f"s3://{BUCKET}./x.jpg"}), 403, "bucket-not-allowed"),
        (post_json({"s3_uri": f"s3://{BUCKET} /x.jpg"}), 403, "bucket-not-allowed"),
        (post_json({"s3_uri": f"s3://{BUCKET}\x00/x.jpg"}), 403, "bucket-not-allowed"),
        (post_json({"s3_uri": f"s3://{BUCKET.replace('o', 'о')}/x.jpg"}), 403, "bucket-not-allowed"),  # noqa: RUF001
        (post_json({"s3_uri": f"s3://arn:aws:s3:::{BUCKET}/x.jpg"}), 400, "bad-uri"),
        (post_json({"s3_uri": f"s3://arn:aws:s3:eu-west-1:1:accesspoint:{BUCKET}/x.jpg"}), 400, "bad-uri"),
        (post_json({"s3_uri": f"s3://arn:aws:s3-object-lambda:eu-west-1:1:accesspoint/{BUCKET}"}), 400, "bad-uri"),
        (post_json({"s3_uri": f"s3:/{BUCKET}/x.jpg"}), 400, "bad-uri"),
        (post_json({"s3_uri": f"s3://{BUCKET}/in/.\x2e/x.jpg"}), 400, "bad-uri"),
        (post_json({"s3_uri": f" s3://{BUCKET}/x.jpg"}), 400, "bad-uri"),
        (post_json({"s3_uri": f"file://s3://{BUCKET}/x.jpg"}), 400, "bad-uri"),
        (post_json({"s3_uri": ["s3://other/x.jpg"]}), 400, "bad-json"),
        (post(f'{{"s3_uri": "s3://{BUCKET}/x.jpg", "s3_uri": "s3://other/x.jpg"}}'.encode(), "application/json"), 403,
         "bucket-not-allowed"),
        (post_json({"s3_uri": f"s3://{BUCKET}.other/x.jpg"}), 403, "bucket-not-allowed"),
        (post_json({"s3_uri": f"s3://{BUCKET}/gone.jpg"}), 404, "photo-missing"),
        (post(RED, "multipart/form-data"), 400, "bad-form"),
        (post(RED, FORM), 400, "bad-form"),
        (post(form((FILE, RED))[:-9], FORM), 400, "bad-form"),
        (post(form((FILE, RED), (FILE, RED)), FORM), 400, "bad-form"),
        (post(form(('name="photo"', RED)), FORM), 400, "bad-form"),
        (post(form(*[('name="x"', b"")] * 99), FORM), 400, "bad-form"),
        (post(form((FILE, b"")), FORM), 400, "empty"),
        (get("/predict"), 405, "no-such-method"),
        (get("/predict", "HEAD"), 405, "no-such-method"),
        (get("/model", "POST"), 405, "no-such-method"),
        (get("/model", "BREW"), 405, "no-such-method"),
        (get("/../../etc/passwd"), 404, "no-such-path"),
    ],
)  # fmt: skip
def test_a_wrong_request_gets_a_problem_with_its_code(request_: HttpRequest, status: int, code: str, api: Api) -> None:
    check_problem(api.respond(request_), status, code)


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (UnavailableError("secret"), 503, "storage-unavailable"),
        (AccessDeniedError("secret"), 403, "photo-forbidden"),
        (InputError("secret"), 502, "storage-refused"),
    ],
)
def test_only_retryable_s3_failures_have_retry_after(
    error: TransferLiteError, status: int, code: str, api: Api, objects: dict[str, bytes | TransferLiteError]
) -> None:
    objects[URI] = error
    response = api.respond(post_json({"s3_uri": URI}))
    check_problem(response, status, code)
    assert ("retry-after" in response.headers) == (status == 503)


def test_without_allowed_buckets_no_object_may_be_requested(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api._service(), "settings", Settings("unused", None))
    check_problem(api.respond(post_json({"s3_uri": URI})), 403, "bucket-not-allowed")


# -- explanation and model version -------------------------------------------------------------------------------------


def red_square() -> bytes:
    """Return a grey photo with a red square at the upper right, after its EXIF rotation."""
    from PIL import ExifTags, Image

    image, exif, file = Image.new("RGB", (200, 400), (90, 90, 90)), Image.Exif(), io.BytesIO()
    image.paste((250, 20, 20), (20, 40, 60, 80))
    exif[ExifTags.Base.Orientation] = 6  # rotate 90 degrees clockwise
    image.save(file, "PNG", exif=exif)
    return file.getvalue()


def test_an_explanation_lies_where_the_photo_shows_its_label(api: Api) -> None:
    from PIL import Image

    prediction = content_of(api.respond(post(red_square(), explain="1")))
    check_schema(prediction, "Prediction")
    explanation = prediction["explanation"]
    assert (prediction["label"], explanation["label"], explanation["score"]) == ("red", "red", prediction["score"])
    assert explanation["covered_score"] < explanation["score"]
    left, top, right, bottom = explanation["part"].values()
    assert left < 0.85 < right  # centre of the rotated square
    assert top < 0.2 < bottom
    kind, _, data = explanation["heat"].partition(",")
    assert kind == "data:image/png;base64"
    picture = Image.open(io.BytesIO(base64.b64decode(data)))
    opacity = np.asarray(picture)[..., 3].astype(float)
    assert picture.mode == "RGBA"
    assert opacity[:64, 80:].max() > 0
    assert opacity[64:].max() == opacity[:, :64].max() == 0


def test_nothing_is_explained_by_default(api: Api) -> None:
    assert content_of(api.respond(post(RED, explain="0"))) == content_of(api.respond(post(RED)))
    assert "explanation" not in content_of(api.respond(post(RED)))


def test_an_explanation_ends_before_the_function_is_stopped(api: Api) -> None:
    response = api.respond(replace(post(RED, explain="1"), seconds_left=0.5))
    check_problem(response, 503, "explain-too-slow")
    assert "0 seconds" in content_of(response)["detail"]
    assert api.respond(replace(post(RED), seconds_left=0.5)).status == 200


@pytest.mark.parametrize("path", ["/predict", "/model"])
@pytest.mark.parametrize(
    ("model_id", "status", "code"),
    [
        ("20260131-235959-3f9a1c07", 200, ""),
        ("20990101-000000-00000000", 404, "no-such-model"),
        ("broken", 503, "model-unavailable"),
    ],
)
def test_a_version_may_be_requested(model_id: str, status: int, code: str, path: str, api: Api) -> None:
    request = post(RED, model=model_id) if path == "/predict" else replace(get(path), query=(("model", model_id),))
    response = api.respond(request)
    if code:
        check_problem(response, status, code)
    else:
        assert content_of(response)["model_id"] == model_id


# -- model, health and OpenAPI document --------------------------------------------------------------------------------


def test_the_current_model_is_described(api: Api) -> None:
    model = content_of(api.respond(get("/model")))
    check_schema(model, "Model")
    assert model == {
        "model_id": "20260131-235959-3f9a1c07",
        "created_at": "2026-01-31T23:59:59+00:00",
        "labels": list(LABELS),
        "input": {"height": 64, "width": 64, "resize": "squash"},
        "variant": "float32",
        "accuracy": 0.95,
        "photos": 40,
        "threshold": 0.0,
    }


@pytest.mark.parametrize("path", ["/health", "/model"])
@pytest.mark.parametrize(("error", "retry"), [(UnavailableError("secret"), True), (NotFoundError("secret"), False)])
def test_without_a_model_the_function_is_unavailable(path: str, error: TransferLiteError, retry: bool) -> None:
    def service() -> Service:
        raise error

    response = Api(HttpSettings(), service).respond(get(path))
    check_problem(response, 503, "model-unavailable")
    assert ("retry-after" in response.headers) == retry


def test_an_unexpected_error_is_reported_without_its_text(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr(api._service().model, "loaded", fail)
    check_problem(api.respond(get("/health")), 500, "internal")


def test_a_health_check_loads_no_model(tmp_path: Path) -> None:
    service = Service(Settings(str(tmp_path / "nowhere"), None))
    response = Api(HttpSettings(), lambda: service).respond(get("/health"))
    check_problem(response, 503, "model-unavailable")
    assert "retry-after" in response.headers


def test_the_page_policy_forbids_external_content(api: Api) -> None:
    response = api.respond(get("/"))
    text = response.text or ""
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    policy = dict(directive.split(" ", 1) for directive in response.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    for element in ("script", "style"):
        (content,) = re.findall(f"<{element}>(.*?)</{element}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert policy[f"{element}-src"] == f"'sha256-{digest}'"
    assert "unsafe" not in response.headers["content-security-policy"]
    assert re.findall(r"https?://|<script |<style |style=|\bon\w+=|innerHTML", text) == []
    assert with_settings(api, KEYS).respond(get("/")).status == 200


def test_head_is_get_without_a_body(api: Api) -> None:
    request = get("/health", "HEAD")
    reply = http_reply(request, api.respond(request))
    assert (reply["statusCode"], reply["body"], reply["headers"]["content-type"]) == (200, "", "application/json")


def test_the_openapi_document_is_valid_and_lists_every_path(api: Api) -> None:
    openapi_spec_validator.validate(DOCUMENT)
    assert content_of(api.respond(get("/openapi.json"))) == DOCUMENT
    documented = {path: {method.upper() for method in methods} for path, methods in DOCUMENT["paths"].items()}
    assert documented == {path: set(methods) for path, methods in api._routes.items()}
    check_schema(content_of(api.respond(get("/health"))), "Health")


# -- keys and CORS -----------------------------------------------------------------------------------------------------

KEYS = HttpSettings.from_environment(
    {
        "TRANSFERLITE_API_KEY_SHA256": ",".join(hashlib.sha256(key).hexdigest() for key in (b"old", b"new")).upper(),
        "TRANSFERLITE_API_KEY": "third é",
    }
)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"x_api_key": ""}, 401),
        ({"x_api_key": "wrong"}, 401),
        ({"x_api_key": "\ud800"}, 401),
        ({"x_api_key": hashlib.sha256(b"old").hexdigest()}, 401),
        ({"authorization": "Basic old"}, 401),
        ({"authorization": "AWS4-HMAC-SHA256 Credential=x"}, 401),
        ({"x_api_key": "old"}, 200),
        ({"x_api_key": "new"}, 200),
        ({"x_api_key": "third é"}, 200),
        ({"authorization": "bearer new"}, 200),
        ({"authorization": "AWS4-HMAC-SHA256 Credential=x", "x_api_key": "old"}, 200),
    ],
)
def test_a_key_is_required_if_one_is_configured(headers: dict[str, str], status: int, api: Api) -> None:
    guarded = with_settings(api, KEYS)
    response = guarded.respond(get("/model", **headers))
    assert response.status == status
    if status == 401:
        check_problem(response, 401, "no-key")
        assert response.headers["www-authenticate"] == "Bearer"
    assert guarded.respond(get("/health", **headers)).status == 200


def test_an_invalid_key_digest_is_refused() -> None:
    with pytest.raises(InputError, match="not 64 hexadecimal digits"):
        HttpSettings.from_environment({"TRANSFERLITE_API_KEY_SHA256": "my key"})


def test_the_digest_of_an_empty_key_is_refused() -> None:
    with pytest.raises(InputError, match="sha256 of an empty key"):
        HttpSettings.from_environment({"TRANSFERLITE_API_KEY_SHA256": hashlib.sha256(b"").hexdigest()})


def test_every_key_is_compared_in_constant_time(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[bytes, bytes]] = []
    compare = hmac.compare_digest

    def noted(given: bytes, digest: bytes) -> bool:
        compared.append((given, digest))
        return compare(given, digest)

    monkeypatch.setattr(hmac, "compare_digest", noted)
    for key in ("old", "new", "third é", "wrong", "", "x" * 100_000):
        compared.clear()
        with_settings(api, KEYS).respond(get("/model", x_api_key=key))
        assert {digest for _, digest in compared} == set(KEYS.key_digests)
        assert {given for given, _ in compared} == {hashlib.sha256(key.encode()).digest()}


@pytest.mark.parametrize("path", [*DOCUMENT["paths"], "/predict/", "/nowhere"])
@pytest.mark.parametrize("base", ["", "/photos"])
def test_cors_preflight_works_on_every_path_without_a_key(path: str, base: str, api: Api) -> None:
    settings = replace(KEYS, origins=frozenset({"https://a.example"}), base_path=base)
    asking = get(
        base + path, "OPTIONS", origin="https://a.example", access_control_request_method="POST",
        access_control_request_headers="content-type,x-api-key",
    )  # fmt: skip
    response = with_settings(api, settings).respond(asking)
    assert response.status == (404 if path == "/nowhere" else 204)
    assert response.headers["access-control-allow-origin"] == "https://a.example"
    assert "POST" in response.headers["access-control-allow-methods"]
    for name in ("content-type", "x-api-key"):
        assert name in response.headers["access-control-allow-headers"]
    assert response.headers["vary"] == "origin"
    assert "access-control-allow-credentials" not in response.headers


@pytest.mark.parametrize(
    "origin",
    [
        "null",
        "https://a.example\r\nset-cookie: a=b",
        "https://A.example",
        "https://a.example:443",
        "https://a.example/",
    ],
)
def test_an_origin_that_does_not_match_exactly_gets_no_cors_headers(origin: str, api: Api) -> None:
    shared = with_settings(api, HttpSettings(origins=frozenset({"https://a.example"})))
    response = shared.respond(get("/health", origin=origin))
    assert {name for name in response.headers if name.startswith("access-control")} == set()
    assert "\n" not in json.dumps(dict(response.headers))


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "get", ""])
@pytest.mark.parametrize("path", ["/", "/predict", "/model", "/health", "/openapi.json"])
def test_every_method_of_every_path_is_documented_or_refused(method: str, path: str, api: Api) -> None:
    request = replace(get(path), method=method)
    response = api.respond(request)
    known = {name.upper() for name in DOCUMENT["paths"][path]}
    answered = known | ({"HEAD"} if "GET" in known else set())
    if method == "OPTIONS":
        assert (response.status, response.text) == (204, None)
    elif method in answered:
        assert response.status in {200, 400}
    else:
        check_problem(response, 405, "no-such-method")
        assert set(response.headers["allow"].split(", ")) == answered | {"OPTIONS"}
    assert (http_reply(request, response)["body"] == "") == (method in {"OPTIONS", "HEAD"})


@pytest.mark.parametrize(
    ("origins", "origin", "allowed"),
    [
        ("", "https://a.example", None),
        ("https://a.example/, https://b.example", "https://a.example", "https://a.example"),
        ("https://a.example", "https://a.example.evil", None),
        ("https://a.example", "", None),
        ("*", "https://any.example", "*"),
    ],
)
def test_configured_origins_may_call(origins: str, origin: str, allowed: str | None, api: Api) -> None:
    shared = with_settings(api, HttpSettings.from_environment({"TRANSFERLITE_CORS_ORIGINS": origins}))
    for request in (get("/health", origin=origin), get("/nowhere", origin=origin)):
        assert shared.respond(request).headers.get("access-control-allow-origin") == allowed
    preflight = shared.respond(get("/predict", "OPTIONS", origin=origin))
    assert (preflight.status, preflight.text, preflight.headers["allow"]) == (204, None, "POST, OPTIONS")
    assert ("access-control-allow-methods" in preflight.headers) == (allowed is not None)


@pytest.mark.parametrize("make", [lambda: golden("http_function_url"), lambda: golden("http_alb")])
def test_a_request_may_lack_headers_query_and_body(make: Callable[[], dict[str, Any]], api: Api) -> None:
    event = make()
    for name in ("headers", "queryStringParameters", "rawQueryString", "body"):
        event[name] = None
    request = parse_event(event)
    assert isinstance(request, HttpRequest)
    check_problem(api.respond(request), 400, "empty")
