"""OpenAPI 3.1 document of the HTTP API; tests compare it with real responses."""

from collections.abc import Mapping
from typing import Any

from inference_lambda.http.query import MAX_TOP


def _object(optional: Mapping[str, Any] | None = None, /, **required: Any) -> dict[str, Any]:
    properties = required | dict(optional or {})
    return {"type": "object", "required": list(required), "properties": properties, "additionalProperties": False}


def _reference(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _response(description: str, schema: dict[str, Any], kind: str = "application/json") -> dict[str, Any]:
    return {"description": description, "content": {kind: {"schema": schema}}}


def _query_option(name: str, description: str, **schema: Any) -> dict[str, Any]:
    return {"name": name, "in": "query", "description": description, "schema": schema}


def _problems(*statuses: int) -> dict[str, Any]:
    return {str(status): {"$ref": "#/components/responses/Problem"} for status in statuses}


_TEXT = {"type": "string"}
_PROBABILITY = {"type": "number", "minimum": 0, "maximum": 1}
_COUNT = {"type": "integer", "minimum": 0}
_KEY: list[dict[str, list[str]]] = [{}, {"apiKey": []}]
_PHOTO = {"contentMediaType": "application/octet-stream"}

_ID = "^[0-9A-Za-z][0-9A-Za-z_.-]{0,99}$"
_MODEL = _query_option(
    "model", "id of the model version to use; default: the current version", type="string", pattern=_ID
)

_SCHEMAS = {
    "Prediction": _object(
        {
            "explanation": _reference("Explanation"),
            "reason": {
                "enum": ["unsure", "unlike-training-photos", "none-of-these"],
                "description": "why the label is unknown; absent if it is not",
            },
            "familiarity": {
                "type": "number",
                "description": "likeness to the training photos, 0 is usual; absent without such a score",
            },
        },
        model_id=_TEXT,
        label={"type": "string", "description": "most probable label, or unknown; reason then says why"},
        score=_PROBABILITY,
        top={"type": "array", "items": _object(label=_TEXT, score=_PROBABILITY)},
    ),
    "Model": _object(
        model_id=_TEXT,
        created_at=_TEXT,
        labels={"type": "array", "items": _TEXT},
        input=_object(height=_COUNT, width=_COUNT, resize=_TEXT),
        variant=_TEXT,
        accuracy={
            **_PROBABILITY,
            "type": ["number", "null"],
            "description": "share of correct predictions of this variant on held-out photos; null without labels",
        },
        photos={**_COUNT, "description": "number of held-out photos"},
        threshold=_PROBABILITY,
    ),
    "Health": _object(
        status={"const": "ok"},
        model_id=_TEXT,
        key={"enum": ["none", "required"], "description": "whether /predict and /model require an API key"},
    ),
    "Explanation": _object(
        label={**_TEXT, "description": "most probable label, which is explained"},
        score=_PROBABILITY,
        part={
            "description": "window whose covering lowers the score most, as fractions of width and height; or null",
            "oneOf": [_object(**dict.fromkeys(("left", "top", "right", "bottom"), _PROBABILITY)), {"type": "null"}],
        },
        covered_score={**_PROBABILITY, "description": "probability of the label with that window covered"},
        heat={**_TEXT, "description": "PNG as a data URI, to be stretched over the upright photo"},
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
        _query_option("top", "number of labels to return", type="integer", minimum=1, maximum=MAX_TOP, default=3),
        _query_option(
            "threshold", "probability below which the label is unknown; default: the model's own", **_PROBABILITY
        ),
        _query_option(
            "explain",
            "1 to return where in the photo the label comes from; takes 82 forward passes",
            type="integer",
            enum=[0, 1],
        ),
        _MODEL,
    ],
    "requestBody": {
        "required": True,
        "content": {
            "image/*": {"schema": _PHOTO},
            "application/octet-stream": {"schema": _PHOTO},
            "application/json": {"schema": {"oneOf": [_reference("Image"), _reference("Object")]}},
            "multipart/form-data": {
                "schema": {"type": "object", "required": ["photo"], "properties": {"photo": _PHOTO}}
            },
        },
    },
    "responses": {
        "200": _response("prediction", _reference("Prediction")),
        **_problems(400, 401, 403, 404, 413, 415, 422, 500, 502, 503),
    },
}

DOCUMENT: dict[str, Any] = {
    "openapi": "3.1.0",
    "info": {"title": "TransferLite", "version": "1", "description": "Labels photos with the current model version."},
    "servers": [{"url": "."}],  # relative to the URL of this document, whatever its stage or base path
    "paths": {
        "/": {
            "get": {
                "summary": "Web page for trying the model",
                "operationId": "page",
                "responses": {"200": _response("web page", {"type": "string"}, "text/html")},
            }
        },
        "/predict": {"post": _PREDICT},
        "/model": {
            "get": {
                "summary": "Describe the current model version",
                "operationId": "model",
                "security": _KEY,
                "parameters": [_MODEL],
                "responses": {
                    "200": _response("model version", _reference("Model")),
                    **_problems(400, 401, 404, 500, 503),
                },
            }
        },
        "/health": {
            "get": {
                "summary": "Check that a model is loaded",
                "operationId": "health",
                "responses": {"200": _response("a model is loaded", _reference("Health")), **_problems(500, 503)},
            }
        },
        "/openapi.json": {
            "get": {
                "summary": "This document",
                "operationId": "openapi",
                "responses": {"200": _response("this document", {"type": "object"})},
            }
        },
    },
    "components": {
        "schemas": _SCHEMAS,
        "responses": {
            "Problem": _response("problem, after RFC 9457", _reference("Problem"), "application/problem+json")
        },
        "securitySchemes": {"apiKey": {"type": "apiKey", "in": "header", "name": "X-Api-Key"}},
    },
}
