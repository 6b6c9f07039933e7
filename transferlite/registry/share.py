"""Share a channel's version with devices that have no AWS credentials: a JSON with a presigned URL for each object."""

import datetime
import json
import re
from collections.abc import Iterable

from transferlite.errors import InputError
from transferlite.registry.manifest import MANIFEST, SIGNATURE
from transferlite.registry.open_registry import Registry
from transferlite.registry.versions import utc_now
from transferlite.storage.https import SCHEMA
from transferlite.storage.locations import open_store, split_uri, write_uri
from transferlite.storage.store import Store

MAX_SECONDS = 7 * 86400
"""Longest validity of a presigned S3 URL. A URL signed with a role's credentials expires earlier, with them."""

_SECONDS_PER_UNIT = {"m": 60, "h": 3600, "d": 86400}


def parse_duration(text: str) -> int:
    """Convert ``90m``, ``12h`` or ``7d`` to seconds. Raises InputError if it is invalid or longer than S3 allows."""
    match = re.fullmatch(r"(\d+)([mhd])", text.strip())
    seconds = int(match[1]) * _SECONDS_PER_UNIT[match[2]] if match else 0
    if not 0 < seconds <= MAX_SECONDS:
        raise InputError(f"{text!r} is not a duration from 1m to 7d", hint="write 90m, 12h or 7d")
    return seconds


def write_share(registry: Registry, channel: str, variants: Iterable[str] | None, seconds: int, out: str) -> str | None:
    """Write the share of a channel's current version to ``out``; its URLs are valid for ``seconds``.

    Returns:
        The presigned URL of the share itself if ``out`` is in S3, otherwise None.

    Raises:
        InputError: the registry is not in S3.
        NotFoundError: the channel or a variant does not exist.
        UntrustedError: none of the registry's keys signed the pointer or the manifest.
    """
    pointer = registry.channel(channel)
    manifest = registry.manifest(pointer.model_id)
    prefix = f"models/{pointer.model_id}"
    keys = [f"channels/{channel}.json", f"{prefix}/{MANIFEST}"]
    if registry.signature(pointer.model_id) is not None:
        keys.append(f"{prefix}/{SIGNATURE}")
    keys += [f"{prefix}/{name}" for name in manifest.serving_files(variants or manifest.tflite_variants())]
    expires = utc_now() + datetime.timedelta(seconds=seconds)
    content = {
        "schema": SCHEMA,
        "channel": channel,
        "model_id": pointer.model_id,
        "expires_at": expires.isoformat(),
        "objects": {key: _presigned_url(registry.store, key, seconds) for key in keys},
    }
    write_uri(out, json.dumps(content, indent=2).encode() + b"\n")
    if not out.startswith("s3://"):
        return None
    root, name = split_uri(out)
    return _presigned_url(open_store(root), name, seconds)


def _presigned_url(store: Store, key: str, seconds: int) -> str:
    if not store.uri.startswith("s3://"):
        raise InputError(
            "only a registry in S3 can be shared by URL", where=store.uri, hint="copy the registry's folder instead"
        )
    from transferlite.storage.s3_boto3 import S3Store

    assert isinstance(store, S3Store)
    return store.presigned(key, seconds)
