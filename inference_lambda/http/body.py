"""The photo in a request's body: raw bytes, base64 in JSON, one file of a form, or the ``s3://`` URI of an object."""

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any

from inference_lambda.events.http import Request
from inference_lambda.http.problems import Problem
from transferlite.errors import MissingExtraError

MOST_BYTES = 6 * 2**20
"""Of a body, as it is sent and in the event: Lambda itself takes no larger one.

Source: https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
"""

_PARTS = 16
_RAW = ("", "application/octet-stream", "binary/octet-stream")


def photo_of(request: Request) -> bytes | str:
    """The photo's bytes, or the ``s3://`` URI that names it.

    Raises:
        Problem: 400 for a body that is not what its type says, 413 for a large one, 415 for a type that has no photo.
    """
    content_type = request.headers.get("content-type", "")
    kind = content_type.partition(";")[0].strip().lower()
    if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise Problem(415, "unsupported-encoding", "Send the body without a content encoding.")
    if kind == "application/json":
        return _from_json(_bytes(request))
    if kind == "multipart/form-data":
        return _from_form(_bytes(request), content_type)
    if kind in _RAW or kind.startswith("image/"):
        return _raw(request)
    raise Problem(
        415,
        "unsupported-type",
        "Send a photo with a content type of image/..., or application/json, or multipart/form-data.",
    )


def _bytes(request: Request) -> bytes:
    if len(request.body) > MOST_BYTES:
        raise Problem(413, "body-too-large", f"The body has more than {MOST_BYTES:,} bytes.")
    try:
        data = base64.b64decode(request.body, validate=True) if request.is_base64 else request.body.encode()
    except (binascii.Error, ValueError):
        raise Problem(400, "bad-body", "The body cannot be decoded.") from None
    if len(data) > MOST_BYTES:
        raise Problem(413, "body-too-large", f"The body has more than {MOST_BYTES:,} bytes.")
    if not data:
        raise Problem(400, "empty", "The body is empty; send a photo.")
    return data


def _raw(request: Request) -> bytes:
    if not request.is_base64 and "\ufffd" in request.body:
        raise Problem(400, "body-was-text", "The gateway took the photo for text: let its binary media types be */*.")
    return _bytes(request)


def _from_json(data: bytes) -> bytes | str:
    try:
        content: Any = json.loads(data)
    except (ValueError, RecursionError):
        raise Problem(400, "bad-json", "The body is not JSON.") from None
    if isinstance(content, Mapping) and len(content) == 1:
        if isinstance(content.get("s3_uri"), str):
            return str(content["s3_uri"])
        if isinstance(content.get("image"), str):
            return _image(content["image"])
    raise Problem(400, "bad-json", 'Send {"image": "<base64>"} or {"s3_uri": "s3://bucket/key"}.')


def _image(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise Problem(400, "bad-base64", "The image is not base64 (of its bytes alone, without data:).") from None


def _from_form(data: bytes, content_type: str) -> bytes:
    """The form's one file; fields beside it are of no interest."""
    try:
        from multipart import MultipartError, MultipartSegment, PushMultipartParser, parse_options_header
    except ModuleNotFoundError:
        raise MissingExtraError("multipart", "lambda") from None
    files: list[bytearray] = []
    inside = False
    try:
        boundary = parse_options_header(content_type)[1].get("boundary", "")
        if not boundary:
            raise Problem(400, "bad-form", "The form's content type has no boundary.")
        with PushMultipartParser(boundary, len(data), max_segment_count=_PARTS, strict=True) as parser:
            for part in parser.parse(data):
                if isinstance(part, MultipartSegment):
                    inside = part.filename is not None
                    files += [bytearray()] if inside else []
                elif part and inside:
                    files[-1] += part
    except (MultipartError, ValueError, LookupError):
        raise Problem(400, "bad-form", "The form is malformed, or has too many parts.") from None
    if len(files) != 1:
        raise Problem(400, "bad-form", f"The form has {len(files)} files; send one.")
    return bytes(files[0])
