"""The seed job with ``transferlite train``, plain Keras ``fit``, PyTorch, and the limits of the machine.

The seed job is the reference workload that this project started from (``benchmarks/helpers/seed_cases.py``). All sides
are processes of their own on the same photos at the same size, and take turns. ``transferlite train`` runs completely,
with an empty registry. Keras and PyTorch's usual loop are timed for a few of the 1,000 steps and extrapolated; their
photos are already decoded in memory.
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

from benchmarks.helpers.photos import real_photos, seed_photos
from benchmarks.helpers.processes import print_table, run_module
from benchmarks.helpers.seed_cases import BATCH, CASES, EPOCHS, PHOTOS, STEPS, STEPS_PER_EPOCH, Case
from benchmarks.limits import Limits, measure_limits, median

Rows = NDArray[np.float32]

_IN_TORCH = "efficientnet_lite0"
_MAX_FEATURE_DIFFERENCE = 1e-3


@dataclass
class Rounds:
    """Seconds of each round: those named ``steps`` of single steps, all others of the whole job."""

    keras_steps: list[float] = field(default_factory=list)
    torch_steps: list[float] = field(default_factory=list)
    torch_kept: list[float] = field(default_factory=list)
    limits: list[Limits] = field(default_factory=list)
    training: list[float] = field(default_factory=list)
    whole: list[float] = field(default_factory=list)


def train(photos: Path, case: Case) -> dict[str, float]:
    """Run ``transferlite train`` with an empty registry; returns its seconds by phase."""
    options = ["--labels", str(photos / "label-train.csv"), "--images", str(photos / "train_img")]
    options += ["--backbone", case.backbone, "--weights", case.weights, "--image-size", str(case.size)]
    options += ["--epochs", str(EPOCHS), "--steps-per-epoch", str(STEPS_PER_EPOCH), "--batch-size", str(BATCH)]
    options += ["--promote", "always"]  # random weights: no cross-validation to show what they are worth
    with tempfile.TemporaryDirectory() as registry:
        return dict(run_module("transferlite", "train", *options, "--registry", registry, "--json")["seconds"])


def has_torch(case: Case) -> bool:
    """Whether PyTorch is installed and has the backbone (``benchmarks/sides/torch_lite0.py``)."""
    return case.backbone == _IN_TORCH and importlib.util.find_spec("torch") is not None


def one_round(case: Case, photos: Path, steps: int, limits: Callable[[], Limits], rows: Path, rounds: Rounds) -> None:
    """Run every side once."""
    common = ["--photos", str(photos / "train_img"), "--count", str(PHOTOS)]
    common += ["--batch", str(BATCH), "--steps", str(steps)]
    rounds.keras_steps += run_module("benchmarks.sides.keras_fit", *case.options, *common)
    rounds.limits.append(limits())
    seconds = train(photos, case)
    rounds.training.append(seconds["data"] + seconds["features"] + seconds["head"])
    rounds.whole.append(seconds["total"])
    click.echo(f"{case.name}: {json.dumps(seconds)}", err=True)
    if has_torch(case):
        torch = run_module(
            "benchmarks.sides.torch_fit", "--size", str(case.size), "--rows", str(rows / "torch.npy"), *common
        )
        rounds.torch_steps += torch["steps"]
        rounds.torch_kept.append(sum(torch["kept"].values()))
        click.echo(f"PyTorch, cached features: {json.dumps(torch['kept'])}", err=True)
        check_same_features(np.load(rows / "torch.npy"), np.load(rows / "tensorflow.npy"))


def check_same_features(found: Rows, expected: Rows) -> None:
    """Check that PyTorch's backbone gives the same feature rows ``[N, D]`` as ours. Raises ClickException."""
    difference = float(np.abs(found - expected).max())
    if difference > _MAX_FEATURE_DIFFERENCE:
        raise click.ClickException(f"PyTorch's features differ from TensorFlow's by up to {difference:.1e}")


def measure(case: Case, photos: Path, rounds: int, steps: int) -> Rounds:
    """Run all rounds of one backbone."""
    measured = Rounds()
    with (
        tempfile.TemporaryDirectory() as rows,
        measure_limits(case, photos / "train_img", Path(rows) / "tensorflow.npy") as limits,
    ):
        for _ in range(rounds):
            one_round(case, photos, steps, limits, Path(rows), measured)
    return measured


def table(case: Case, rounds: Rounds) -> Iterator[list[str]]:
    """Format the table rows: each side's seconds, and their ratio to the training phases and to the whole command."""
    training, whole = statistics.median(rounds.training), statistics.median(rounds.whole)
    limits = median(rounds.limits)
    parts = f"decode {limits.decode:.2f} + forward {limits.forward:.2f} + head {limits.head:.2f}"

    def row(side: str, seconds: float) -> list[str]:
        return [side, f"{seconds:.1f} s", f"**{seconds / training:.3g}x**", f"{seconds / whole:.3g}x"]

    yield row("Keras fit, frozen backbone", STEPS * statistics.median(rounds.keras_steps))
    if has_torch(case):
        yield row("PyTorch, frozen backbone in every step", STEPS * statistics.median(rounds.torch_steps))
        yield row("PyTorch, backbone once, cached features", statistics.median(rounds.torch_kept))
    else:
        reason = "skipped: install the extra `bench`" if case.backbone == _IN_TORCH else f"only with {_IN_TORCH}"
        yield [f"PyTorch ({reason})", "", "", ""]
    yield row("the whole command, with import, export and gate", whole)
    yield row("training: data + features + head", training)
    yield row(f"limits: {parts}; training takes {training / limits.total:.2f}x (target: at most 1.3x)", limits.total)


@click.command()
@click.option("--photos", type=click.Path(path_type=Path), help="Folder with train_img/ and label-train.csv.")
@click.option("--steps", default=5, show_default=True, help="Steps of Keras and PyTorch to time per round.")
@click.option("--rounds", default=2, show_default=True)
@click.option("--only", type=click.Choice([case.backbone for case in CASES]))
@click.option("--quick", is_flag=True, help="One round, EfficientNet-Lite0 only.")
def main(photos: Path | None, steps: int, rounds: int, only: str | None, quick: bool) -> None:
    """Print a table per backbone: the seconds of every side, and their ratios."""
    chosen = photos or real_photos()
    with tempfile.TemporaryDirectory() as folder:
        source = chosen or seed_photos(Path(folder), PHOTOS)
        workload = (
            f"{PHOTOS} {'' if chosen else 'generated '}photos, {EPOCHS} epochs x {STEPS_PER_EPOCH} steps of {BATCH}"
        )
        for case in CASES:
            if case.backbone == (only or (CASES[0].backbone if quick else case.backbone)):
                header = (f"{case.name}, {workload}", "seconds", "/ training", "/ whole command")
                measured = measure(case, source, 1 if quick else rounds, steps)
                print_table("python -m benchmarks.seed_job", header, table(case, measured))


if __name__ == "__main__":
    main()
