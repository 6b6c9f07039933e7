"""HTTP API: route a request, check its API key, and respond with JSON or a problem."""

import json
import logging
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from inference_lambda.events.bucket_name import arn_hint
from inference_lambda.events.http import HttpRequest, HttpResponse, HttpSource
from inference_lambda.http.api_key import check_api_key
from inference_lambda.http.body import read_photo
from inference_lambda.http.problems import Problem, model_problem, photo_problem
from inference_lambda.http.query import parse_query
from inference_lambda.service import Service
from inference_lambda.settings import HttpSettings
from transferlite.errors import TransferLiteError
from transferlite.images.input_spec import READ_BYTES
from transferlite.inference.prediction import UNKNOWN
from transferlite.predict.predictor import Predictor
from transferlite.storage.locations import read_uri

if TYPE_CHECKING:
    from transferlite.images.decoder import RGB

_PUBLIC_PATHS = ("/", "/health", "/openapi.json")
"""Paths that need no API key."""
_MAX_KEY_BYTES = 1024  # source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html
_FORBIDDEN_IN_KEY = re.compile(r"(^|/)\.\.?(/|$)|[\x00-\x1f\x7f\ud800-\udfff]")
_COMMON_HEADERS = {"cache-control": "no-store", "x-content-type-options": "nosniff"}
_log = logging.getLogger("transferlite")


