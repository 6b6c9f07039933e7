"""HTTP requests in the event formats of function URLs, API Gateway (HTTP and REST) and load balancers.

Sources: https://docs.aws.amazon.com/lambda/latest/dg/urls-invocation.html,
https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html,
https://docs.aws.amazon.com/apigateway/latest/developerguide/set-up-lambda-proxy-integrations.html,
https://docs.aws.amazon.com/elasticloadbalancing/latest/application/lambda-functions.html
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any
from urllib.parse import parse_qsl, unquote_plus

_MAX_QUERY_FIELDS = 100


class HttpSource(Enum):
    """Service that sent the request; it decides the format of the reply."""

    PAYLOAD_V2 = "function URL, or API Gateway payload 2.0"
    PAYLOAD_V1 = "API Gateway REST API, or payload 1.0"
    LOAD_BALANCER = "load balancer"
    LOAD_BALANCER_MULTI_VALUE = "load balancer with multi-value headers"


@dataclass(frozen=True)
class HttpRequest:
    """HTTP request, in the same form for every source.

    Attributes:
        source: service that sent it.
        method: in upper case.
        path: as sent; it may begin with the stage.
        stage: API Gateway stage; empty if there is none.
        headers: values by lower-case name.
        query: decoded names and values, in order.
        body: body as in the event.
        is_base64: whether ``body`` is base64.
        seconds_left: seconds until Lambda stops the function.
    """

    source: HttpSource
    method: str
    path: str
    stage: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    query: tuple[tuple[str, str], ...] = ()
    body: str = ""
    is_base64: bool = False
    seconds_left: float = math.inf


@dataclass(frozen=True)
class HttpResponse:
    """HTTP response: status, body text (None for no body) and headers by lower-case name."""

    status: int
    text: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


def parse_http_request(event: Mapping[str, Any]) -> HttpRequest | None:
    """Parse an HTTP event; return None for any other event."""
    context = event.get("requestContext")
    if not isinstance(context, Mapping):
        return None
    source, method, path = _source_method_path(event, context)
    if not isinstance(method, str) or not isinstance(path, str):
        return None
    stage = context.get("stage")
    body = event.get("body")
    headers = _values_by_name(event, "headers", "multiValueHeaders")
    return HttpRequest(
        source,
        method.upper(),
        path,
        stage if isinstance(stage, str) and stage != "$default" else "",
        {name.lower(): ", ".join(values) for name, values in headers.items()},
        _query(event, source),
        body if isinstance(body, str) else "",
        event.get("isBase64Encoded") is True,
    )


def _source_method_path(event: Mapping[str, Any], context: Mapping[str, Any]) -> tuple[HttpSource, Any, Any]:
    if isinstance(context.get("http"), Mapping):
        return HttpSource.PAYLOAD_V2, context["http"].get("method"), event.get("rawPath")
    source = HttpSource.PAYLOAD_V1
    if "elb" in context:
        multi_value = isinstance(event.get("multiValueHeaders"), Mapping)
        source = HttpSource.LOAD_BALANCER_MULTI_VALUE if multi_value else HttpSource.LOAD_BALANCER
    return source, event.get("httpMethod"), event.get("path")


def _query(event: Mapping[str, Any], source: HttpSource) -> tuple[tuple[str, str], ...]:
    """Return decoded names and values, at most 1 more than ``_MAX_QUERY_FIELDS``; only load balancers encode them."""
    if source is HttpSource.PAYLOAD_V2:
        raw = event.get("rawQueryString")
        fields = raw.split("&")[: _MAX_QUERY_FIELDS + 1] if isinstance(raw, str) else []
        return tuple(parse_qsl("&".join(fields), keep_blank_values=True))
    by_name = _values_by_name(event, "queryStringParameters", "multiValueQueryStringParameters")
    pairs = [(name, value) for name, values in by_name.items() for value in values][: _MAX_QUERY_FIELDS + 1]
    if source is HttpSource.PAYLOAD_V1:
        return tuple(pairs)
    return tuple((unquote_plus(name), unquote_plus(value)) for name, value in pairs)


def _values_by_name(event: Mapping[str, Any], single: str, multi: str) -> dict[str, list[str]]:
    """Return the values by name from the event's multi-value field or, if that is empty, its single-value field."""
    many, few = event.get(multi), event.get(single)
    if isinstance(many, Mapping) and many:
        return {name: [str(value) for value in values or ()] for name, values in many.items()}
    return {name: [str(value)] for name, value in few.items() if value is not None} if isinstance(few, Mapping) else {}
