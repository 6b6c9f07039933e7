"""The HTTP interface's OpenAPI 3.1 document; tests hold it to what is answered."""

from typing import Any

MOST_TOP = 1000
"""The most labels that a request may ask for."""


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": list(properties), "properties": properties, "additionalProperties": False}


def _named(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _answer(description: str, schema: dict[str, Any], kind: str = "application/json") -> dict[str, Any]:
    return {"description": description, "content": {kind: {"schema": schema}}}


def _problems(*statuses: int) -> dict[str, Any]:
    return {str(status): {"$ref": "#/components/responses/Problem"} for status in statuses}


_TEXT = {"type": "string"}
_PROBABILITY = {"type": "number", "minimum": 0, "maximum": 1}
_COUNT = {"type": "integer", "minimum": 0}
_KEY: list[dict[str, list[str]]] = [{}, {"apiKey": []}]
_PHOTO = {"contentMediaType": "application/octet-stream"}

_SCHEMAS = {
    "Prediction": _object(
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
    "Health": _object(status={"const": "ok"}, model_id=_TEXT),
    "Problem": _object(type=_TEXT, title=_TEXT, status={"type": "integer"}, detail=_TEXT),
    "Image": _object(image={"type": "string", "contentEncoding": "base64"}),
    "Object": _object(s3_uri={"type": "string", "pattern": "^s3://[^/]+/.+"}),
}

_PREDICT = {
    "summary": "Label one photo",
    "operationId": "predict",
    "security": _KEY,
    "parameters": [
        {"name": "top", "in": "query", "schema": {"type": "integer", "minimum": 1, "maximum": MOST_TOP, "default": 3}},
        {"name": "threshold", "in": "query", "schema": _PROBABILITY, "description": "in place of the model's own"},
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
        "/predict": {"post": _PREDICT},
        "/model": {
            "get": {
                "summary": "The model in service",
                "operationId": "model",
                "security": _KEY,
                "responses": {"200": _answer("what is known of it", _named("Model")), **_problems(401, 500, 503)},
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
