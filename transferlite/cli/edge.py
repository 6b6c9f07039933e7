"""``transferlite edge``: what is for devices only."""

import json
import re
from pathlib import Path
from typing import Any

import click

from transferlite.cli.models import channel_option, public_key_option, registry_option

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def _seconds(_context: click.Context, _option: click.Parameter, value: str) -> int:
    found = re.fullmatch(r"(\d+)([smhd])", value.strip())
    if not found or not int(found[1]):
        raise click.BadParameter(f"{value!r} is not a time such as 90s, 15m, 1h or 1d")
    return int(found[1]) * _UNITS[found[2]]


@click.group()
def edge() -> None:
    """Keep a device's model up to date, and measure it."""


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
    from transferlite.edge.follow_channel import Follow, follow

    poll, once = options.pop("poll"), options.pop("once")
    follow(Follow(**options), None if once else poll)


def _names(_context: click.Context, _option: click.Parameter, text: str | None) -> list[str]:
    return [name.strip() for name in (text or "").split(",") if name.strip()]


def _counts(_context: click.Context, _option: click.Parameter, text: str | None) -> list[int]:
    try:
        counts = [int(word) for word in (text or "").split(",") if word.strip()]
    except ValueError:
        counts = [0]
    if any(count < 1 for count in counts):
        raise click.BadParameter(f"{text!r} is not a list such as 1,4")
    return counts


@edge.command()
@click.option("--bundle", required=True, type=click.Path(path_type=Path), help="The model's folder.")
@click.option("--variants", callback=_names, help="Comma-separated TFLite files.  [default: all that are there]")
@click.option("--threads", callback=_counts, metavar="1,4", help="Counts of threads.  [default: 1 and all cores]")
@click.option("--photo", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="[default: one of noise]")
@click.option("--starts", default=5, show_default=True, type=click.IntRange(1), help="Fresh processes of each case.")
@click.option("--calls", default=200, show_default=True, type=click.IntRange(1), help="Answers of each case.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: seconds and bytes.")
def bench(
    bundle: Path,
    variants: list[str],
    threads: list[int],
    photo: Path | None,
    starts: int,
    calls: int,
    as_json: bool,
) -> None:
    """What a model costs on this device: time to a first answer, latency, memory and size, by variant and threads.

    Cold is from the start of a process to its first answer, verification included; p50 and p99 are from a photo's bytes
    to its answer; memory is the most that a process had in use.
    """
    from transferlite.edge.benchmark import check
    from transferlite.edge.benchmark import measure_bundle as measured

    found = measured(bundle, variants, threads, photo, starts, calls)
    click.echo(json.dumps(found.to_dict(), ensure_ascii=False) if as_json else found.table())
    check(found)
