"""Check the API key of an HTTP request."""

import hashlib
import hmac
from collections.abc import Iterable

from inference_lambda.events.http import HttpRequest
from inference_lambda.http.problems import Problem


def check_api_key(request: HttpRequest, digests: Iterable[bytes]) -> None:
    """Raise a 401 Problem unless the request has a key with one of the sha256 ``digests``; without any, all pass.

    The key is in the header ``X-Api-Key``, or in ``Authorization: Bearer``.
    """
    accepted = list(digests)
    if not accepted:
        return
    scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
    key = request.headers.get("x-api-key") or (bearer.strip() if scheme.lower() == "bearer" else "")
    given = hashlib.sha256(key.encode(errors="replace")).digest()
    # sum, not any: comparing all digests takes the same time whichever matches
    if not sum(hmac.compare_digest(given, digest) for digest in accepted):
        raise Problem(401, "no-key", "Send a valid API key in the header X-Api-Key.", {"www-authenticate": "Bearer"})
