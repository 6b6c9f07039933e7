"""``transferlite edge``: what runs on a device for as long as it lives."""

import re
from pathlib import Path
from typing import Any

import click

from runtime.models_cli import channel_option, public_key_option, registry_option

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def _seconds(_context: click.Context, _option: click.Parameter, value: str) -> int:
    found = re.fullmatch(r"(\d+)([smhd])", value.strip())
    if not found or not int(found[1]):
        raise click.BadParameter(f"{value!r} is not a time such as 90s, 15m, 1h or 1d")
    return int(found[1]) * _UNITS[found[2]]


@click.group()
def edge() -> None:
    """Keep a device's model up to date."""


@edge.command()
@registry_option
@channel_option
@click.option("--dest", required=True, type=click.Path(path_type=Path, file_okay=False), help="The device's folder.")
@click.option("--variant", default="float32", show_default=True, help="The TFLite file to take: float32, int8.")
@click.option("--poll", default="1h", show_default=True, callback=_seconds, metavar="TIME", help="How often to look.")
@click.option("--once", is_flag=True, help="Look once and end, for cron or a systemd timer.")
@public_key_option
def run(**options: Any) -> None:
    """Follow a channel: pull what it names, check it, load it, and only then take it.

    What cannot be taken is refused with its reason, and DEST stands for what it stood for. A version that does not load
    or answers its test pictures otherwise here is not tried again until the channel changes. SIGTERM ends it.
    """
    from runtime.edge_run import Follow, follow

    poll, once = options.pop("poll"), options.pop("once")
    follow(Follow(**options), None if once else poll)
