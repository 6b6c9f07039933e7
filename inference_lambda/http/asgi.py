"""The function behind a local HTTP server: requests become a function URL's events, its answers responses (ASGI 3).

Sources: https://asgi.readthedocs.io/en/latest/specs/www.html,
https://docs.aws.amazon.com/lambda/latest/dg/urls-invocation.html
"""

import asyncio
import base64
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from concurrent.futures import Executor
from typing import Any

from inference_lambda.http.body import MOST_BYTES

Handler = Callable[[dict[str, Any], object], Mapping[str, Any]]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

_DRAINED = 64 * 2**20
"""Bytes of a body that is too large which are still read, and dropped, so that its sender gets to read the answer."""


def application(handler: Handler, threads: Executor) -> Callable[..., Coroutine[Any, Any, None]]:
    """An ASGI application that asks ``handler`` on ``threads``; a body is never kept beyond what the function takes."""

    async def answer(scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise ValueError(f"there is no {scope['type']} here")
        body = await _body(receive)
        if body is None:
            return
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(threads, lambda: handler(event_of(scope, body), None))
        content = found["body"].encode()
        headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in found["headers"].items()]
        if content:
            headers.append((b"content-length", str(len(content)).encode()))
        await send({"type": "http.response.start", "status": found["statusCode"], "headers": headers})
        await send({"type": "http.response.body", "body": content})

    return answer


async def _body(receive: Receive) -> bytes | None:
    """The body, of one that is too large as much as shows that; None if the client went away before its end."""
    kept, size, more = bytearray(), 0, True
    while more and size < _DRAINED:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        part = message.get("body", b"")
        size += len(part)
        kept += part[: MOST_BYTES + 1 - len(kept)]
        more = message.get("more_body", False)
    return bytes(kept)


def event_of(scope: Mapping[str, Any], body: bytes) -> dict[str, Any]:
    """The event that a function URL would send for a request."""
    headers: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]},{value}" if name in headers else value
    path = scope["raw_path"].decode("latin-1")
    text = _text(headers.get("content-type", ""), body)
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


def _text(content_type: str, body: bytes) -> str | None:
    """The body itself where its type is text and it is, as a function URL has it; None where it has base64 of it."""
    if not content_type.lower().startswith(("text/", "application/json")):
        return None
    try:
        return body.decode()
    except UnicodeDecodeError:
        return None
