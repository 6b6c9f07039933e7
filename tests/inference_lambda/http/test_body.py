import base64
import io
import json
from collections.abc import Callable
from typing import Any

import pytest
from PIL import Image

from inference_lambda.events.http import HttpRequest
from inference_lambda.events.parse import parse_event
from inference_lambda.http.api import _bucket_of
from inference_lambda.http.asgi import function_url_event
from inference_lambda.http.body import MAX_BODY_BYTES, read_photo
from inference_lambda.http.problems import Problem
from tests.inference_lambda.golden import golden
from tests.pictures import jpeg


def png() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (64, 48), "red").save(file, "png")
    return file.getvalue()


PHOTOS = {"jpeg": jpeg("red"), "png": png()}
FORM = "multipart/form-data; boundary=edge"
SOURCES = ["http_function_url", "http_api_v2_stage", "http_api_v1", "http_alb", "http_alb_multi"]
GATEWAYS: dict[str, Callable[[bytes], str]] = {
    "UTF-8 with replacement": lambda data: data.decode("utf-8", "replace"),
    "Latin-1": lambda data: data.decode("latin-1"),
    "lone surrogates": lambda data: data.decode("utf-8", "surrogateescape"),
    "ASCII with replacement": lambda data: data.decode("ascii", "replace"),
}


def form(data: bytes, name: str = "a.jpg") -> bytes:
    disposition = f'Content-Disposition: form-data; name="photo"; filename="{name}"'
    return f"--edge\r\n{disposition}\r\n\r\n".encode() + data + b"\r\n--edge--\r\n"


def request(body: str, content_type: str, is_base64: bool, source: str = "http_function_url") -> HttpRequest:
    """Return a request as this source sends it."""
    event: dict[str, Any] = golden(source)
    event |= {"body": body, "isBase64Encoded": is_base64}
    if isinstance(event.get("headers"), dict):
        headers = {name: value for name, value in event["headers"].items() if name.lower() != "content-type"}
        event["headers"] = headers | {"content-type": content_type}
    if isinstance(event.get("multiValueHeaders"), dict):
        many = {name: value for name, value in event["multiValueHeaders"].items() if name.lower() != "content-type"}
        event["multiValueHeaders"] = many | {"content-type": [content_type]}
    parsed = parse_event(event)
    assert isinstance(parsed, HttpRequest)
    return parsed


def problem(http_request: HttpRequest) -> Problem:
    with pytest.raises(Problem) as caught:
        read_photo(http_request)
    return caught.value


# -- bodies that a gateway took for text -------------------------------------------------------------------------------


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("gateway", GATEWAYS.values(), ids=list(GATEWAYS))
@pytest.mark.parametrize("photo", PHOTOS.values(), ids=list(PHOTOS))
@pytest.mark.parametrize("content_type", [FORM, "image/jpeg", "application/octet-stream", ""])
def test_a_photo_sent_as_text_is_answered_body_was_text(
    content_type: str, photo: bytes, gateway: Callable[[bytes], str], source: str
) -> None:
    body = gateway(form(photo) if content_type == FORM else photo)
    answer = problem(request(body, content_type, False, source))
    assert (answer.status, answer.code) == (400, "body-was-text")
    assert "binary media types" in answer.detail


@pytest.mark.parametrize("source", SOURCES)
def test_a_form_in_base64_is_read(source: str) -> None:
    body = base64.b64encode(form(PHOTOS["jpeg"], "猫.jpg")).decode()
    assert read_photo(request(body, FORM, True, source)) == PHOTOS["jpeg"]


@pytest.mark.parametrize("source", SOURCES)
def test_json_may_be_text(source: str) -> None:
    uri = "s3://photos/in/猫 �.jpg"
    assert (
        read_photo(request(json.dumps({"s3_uri": uri}, ensure_ascii=False), "application/json", False, source)) == uri
    )


