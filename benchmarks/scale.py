"""Seconds and peak memory of the training job for growing numbers of generated photos."""

import json
import tempfile
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


@click.command()
@click.option("--counts", default="10000,30000,100000", show_default=True)
@click.option("--epochs", default=10, show_default=True)
@click.option("--quick", is_flag=True, help="1,000 and 3,000 photos.")
def main(counts: str, epochs: int, quick: bool) -> None:
    """Print seconds by phase, milliseconds per photo and peak memory for each count."""
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
