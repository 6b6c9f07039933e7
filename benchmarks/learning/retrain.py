"""The seed job again: with 5% more photos, and with other gate options after a failed gate, against the first training.

Each run is a process of its own. CPU seconds are printed beside wall seconds: they depend less on other work of the
machine. ``--rounds`` repeats all runs with a new registry.
"""

import csv
import resource
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

import click

from benchmarks.helpers.photos import real_photos, seed_photos
from benchmarks.helpers.processes import ROOT, print_table, run_module
from benchmarks.helpers.seed_cases import BATCH, CASES, EPOCHS, PHOTOS, STEPS_PER_EPOCH, Case

FIRST, MORE, AFTER_GATE = (
    "first training, 190 photos",
    "retrain, 10 more photos",
    "other gate options, after a failed gate",
)


def first_rows(photos: Path, folder: Path, count: int) -> Path:
    """Write the first ``count`` rows of the label file, from the classes in turn, to ``folder``."""
    with (photos / "label-train.csv").open() as file:
        header, *rows = csv.reader(file)
    by_class = defaultdict(list)
    for row in rows:
        by_class[row[1]].append(row)
    in_turn = [row for group in zip(*by_class.values(), strict=False) for row in group]
    path = folder / f"labels-{count}.csv"
    with path.open("w") as file:
        csv.writer(file).writerows([header, *in_turn[:count]])
    return path


def options(case: Case, photos: Path, labels: Path, registry: Path) -> list[str]:
    """Options of ``transferlite train`` for the seed job."""
    chosen = ["--labels", str(labels), "--images", str(photos / "train_img"), "--registry", str(registry)]
    chosen += ["--backbone", case.backbone, "--weights", case.weights, "--image-size", str(case.size)]
    chosen += ["--epochs", str(EPOCHS), "--steps-per-epoch", str(STEPS_PER_EPOCH), "--batch-size", str(BATCH)]
    return [*chosen, "--promote", "always"]  # random weights: no cross-validation to show what they are worth


def timed(*words: str) -> tuple[float, float]:
    """Run ``transferlite train``; returns its wall and CPU seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = float(run_module("transferlite", "train", *words, "--json")["seconds"]["total"])
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def fail_gate(*words: str) -> None:
    """Run a training whose gate fails."""
    command = [sys.executable, "-m", "benchmarks.sides.failed_gate", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if "nothing was published" not in done.stderr:
        raise click.ClickException(f"the gate did not fail: {done.stderr[-2000:]}")


def one_round(case: Case, photos: Path) -> dict[str, tuple[float, float]]:
    """Wall and CPU seconds of each run."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        some, everything = first_rows(photos, folder, PHOTOS - PHOTOS // 20), first_rows(photos, folder, PHOTOS)
        seconds = {FIRST: timed(*options(case, photos, some, folder / "registry"))}
        seconds[MORE] = timed(*options(case, photos, everything, folder / "registry"))
        fail_gate(*options(case, photos, some, folder / "failed"))
        words = options(case, photos, some, folder / "failed")
        seconds[AFTER_GATE] = timed(*words, "--variants", "float32,float16,dynamic,int8", "--max-accuracy-drop", "0.02")
    return seconds


@click.command()
@click.option("--rounds", default=3, show_default=True)
@click.option("--only", type=click.Choice([case.backbone for case in CASES]))
@click.option("--quick", is_flag=True, help="One round, EfficientNet-Lite0 only.")
def main(rounds: int, only: str | None, quick: bool) -> None:
    """Print the wall and CPU seconds of each run, and its share of the first training."""
    with tempfile.TemporaryDirectory() as folder:
        photos = real_photos() or seed_photos(Path(folder), PHOTOS)
        for case in CASES:
            if case.backbone != (only or (CASES[0].backbone if quick else case.backbone)):
                continue
            measured = [one_round(case, photos) for _ in range(1 if quick else rounds)]
            rows = []
            for run in measured[0]:
                wall, cpu = (statistics.median(seconds[run][i] for seconds in measured) for i in (0, 1))
                shares = [statistics.median(s[run][i] / s[FIRST][i] for s in measured) for i in (0, 1)]
                rows.append([run, f"{wall:.1f} s", f"**{shares[0]:.2f}x**", f"{cpu:.1f} s", f"**{shares[1]:.2f}x**"])
            header = (case.name, "wall", "of the first", "CPU", "of the first")
            print_table("python -m benchmarks.learning.retrain", header, rows)


if __name__ == "__main__":
    main()
