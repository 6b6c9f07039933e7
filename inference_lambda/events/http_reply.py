"""HTTP response in the format of the service that sent the request. Sources: see ``events/http.py``."""

from http import HTTPStatus
from typing import Any

from inference_lambda.events.http import HttpRequest, HttpResponse, HttpSource


def http_reply(request: HttpRequest, response: HttpResponse) -> dict[str, Any]:
    """Format a response for the request's source; a HEAD request gets no body."""
    text = "" if response.text is None or request.method == "HEAD" else response.text
    reply: dict[str, Any] = {"statusCode": response.status, "body": text, "isBase64Encoded": False}
    if request.source in {HttpSource.LOAD_BALANCER, HttpSource.LOAD_BALANCER_MULTI_VALUE}:
        reply["statusDescription"] = f"{response.status} {HTTPStatus(response.status).phrase}"
    if request.source is HttpSource.LOAD_BALANCER_MULTI_VALUE:
        return reply | {"multiValueHeaders": {name: [value] for name, value in response.headers.items()}}
    return reply | {"headers": dict(response.headers)}
