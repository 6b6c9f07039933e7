"""Options and option callbacks that several commands share."""

import re
from collections.abc import Callable
from typing import Any

import click

from transferlite import environment

Callback = Callable[[click.Context, click.Parameter, str | None], Any]
"""Callback of a click option: converts the option's text."""

_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def comma_separated(convert: Callable[[str], Any], example: str) -> Callback:
    """Make a callback that splits a comma-separated list and converts each item; None stays None."""

    def parse(_context: click.Context, _option: click.Parameter, text: str | None) -> list[Any] | None:
        try:
            return None if text is None else [convert(word.strip()) for word in text.split(",") if word.strip()]
        except ValueError:
            raise click.BadParameter(f"{text!r} is not a list such as {example}") from None

    return parse


def duration(minimum: int = 0) -> Callback:
    """Make a callback that converts a time such as 30s, 15m, 2h or 1d to seconds."""

    def parse(_context: click.Context, _option: click.Parameter, text: str | None) -> int:
        match = re.fullmatch(r"(\d+)([smhd])", (text or "").strip())
        seconds = int(match[1]) * _UNIT_SECONDS[match[2]] if match else -1
        if seconds < minimum:
            raise click.BadParameter(f"{text!r} is not a time such as 30s, 15m, 2h or 1d")
        return seconds

    return parse


registry_option = click.option("--registry", required=True, metavar="LOCATION", help="Model registry.")
channel_option = click.option(
    "--channel", default="production", show_default=True, metavar="NAME", help="Channel that points to the version."
)
public_key_option = click.option(
    "--public-key",
    envvar=environment.PUBLIC_KEY,
    metavar="FILE",
    help="PEM file (or AWS KMS key) with the keys to accept signatures from.  [env: TRANSFERLITE_PUBLIC_KEY]",
)
signing_key_option = click.option(
    "--signing-key",
    envvar=environment.SIGNING_KEY,
    metavar="KEY",
    help="Private key: PEM file, awskms:///alias/NAME or an ARN.  [env: TRANSFERLITE_SIGNING_KEY]",
)
variants_option = click.option(
    "--variants",
    callback=comma_separated(str, "float32,int8"),
    metavar="NAMES",
    help="Comma-separated TFLite variants.  [default: all]",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
