"""The record of each photo: where it is, and that it is written once and never loses to an older one.

::

    predictions/<bucket>/<key>.json              an object of a bucket without versions
    predictions/<bucket>/<key>@<version>.json    a version of an object
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

from inference_lambda.events.s3 import S3Photo
from inference_lambda.settings import PREFIX
from transferlite.errors import ConflictError, NotFoundError
from transferlite.storage.store import Store

MOST_KEY_BYTES = 1024
"""Of an S3 key in UTF-8. Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html"""
_ATTEMPTS = 8


def record_key(photo: S3Photo) -> str:
    """Where the photo's record is. A name too long for S3 is cut, and ends in ``~`` and the sha256 of the whole."""
    name = f"{photo.key}@{photo.version}" if photo.version else photo.key
    key = f"{PREFIX}{photo.bucket}/{name}.json"
    if len(key.encode()) <= MOST_KEY_BYTES:
        return key
    end = f"~{hashlib.sha256(name.encode()).hexdigest()}.json"
    start = f"{PREFIX}{photo.bucket}/{photo.key}".encode()[: MOST_KEY_BYTES - len(end)]
    return start.decode(errors="ignore") + end


def record_bytes(record: Mapping[str, Any]) -> bytes:
    """The record as it is stored: one line of JSON, the same for the same photo and model."""
    return json.dumps(record, ensure_ascii=False).encode()


def write_record(
    output: Store, key: str, record: Mapping[str, Any], is_current: Callable[[], bool]
) -> dict[str, Any] | None:
    """Write a record, or find that it is there. Returns what stands, or None where ours is of an overwritten content.

    Nothing is written over but by condition, so of two functions that label the same photo at once the second looks at
    what the first wrote. Where that is of another content (its ``etag``), ``is_current`` says whether ours is the
    object's content now: neither the order of events nor their number matters. A record of another model is replaced.

    Raises:
        ConflictError: others kept writing the record.
    """
    data = record_bytes(record)
    for _ in range(_ATTEMPTS):
        try:
            output.put(key, data, if_absent=True)
            return dict(record)
        except ConflictError:
            pass
        try:
            there = output.get(key)
        except NotFoundError:
            continue
        standing = _read(there.data)
        if _stands(standing, record):
            return standing
        if standing.get("etag") not in (None, record.get("etag")) and not is_current():
            return None
        try:
            output.put(key, data, if_match=there.etag)
            return dict(record)
        except ConflictError:
            continue
    raise ConflictError("others keep writing it", where=f"{output.uri}/{key}")


def _stands(standing: Mapping[str, Any], record: Mapping[str, Any]) -> bool:
    """Whether the record that is there need not be replaced.

    That the photo is missing now (no ``etag``) says nothing against what was seen when it was there.
    """
    if "etag" not in record:
        return "image" in standing
    return all(standing.get(name) == record.get(name) for name in ("image", "etag", "model_id"))


def _read(data: bytes) -> dict[str, Any]:
    """A record of ours, or nothing: what someone else put there is replaced."""
    try:
        found = json.loads(data)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
