"""Open the store of an ``s3://`` URI, ``file://`` URI or local path, and read or write a single object."""

import os
from pathlib import Path
from typing import cast

from transferlite.errors import InputError
from transferlite.storage.deadline import DeadlineStore
from transferlite.storage.folder import FolderStore
from transferlite.storage.store import Store


def open_store(uri: str) -> Store:
    """Open the store for ``s3://bucket/prefix``, ``file:///path`` or a local path.

    Raises:
        InputError: the scheme is not supported, or an ``s3://`` URI has no bucket.
        MissingExtraError: the URI needs boto3, which is not installed.
    """
    scheme, separator, path = uri.partition("://")
    if not separator:
        return FolderStore(Path(uri))
    if scheme == "file":
        return FolderStore(Path(path or "/"))
    if scheme == "s3":
        return _open_s3_store(uri, path)
    raise InputError(f"{scheme}:// is not supported", where=uri, hint="give an s3:// URI or a local path")


def _open_s3_store(uri: str, path: str) -> Store:
    """Open the obstore store in a Lambda function, because it imports faster, and the boto3 store elsewhere.

    In a function, every call has a deadline.
    """
    in_function = "AWS_LAMBDA_RUNTIME_API" in os.environ
    if in_function and path.partition("/")[0]:
        from transferlite.storage.s3_obstore import ObstoreS3Store, is_enough

        if is_enough():
            return cast(Store, DeadlineStore(ObstoreS3Store(uri)))
    from transferlite.storage.s3_boto3 import S3Store

    store = S3Store.from_uri(uri)
    return cast(Store, DeadlineStore(store)) if in_function else store


def split_uri(uri: str) -> tuple[str, str]:
    """Split an object's URI into root and key: ``s3://b/a/cat.jpg`` -> (``s3://b``, ``a/cat.jpg``).

    A local path is split at its last slash; an ``s3://`` URI after its bucket, because a key may start with a slash.
    Raises InputError if the URI ends in a slash or has no key.
    """
    if uri.startswith("s3://"):
        bucket, _, name = uri.removeprefix("s3://").partition("/")
        root = f"s3://{bucket}"
    else:
        root, slash, name = uri.rpartition("/")
        root = root or slash or "."
    if not name or uri.endswith("/"):
        raise InputError("names a folder or bucket where one file is needed", where=uri)
    return root, name


def read_uri(uri: str, max_bytes: int | None = None) -> bytes:
    """Read one object or file, or only its first ``max_bytes`` bytes. Raises NotFoundError."""
    root, key = split_uri(uri)
    return open_store(root).get(key, max_bytes).data


def write_uri(uri: str, data: bytes) -> None:
    """Write one object or file, replacing any previous content."""
    root, key = split_uri(uri)
    open_store(root).put(key, data)
