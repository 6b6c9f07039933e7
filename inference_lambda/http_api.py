"""The HTTP interface: what each path answers, who may ask, and in which words it is refused."""

import hashlib
import hmac
import json
import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from inference_lambda.http_body import photo_of
from inference_lambda.http_events import Form, Request, Response
from inference_lambda.openapi import DOCUMENT, MOST_TOP
from inference_lambda.problems import Problem, model_problem, photo_problem
from inference_lambda.service import Service
from inference_lambda.settings import HttpSettings
from runtime.errors import TransferLiteError
from runtime.input_spec import READ_BYTES
from runtime.locations import read_uri
from runtime.predictor import UNKNOWN, Predictor

_OPEN = ("/health", "/openapi.json")
_ALWAYS = {"cache-control": "no-store", "x-content-type-options": "nosniff"}
_log = logging.getLogger("transferlite")


class Api:
    """Answers HTTP requests. The service is made when one first needs it, so that what it lacks is answered too."""

    def __init__(self, settings: HttpSettings, service: Callable[[], Service]) -> None:
        self._settings = settings
        self._service = service
        self._routes: Mapping[str, Mapping[str, Callable[[Request], dict[str, Any]]]] = {
            "/predict": {"POST": self._predict},
            "/model": {"GET": self._describe},
            "/health": {"GET": self._health},
            "/openapi.json": {"GET": lambda _: DOCUMENT},
        }

    def respond(self, request: Request) -> Response:
        """The answer; every error is one, and no error's own text is in it."""
        path = self._route(request)
        try:
            response = self._answer(request, path)
        except Problem as problem:
            response = problem.response()
            self._told(request, path, problem)
        except Exception:
            _log.exception(json.dumps({"event": "http-failed", "method": request.method, "path": path}))
            response = Problem(500, "internal", "The request failed; the function's log says why.").response()
        return replace(response, headers={**response.headers, **_ALWAYS, **self._cross_origin(request)})

    def _answer(self, request: Request, path: str) -> Response:
        methods = self._routes.get(path)
        if methods is None:
            raise Problem(404, "no-such-path", f"There are {', '.join(self._routes)}.")
        allowed = ", ".join([*methods, *(["HEAD"] if "GET" in methods else []), "OPTIONS"])
        if request.method == "OPTIONS":
            return Response(204, None, {"allow": allowed})
        answer = methods.get("GET" if request.method == "HEAD" else request.method)
        if answer is None:
            raise Problem(405, "no-such-method", f"Use {allowed}.", {"allow": allowed})
        if path not in _OPEN:
            self._check_key(request)
        return Response(200, json.dumps(answer(request), ensure_ascii=False), {"content-type": "application/json"})

    def _route(self, request: Request) -> str:
        """The path below the custom domain's base path and the gateway's stage. A balancer's health check has any."""
        balancer = request.form in {Form.BALANCER, Form.BALANCER_MULTI}
        if balancer and request.headers.get("user-agent", "").startswith("ELB-HealthChecker/"):
            return "/health"
        path = request.path
        for prefix in (self._settings.base_path, f"/{request.stage}" if request.stage else ""):
            if path not in self._routes and prefix and path.startswith(f"{prefix}/"):
                path = path.removeprefix(prefix)
        return path.rstrip("/") if path.rstrip("/") in self._routes else path

    def _check_key(self, request: Request) -> None:
        digests = self._settings.key_digests
        if not digests:
            return
        scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
        key = request.headers.get("x-api-key") or (bearer.strip() if scheme.lower() == "bearer" else "")
        given = hashlib.sha256(key.encode(errors="replace")).digest()
        if not sum(hmac.compare_digest(given, digest) for digest in digests):  # a sum, so that all are compared
            raise Problem(401, "no-key", "Send a valid key as X-Api-Key.", {"www-authenticate": "Bearer"})

    def _cross_origin(self, request: Request) -> dict[str, str]:
        origins, origin = self._settings.origins, request.headers.get("origin", "")
        if not origins:
            return {}
        if not origin or not origins & {origin, "*"}:
            return {"vary": "origin"}
        headers = {"vary": "origin", "access-control-allow-origin": "*" if "*" in origins else origin}
        if request.method == "OPTIONS":
            headers["access-control-allow-methods"] = "GET, HEAD, POST"
            headers["access-control-allow-headers"] = "authorization, content-type, x-api-key"
            headers["access-control-max-age"] = "3600"
        return headers | {"access-control-expose-headers": "retry-after"}

    # -- what the paths answer -----------------------------------------------------------------------------------------

    def _predict(self, request: Request) -> dict[str, Any]:
        top, threshold = _options(request)
        photo = photo_of(request)
        data = self._fetch(photo) if isinstance(photo, str) else photo
        predictor = self._predictor()
        try:
            found = predictor(data, top)
        except TransferLiteError as error:
            raise photo_problem(error) from error
        if threshold is not None:
            found = replace(found, label=found.top[0][0] if found.score >= threshold else UNKNOWN)
        _log.info(json.dumps({"event": "answered", "model_id": found.model_id, "label": found.label}))
        return found.to_dict()

    def _describe(self, _: Request) -> dict[str, Any]:
        manifest, variant = self._predictor().manifest, self._service().settings.variant
        spec = manifest.input
        return {
            "model_id": manifest.model_id,
            "created_at": manifest.created_at,
            "labels": list(manifest.labels),
            "input": {"height": spec.height, "width": spec.width, "resize": spec.resize},
            "variant": variant,
            "accuracy": manifest.variants[variant].accuracy,
            "photos": manifest.variants[variant].photos,
            "threshold": manifest.threshold,
        }

    def _health(self, _: Request) -> dict[str, Any]:
        return {"status": "ok", "model_id": self._predictor().manifest.model_id}

    def _predictor(self) -> Predictor:
        try:
            return self._service().model.get()
        except TransferLiteError as error:
            raise model_problem(error) from error

    def _fetch(self, uri: str) -> bytes:
        """The object's bytes. Whoever calls reads through the function's role: buckets have to be allowed."""
        bucket, _, key = uri.removeprefix("s3://").partition("/")
        if not uri.startswith("s3://") or not bucket or not key or key.endswith("/"):
            raise Problem(400, "bad-uri", "Write s3_uri as s3://bucket/key.")
        try:
            allowed = self._service().settings.allowed_buckets
        except TransferLiteError as error:
            raise model_problem(error) from error
        if bucket not in (allowed or ()):
            raise Problem(403, "bucket-not-allowed", "Objects of that bucket may not be named.")
        try:
            return read_uri(uri, READ_BYTES)
        except TransferLiteError as error:
            raise photo_problem(error) from error

    @staticmethod
    def _told(request: Request, path: str, problem: Problem) -> None:
        line = {"event": "http-problem", "method": request.method, "path": path, "status": problem.status}
        cause = {"reason": str(problem.__cause__)} if problem.__cause__ else {}
        _log.log(
            logging.ERROR if problem.status >= 500 else logging.INFO, json.dumps(line | {"code": problem.code} | cause)
        )


def _options(request: Request) -> tuple[int, float | None]:
    """``top`` and ``threshold`` of the query."""
    options = dict(request.query)
    if len(options) != len(request.query) or options.keys() - {"top", "threshold"}:
        raise Problem(400, "bad-query", "There are top and threshold, each at most once.")
    top, threshold = options.get("top", "3"), options.get("threshold")
    if not (top.isascii() and top.isdigit() and len(top) <= 4 and 1 <= int(top) <= MOST_TOP):
        raise Problem(400, "bad-query", f"top is a number from 1 to {MOST_TOP}.")
    return int(top), None if threshold is None else _probability(threshold)


def _probability(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise Problem(400, "bad-query", "threshold is a number from 0 to 1.")
    return value
