"""The seed's job, 200 photos x 100 epochs x 10 steps of 50: ``transferlite train`` against plain Keras ``fit``.

``make bench`` runs it. Keras is timed before and after, each time for a few of its 1,000 steps, and extrapolated;
``transferlite train`` is run whole. All sides are processes of their own on the same photos at the same size.
"""

import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from PIL import Image

ROOT = Path(__file__).parents[1]
PHOTOS, EPOCHS, STEPS, BATCH = 200, 100, 10, 50


@dataclass(frozen=True)
class Case:
    """A backbone, where its weights come from, and the size of its input."""

    backbone: str
    weights: str
    size: int


CASES = (Case("efficientnet_lite0", "default", 224), Case("inception_v3", "none", 256))
"""InceptionV3 at the seed's own 256 pixels, without weights: they cannot be had everywhere, and cost no time."""


@dataclass(frozen=True)
class Measured:
    """Seconds: Keras's 1,000 steps (extrapolated), the training phases and the whole command."""

    case: Case
    keras: float
    training: float
    whole: float

    def row(self) -> str:
        """A line of the table."""
        return (
            f"| {self.case.backbone} {self.case.size} | {self.keras:.0f} s | {self.training:.1f} s"
            f" | **{self.keras / self.training:.0f}x** | {self.whole:.0f} s | **{self.keras / self.whole:.0f}x** |"
        )


def generated(folder: Path) -> Path:
    """Photos of a usual size, in two classes, with their CSV, for machines that have no real ones."""
    (folder / "train_img").mkdir()
    random = np.random.default_rng(0)
    for number in range(PHOTOS):
        coarse = random.integers(0, 255, (6, 8, 3), np.uint8)
        picture = Image.fromarray(coarse).resize((500, 375), Image.Resampling.BICUBIC)
        picture.save(folder / "train_img" / f"{'cat' if number % 2 else 'dog'}.{number}.jpg", quality=90)
    with (folder / "label-train.csv").open("w") as file:
        writer = csv.writer(file)
        writer.writerow(["File Name", "Label"])
        writer.writerows([path.name, path.name.split(".")[0]] for path in (folder / "train_img").iterdir())
    return folder


def last_json(arguments: list[str]) -> Any:
    """Run a Python program and return the JSON on its last line."""
    done = subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise click.ClickException(f"{arguments}: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def keras_steps(photos: Path, case: Case, steps: int) -> list[float]:
    """Seconds of some steps of plain Keras."""
    words = ["--photos", str(photos / "train_img"), "--backbone", case.backbone, "--weights", case.weights]
    words += ["--size", str(case.size), "--batch", str(BATCH), "--steps", str(steps)]
    return list(map(float, last_json(["-m", "benchmarks.keras_fit", *words])))


def train(photos: Path, case: Case, registry: str) -> dict[str, float]:
    """The seconds of ``transferlite train`` by phase."""
    words = ["--labels", str(photos / "label-train.csv"), "--images", str(photos / "train_img"), "--registry", registry]
    words += ["--backbone", case.backbone, "--weights", case.weights, "--image-size", str(case.size)]
    words += ["--epochs", str(EPOCHS), "--steps-per-epoch", str(STEPS), "--batch-size", str(BATCH), "--json"]
    return dict(last_json(["-m", "transferlite", "train", *words])["seconds"])


def measure(photos: Path, case: Case, steps: int) -> Measured:
    """Keras, TransferLite, Keras again."""
    before = keras_steps(photos, case, steps)
    with tempfile.TemporaryDirectory() as registry:
        seconds = train(photos, case, registry)
    a_step = statistics.median([*before, *keras_steps(photos, case, steps)])
    click.echo(f"{case.backbone}: Keras {a_step:.3f} s a step; {json.dumps(seconds)}", err=True)
    training = seconds["data"] + seconds["features"] + seconds["head"]
    return Measured(case, a_step * EPOCHS * STEPS, training, seconds["total"])


@click.command()
@click.option("--photos", type=click.Path(path_type=Path), help="A folder with train_img/ and label-train.csv.")
@click.option("--steps", default=5, show_default=True, help="Keras steps to time, twice.")
@click.option("--only", type=click.Choice([case.backbone for case in CASES]))
def main(photos: Path | None, steps: int, only: str | None) -> None:
    """Print a table of both sides' seconds and their ratios."""
    usual = Path(os.environ.get("TRANSFERLITE_TEST_DATA") or ROOT.parent / "shared" / "data") / "catsdogs"
    chosen = photos or (usual if usual.is_dir() else None)
    with tempfile.TemporaryDirectory() as folder:
        source = chosen or generated(Path(folder))
        click.echo(f"{PHOTOS} photos{'' if chosen else ' (generated)'}, {EPOCHS} epochs x {STEPS} steps of {BATCH}")
        click.echo("| backbone | Keras fit, frozen base | data + features + head | ratio | whole command | ratio |")
        click.echo("|---|---|---|---|---|---|")
        for case in CASES:
            if only in {None, case.backbone}:
                click.echo(measure(source, case, steps).row())


if __name__ == "__main__":
    main()
