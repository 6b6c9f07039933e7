"""The function's settings, from its environment."""

import hashlib
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from transferlite.errors import InputError

PREFIX = "predictions/"
"""Where records are in the output bucket."""


@dataclass(frozen=True)
class Settings:
    """
    Attributes:
        registry: ``TRANSFERLITE_REGISTRY``, where the models are (an ``s3://`` URI or a folder in the image).
        output_bucket: ``TRANSFERLITE_OUTPUT_BUCKET``, where records of S3 events are written; needed only for those.
        channel: ``TRANSFERLITE_CHANNEL``, default ``production``.
        variant: ``TRANSFERLITE_VARIANT``, default ``float32``.
        refresh_seconds: ``TRANSFERLITE_REFRESH_SECONDS``, how old the knowledge of the channel may get; default 60.
        inputs: ``TRANSFERLITE_INPUTS``, the ``s3://bucket/prefix`` whose new objects reach the function, by commas.
        allowed_buckets: ``TRANSFERLITE_ALLOWED_BUCKETS``, by commas: whose objects a caller may name. None where it is
            not set: a direct invocation may then name any that the role reads, an HTTP request none.
        lines: ``TRANSFERLITE_LINES``, the prefix of the output bucket for records as lines in daily partitions.
        tags: ``TRANSFERLITE_TAGS``, ``on`` to tag each photo with its label.
        event_bus: ``TRANSFERLITE_EVENT_BUS``, the bus of EventBridge that is told of each photo.
        metrics: ``TRANSFERLITE_METRICS``, their namespace in CloudWatch or ``off``; by default ``TransferLite`` in
            Lambda, off elsewhere.

    Raises:
        InputError: the records would be written where they reach the function again, or a value cannot be one.
    """

    registry: str
    output_bucket: str | None
    channel: str = "production"
    variant: str = "float32"
    refresh_seconds: float = 60.0
    inputs: tuple[str, ...] = ()
    allowed_buckets: frozenset[str] | None = None
    lines: str = ""
    tags: bool = False
    event_bus: str = ""
    metrics: str = ""

    def __post_init__(self) -> None:
        if self.lines and (self.lines.startswith(("/", PREFIX)) or not self.lines.endswith("/")):
            raise InputError(f"TRANSFERLITE_LINES is {self.lines!r}", hint=f"name a prefix beside {PREFIX}: labels/")
        for uri in self.inputs:
            self._check_input(uri)

    def _check_input(self, uri: str) -> None:
        bucket, _, prefix = uri.removeprefix("s3://").partition("/")
        if not uri.startswith("s3://") or not bucket:
            raise InputError(f"TRANSFERLITE_INPUTS has {uri!r}", hint="write s3://BUCKET/PREFIX, by commas")
        for ours in self.written if bucket == self.output_bucket else ():
            if ours.startswith(prefix) or prefix.startswith(ours):
                raise InputError(
                    f"records would go to s3://{bucket}/{ours}, whose objects reach the function (input {uri})",
                    hint="set TRANSFERLITE_OUTPUT_BUCKET to another bucket, or let the trigger have another prefix",
                )

    @property
    def written(self) -> tuple[str, ...]:
        """The prefixes of the output bucket that the function writes to."""
        return (PREFIX, self.lines) if self.lines else (PREFIX,)

    def is_ours(self, bucket: str, key: str) -> bool:
        """Whether an object is one that the function wrote: to label it would go round for ever."""
        return bucket == self.output_bucket and key.startswith(self.written)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> "Settings":
        """Read them. Raises InputError when the registry is not named, or a value cannot be one."""
        registry = environment.get("TRANSFERLITE_REGISTRY")
        if not registry:
            raise InputError("TRANSFERLITE_REGISTRY is not set", hint="set it to the registry's s3:// URI")
        seconds = environment.get("TRANSFERLITE_REFRESH_SECONDS", "60")
        try:
            refresh = float(seconds)
        except ValueError:
            refresh = math.nan
        if not 0 <= refresh < math.inf:
            raise InputError(f"TRANSFERLITE_REFRESH_SECONDS is {seconds!r}, not a number of seconds")
        allowed = _listed(environment, "TRANSFERLITE_ALLOWED_BUCKETS")
        usual = "TransferLite" if "AWS_LAMBDA_FUNCTION_NAME" in environment else "off"
        namespace = environment.get("TRANSFERLITE_METRICS") or usual
        return cls(
            registry=registry,
            output_bucket=environment.get("TRANSFERLITE_OUTPUT_BUCKET") or None,
            channel=environment.get("TRANSFERLITE_CHANNEL", "production"),
            variant=environment.get("TRANSFERLITE_VARIANT", "float32"),
            refresh_seconds=refresh,
            inputs=_listed(environment, "TRANSFERLITE_INPUTS"),
            allowed_buckets=frozenset(allowed) if allowed else None,
            lines=_folder(environment.get("TRANSFERLITE_LINES", "")),
            tags=_switch(environment, "TRANSFERLITE_TAGS"),
            event_bus=environment.get("TRANSFERLITE_EVENT_BUS", ""),
            metrics="" if namespace == "off" else namespace,
        )

    def allows(self, uri: str) -> bool:
        """Whether a direct invocation may name this ``s3://`` object."""
        bucket = uri.removeprefix("s3://").partition("/")[0]
        return self.allowed_buckets is None or bucket in self.allowed_buckets


