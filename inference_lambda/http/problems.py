"""Problem responses after RFC 9457. They never contain an exception's own text, which could reveal internals."""

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from inference_lambda.events.http import HttpResponse
from transferlite.errors import AccessDeniedError, MissingStoreError, NotFoundError, PhotoError, TransferLiteError

CONTENT_TYPE = "application/problem+json"
RETRY_SECONDS = 5

_PHOTO_PROBLEMS = {
    "empty": (400, "The photo is empty."),
    "not-image": (422, "The photo is not in a known image format."),
    "unsupported-format": (422, "The photo's format is not supported; export it as JPEG or PNG."),
    "missing-decoder": (422, "The decoder for this format is not installed; save the photo as JPEG or PNG."),
    "unreadable": (422, "The photo is damaged, or cannot be decoded."),
    "truncated": (422, "The end of the photo is missing."),
    "too-large": (413, "The photo has too many bytes or pixels."),
}
"""Status and detail by the code of a rejected photo."""


class Problem(Exception):  # noqa: N818 - RFC 9457's term
    """Problem response, raised while a request is handled.

    Attributes:
        status: HTTP status.
        code: machine-readable code; stable between releases.
        detail: sentence for the caller.
        headers: additional response headers.
    """

    def __init__(self, status: int, code: str, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.headers = headers or {}

    def response(self) -> HttpResponse:
        """Return the problem as a response."""
        content: dict[str, Any] = {
            "type": f"urn:transferlite:problem:{self.code}",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
        }
        return HttpResponse(self.status, json.dumps(content), {"content-type": CONTENT_TYPE, **self.headers})


def photo_problem(error: TransferLiteError) -> Problem:
    """Return the problem for an error raised while fetching or decoding the photo."""
    if isinstance(error, PhotoError):
        status, detail = _PHOTO_PROBLEMS.get(error.code, (422, "The photo cannot be used."))
        return Problem(status, error.code, detail)
    if error.retryable:
        return _unavailable("storage-unavailable", "The storage did not answer; try again.")
    if isinstance(error, NotFoundError):
        return Problem(404, "photo-missing", "The object does not exist.")
    if isinstance(error, AccessDeniedError):
        return Problem(403, "photo-forbidden", "The function may not read the object, or it does not exist.")
    return Problem(502, "storage-refused", "The storage refused the request for the object.")


def model_problem(error: TransferLiteError, requested_id: str | None = None) -> Problem:
    """Return the problem for an error raised while loading the current model, or the version ``requested_id``."""
    if requested_id is not None and isinstance(error, NotFoundError) and not isinstance(error, MissingStoreError):
        return Problem(404, "no-such-model", "The version does not exist, or lacks the variant in use.")
    if error.retryable:
        return _unavailable("model-unavailable", "The model cannot be loaded right now; try again.")
    if requested_id is not None:
        return Problem(503, "model-unavailable", "The version cannot be loaded.")
    return Problem(503, "model-unavailable", "No model is loaded.")


def _unavailable(code: str, detail: str) -> Problem:
    return Problem(503, code, detail, {"retry-after": str(RETRY_SECONDS)})
