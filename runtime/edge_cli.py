"""``transferlite edge``: what is for devices only."""

import json
from pathlib import Path

import click


@click.group()
def edge() -> None:
    """Measure a model on a device."""


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
    from runtime.edge_bench import bench as measured
    from runtime.edge_bench import check

    found = measured(bundle, variants, threads, photo, starts, calls)
    click.echo(json.dumps(found.to_dict(), ensure_ascii=False) if as_json else found.table())
    check(found)