class Api:
    """Handles HTTP requests.

    Args:
        settings: HTTP settings.
        service: returns the service; called when a request first needs it, so that its errors become responses too.
    """

    def __init__(self, settings: HttpSettings, service: Callable[[], Service]) -> None:
        self._settings = settings
        self._service = service
        self._routes: Mapping[str, Mapping[str, Callable[[HttpRequest], HttpResponse]]] = {
            "/": {"GET": self._page},
            "/predict": {"POST": self._predict},
            "/model": {"GET": self._describe},
            "/health": {"GET": self._health},
            "/openapi.json": {"GET": self._document},
        }

    def respond(self, request: HttpRequest) -> HttpResponse:
        """Return the response to a request. Every error becomes a problem response without the exception's text."""
        path = self._route(request)
        try:
            response = self._dispatch(request, path)
        except Problem as problem:
            response = problem.response()
            self._report_problem(request, path, problem)
        except Exception:
            _log.exception(json.dumps({"event": "http-failed", "method": request.method, "path": path}))
            response = Problem(500, "internal", "The request failed; the reason is in the function's log.").response()
            self._count_error("internal")
        return replace(response, headers={**response.headers, **_COMMON_HEADERS, **self._cors_headers(request)})

    def _dispatch(self, request: HttpRequest, path: str) -> HttpResponse:
        methods = self._routes.get(path)
        if methods is None:
            raise Problem(404, "no-such-path", f"The paths are {', '.join(self._routes)}.")
        allowed = ", ".join([*methods, *(["HEAD"] if "GET" in methods else []), "OPTIONS"])
        if request.method == "OPTIONS":
            return HttpResponse(204, None, {"allow": allowed})
        handle = methods.get("GET" if request.method == "HEAD" else request.method)
        if handle is None:
            raise Problem(405, "no-such-method", f"Use {allowed}.", {"allow": allowed})
        if path not in _PUBLIC_PATHS:
            check_api_key(request, self._settings.key_digests)
        return handle(request)

    def _route(self, request: HttpRequest) -> str:
        """Return the path without base path and stage; a load balancer's health check, on any path, is ``/health``."""
        from_balancer = request.source in {HttpSource.LOAD_BALANCER, HttpSource.LOAD_BALANCER_MULTI_VALUE}
        if from_balancer and request.headers.get("user-agent", "").startswith("ELB-HealthChecker/"):
            return "/health"
        path = request.path
        for prefix in (self._settings.base_path, f"/{request.stage}" if request.stage else ""):
            if path not in self._routes and prefix and f"{path}/".startswith(f"{prefix}/"):
                path = path.removeprefix(prefix)
        without_slash = path.rstrip("/") or "/"
        return without_slash if without_slash in self._routes else path

    def _cors_headers(self, request: HttpRequest) -> dict[str, str]:
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

    # -- paths ---------------------------------------------------------------------------------------------------------

    def _page(self, _: HttpRequest) -> HttpResponse:
        from inference_lambda.http.page import page_response  # not needed to predict, so not part of a cold start

        return page_response()

    def _document(self, _: HttpRequest) -> HttpResponse:
        from inference_lambda.http.openapi import DOCUMENT  # see _page

        return _json_response(DOCUMENT)

    def _predict(self, request: HttpRequest) -> HttpResponse:
        options = parse_query(request, "top", "threshold", "explain", "model")
        photo = read_photo(request)
        if isinstance(photo, str):
            self._check_bucket(photo)
        predictor = self._predictor(options.model_id)
        metrics = self._service().metrics
        with self._service().trace.photo(photo if isinstance(photo, str) else "") as annotations:
            image = self._decode(photo, predictor)
            with metrics.phase("Invoke"):
                prediction = predictor(image, options.top)
            if options.threshold is not None:
                prediction = prediction.with_threshold(options.threshold)
            line = {"event": "answered", "model_id": prediction.model_id, "label": prediction.label}
            _log.info(json.dumps(line))
            annotations.update(label=prediction.label, model_id=prediction.model_id)
            content = prediction.to_dict()
            metrics.count_prediction(content, predictor.manifest.labels, UNKNOWN)
            if options.explain:
                from inference_lambda.http.explanation import explain_photo  # see _page

                with metrics.phase("Explain"):
                    content["explanation"] = explain_photo(predictor, image, request.seconds_left)
        return _json_response(content)

    def _decode(self, photo: bytes | str, predictor: Predictor) -> "RGB":
        """Decode a photo, fetched first if it is an ``s3://`` URI."""
        from transferlite.images.decoder import decode  # NumPy and Pillow, not needed by /health

        metrics, data = self._service().metrics, photo
        try:
            if isinstance(data, str):
                with metrics.phase("Fetch"):
                    data = read_uri(data, READ_BYTES)
            with metrics.phase("Decode"):
                return decode(data, predictor.manifest.input)
        except TransferLiteError as error:
            raise photo_problem(error) from error

    def _describe(self, request: HttpRequest) -> HttpResponse:
        predictor = self._predictor(parse_query(request, "model").model_id)
        manifest, variant = predictor.manifest, predictor.variant
        spec = manifest.input
        return _json_response({
            "model_id": manifest.model_id,
            "created_at": manifest.created_at,
            "labels": list(manifest.labels),
            "input": {"height": spec.height, "width": spec.width, "resize": spec.resize},
            "variant": variant,
            "accuracy": manifest.variants[variant].accuracy,
            "photos": manifest.variants[variant].photos,
            "threshold": manifest.threshold,
        })  # fmt: skip

    def _health(self, _: HttpRequest) -> HttpResponse:
        """Return the loaded version; a health check never loads one."""
        key = "required" if self._settings.key_digests else "none"
        try:
            model_id = self._service().model.loaded().manifest.model_id
        except TransferLiteError as error:
            raise model_problem(error) from error
        return _json_response({"status": "ok", "model_id": model_id, "key": key})

    def _predictor(self, model_id: str | None = None) -> Predictor:
        try:
            return self._service().model.get(model_id)
        except TransferLiteError as error:
            raise model_problem(error, model_id) from error

    def _check_bucket(self, uri: str) -> None:
        """Check that callers may read the bucket, since they read it with the function's role."""
        bucket = _bucket_of(uri)
        try:
            allowed = self._service().settings.allowed_buckets
        except TransferLiteError as error:
            raise model_problem(error) from error
        if bucket not in (allowed or ()):
            raise Problem(403, "bucket-not-allowed", "Objects of that bucket may not be requested.")

    def _report_problem(self, request: HttpRequest, path: str, problem: Problem) -> None:
        self._count_error(problem.code)
        line = {"event": "http-problem", "method": request.method, "path": path, "status": problem.status}
        cause = {"reason": str(problem.__cause__)} if problem.__cause__ else {}
        level = logging.ERROR if problem.status >= 500 else logging.INFO
        _log.log(level, json.dumps(line | {"code": problem.code} | cause))

    def _count_error(self, code: str) -> None:
        with suppress(TransferLiteError):  # invalid settings: there is no service to count with
            self._service().metrics.count("Errors", "Code", code)


def _json_response(content: Mapping[str, Any]) -> HttpResponse:
    return HttpResponse(200, json.dumps(content, ensure_ascii=False), {"content-type": "application/json"})


def _bucket_of(uri: str) -> str:
    """Return the URI's bucket; keys with ``.`` or ``..`` segments are refused, as a server might resolve them."""
    hint = arn_hint(uri)
    if hint:
        raise Problem(400, "bad-uri", f"s3_uri has an ARN in it; {hint}.")
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    is_object = uri.startswith("s3://") and bucket and key and not key.endswith("/")
    if not is_object or _FORBIDDEN_IN_KEY.search(key) or len(key.encode()) > _MAX_KEY_BYTES:
        raise Problem(400, "bad-uri", "s3_uri must have the form s3://bucket/key.")
    return bucket
