"""Settings of the function, read from environment variables."""

import hashlib
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from transferlite.errors import InputError
from transferlite.inference.variants import AUTO

RECORDS_PREFIX = "predictions/"
"""Prefix of the records in the output bucket."""


@dataclass(frozen=True)
class Settings:
    """Settings for every event source.

    Attributes:
        registry: ``TRANSFERLITE_REGISTRY``, model registry: an ``s3://`` URI or a folder in the image.
        output_bucket: ``TRANSFERLITE_OUTPUT_BUCKET``, bucket for records; needed only to label photos of S3 events.
        channel: ``TRANSFERLITE_CHANNEL``, channel to follow; default ``production``.
        variant: ``TRANSFERLITE_VARIANT``, TFLite variant to load; default ``auto``, the manifest's choice.
        refresh_seconds: ``TRANSFERLITE_REFRESH_SECONDS``, seconds to cache the channel pointer; default 60.
        inputs: ``TRANSFERLITE_INPUTS``, comma-separated ``s3://bucket/prefix`` URIs whose new objects trigger the
            function.
        allowed_buckets: ``TRANSFERLITE_ALLOWED_BUCKETS``, comma-separated buckets from which a caller may request
            objects. None if not set: a direct invocation may then request any object that the role can read, an HTTP
            request none.
        lines_prefix: ``TRANSFERLITE_LINES``, prefix in the output bucket for records as JSON lines, partitioned by day;
            empty for none.
        tags: ``TRANSFERLITE_TAGS``, ``on`` to tag each photo with its label.
        event_bus: ``TRANSFERLITE_EVENT_BUS``, EventBridge bus that receives an event per photo; empty for none.
        metrics: ``TRANSFERLITE_METRICS``, CloudWatch namespace for metrics, or ``off``; default ``TransferLite`` in
            Lambda, ``off`` elsewhere.

    Raises:
        InputError: a value is invalid, or new records would trigger the function again.
    """

    registry: str
    output_bucket: str | None
    channel: str = "production"
    variant: str = AUTO
    refresh_seconds: float = 60.0
    inputs: tuple[str, ...] = ()
    allowed_buckets: frozenset[str] | None = None
    lines_prefix: str = ""
    tags: bool = False
    event_bus: str = ""
    metrics: str = ""

    def __post_init__(self) -> None:
        prefix = self.lines_prefix
        if prefix and (prefix.startswith(("/", RECORDS_PREFIX)) or not prefix.endswith("/")):
            raise InputError(
                f"TRANSFERLITE_LINES is {prefix!r}", hint=f"use a prefix outside {RECORDS_PREFIX}, e.g. labels/"
            )
        for uri in self.inputs:
            self._check_input(uri)

    def _check_input(self, uri: str) -> None:
        bucket, _, prefix = uri.removeprefix("s3://").partition("/")
        if not uri.startswith("s3://") or not bucket:
            raise InputError(f"TRANSFERLITE_INPUTS has {uri!r}", hint="use comma-separated s3://BUCKET/PREFIX URIs")
        for output in self.output_prefixes if bucket == self.output_bucket else ():
            if output.startswith(prefix) or prefix.startswith(output):
                raise InputError(
                    f"records in s3://{bucket}/{output} would trigger the function again (input {uri})",
                    hint="set TRANSFERLITE_OUTPUT_BUCKET to another bucket, or give the trigger another prefix",
                )

    @property
    def output_prefixes(self) -> tuple[str, ...]:
        """Prefixes of the output bucket that the function writes to."""
        return (RECORDS_PREFIX, self.lines_prefix) if self.lines_prefix else (RECORDS_PREFIX,)

    def is_own_output(self, bucket: str, key: str) -> bool:
        """Return whether the function wrote this object; labelling it would write another, endlessly."""
        return bucket == self.output_bucket and key.startswith(self.output_prefixes)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> "Settings":
        """Read the settings. Raises InputError if the registry is missing or a value is invalid."""
        registry = environment.get("TRANSFERLITE_REGISTRY")
        if not registry:
            raise InputError("TRANSFERLITE_REGISTRY is not set", hint="set it to the registry's s3:// URI")
        allowed = _comma_separated(environment, "TRANSFERLITE_ALLOWED_BUCKETS")
        default_namespace = "TransferLite" if "AWS_LAMBDA_FUNCTION_NAME" in environment else "off"
        namespace = environment.get("TRANSFERLITE_METRICS") or default_namespace
        return cls(
            registry=registry,
            output_bucket=environment.get("TRANSFERLITE_OUTPUT_BUCKET") or None,
            channel=environment.get("TRANSFERLITE_CHANNEL", "production"),
            variant=environment.get("TRANSFERLITE_VARIANT", AUTO),
            refresh_seconds=_seconds(environment.get("TRANSFERLITE_REFRESH_SECONDS", "60")),
            inputs=_comma_separated(environment, "TRANSFERLITE_INPUTS"),
            allowed_buckets=frozenset(allowed) if allowed else None,
            lines_prefix=_with_slash(environment.get("TRANSFERLITE_LINES", "")),
            tags=_on_or_off(environment, "TRANSFERLITE_TAGS"),
            event_bus=environment.get("TRANSFERLITE_EVENT_BUS", ""),
            metrics="" if namespace == "off" else namespace,
        )

    def allows(self, uri: str) -> bool:
        """Return whether a direct invocation may request this ``s3://`` object."""
        bucket = uri.removeprefix("s3://").partition("/")[0]
        return self.allowed_buckets is None or bucket in self.allowed_buckets


