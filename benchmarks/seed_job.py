"""The seed's job: ``transferlite train`` against plain Keras ``fit``, PyTorch, and the limits of the machine.

All sides are processes of their own on the same photos at the same size, and take turns. ``transferlite train`` is run
whole, on an empty registry. Keras, and PyTorch's usual loop, are timed for a few of the 1,000 steps and extrapolated;
their photos are decoded and in memory.
"""

import importlib.util
import json
import statistics
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from benchmarks.limits import Limits, measuring, median
from benchmarks.photos import real_photos, seed_photos
from benchmarks.sides.processes import once, print_table
from benchmarks.sides.seed_cases import BATCH, CASES, EPOCHS, PHOTOS, STEPS, STEPS_PER_EPOCH, Case

Rows = NDArray[np.float32]

_IN_TORCH = "efficientnet_lite0"
_SAME_ROWS = 1e-3


@dataclass
class Rounds:
    """What each round measured, in seconds: ``steps`` are those of single steps, all else is of the whole job."""

    keras_steps: list[float] = field(default_factory=list)
    torch_steps: list[float] = field(default_factory=list)
    torch_kept: list[float] = field(default_factory=list)
    limits: list[Limits] = field(default_factory=list)
    training: list[float] = field(default_factory=list)
    whole: list[float] = field(default_factory=list)


def train(photos: Path, case: Case) -> dict[str, float]:
    """The seconds of ``transferlite train`` by phase, into a registry that is empty."""
    words = ["--labels", str(photos / "label-train.csv"), "--images", str(photos / "train_img")]
    words += ["--backbone", case.backbone, "--weights", case.weights, "--image-size", str(case.size)]
    words += ["--epochs", str(EPOCHS), "--steps-per-epoch", str(STEPS_PER_EPOCH), "--batch-size", str(BATCH)]
    with tempfile.TemporaryDirectory() as registry:
        return dict(once("transferlite", "train", *words, "--registry", registry, "--json")["seconds"])


def has_torch(case: Case) -> bool:
    """Whether PyTorch can be had as a peer: it is installed, and the network is one that we wrote for it."""
    return case.backbone == _IN_TORCH and importlib.util.find_spec("torch") is not None


def one_round(case: Case, photos: Path, steps: int, limits: Callable[[], Limits], rows: Path, rounds: Rounds) -> None:
    """Every side once."""
    common = ["--photos", str(photos / "train_img"), "--count", str(PHOTOS)]
    common += ["--batch", str(BATCH), "--steps", str(steps)]
    rounds.keras_steps += once("benchmarks.sides.keras_fit", *case.words, *common)
    rounds.limits.append(limits())
    seconds = train(photos, case)
    rounds.training.append(seconds["data"] + seconds["features"] + seconds["head"])
    rounds.whole.append(seconds["total"])
    click.echo(f"{case.name}: {json.dumps(seconds)}", err=True)
    if has_torch(case):
        torch = once("benchmarks.sides.torch_fit", "--size", str(case.size), "--rows", str(rows / "torch.npy"), *common)
        rounds.torch_steps += torch["steps"]
        rounds.torch_kept.append(sum(torch["kept"].values()))
        click.echo(f"PyTorch, rows kept: {json.dumps(torch['kept'])}", err=True)
        check_rows(np.load(rows / "torch.npy"), np.load(rows / "tensorflow.npy"))


def check_rows(found: Rows, expected: Rows) -> None:
    """Raises ClickException unless PyTorch's network gives the rows ``[N, D]`` that ours gives."""
    difference = float(np.abs(found - expected).max())
    if difference > _SAME_ROWS:
        raise click.ClickException(f"PyTorch's rows differ from TensorFlow's by up to {difference:.1e}")


def measure(case: Case, photos: Path, rounds: int, steps: int) -> Rounds:
    """All rounds of one backbone."""
    measured = Rounds()
    with (
        tempfile.TemporaryDirectory() as rows,
        measuring(case, photos / "train_img", Path(rows) / "tensorflow.npy") as limits,
    ):
        for _ in range(rounds):
            one_round(case, photos, steps, limits, Path(rows), measured)
    return measured


def table(case: Case, rounds: Rounds) -> Iterator[list[str]]:
    """The table's rows: a side's seconds, and how many times the training phases' and the whole command's they are."""
    training, whole = statistics.median(rounds.training), statistics.median(rounds.whole)
    limits = median(rounds.limits)
    parts = f"decode {limits.decode:.2f} + forward {limits.forward:.2f} + head {limits.head:.2f}"

    def row(side: str, seconds: float) -> list[str]:
        return [side, f"{seconds:.1f} s", f"**{seconds / training:.3g}x**", f"{seconds / whole:.3g}x"]

    yield row("Keras fit, frozen base", STEPS * statistics.median(rounds.keras_steps))
    if has_torch(case):
        yield row("PyTorch, frozen base in every step", STEPS * statistics.median(rounds.torch_steps))
        yield row("PyTorch, base once, rows kept", statistics.median(rounds.torch_kept))
    else:
        why = "skipped: install the extra `bench`" if case.backbone == _IN_TORCH else f"only with {_IN_TORCH}"
        yield [f"PyTorch ({why})", "", "", ""]
    yield row("the whole command, with import, exports and gate", whole)
    yield row("training: data + features + head", training)
    yield row(f"limits: {parts}; training takes {training / limits.total:.2f}x (wanted: at most 1.3x)", limits.total)


@click.command()
@click.option("--photos", type=click.Path(path_type=Path), help="A folder with train_img/ and label-train.csv.")
@click.option("--steps", default=5, show_default=True, help="Keras's and PyTorch's steps to time in each round.")
@click.option("--rounds", default=2, show_default=True)
@click.option("--only", type=click.Choice([case.backbone for case in CASES]))
@click.option("--quick", is_flag=True, help="One round, EfficientNet-Lite0 only.")
def main(photos: Path | None, steps: int, rounds: int, only: str | None, quick: bool) -> None:
    """Print a table a backbone: every side's seconds, and their ratios."""
    chosen = photos or real_photos()
    with tempfile.TemporaryDirectory() as folder:
        source = chosen or seed_photos(Path(folder), PHOTOS)
        photos_are = (
            f"{PHOTOS} {'' if chosen else 'generated '}photos, {EPOCHS} epochs x {STEPS_PER_EPOCH} steps of {BATCH}"
        )
        for case in CASES:
            if case.backbone == (only or (CASES[0].backbone if quick else case.backbone)):
                header = (f"{case.name}, {photos_are}", "seconds", "/ training", "/ whole command")
                found = measure(case, source, 1 if quick else rounds, steps)
                print_table("python -m benchmarks.seed_job", header, table(case, found))


if __name__ == "__main__":
    main()
