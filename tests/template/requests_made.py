"""Every request that reaches the local AWS, of boto3 and obstore alike, and the IAM action it asks for."""

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

import pytest

from tests.template.policies import Pair

_OF_OBJECTS = {
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
}
"""Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/using-with-s3-policy-actions.html"""
_OF_BUCKETS = {("HEAD", None): "ListBucket", ("GET", "list-type"): "ListBucket"}
_KINDS = ("versionId", "uploads", "uploadId", "tagging", "list-type")


def asked_of_s3(method: str, path: str, query: str) -> Pair:
    """The action and the ARN that a path-style request needs; of a request of no known kind, what no policy allows."""
    bucket, _, key = path.removeprefix("/").partition("/")
    given = parse_qs(query, keep_blank_values=True)
    kind = next((name for name in _KINDS if name in given), None)
    action = (_OF_OBJECTS if key else _OF_BUCKETS).get((method, kind), f"{method}, of no known action")
    return f"s3:{action}", f"arn:aws:s3:::{bucket}" + (f"/{key}" if key else "")


@dataclass
class Requests:
    """What was asked for, by the access key that signed it: each role's own."""

    made: dict[str, set[Pair]] = field(default_factory=dict)

    def note(self, environ: dict[str, Any]) -> None:
        """Take a request down, whose body stays readable."""
        signature = environ.get("HTTP_AUTHORIZATION", "")
        if "Credential=" not in signature:
            return self._add("nobody", ("unsigned", environ["PATH_INFO"]))
        who, _, _, service, _ = signature.split("Credential=")[1].split(",")[0].split("/")
        if service == "s3":
            path = environ["PATH_INFO"].encode("latin-1").decode()  # as WSGI passes UTF-8 on
            return self._add(who, asked_of_s3(environ["REQUEST_METHOD"], path, environ["QUERY_STRING"]))
        body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
        environ["wsgi.input"] = io.BytesIO(body)
        action = environ["HTTP_X_AMZ_TARGET"].split(".")[1]
        return self._add(who, (f"{service}:{action}", json.loads(body).get("KeyId", "*")))

    def _add(self, who: str, pair: Pair) -> None:
        self.made.setdefault(who, set()).add(pair)


@contextmanager
def requests_recorded() -> Iterator[Requests]:
    """Meanwhile, what reaches moto's server is recorded."""
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication

    requests, plain = Requests(), DomainDispatcherApplication.__call__

    def noted(self: Any, environ: dict[str, Any], start_response: Any) -> Any:
        if not environ["PATH_INFO"].startswith("/moto-api"):
            requests.note(environ)
        return plain(self, environ, start_response)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DomainDispatcherApplication, "__call__", noted)
        yield requests
