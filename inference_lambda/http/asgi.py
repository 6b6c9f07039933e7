"""ASGI 3 application that runs the Lambda handler behind a local HTTP server.

Each request becomes the event that a function URL would send. Sources:
https://asgi.readthedocs.io/en/latest/specs/www.html, https://docs.aws.amazon.com/lambda/latest/dg/urls-invocation.html
"""

import asyncio
import base64
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from concurrent.futures import Executor
from typing import Any

from inference_lambda.http.body import MAX_BODY_BYTES

Handler = Callable[[dict[str, Any], object], Mapping[str, Any]]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

_MAX_DRAINED_BYTES = 64 * 2**20
"""Most bytes read, and dropped, of a body that is too large; without reading them the client would miss the 413."""


def asgi_application(handler: Handler, threads: Executor) -> Callable[..., Coroutine[Any, Any, None]]:
    """Return an ASGI application that calls ``handler`` on ``threads``; no body takes more memory than in Lambda."""

    async def application(scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise ValueError(f"unsupported ASGI scope {scope['type']!r}; only http is served")
        body = await _read_body(receive)
        if body is None:
            return
        loop = asyncio.get_running_loop()
        reply = await loop.run_in_executor(threads, lambda: handler(function_url_event(scope, body), None))
        content = reply["body"].encode()
        headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in reply["headers"].items()]
        if content:
            headers.append((b"content-length", str(len(content)).encode()))
        await send({"type": "http.response.start", "status": reply["statusCode"], "headers": headers})
        await send({"type": "http.response.body", "body": content})

    return application


async def _read_body(receive: Receive) -> bytes | None:
    """Return the body, cut to one byte over the limit if it is too large; None if the client disconnected."""
    kept, size, more = bytearray(), 0, True
    while more and size < _MAX_DRAINED_BYTES:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        part = message.get("body", b"")
        size += len(part)
        kept += part[: MAX_BODY_BYTES + 1 - len(kept)]
        more = message.get("more_body", False)
    return bytes(kept)


def function_url_event(scope: Mapping[str, Any], body: bytes) -> dict[str, Any]:
    """Return the event that a function URL would send for this request."""
    headers: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]},{value}" if name in headers else value
    path = scope["raw_path"].decode("latin-1")
    text = _body_text(headers.get("content-type", ""), body)
    return {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": scope["query_string"].decode("latin-1"),
        "headers": headers,
        "requestContext": {
            "http": {
                "method": scope["method"],
                "path": path,
                "protocol": f"HTTP/{scope['http_version']}",
                "sourceIp": (scope.get("client") or ("", 0))[0],
                "userAgent": headers.get("user-agent", ""),
            },
            "routeKey": "$default",
            "stage": "$default",
        },
        "body": base64.b64encode(body).decode() if text is None else text,
        "isBase64Encoded": text is None,
    }


def _body_text(content_type: str, body: bytes) -> str | None:
    """Return the body as text if its type and content are text, else None; a function URL then sends base64."""
    if not content_type.lower().startswith(("text/", "application/json")):
        return None
    try:
        return body.decode()
    except UnicodeDecodeError:
        return None