@dataclass(frozen=True)
class HttpSettings:
    """
    Attributes:
        key_digests: the sha256 of each API key that is accepted; without any, none is asked for.
            ``TRANSFERLITE_API_KEY_SHA256`` has them in hexadecimal by commas, ``TRANSFERLITE_API_KEY`` one key itself.
        origins: ``TRANSFERLITE_CORS_ORIGINS``, by commas: whose pages may call; ``*`` is every origin.
        base_path: ``TRANSFERLITE_BASE_PATH``, what a custom domain puts before the paths; default none.
    """

    key_digests: tuple[bytes, ...] = ()
    origins: frozenset[str] = frozenset()
    base_path: str = ""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> "HttpSettings":
        """Read them. Raises InputError for a digest that is none."""
        digests = [_digest(text) for text in _listed(environment, "TRANSFERLITE_API_KEY_SHA256")]
        if key := environment.get("TRANSFERLITE_API_KEY"):
            digests.append(hashlib.sha256(key.encode()).digest())
        base = environment.get("TRANSFERLITE_BASE_PATH", "").strip("/")
        origins = frozenset(one.rstrip("/") for one in _listed(environment, "TRANSFERLITE_CORS_ORIGINS"))
        return cls(tuple(digests), origins, f"/{base}" if base else "")


def _listed(environment: Mapping[str, str], name: str) -> tuple[str, ...]:
    words = (word.strip() for word in environment.get(name, "").split(","))
    return tuple(word for word in words if word)


def _folder(prefix: str) -> str:
    return prefix if not prefix or prefix.endswith("/") else f"{prefix}/"


def _switch(environment: Mapping[str, str], name: str) -> bool:
    value = environment.get(name, "").lower()
    if value not in {"", "on", "off"}:
        raise InputError(f"{name} is {value!r}", hint="set it to on or off")
    return value == "on"


def _digest(text: str) -> bytes:
    if not re.fullmatch(r"[0-9a-fA-F]{64}", text):
        raise InputError(
            "TRANSFERLITE_API_KEY_SHA256 is not 64 hexadecimal digits", hint="printf %s KEY | sha256sum makes it"
        )
    digest = bytes.fromhex(text)
    if digest == hashlib.sha256(b"").digest():
        raise InputError(
            "TRANSFERLITE_API_KEY_SHA256 has the sha256 of an empty key",
            hint="set KEY before printf %s KEY | sha256sum",
        )
    return digest
