"""Record every request of boto3 and obstore to the local AWS, with the IAM action that it needs."""

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

import pytest

from tests.template.policies import Pair
from tests.template.stack import PSEUDO

EVENT_BUSES = f"arn:aws:events:{PSEUDO['AWS::Region']}:{PSEUDO['AWS::AccountId']}:event-bus/"

_OBJECT_ACTIONS = {
    ("GET", None): "GetObject",
    ("HEAD", None): "GetObject",
    ("PUT", None): "PutObject",
    ("DELETE", None): "DeleteObject",
    ("GET", "versionId"): "GetObjectVersion",
    ("HEAD", "versionId"): "GetObjectVersion",
    ("POST", "uploads"): "PutObject",
    ("PUT", "uploadId"): "PutObject",
    ("POST", "uploadId"): "PutObject",
    ("DELETE", "uploadId"): "AbortMultipartUpload",
    ("GET", "tagging"): "GetObjectTagging",
    ("PUT", "tagging"): "PutObjectTagging",
    ("GET", "tagging of a version"): "GetObjectVersionTagging",
    ("PUT", "tagging of a version"): "PutObjectVersionTagging",
}
"""Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/using-with-s3-policy-actions.html"""
_BUCKET_ACTIONS = {("HEAD", None): "ListBucket", ("GET", "list-type"): "ListBucket"}
_SUBRESOURCES = ("versionId", "uploads", "uploadId", "tagging", "tagging of a version", "list-type")


def s3_permission(method: str, path: str, query: str) -> Pair:
    """Return the action and ARN that a path-style request needs; an unknown request gets an action no policy grants."""
    bucket, _, key = path.removeprefix("/").partition("/")
    parameters = parse_qs(query, keep_blank_values=True)
    if {"tagging", "versionId"} <= parameters.keys():
        parameters = {"tagging of a version": [""]}
    subresource = next((name for name in _SUBRESOURCES if name in parameters), None)
    action = (_OBJECT_ACTIONS if key else _BUCKET_ACTIONS).get((method, subresource), f"{method}, of no known action")
    return f"s3:{action}", f"arn:aws:s3:::{bucket}" + (f"/{key}" if key else "")


@dataclass
class Requests:
    """Permissions used, by the access key that signed the request; each role has its own key."""

    used: dict[str, set[Pair]] = field(default_factory=dict)

    def record(self, environ: dict[str, Any]) -> None:
        """Record a request; its body stays readable."""
        signature = environ.get("HTTP_AUTHORIZATION", "")
        if "Credential=" not in signature:
            return self._add("nobody", ("unsigned", environ["PATH_INFO"]))
        access_key, _, _, service, _ = signature.split("Credential=")[1].split(",")[0].split("/")
        if service == "s3":
            path = environ["PATH_INFO"].encode("latin-1").decode()  # WSGI passes UTF-8 as latin-1
            return self._add(access_key, s3_permission(environ["REQUEST_METHOD"], path, environ["QUERY_STRING"]))
        body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
        environ["wsgi.input"] = io.BytesIO(body)
        action = environ["HTTP_X_AMZ_TARGET"].split(".")[1]
        request = json.loads(body)
        if service == "events":
            buses = {entry["EventBusName"] for entry in request["Entries"]}
            for bus in buses:
                self._add(access_key, (f"events:{action}", f"{EVENT_BUSES}{bus}"))
            return None
        return self._add(access_key, (f"{service}:{action}", request.get("KeyId", "*")))

    def _add(self, access_key: str, pair: Pair) -> None:
        self.used.setdefault(access_key, set()).add(pair)


@contextmanager
def record_requests() -> Iterator[Requests]:
    """Record the requests to moto's server until the context ends."""
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication

    requests, call = Requests(), DomainDispatcherApplication.__call__

    def recording_call(self: Any, environ: dict[str, Any], start_response: Any) -> Any:
        if not environ["PATH_INFO"].startswith("/moto-api"):
            requests.record(environ)
        return call(self, environ, start_response)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DomainDispatcherApplication, "__call__", recording_call)
        yield requests
