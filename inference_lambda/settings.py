"""The function's settings, from its environment."""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass

from runtime.errors import InputError


@dataclass(frozen=True)
class Settings:
    """
    Attributes:
        registry: ``TRANSFERLITE_REGISTRY``, where the models are (an ``s3://`` URI or a folder in the image).
        output_bucket: ``TRANSFERLITE_OUTPUT_BUCKET``, where records of S3 events are written; needed only for those.
        channel: ``TRANSFERLITE_CHANNEL``, default ``production``.
        variant: ``TRANSFERLITE_VARIANT``, default ``float32``.
        refresh_seconds: ``TRANSFERLITE_REFRESH_SECONDS``, how old the knowledge of the channel may get; default 60.
    """

    registry: str
    output_bucket: str | None
    channel: str = "production"
    variant: str = "float32"
    refresh_seconds: float = 60.0

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> "Settings":
        """Read them. Raises InputError when the registry is not named, or a number is none."""
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
        return cls(
            registry=registry,
            output_bucket=environment.get("TRANSFERLITE_OUTPUT_BUCKET") or None,
            channel=environment.get("TRANSFERLITE_CHANNEL", "production"),
            variant=environment.get("TRANSFERLITE_VARIANT", "float32"),
            refresh_seconds=refresh,
        )
