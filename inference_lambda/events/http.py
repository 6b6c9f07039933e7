"""HTTP requests as function URLs, API Gateway (HTTP and REST) and load balancers hand them over, and answers for each.

Sources: https://docs.aws.amazon.com/lambda/latest/dg/urls-invocation.html,
https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html,
https://docs.aws.amazon.com/apigateway/latest/developerguide/set-up-lambda-proxy-integrations.html,
https://docs.aws.amazon.com/elasticloadbalancing/latest/application/lambda-functions.html
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl, unquote_plus

_MOST_FIELDS = 100


class Form(Enum):
    """Who sent a request, and so how it wants its answer."""

    V2 = "function URL, or API Gateway's payload 2.0"
    V1 = "API Gateway's REST API, or payload 1.0"
    BALANCER = "load balancer"
    BALANCER_MULTI = "load balancer, with multi-value headers"


@dataclass(frozen=True)
class Request:
    """One HTTP request.

    Attributes:
        form: who sent it.
        method: in capitals.
        path: as the sender tells it, which may begin with a stage.
        stage: of API Gateway; empty where there is none.
        headers: by name in small letters.
        query: names and values in their order, decoded.
        body: as it is in the event.
        is_base64: whether the body is base64 of what was sent.
        seconds_left: until the function is stopped.
    """

    form: Form
    method: str
    path: str
    stage: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    query: tuple[tuple[str, str], ...] = ()
    body: str = ""
    is_base64: bool = False
    seconds_left: float = math.inf


@dataclass(frozen=True)
class Response:
    """An answer: its status, its text (nothing if None) and its headers, names in small letters."""

    status: int
    text: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


def request_of(event: Mapping[str, Any]) -> Request | None:
    """The HTTP request in an event, None for anything else."""
    context = event.get("requestContext")
    if not isinstance(context, Mapping):
        return None
    if isinstance(context.get("http"), Mapping):
        method, path, form = context["http"].get("method"), event.get("rawPath"), Form.V2
    else:
        multi = isinstance(event.get("multiValueHeaders"), Mapping)
        balancer = Form.BALANCER_MULTI if multi else Form.BALANCER
        method, path, form = event.get("httpMethod"), event.get("path"), balancer if "elb" in context else Form.V1
    if not isinstance(method, str) or not isinstance(path, str):
        return None
    stage = context.get("stage")
    body = event.get("body")
    return Request(
        form,
        method.upper(),
        path,
        stage if isinstance(stage, str) and stage != "$default" else "",
        {name.lower(): ", ".join(values) for name, values in _lists(event, "headers", "multiValueHeaders").items()},
        _query(event, form),
        body if isinstance(body, str) else "",
        event.get("isBase64Encoded") is True,
    )


def reply(request: Request, response: Response) -> dict[str, Any]:
    """The answer in the form that the request's sender takes."""
    text = "" if response.text is None or request.method == "HEAD" else response.text
    answer: dict[str, Any] = {"statusCode": response.status, "body": text, "isBase64Encoded": False}
    if request.form in {Form.BALANCER, Form.BALANCER_MULTI}:
        answer["statusDescription"] = f"{response.status} {HTTPStatus(response.status).phrase}"
    if request.form is Form.BALANCER_MULTI:
        return answer | {"multiValueHeaders": {name: [value] for name, value in response.headers.items()}}
    return answer | {"headers": dict(response.headers)}


def _query(event: Mapping[str, Any], form: Form) -> tuple[tuple[str, str], ...]:
    """Names and values; load balancers alone leave them encoded. Of very many the rest is not looked at."""
    if form is Form.V2:
        raw = event.get("rawQueryString")
        fields = raw.split("&")[: _MOST_FIELDS + 1] if isinstance(raw, str) else []
        return tuple(parse_qsl("&".join(fields), keep_blank_values=True))
    lists = _lists(event, "queryStringParameters", "multiValueQueryStringParameters")
    pairs = [(name, value) for name, values in lists.items() for value in values][: _MOST_FIELDS + 1]
    if form is Form.V1:
        return tuple(pairs)
    return tuple((unquote_plus(name), unquote_plus(value)) for name, value in pairs)


def _lists(event: Mapping[str, Any], single: str, multi: str) -> dict[str, list[str]]:
    """Values by name from either of the two fields, the one with every value first."""
    many, one = event.get(multi), event.get(single)
    if isinstance(many, Mapping) and many:
        return {name: [str(value) for value in values or ()] for name, values in many.items()}
    return {name: [str(value)] for name, value in one.items() if value is not None} if isinstance(one, Mapping) else {}
