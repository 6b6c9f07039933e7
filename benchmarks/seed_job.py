"""The seed's job: ``transferlite train`` against plain Keras ``fit``, against PyTorch, and against the machine's limits.

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

from benchmarks.limits import Limits, measuring, median
from benchmarks.photos import real_photos, seed_photos
from benchmarks.seed_cases import BATCH, CASES, EPOCHS, PHOTOS, STEPS, STEPS_PER_EPOCH, Case
from benchmarks.sides import once, print_table

_SAME_ROWS = 1e-3
_HEADER = ("seconds", "x training", "")


@dataclass
class Rounds:
    """What each round measured, in seconds; Keras's and PyTorch's ``steps`` are a step's, the others the whole job's."""

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
    return case.backbone == "efficientnet_lite0" and importlib.util.find_spec("torch") is not None


def one_round(case: Case, photos: Path, steps: int, limits: Callable[[], Limits], rows: Path, rounds: Rounds) -> None:
    """Every side once."""
    common = ["--photos", str(photos / "train_img"), "--count", str(PHOTOS)]
    common += ["--batch", str(BATCH), "--steps", str(steps)]
    rounds.keras_steps += once("benchmarks.keras_fit", *case.words, *common)
    rounds.limits.append(limits())
    seconds = train(photos, case)
    rounds.training.append(seconds["data"] + seconds["features"] + seconds["head"])
    rounds.whole.append(seconds["total"])
    click.echo(f"{case.name}: {json.dumps(seconds)}", err=True)
    if has_torch(case):
        torch = once("benchmarks.torch_fit", "--size", str(case.size), "--rows", str(rows / "torch.npy"), *common)
        rounds.torch_steps += torch["steps"]
        rounds.torch_kept.append(torch["pass"] + torch["head"])
        check_rows(np.load(rows / "torch.npy"), np.load(rows / "tensorflow.npy"))


def check_rows(found: "np.ndarray[tuple[int, ...], np.dtype[np.float32]]", expected: "np.ndarray[tuple[int, ...], np.dtype[np.float32]]") -> None:
    """Raises ClickException unless PyTorch's network gives the rows ``[N, D]`` that ours gives."""
    difference = float(np.abs(found - expected).max())
    if difference > _SAME_ROWS:
        raise click.ClickException(f"PyTorch's rows differ from TensorFlow's by up to {difference:.1e}")
