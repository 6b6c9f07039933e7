"""Seconds and peak memory of the training job for growing numbers of photos.

``--photos 1000000`` measures a synthetic store whose features exist, so that everything but decoding and the forward
pass is real: listing, look-ups, split, near-duplicates, label issues, evaluation, export, report and records.
"""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from benchmarks.helpers.photos import PhotoStyle, write_folders
from benchmarks.helpers.processes import print_table, run_module

KIND = PhotoStyle(classes=10, width=96, height=72)


def train(photos: Path, registry: Path, epochs: int) -> dict[str, Any]:
    """Run a training job and return its ``run.json``."""
    options = ["--images", str(photos), "--registry", str(registry), "--image-size", "64", "--json"]
    options += ["--epochs", str(epochs), "--batch-size", "256"]
    model_id = run_module("transferlite", "train", *options)["model_id"]
    return dict(json.loads((registry / "models" / model_id / "training" / "run.json").read_text()))


NEW = 1000
"""New photos of the retrain."""


def measure_commands(count: int) -> Iterator[list[str]]:
    """Measure training, check, plan and a retrain with :data:`NEW` more photos; yields a table row for each."""
    with tempfile.TemporaryDirectory() as folder:
        run_module("benchmarks.sides.scale_job", "prefill", str(count), folder)
        for name, command, more in (
            ("train", "train", 0),
            ("check", "check", 0),
            ("plan", "plan", NEW),
            (f"retrain, {NEW:,} new", "train", NEW),
        ):
            record = run_module("benchmarks.sides.scale_job", command, str(count + more), folder)
            requests = ", ".join(f"{number:,} {kind}" for kind, number in record["requests"].items())
            yield [
                f"{count + more:,}",
                name,
                f"{record['cpu']:.1f} s",
                f"{record['cpu'] / count * 1e6:.0f} us",
                f"{record['seconds']:.1f} s",
                f"{record['peak'] / 2**20:,.0f} MiB",
                requests,
            ]


@click.command()
@click.option("--counts", default="10000,30000,100000", show_default=True)
@click.option("--epochs", default=10, show_default=True)
@click.option("--quick", is_flag=True, help="1,000 and 3,000 photos.")
@click.option("--photos", type=int, help="Measure every command on this many synthetic photos and on a tenth of them.")
def main(counts: str, epochs: int, quick: bool, photos: int | None) -> None:
    """Print seconds by phase, milliseconds per photo and peak memory for each count."""
    if photos is not None:
        columns = ("photos", "command", "processor time", "per photo", "wall time", "peak memory", "requests")
        rows = (row for count in (photos // 10, photos) for row in measure_commands(count))
        print_table(f"python -m benchmarks.scale --photos {photos}", columns, rows)
        return
    sizes = [1000, 3000] if quick else [int(count) for count in counts.split(",")]

    def row(count: int) -> list[str]:
        with tempfile.TemporaryDirectory() as folder:
            write_folders(Path(folder, "photos"), count, KIND)
            record = train(Path(folder, "photos"), Path(folder, "registry"), epochs)
        seconds = record["seconds"]
        training = seconds["data"] + seconds["features"] + seconds["head"]
        phases = [f"{seconds[name]:.1f} s" for name in ("data", "features", "head")]
        return [
            f"{count:,}",
            *phases,
            f"{training / count * 1e3:.2f} ms",
            f"{record['peak_memory_bytes'] / 2**20:,.0f} MiB",
        ]

    header = ("photos", "data", "features", f"head, {epochs} epochs", "per photo", "peak memory of the job")
    print_table("python -m benchmarks.scale", header, map(row, sizes))


if __name__ == "__main__":
    main()
