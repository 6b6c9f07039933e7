"""What went wrong with an HTTP request, as RFC 9457 has it told; nothing of it is an exception's own text."""

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from inference_lambda.events.http import Response
from transferlite.errors import AccessDeniedError, MissingStoreError, NotFoundError, PhotoError, TransferLiteError

CONTENT_TYPE = "application/problem+json"
RETRY_SECONDS = 5

_PHOTOS = {
    "empty": (400, "The photo has no bytes."),
    "not-image": (422, "The photo is of no known image format."),
    "unreadable": (422, "The photo is damaged, or of a kind that cannot be decoded."),
    "truncated": (422, "The photo's end is missing."),
    "too-large": (413, "The photo has too many bytes or pixels."),
}


class Problem(Exception):  # noqa: N818, it is RFC 9457's own word
    """An answer that is a problem: its status, a stable word for it, what to tell, and headers that go with it."""

    def __init__(self, status: int, code: str, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.headers = headers or {}

    def response(self) -> Response:
        """The problem as an answer."""
        content: dict[str, Any] = {
            "type": f"urn:transferlite:problem:{self.code}",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
        }
        return Response(self.status, json.dumps(content), {"content-type": CONTENT_TYPE, **self.headers})


def photo_problem(error: TransferLiteError) -> Problem:
    """The problem for an error of one photo: of its content, or of fetching it from S3."""
    if isinstance(error, PhotoError):
        status, detail = _PHOTOS.get(error.code, (422, "The photo cannot be used."))
        return Problem(status, error.code, detail)
    if error.retryable:
        return _later("storage-unavailable", "The storage did not answer; try again.")
    if isinstance(error, NotFoundError):
        return Problem(404, "photo-missing", "There is no such object.")
    if isinstance(error, AccessDeniedError):
        return Problem(403, "photo-forbidden", "The function may not read that object, or there is none.")
    return Problem(502, "storage-refused", "The storage refused to give the object.")


def model_problem(error: TransferLiteError, asked_for: str | None = None) -> Problem:
    """The problem for a model that cannot be served: the one in service, or a version that was asked for."""
    if asked_for is not None and isinstance(error, NotFoundError) and not isinstance(error, MissingStoreError):
        return Problem(404, "no-such-model", "There is no such version, or it lacks the variant that is served.")
    if error.retryable:
        return _later("model-unavailable", "The model cannot be loaded just now; try again.")
    if asked_for is not None:
        return Problem(503, "model-unavailable", "That version cannot be served.")
    return Problem(503, "model-unavailable", "There is no model in service.")


def _later(code: str, detail: str) -> Problem:
    return Problem(503, code, detail, {"retry-after": str(RETRY_SECONDS)})
