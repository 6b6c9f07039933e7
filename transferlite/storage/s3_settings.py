"""Limits, addresses and errors that both S3 stores share. Imports neither boto3 nor obstore."""

import os
from collections.abc import Mapping

from transferlite.errors import ConflictError, InputError, UnavailableError

CONNECT_SECONDS = 5.0
"""Limit to open a connection to S3."""

READ_SECONDS = 60.0
"""Limit to wait for the next bytes from S3."""

REQUESTS = 6
"""Maximum requests for one call that S3 throttles or leaves without an answer."""

QUICK_REQUESTS = 3
"""Requests that obstore sends of these, before boto3 sends the rest.

After silence obstore does not repeat a conditional write, which may have been done; boto3 does.
"""

READS = 3
"""Maximum reads of an object whose content breaks off. obstore counts its requests for the rest as retries."""


def split_root(uri: str) -> tuple[str, str]:
    """Bucket and key prefix of ``s3://bucket/prefix``; a prefix ends in a slash. Raises InputError without a bucket."""
    bucket, _, prefix = uri.removeprefix("s3://").partition("/")
    if not bucket:
        raise InputError("names no bucket", where=uri, hint="write s3://BUCKET/PREFIX")
    return bucket, f"{prefix.strip('/')}/" if prefix.strip("/") else ""


def custom_endpoint(environment: Mapping[str, str] = os.environ) -> str | None:
    """URL of an S3 service other than AWS, from the environment."""
    return environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL")


def is_etag(text: str) -> bool:
    """Return whether an object can have this ETag: servers ignore an empty one, and ``*`` matches every object."""
    return text.strip() not in {"", "*"} and text.isascii() and text.isprintable()


def conflict(where: str) -> ConflictError:
    """Return the error of a conditional write whose condition does not hold."""
    return ConflictError("was changed by another writer", where=where)


def incomplete(where: str) -> UnavailableError:
    """Return the error of an answer that ends before its length."""
    return UnavailableError("the answer of S3 broke off", where=where, hint="check the network and try again")
