"""A channel's version for devices without credentials: one JSON with a presigned address for each object they need."""

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

LONGEST = 7 * 86400
"""Seconds: S3 takes no presigned address that is older. One made with a role's credentials ends with them, earlier."""

_UNITS = {"m": 60, "h": 3600, "d": 86400}


def seconds_of(text: str) -> int:
    """The seconds of ``90m``, ``12h`` or ``7d``. Raises InputError for what is none, or longer than S3 allows."""
    found = re.fullmatch(r"(\d+)([mhd])", text.strip())
    seconds = int(found[1]) * _UNITS[found[2]] if found else 0
    if not 0 < seconds <= LONGEST:
        raise InputError(f"{text!r} is not a time of 1m to 7d", hint="write 90m, 12h or 7d")
    return seconds


def write_share(registry: Registry, channel: str, variants: Iterable[str] | None, seconds: int, out: str) -> str | None:
    """Write the share of what ``channel`` names to ``out``.

    Returns:
        The share's own presigned address where ``out`` is in S3, otherwise None.

    Raises:
        InputError: the registry is not in S3.
        NotFoundError: there is no such channel or variant.
        UntrustedError: the registry's keys did not sign it.
    """
    pointer = registry.channel(channel)
    manifest = registry.manifest(pointer.model_id)
    prefix = f"models/{pointer.model_id}"
    keys = [f"channels/{channel}.json", f"{prefix}/{MANIFEST}"]
    if registry.signature(pointer.model_id) is not None:
        keys.append(f"{prefix}/{SIGNATURE}")
    keys += [f"{prefix}/{name}" for name in manifest.serving_files(variants or manifest.tflite_variants())]
    until = utc_now() + datetime.timedelta(seconds=seconds)
    content = {
        "schema": SCHEMA,
        "channel": channel,
        "model_id": pointer.model_id,
        "expires_at": until.isoformat(),
        "objects": {key: _address(registry.store, key, seconds) for key in keys},
    }
    write_uri(out, json.dumps(content, indent=2).encode() + b"\n")
    if not out.startswith("s3://"):
        return None
    root, name = split_uri(out)
    return _address(open_store(root), name, seconds)


def _address(store: Store, key: str, seconds: int) -> str:
    if not store.uri.startswith("s3://"):
        raise InputError("only what is in S3 has presigned addresses", where=store.uri, hint="copy the folder instead")
    from transferlite.storage.s3_boto3 import S3Store

    assert isinstance(store, S3Store)
    return store.presigned(key, seconds)
