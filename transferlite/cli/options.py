"""Options and option callbacks that several commands share."""

import math
import re
from collections.abc import Callable
from typing import Any

import click
from click.core import ParameterSource

from transferlite import environment
from transferlite.inference.variants import AUTO, VARIANT_HELP

Callback = Callable[[click.Context, click.Parameter, str | None], Any]
"""Callback of a click option: converts the option's text."""

_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_MAX_SECONDS = 3650 * 86400


class FiniteRange(click.FloatRange):
    """Number within limits that is neither NaN nor infinite."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Convert the option's text. Fails for ``nan`` and ``inf``, which click accepts."""
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number.", param, ctx)
        return number


def refuse_options(reason: str, *names: str) -> None:
    """Raise UsageError if one of the current command's options was given, rather than left at its default.

    Args:
        reason: why the options do not apply, such as ``"needs --watch"``.
        names: names of the options' parameters.
    """
    context = click.get_current_context()
    for parameter in context.command.params:
        if parameter.name in names and context.get_parameter_source(parameter.name) is ParameterSource.COMMANDLINE:
            raise click.UsageError(f"{parameter.opts[0]} {reason}.", context)


def refuse_channel_beside(model_id: str | None, name: str) -> None:
    """Raise UsageError if --channel was given although ``model_id``, given as ``name``, already selects the version."""
    if model_id is not None:
        refuse_options(f"does not apply to {name}, which selects the version itself", "channel")


def comma_separated(convert: Callable[[str], Any], example: str) -> Callback:
    """Make a callback that splits a comma-separated list of 1 or more items and converts each; None stays None."""

    def parse(_context: click.Context, _option: click.Parameter, text: str | None) -> list[Any] | None:
        if text is None:
            return None
        try:
            items = [convert(word.strip()) for word in text.split(",") if word.strip()]
        except ValueError:
            items = []
        if not items:
            raise click.BadParameter(f"{text!r} is not a list such as {example}")
        return items

    return parse


def duration(minimum: int = 0) -> Callback:
    """Make a callback that converts a time such as 30s, 15m, 2h or 1d to seconds."""

    def parse(_context: click.Context, _option: click.Parameter, text: str | None) -> int:
        match = re.fullmatch(r"(\d+)([smhd])", (text or "").strip())
        seconds = int(match[1]) * _UNIT_SECONDS[match[2]] if match else -1
        if not minimum <= seconds <= _MAX_SECONDS:
            raise click.BadParameter(f"{text!r} is not a time such as 30s, 15m, 2h or 1d")
        return seconds

    return parse


registry_option = click.option("--registry", required=True, metavar="LOCATION", help="Model registry.")
channel_option = click.option(
    "--channel", default="production", show_default=True, metavar="NAME", help="Channel that points to the version."
)
variant_option = click.option(
    "--variant", help=f"{VARIANT_HELP}  [default: {AUTO}, or the variant that the bundle holds]"
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
stack_option = click.option(
    "--stack",
    default="transferlite",
    show_default=True,
    envvar=environment.STACK,
    show_envvar=True,
    metavar="NAME",
    help="CloudFormation stack.",
)
architecture_option = click.option(
    "--architecture",
    default="x86_64",
    show_default=True,
    type=click.Choice(["x86_64", "arm64"]),
    help="Processor of the function.",
)