# -- base64 ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "encode",
    [
        lambda data: base64.encodebytes(data).decode(),
        lambda data: base64.encodebytes(data).decode().replace("\n", "\r\n"),
        lambda data: base64.b64encode(data).decode() + "\n",
        lambda data: base64.urlsafe_b64encode(data).decode().rstrip("="),
    ],
    ids=["line breaks", "CRLF", "trailing newline", "URL-safe"],
)
@pytest.mark.parametrize("source", SOURCES)
def test_base64_with_line_breaks_is_accepted(encode: Callable[[bytes], str], source: str) -> None:
    photo = PHOTOS["jpeg"]
    assert read_photo(request(encode(photo), "image/jpeg", True, source)) == photo
    assert read_photo(request(encode(form(photo)), FORM, True, source)) == photo
    assert read_photo(request(json.dumps({"image": encode(photo)}), "application/json", False, source)) == photo


def test_a_data_url_is_accepted_in_json() -> None:
    data_url = "data:image/jpeg;base64," + base64.b64encode(PHOTOS["jpeg"]).decode()
    assert read_photo(request(json.dumps({"image": data_url}), "application/json", False)) == PHOTOS["jpeg"]


def test_a_space_in_place_of_a_plus_sign_is_refused_and_explained() -> None:
    answer = problem(request(json.dumps({"image": "AA  AAAA  AAAAAA"}), "application/json", False))
    assert answer.code == "bad-base64"
    assert "+ sign" in answer.detail


# -- size --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content_type", ["image/jpeg", FORM, "application/json"])
@pytest.mark.parametrize("is_base64", [True, False])
def test_a_photo_that_is_too_large_is_answered_with_the_size_of_a_photo(content_type: str, is_base64: bool) -> None:
    answer = problem(request("A" * (MAX_BODY_BYTES + 1), content_type, is_base64))
    assert (answer.status, answer.code) == (413, "body-too-large")
    assert "4.7 MB" in answer.detail
    assert "s3_uri" in answer.detail


def test_the_size_in_the_message_is_that_of_the_largest_photo() -> None:
    def sent(size: int) -> HttpRequest:
        return request(base64.b64encode(b"\xff" * size).decode(), "image/jpeg", True)

    assert len(read_photo(sent(4_700_000))) == 4_700_000
    assert problem(sent(4_720_000)).code == "body-too-large"


def test_serve_has_the_limit_of_a_function() -> None:
    scope = {"headers": [(b"content-type", b"image/jpeg")], "raw_path": b"/predict", "query_string": b""}
    event = function_url_event({**scope, "method": "POST", "http_version": "1.1"}, b"\xff" * 5_000_000)
    parsed = parse_event(event)
    assert isinstance(parsed, HttpRequest)
    assert problem(parsed).code == "body-too-large"


# -- access points -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("uri", "hint"),
    [
        ("s3://arn:aws:s3:eu-central-1:111122223333:accesspoint/my-ap/a.jpg", "alias"),
        ("arn:aws:s3:eu-central-1:111122223333:accesspoint/my-ap", "alias"),
        ("s3://arn:aws:s3-object-lambda:eu-central-1:111122223333:accesspoint/my-olap/a.jpg", "alias"),
        ("s3://arn:aws:s3-outposts:eu-central-1:1:outpost/op-1/accesspoint/my-ap/a.jpg", "alias"),
        ("s3://arn:aws:s3::111122223333:accesspoint/mfzwi23gnjvgw.mrap/a.jpg", "Multi-Region"),
        ("s3://arn:aws:s3:::photos/a.jpg", "name of the bucket"),
        ("arn:aws:s3:::photos/a.jpg", "name of the bucket"),
        ("ARN:aws:s3:::photos/a.jpg", "name of the bucket"),
    ],
)
def test_an_arn_is_answered_with_what_to_write(uri: str, hint: str) -> None:
    with pytest.raises(Problem) as caught:
        _bucket_of(uri)
    assert (caught.value.status, caught.value.code) == (400, "bad-uri")
    assert hint in caught.value.detail


@pytest.mark.parametrize("alias", ["my-ap-hrzrlukc5m36ft7okagglf3gmwluquse1b-s3alias", "my-olap-hrzr1a--ol-s3"])
def test_the_alias_of_an_access_point_is_a_bucket(alias: str) -> None:
    assert _bucket_of(f"s3://{alias}/in/a.jpg") == alias


@pytest.mark.parametrize("key", ["arn:aws:s3:::x.jpg", "accesspoint/x.jpg", "a/arn:aws:s3:eu:1:accesspoint/x.jpg"])
def test_a_key_may_look_like_an_arn(key: str) -> None:
    assert _bucket_of(f"s3://photos/{key}") == "photos"
