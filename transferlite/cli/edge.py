"""``transferlite edge``: commands for edge devices."""

import datetime
import json
from pathlib import Path
from typing import Any

import click

from transferlite.cli.options import (
    channel_option,
    comma_separated,
    duration,
    json_option,
    public_key_option,
    refuse_options,
    registry_option,
    variants_option,
)
from transferlite.inference.variants import AUTO, VARIANT_HELP


def _thread_count(text: str) -> int:
    if int(text) < 1:
        raise ValueError(text)
    return int(text)


@click.group()
def edge() -> None:
    """Keep the model on an edge device up to date, show its state, and measure its speed."""


@edge.command()
@registry_option
@channel_option
@click.option("--dest", required=True, type=click.Path(path_type=Path, file_okay=False), help="Folder of the model.")
@click.option("--variant", default=AUTO, show_default=True, help=VARIANT_HELP)
@click.option(
    "--poll",
    default="1h",
    show_default=True,
    callback=duration(minimum=1),
    metavar="TIME",
    help="Time between two polls.",
)
@click.option("--once", is_flag=True, help="Poll once and exit, for cron or a systemd timer.")
@public_key_option
def run(**options: Any) -> None:
    """Follow a channel: pull each new version, verify it, load it, and only then switch to it.

    If a version cannot be installed, the reason is printed and DEST keeps its model. A version that does not load, or
    whose self-test fails on this device, is not tried again until the channel changes. SIGTERM ends the command.
    """
    from transferlite.edge.follow_channel import ChannelFollower, follow

    poll, once = options.pop("poll"), options.pop("once")
    if once:
        refuse_options("does not apply to --once", "poll")
    follow(ChannelFollower(**options), None if once else poll)


@edge.command()
@click.option("--dest", required=True, type=click.Path(path_type=Path, file_okay=False), help="Folder of the model.")
@click.option("--variant", help="Variant to load.  [default: float32, or the one that DEST holds]")
@public_key_option
@json_option
def status(dest: Path, variant: str | None, public_key: str | None, as_json: bool) -> None:
    """Show what DEST holds, load the model, and list each problem with what to do; nothing is changed.

    Problems are, for example, an expired channel pointer, a wrong clock, a full or read-only disk, a refused version
    and a model that does not load. The exit status is 1 if there is any.
    """
    from transferlite.edge.device_status import device_status

    result = device_status(dest, variant, public_key, datetime.datetime.now(datetime.UTC))
    if as_json:
        click.echo(json.dumps({"facts": result.facts, "problems": result.problems}, ensure_ascii=False))
    else:
        for name, text in result.facts.items():
            click.echo(f"{name:<16} {text}")
        for problem in result.problems:
            click.echo(f"problem: {problem}")
        if not result.problems:
            click.echo("no problem found")
    if result.problems:
        raise click.exceptions.Exit(1)


@edge.command()
@click.option("--bundle", required=True, type=click.Path(path_type=Path), help="Folder of the model.")
@variants_option
@click.option(
    "--threads",
    callback=comma_separated(_thread_count, "1,4"),
    metavar="1,4",
    help="Comma-separated numbers of threads.  [default: 1 and all cores]",
)
@click.option(
    "--photo",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Photo to predict.  [default: a JPEG of noise]",
)
@click.option("--starts", default=5, show_default=True, type=click.IntRange(1), help="Processes per case.")
@click.option("--calls", default=200, show_default=True, type=click.IntRange(1), help="Predictions per case.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, in seconds and bytes.")
def bench(
    bundle: Path,
    variants: list[str] | None,
    threads: list[int] | None,
    photo: Path | None,
    starts: int,
    calls: int,
    as_json: bool,
) -> None:
    """Measure start, latency, memory and size of a model on this machine, by variant and number of threads.

    "cold" is the time from the start of a process to its first prediction, verification included. p50 and p99 are from
    a photo's bytes to its prediction. "memory" is the peak of any process.
    """
    from transferlite.edge.benchmark import measure_bundle

    result = measure_bundle(bundle, variants or (), threads or (), photo, starts, calls)
    click.echo(json.dumps(result.to_dict(), ensure_ascii=False) if as_json else result.table())
    result.require_all()
