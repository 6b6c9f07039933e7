"""``python -m simulation.fleet``: simulate a fleet of edge devices; exit with status 1 if the ledger is wrong."""

import sys
import tempfile
import time
from pathlib import Path

import click

from simulation.fleet_story import FleetStory

_MEMORY = Path("/dev/shm")
"""Memory file system: every update flushes its files to disk several times."""


@click.command()
@click.option("--devices", default=200, show_default=True, type=click.IntRange(6), help="Number of devices.")
@click.option("--seed", default=0, show_default=True, help="Seed of every random choice.")
@click.option("--out", type=click.Path(path_type=Path), help="JSON Lines file: what each device did, and why.")
def main(devices: int, seed: int, out: Path | None) -> None:
    """Run the story and print its ledger: = marks a line as expected, ! one that differs."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory(dir=_MEMORY if _MEMORY.is_dir() else None) as folder:
        story = FleetStory(Path(folder), devices, seed)
        story.run()
    click.echo(f"{devices} devices, seed {seed}, {time.monotonic() - started:.0f} s")
    click.echo("  reasons by step, with the number of polls:")
    for line in story.reasons():
        click.echo(line)
    for line in story.ledger.rows():
        click.echo(line)
    if out:
        out.write_text(story.to_json_lines())
    click.echo("the ledger does not balance" if story.ledger.mismatches else "the ledger balances")
    sys.exit(1 if story.ledger.mismatches else 0)


if __name__ == "__main__":
    main()
