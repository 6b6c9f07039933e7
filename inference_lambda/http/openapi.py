"""The HTTP interface's OpenAPI 3.1 document; tests hold it to what is answered."""

from collections.abc import Mapping
from typing import Any

from inference_lambda.http.query import MOST_TOP


def _object(optional: Mapping[str, Any] | None = None, /, **required: Any) -> dict[str, Any]:
    properties = required | dict(optional or {})
    return {"type": "object", "required": list(required), "properties": properties, "additionalProperties": False}


def _named(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _answer(description: str, schema: dict[str, Any], kind: str = "application/json") -> dict[str, Any]:
    return {"description": description, "content": {kind: {"schema": schema}}}


def _option(name: str, description: str, **schema: Any) -> dict[str, Any]:
    return {"name": name, "in": "query", "description": description, "schema": schema}


def _problems(*statuses: int) -> dict[str, Any]:
    return {str(status): {"$ref": "#/components/responses/Problem"} for status in statuses}


_TEXT = {"type": "string"}
_PROBABILITY = {"type": "number", "minimum": 0, "maximum": 1}
_COUNT = {"type": "integer", "minimum": 0}
_KEY: list[dict[str, list[str]]] = [{}, {"apiKey": []}]
_PHOTO = {"contentMediaType": "application/octet-stream"}

_ID = "^[0-9A-Za-z][0-9A-Za-z_.-]{0,99}$"
_MODEL = _option("model", "a version's id; the version in service if not given", type="string", pattern=_ID)

_SCHEMAS = {
    "Prediction": _object(
        {"explanation": _named("Explanation")},
        model_id=_TEXT,
        label={"type": "string", "description": "the best label, or unknown below the threshold"},
        score=_PROBABILITY,
        top={"type": "array", "items": _object(label=_TEXT, score=_PROBABILITY)},
    ),
    "Model": _object(
        model_id=_TEXT,
        created_at=_TEXT,
        labels={"type": "array", "items": _TEXT},
        input=_object(height=_COUNT, width=_COUNT, resize=_TEXT),
        variant=_TEXT,
        accuracy={**_PROBABILITY, "description": "the variant's share of right answers on held-out photos"},
        photos={**_COUNT, "description": "how many those were"},
        threshold=_PROBABILITY,
    ),
    "Health": _object(
        status={"const": "ok"},
        model_id=_TEXT,
        key={"enum": ["none", "required"], "description": "whether the other paths ask for an API key"},
    ),
    "Explanation": _object(
        label={**_TEXT, "description": "the best label, which is what is explained"},
        score=_PROBABILITY,
        part={
            "description": "the window whose covering costs the label most, as shares of width and height, if any",
            "oneOf": [_object(**dict.fromkeys(("left", "top", "right", "bottom"), _PROBABILITY)), {"type": "null"}],
        },
        covered_score={**_PROBABILITY, "description": "the label's probability with that window covered"},
        heat={**_TEXT, "description": "a PNG to stretch over the whole upright photo, as a data URI"},
    ),
    "Problem": _object(type=_TEXT, title=_TEXT, status={"type": "integer"}, detail=_TEXT),
    "Image": _object(image={"type": "string", "contentEncoding": "base64"}),
    "Object": _object(s3_uri={"type": "string", "pattern": "^s3://[^/]+/.+"}),
}

_PREDICT = {
    "summary": "Label one photo",
    "operationId": "predict",
    "security": _KEY,
    "parameters": [
        _option("top", "how many labels to tell", type="integer", minimum=1, maximum=MOST_TOP, default=3),
        _option("threshold", "in place of the model's own", **_PROBABILITY),
        _option("explain", "1 tells where the label comes from, for 82 forward passes", type="integer", enum=[0, 1]),
        _MODEL,
    ],
    "requestBody": {
        "required": True,
        "content": {
            "image/*": {"schema": _PHOTO},
            "application/octet-stream": {"schema": _PHOTO},
            "application/json": {"schema": {"oneOf": [_named("Image"), _named("Object")]}},
            "multipart/form-data": {
                "schema": {"type": "object", "required": ["photo"], "properties": {"photo": _PHOTO}}
            },
        },
    },
    "responses": {
        "200": _answer("its label", _named("Prediction")),
        **_problems(400, 401, 403, 404, 413, 415, 422, 500, 502, 503),
    },
}

DOCUMENT: dict[str, Any] = {
    "openapi": "3.1.0",
    "info": {"title": "TransferLite", "version": "1", "description": "Labels photos with the model in service."},
    "servers": [{"url": "."}],  # relative to where the document was fetched, whatever stage or base path that has
    "paths": {
        "/": {
            "get": {
                "summary": "A page to try it with",
                "operationId": "page",
                "responses": {"200": _answer("the page", {"type": "string"}, "text/html")},
            }
        },
        "/predict": {"post": _PREDICT},
        "/model": {
            "get": {
                "summary": "The model in service",
                "operationId": "model",
                "security": _KEY,
                "parameters": [_MODEL],
                "responses": {
                    "200": _answer("what is known of it", _named("Model")),
                    **_problems(400, 401, 404, 500, 503),
                },
            }
        },
        "/health": {
            "get": {
                "summary": "Whether a model is in service",
                "operationId": "health",
                "responses": {"200": _answer("one is", _named("Health")), **_problems(500, 503)},
            }
        },
        "/openapi.json": {
            "get": {
                "summary": "This document",
                "operationId": "openapi",
                "responses": {"200": _answer("this document", {"type": "object"})},
            }
        },
    },
    "components": {
        "schemas": _SCHEMAS,
        "responses": {"Problem": _answer("RFC 9457", _named("Problem"), "application/problem+json")},
        "securitySchemes": {"apiKey": {"type": "apiKey", "in": "header", "name": "X-Api-Key"}},
    },
}
