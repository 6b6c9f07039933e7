"""Photo in a request body: raw bytes, base64 in JSON, one file of a form, or the ``s3://`` URI of an object."""

import json
from collections.abc import Mapping
from typing import Any

from inference_lambda.events.base64_text import decode_base64
from inference_lambda.events.http import HttpRequest
from inference_lambda.http.problems import Problem
from transferlite.errors import MissingExtraError

MAX_BODY_BYTES = 6 * 2**20
"""Largest body, both as sent and as encoded in the event; Lambda accepts no larger event.

Source: https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
"""

_TOO_LARGE = (
    f"The photo is too large: a request holds about {MAX_BODY_BYTES * 3 / 4e6:.1f} MB of photo. "
    'Shrink it, or upload it to S3 and send {"s3_uri": "s3://bucket/key"}.'
)
_MAX_FORM_PARTS = 16
_RAW_TYPES = ("", "application/octet-stream", "binary/octet-stream")


def read_photo(request: HttpRequest) -> bytes | str:
    """Return the photo's bytes, or the ``s3://`` URI in the body.

    Raises:
        Problem: 400 if the body does not match its content type, 413 if it is too large, 415 for an unsupported type.
    """
    content_type = request.headers.get("content-type", "")
    media_type = content_type.partition(";")[0].strip().lower()
    if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise Problem(415, "unsupported-encoding", "Send the body without a content encoding.")
    if media_type == "application/json":
        return _from_json(_decode_body(request))
    if media_type == "multipart/form-data":
        return _from_form(_decode_binary_body(request), content_type)
    if media_type in _RAW_TYPES or media_type.startswith("image/"):
        return _decode_binary_body(request)
    raise Problem(
        415, "unsupported-type", "Send a photo as image/..., application/json or multipart/form-data (content type)."
    )


def _decode_body(request: HttpRequest) -> bytes:
    if len(request.body) > MAX_BODY_BYTES:
        raise Problem(413, "body-too-large", _TOO_LARGE)
    try:
        data = decode_base64(request.body) if request.is_base64 else request.body.encode()
    except ValueError:
        raise Problem(400, "bad-body", "The body cannot be decoded.") from None
    if len(data) > MAX_BODY_BYTES:
        raise Problem(413, "body-too-large", _TOO_LARGE)
    if not data:
        raise Problem(400, "empty", "The body is empty; send a photo.")
    return data


def _decode_binary_body(request: HttpRequest) -> bytes:
    """Decode a body that holds a photo's bytes.

    Beyond ASCII, no such body survives as text: most gateways replace bytes that are not UTF-8 by U+FFFD, some read
    Latin-1 or write lone surrogates (https://github.com/brefphp/bref/issues/271).
    """
    if not request.is_base64 and not request.body.isascii():
        raise Problem(400, "body-was-text", "The gateway decoded the photo as text; set its binary media types to */*.")
    return _decode_body(request)


def _from_json(data: bytes) -> bytes | str:
    try:
        content: Any = json.loads(data)
    except (ValueError, RecursionError):
        raise Problem(400, "bad-json", "The body is not valid JSON.") from None
    if isinstance(content, Mapping) and len(content) == 1:
        if isinstance(content.get("s3_uri"), str):
            return str(content["s3_uri"])
        if isinstance(content.get("image"), str):
            return _decode_base64(content["image"])
    raise Problem(400, "bad-json", 'Send {"image": "<base64>"} or {"s3_uri": "s3://bucket/key"}.')


def _decode_base64(text: str) -> bytes:
    try:
        return decode_base64(text)
    except ValueError:
        detail = "The image is not base64; a space in it may be a + sign that was not percent-encoded."
        raise Problem(400, "bad-base64", detail) from None


def _from_form(data: bytes, content_type: str) -> bytes:
    """Return the form's one file; other fields are ignored."""
    try:
        from multipart import MultipartError, MultipartSegment, PushMultipartParser, parse_options_header
    except ModuleNotFoundError:
        raise MissingExtraError("multipart", "lambda") from None
    files: list[bytearray] = []
    in_file = False
    try:
        boundary = parse_options_header(content_type)[1].get("boundary", "")
        if not boundary:
            raise Problem(400, "bad-form", "The form's content type has no boundary.")
        with PushMultipartParser(boundary, len(data), max_segment_count=_MAX_FORM_PARTS, strict=True) as parser:
            for part in parser.parse(data):
                if isinstance(part, MultipartSegment):
                    in_file = part.filename is not None
                    files += [bytearray()] if in_file else []
                elif part and in_file:
                    files[-1] += part
    except (MultipartError, ValueError, LookupError):
        raise Problem(400, "bad-form", "The form is malformed, or has too many parts.") from None
    if len(files) != 1:
        raise Problem(400, "bad-form", f"The form has {len(files)} files; send exactly 1.")
    return bytes(files[0])
