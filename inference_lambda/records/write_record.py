"""Prediction record of a photo: its key, and a write that never puts an older result over a newer one.

::

    predictions/<bucket>/<key>.json                object in a bucket without versioning
    predictions/<bucket>/<key>@<version>.json      version of an object
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

from inference_lambda.events.s3 import S3Photo
from inference_lambda.settings import RECORDS_PREFIX
from transferlite.errors import ConflictError, NotFoundError
from transferlite.storage.store import Store

MAX_KEY_BYTES = 1024
"""Longest S3 key in UTF-8. Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html"""
_MAX_ATTEMPTS = 8


def record_key(photo: S3Photo) -> str:
    """Return the record's key; a key too long for S3 is cut, and ends in ``~`` and the sha256 of the photo's name."""
    name = f"{photo.key}@{photo.version_id}" if photo.version_id else photo.key
    key = f"{RECORDS_PREFIX}{photo.bucket}/{name}.json"
    if len(key.encode()) <= MAX_KEY_BYTES:
        return key
    suffix = f"~{hashlib.sha256(name.encode()).hexdigest()}.json"
    kept = f"{RECORDS_PREFIX}{photo.bucket}/{photo.key}".encode()[: MAX_KEY_BYTES - len(suffix)]
    return kept.decode(errors="ignore") + suffix


def record_bytes(record: Mapping[str, Any]) -> bytes:
    """Serialise a record as one line of JSON; the same photo and model give the same bytes."""
    return json.dumps(record, ensure_ascii=False).encode()


def write_record(
    output: Store, key: str, record: Mapping[str, Any], is_current: Callable[[], bool]
) -> dict[str, Any] | None:
    """Write a record, unless the stored one is as good; every write is conditional on what is stored.

    The result therefore does not depend on the order or number of events. A stored record of the same content and
    model stays. One of other content stays if the photo is no longer what ``record`` describes. Any other is replaced.

    Args:
        output: output bucket.
        key: key of the record.
        record: new record.
        is_current: returns whether the photo still has the content that ``record`` describes.

    Returns:
        The stored record, or None if the photo was overwritten after ``record`` was made.

    Raises:
        ConflictError: other writers changed the record at each of 8 attempts.
    """
    data = record_bytes(record)
    for _ in range(_MAX_ATTEMPTS):
        try:
            output.put(key, data, if_absent=True)
            return dict(record)
        except ConflictError:
            pass
        try:
            blob = output.get(key)
        except NotFoundError:
            continue
        stored = _parse(blob.data)
        if _is_as_good(stored, record):
            return stored
        if stored.get("etag") not in (None, record.get("etag")) and not is_current():
            return None
        try:
            output.put(key, data, if_match=blob.etag)
            return dict(record)
        except ConflictError:
            continue
    raise ConflictError("other writers keep changing the record", where=f"{output.uri}/{key}")


def _is_as_good(stored: Mapping[str, Any], record: Mapping[str, Any]) -> bool:
    """Return whether the stored record can stay.

    A new record without an ``etag`` says that the photo is missing; it does not replace a record made while it existed.
    """
    if "etag" not in record:
        return "image" in stored
    return all(stored.get(name) == record.get(name) for name in ("image", "etag", "model_id"))


def _parse(data: bytes) -> dict[str, Any]:
    """Parse a stored record; anything that is not a record gives an empty one, which is replaced."""
    try:
        record = json.loads(data)
    except ValueError:
        return {}
    return record if isinstance(record, dict) else {}