@dataclass(frozen=True)
class HttpSettings:
    """Settings for HTTP requests.

    Attributes:
        key_digests: sha256 of each accepted API key; without any, no key is required. ``TRANSFERLITE_API_KEY_SHA256``
            holds comma-separated hexadecimal digests, ``TRANSFERLITE_API_KEY`` one key in plain text.
        origins: ``TRANSFERLITE_CORS_ORIGINS``, comma-separated origins whose pages may call; ``*`` for all.
        base_path: ``TRANSFERLITE_BASE_PATH``, base path of a custom domain; default none.
    """

    key_digests: tuple[bytes, ...] = ()
    origins: frozenset[str] = frozenset()
    base_path: str = ""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> "HttpSettings":
        """Read the settings. Raises InputError for an invalid digest."""
        digests = [_digest(text) for text in _comma_separated(environment, "TRANSFERLITE_API_KEY_SHA256")]
        if key := environment.get("TRANSFERLITE_API_KEY"):
            digests.append(hashlib.sha256(key.encode()).digest())
        base_path = environment.get("TRANSFERLITE_BASE_PATH", "").strip("/")
        origins = _comma_separated(environment, "TRANSFERLITE_CORS_ORIGINS")
        return cls(
            tuple(digests), frozenset(origin.rstrip("/") for origin in origins), f"/{base_path}" if base_path else ""
        )


def _comma_separated(environment: Mapping[str, str], name: str) -> tuple[str, ...]:
    values = (value.strip() for value in environment.get(name, "").split(","))
    return tuple(value for value in values if value)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise InputError(f"TRANSFERLITE_REFRESH_SECONDS is {text!r}, not a number of seconds")
    return seconds


def _with_slash(prefix: str) -> str:
    return prefix if not prefix or prefix.endswith("/") else f"{prefix}/"


def _on_or_off(environment: Mapping[str, str], name: str) -> bool:
    value = environment.get(name, "").lower()
    if value not in {"", "on", "off"}:
        raise InputError(f"{name} is {value!r}", hint="set it to on or off")
    return value == "on"


def _digest(text: str) -> bytes:
    if not re.fullmatch(r"[0-9a-fA-F]{64}", text):
        raise InputError(
            "TRANSFERLITE_API_KEY_SHA256 is not 64 hexadecimal digits",
            hint="make a digest with: printf %s KEY | sha256sum",
        )
    digest = bytes.fromhex(text)
    if digest == hashlib.sha256(b"").digest():
        raise InputError(
            "TRANSFERLITE_API_KEY_SHA256 has the sha256 of an empty key",
            hint="set KEY before running: printf %s KEY | sha256sum",
        )
    return digest
