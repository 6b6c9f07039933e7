"""Overhead of the predictor over NumPy, Pillow and ai-edge-litert used by hand: start, latency and memory.

Both sides run in the same new edge installation, on one thread, and take turns. The start is the time of a new process
from its first line to its first prediction: imports, loading, one photo. Our side also checks the sha256 of each file
and runs the self-test.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import click

from benchmarks.helpers.photos import real_photos, seed_photos
from benchmarks.helpers.processes import ROOT, Side, print_table, run_module

SCRIPT = str(ROOT / "benchmarks" / "sides" / "edge.py")
SIDES = ("bare", "ours")
PHOTOS = 40
VARIANTS = ("float32", "int8")
BACKBONES = ("efficientnet_lite0", "mobilenet_v2", "inception_v3")


@dataclass(frozen=True)
class Model:
    """A trained bundle for a benchmark. Its accuracy does not matter."""

    name: str
    bundle: Path


def edge_install(folder: Path) -> str:
    """Make an environment with the extra ``edge``, with bytecode, as pip installs it; returns its Python."""
    python = str(folder / "bin" / "python")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--python", python]
    subprocess.run([*pip, "install", f"{ROOT}[edge]"], check=True)
    return python


def train(backbone: str, photos: Path, registry: Path) -> Model:
    """Train a bundle with this backbone, with random weights unless the package contains ImageNet's."""
    options = ["--labels", f"{photos}/label-train.csv", "--images", f"{photos}/train_img", "--epochs", "3"]
    options += ["--registry", str(registry), "--promote", "always", "--json"]
    options += ["--backbone", backbone, "--image-size", "224"]
    options += [] if backbone == "efficientnet_lite0" else ["--weights", "none"]
    return Model(backbone, registry / "models" / run_module("transferlite", "train", *options)["model_id"])


def start_row(python: str, model: Model, variant: str, photo: Path, rounds: int) -> list[str]:
    """A table row: median ms to the first prediction, of the whole process and from its first line on."""
    whole: dict[str, list[float]] = {side: [] for side in SIDES}
    inside: dict[str, list[float]] = {side: [] for side in SIDES}
    for round_number in range(rounds + 1):
        for side in SIDES:
            command = [python, "-I", SCRIPT, "first", side, str(model.bundle), variant, str(photo)]
            start = time.perf_counter()
            done = subprocess.run(command, capture_output=True, check=True)
            if round_number:  # the first round reads the files from disk
                whole[side].append(time.perf_counter() - start)
                inside[side].append(json.loads(done.stdout)["seconds"])
    size = (model.bundle / f"{variant}.tflite").stat().st_size / 2**20
    return [f"{model.name} {variant}", f"{size:.1f} MiB", *_compared(whole), *_compared(inside)]


def warm_row(python: str, model: Model, variant: str, photos: Sequence[Path], rounds: int) -> list[str]:
    """A table row: median ms per photo, and peak memory."""
    arguments = [str(model.bundle), variant, *map(str, photos)]
    seconds: dict[str, list[float]] = {side: [] for side in SIDES}
    with ExitStack() as stack:
        sides = {
            side: stack.enter_context(Side(SCRIPT, "warm", side, *arguments, python=[python, "-I"])) for side in SIDES
        }
        for round_number in range(rounds + 1):
            for side, process in sides.items():
                result = process.request("round")
                if round_number:
                    seconds[side] += result["seconds"]
        peaks = {side: process.request("round")["peak_kib"] / 1024 for side, process in sides.items()}
    memory = [f"{peaks['bare']:.1f} MiB", f"{peaks['ours']:.1f} MiB", f"**{peaks['ours'] / peaks['bare']:.2f}x**"]
    return [f"{model.name} {variant}", *_compared(seconds), *memory]


def _compared(seconds: Mapping[str, Sequence[float]]) -> list[str]:
    """Both medians, and the median ratio of measurements that were taken one after the other."""
    ratio = statistics.median(ours / bare for ours, bare in zip(seconds["ours"], seconds["bare"], strict=True))
    return [*(f"{statistics.median(seconds[side]) * 1e3:.1f} ms" for side in SIDES), f"**{ratio:.2f}x**"]


@click.command()
@click.option("--rounds", default=15, show_default=True)
@click.option("--quick", is_flag=True, help="EfficientNet-Lite0 only, five rounds.")
def main(rounds: int, quick: bool) -> None:
    """Print two tables: time to the first prediction; latency and memory."""
    rounds, backbones = (5, BACKBONES[:1]) if quick else (rounds, BACKBONES)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        python = edge_install(folder / "edge")
        data = real_photos() or seed_photos(folder, PHOTOS)
        models = [train(backbone, data, folder / "registry") for backbone in backbones]
        photos = sorted((data / "train_img").glob("*.jpg"))[:PHOTOS]
        cases = [(model, variant) for model in models for variant in VARIANTS]
        header = (
            "start to first prediction",
            "size",
            *SIDES,
            "ratio",
            *(f"{side}, without Python's start" for side in SIDES),
        )
        rows = (start_row(python, *case, photos[0], rounds) for case in cases)
        print_table("python -m benchmarks.edge", (*header, "ratio"), rows)
        header = ("per photo", *SIDES, "ratio", *(f"peak memory, {side}" for side in SIDES), "ratio")
        rows = (warm_row(python, *case, photos, rounds) for case in cases)
        print_table("python -m benchmarks.edge", header, rows)


if __name__ == "__main__":
    main()
