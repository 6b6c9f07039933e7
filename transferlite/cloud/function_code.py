"""The function's code: an image in ECR or a zip in S3, as parameters of the stack."""

import hashlib
from pathlib import Path

from transferlite.cloud.buckets import create_code_bucket, prefix_of
from transferlite.cloud.stack import find_stack
from transferlite.errors import InputError, NotFoundError
from transferlite.storage.locations import open_store

_NO_BUCKET = "none"
"""Value of the parameter CodeBucket when the function is an image."""


def as_image(uri: str) -> dict[str, str]:
    """Stack parameters that deploy the function as an image in ECR."""
    return {"FunctionPackage": "Image", "InferenceImage": uri}


def as_zip(stack: str, location: str, bucket: str | None) -> dict[str, str]:
    """Stack parameters that deploy the function as a zip, at ``s3://bucket/key`` or uploaded from a local file first.

    The key of an uploaded zip contains its sha256, because CloudFormation updates code only under a new key. ``bucket``
    defaults to the bucket of the stack's current zip, or to one that is created for the zips of this stack.

    Raises:
        InputError: the location is not an object.
        NotFoundError: the file does not exist.
    """
    if location.startswith("s3://"):
        bucket, _, key = location.removeprefix("s3://").partition("/")
        if not (bucket and key):
            raise InputError("is not an S3 object", where=location, hint="write s3://BUCKET/lambda.zip")
        return _zip_at(bucket, key)
    path = Path(location)
    if not path.is_file():
        raise NotFoundError("file does not exist", where=location, hint="create it with: transferlite package function")
    bucket = bucket or _bucket_of(stack) or create_code_bucket(prefix_of(stack))
    key = f"transferlite/function-{hashlib.sha256(path.read_bytes()).hexdigest()[:16]}.zip"
    open_store(f"s3://{bucket}").upload(key, path)
    return _zip_at(bucket, key)


def _zip_at(bucket: str, key: str) -> dict[str, str]:
    return {"FunctionPackage": "Zip", "CodeBucket": bucket, "CodeKey": key}


def _bucket_of(stack: str) -> str | None:
    """Return the bucket of the stack's current zip; None for an image or a new stack."""
    try:
        bucket = find_stack(stack).parameters.get("CodeBucket", _NO_BUCKET)
    except NotFoundError:
        return None
    return bucket if bucket != _NO_BUCKET else None
