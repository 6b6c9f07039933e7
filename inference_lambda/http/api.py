"""The HTTP interface: what each path answers, who may ask, and in which words it is refused."""

import hashlib
import hmac
import json
import logging
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from inference_lambda.events.http import Form, Request, Response
from inference_lambda.http.body import photo_of
from inference_lambda.http.problems import Problem, model_problem, photo_problem
from inference_lambda.http.query import options_of
from inference_lambda.service import Service
from inference_lambda.settings import HttpSettings
from transferlite.errors import TransferLiteError
from transferlite.images.input_spec import READ_BYTES
from transferlite.inference.prediction import UNKNOWN
from transferlite.predict.predictor import Predictor
from transferlite.storage.locations import read_uri

if TYPE_CHECKING:
    from transferlite.images.decoder import RGB

_OPEN = ("/", "/health", "/openapi.json")
_MOST_KEY_BYTES = 1024  # of an object's key: https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html
_NEVER_IN_A_KEY = re.compile(r"(^|/)\.\.?(/|$)|[\x00-\x1f\x7f\ud800-\udfff]")
_ALWAYS = {"cache-control": "no-store", "x-content-type-options": "nosniff"}
_log = logging.getLogger("transferlite")


class Api:
    """Answers HTTP requests. The service is made when one first needs it, so that what it lacks is answered too."""

    def __init__(self, settings: HttpSettings, service: Callable[[], Service]) -> None:
        self._settings = settings
        self._service = service
        self._routes: Mapping[str, Mapping[str, Callable[[Request], Response]]] = {
            "/": {"GET": self._page},
            "/predict": {"POST": self._predict},
            "/model": {"GET": self._describe},
            "/health": {"GET": self._health},
            "/openapi.json": {"GET": self._document},
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
            self._count("internal")
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
        return answer(request)

    def _route(self, request: Request) -> str:
        """The path below the custom domain's base path and the gateway's stage. A balancer's health check has any."""
        balancer = request.form in {Form.BALANCER, Form.BALANCER_MULTI}
        if balancer and request.headers.get("user-agent", "").startswith("ELB-HealthChecker/"):
            return "/health"
        path = request.path
        for prefix in (self._settings.base_path, f"/{request.stage}" if request.stage else ""):
            if path not in self._routes and prefix and f"{path}/".startswith(f"{prefix}/"):
                path = path.removeprefix(prefix)
        bare = path.rstrip("/") or "/"
        return bare if bare in self._routes else path

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

    def _page(self, _: Request) -> Response:
        from inference_lambda.http.page import page  # which a cold start for a photo need not wait for

        return page()

    def _document(self, _: Request) -> Response:
        from inference_lambda.http.openapi import DOCUMENT  # as above

        return _json(DOCUMENT)

    def _predict(self, request: Request) -> Response:
        options = options_of(request, "top", "threshold", "explain", "model")
        photo = photo_of(request)
        if isinstance(photo, str):
            self._check_allowed(photo)
        predictor = self._predictor(options.model_id)
        metrics = self._service().metrics
        with self._service().trace.photo(photo if isinstance(photo, str) else "") as told:
            seen = self._decoded(photo, predictor)
            with metrics.phase("Invoke"):
                found = predictor(seen, options.top)
            if options.threshold is not None:
                found = found._replace(label=found.top[0][0] if found.score >= options.threshold else UNKNOWN)
            _log.info(json.dumps({"event": "answered", "model_id": found.model_id, "label": found.label}))
            told.update(label=found.label, model_id=found.model_id)
            answer = found.to_dict()
            metrics.answered(answer, predictor.manifest.labels, UNKNOWN)
            if options.explain:
                from inference_lambda.http.explanation import explanation_of  # as above

                with metrics.phase("Explain"):
                    answer["explanation"] = explanation_of(predictor, seen, request.seconds_left)
        return _json(answer)

    def _decoded(self, photo: bytes | str, predictor: Predictor) -> "RGB":
        """The photo's pixels, fetched first if it is an ``s3://`` URI."""
        from transferlite.images.decoder import decode  # as above

        metrics, data = self._service().metrics, photo
        try:
            if isinstance(data, str):
                with metrics.phase("Fetch"):
                    data = read_uri(data, READ_BYTES)
            with metrics.phase("Decode"):
                return decode(data, predictor.manifest.input)
        except TransferLiteError as error:
            raise photo_problem(error) from error

    def _describe(self, request: Request) -> Response:
        manifest = self._predictor(options_of(request, "model").model_id).manifest
        variant = self._service().settings.variant
        spec = manifest.input
        return _json({
            "model_id": manifest.model_id,
            "created_at": manifest.created_at,
            "labels": list(manifest.labels),
            "input": {"height": spec.height, "width": spec.width, "resize": spec.resize},
            "variant": variant,
            "accuracy": manifest.variants[variant].accuracy,
            "photos": manifest.variants[variant].photos,
            "threshold": manifest.threshold,
        })  # fmt: skip

    def _health(self, _: Request) -> Response:
        key = "required" if self._settings.key_digests else "none"
        return _json({"status": "ok", "model_id": self._predictor().manifest.model_id, "key": key})

    def _predictor(self, model_id: str | None = None) -> Predictor:
        try:
            return self._service().model.get(model_id)
        except TransferLiteError as error:
            raise model_problem(error, model_id) from error

    def _check_allowed(self, uri: str) -> None:
        """Whoever calls reads through the function's role: buckets have to be allowed."""
        bucket = _bucket_of(uri)
        try:
            allowed = self._service().settings.allowed_buckets
        except TransferLiteError as error:
            raise model_problem(error) from error
        if bucket not in (allowed or ()):
            raise Problem(403, "bucket-not-allowed", "Objects of that bucket may not be named.")

    def _told(self, request: Request, path: str, problem: Problem) -> None:
        self._count(problem.code)
        line = {"event": "http-problem", "method": request.method, "path": path, "status": problem.status}
        cause = {"reason": str(problem.__cause__)} if problem.__cause__ else {}
        _log.log(
            logging.ERROR if problem.status >= 500 else logging.INFO, json.dumps(line | {"code": problem.code} | cause)
        )

    def _count(self, code: str) -> None:
        with suppress(TransferLiteError):  # without settings there is nothing that counts
            self._service().metrics.count("Errors", "Code", code)


def _json(content: Mapping[str, Any]) -> Response:
    return Response(200, json.dumps(content, ensure_ascii=False), {"content-type": "application/json"})


def _bucket_of(uri: str) -> str:
    """The bucket of an object's URI; its key cannot lead out of it, whatever a server makes of dots."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    named = uri.startswith("s3://") and bucket and key and not key.endswith("/")
    if not named or _NEVER_IN_A_KEY.search(key) or len(key.encode()) > _MOST_KEY_BYTES:
        raise Problem(400, "bad-uri", "Write s3_uri as s3://bucket/key.")
    return bucket
