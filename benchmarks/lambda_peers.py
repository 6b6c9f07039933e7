"""The Lambda function compared with other runtimes, and with its floor: a bare interpreter and Pillow.

Each side is a package of its own with bytecode, run by AWS's runtime client against a Runtime API on loopback. The
sides take turns. "Cold" is the time from the start of the process to the first response, "warm" from an event to its
response.
"""

import base64
import importlib.util
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import awslambdaric
import click
import numpy as np
import simplejson
import snapshot_restore_py

from benchmarks.helpers.photos import USUAL, real_photos, seed_photos
from benchmarks.helpers.processes import ROOT, print_table, run_module
from tests.inference_lambda.runtime_api import HANDLER, Function
from transferlite.packaging import device_folder
from transferlite.packaging.demo import local_s3
from transferlite.predict.predictor import Predictor
from transferlite.registry.local_bundle import read_manifest
from transferlite.registry.open_registry import Registry
from transferlite.storage.folder import FolderStore
from transferlite.storage.s3_boto3 import s3_client

CORES = 2
MEGABYTES = CORES * 1769
BUCKET = "models"
COLD_TF, COLD_FLOOR, WARM_FLOOR = 12.0, 1.3, 1.15
"""Targets: cold start compared with TensorFlow's and with the floor's, warm response compared with the floor's."""


@dataclass
class Side:
    """A function: its command, the size of its package in bytes, and the seconds and bytes measured in each round."""

    name: str
    command: list[str]
    environment: dict[str, str]
    package: int
    init: list[float] = field(default_factory=list)
    cold: list[float] = field(default_factory=list)
    warm: list[float] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)


def client(folder: Path) -> Path:
    """Make a folder with AWS's runtime client only, as in Lambda's Python."""
    folder.mkdir()
    site = Path(awslambdaric.__file__).parents[1]
    parts = [Path(awslambdaric.__file__).parent, Path(simplejson.__file__).parent, Path(snapshot_restore_py.__file__)]
    for part in (*parts, *site.glob("runtime_client*.so")):
        (folder / part.name).symlink_to(part)
    return folder


def installed(folder: Path, *packages: str) -> Path:
    """Install packages with pip into ``folder``, with bytecode."""
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target", str(folder)]
    subprocess.run([*pip, *packages], check=True, stderr=subprocess.DEVNULL)
    subprocess.run([sys.executable, "-m", "compileall", "-q", str(folder)], check=False)
    return folder


def size(folder: Path) -> int:
    """Size of all files in a folder in bytes."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def trained(folder: Path) -> Path:
    """Train a model of the usual size; returns its registry."""
    photos = real_photos() or seed_photos(folder, 200)
    options = ["--labels", str(photos / "label-train.csv"), "--images", str(photos / "train_img")]
    run_module("transferlite", "train", *options, "--registry", str(folder / "registry"), "--json")
    return folder / "registry"


def to_onnx(saved_model: Path, dest: Path) -> Path:
    """Convert the SavedModel with ``tf2onnx``."""
    options = ["--saved-model", str(saved_model), "--output", str(dest), "--opset", "17"]
    subprocess.run([sys.executable, "-m", "tf2onnx.convert", *options], check=True, capture_output=True)
    return dest


def sides(folder: Path, registry: Path, packages: Path) -> Iterator[Side]:
    """All functions, ready to start."""
    bundle = registry / "models" / Registry.open(str(registry)).channel("production").model_id
    spec, runtime, ours = read_manifest(bundle).input, client(folder / "client"), packages / "ours"
    if not ours.exists():
        device_folder.build(ours, ["lambda"])

    def side(name: str, handler: str, package: Path, **environment: str) -> Side:
        path = f"{package}:{runtime}:{ROOT / 'benchmarks' / 'lambda_sides'}"
        command = [sys.executable, "-P", "-S", "-m", "awslambdaric", handler]
        common = {"SIZE": str(spec.width), "THREADS": str(CORES), "PYTHONPATH": path, "TF_CPP_MIN_LOG_LEVEL": "2"}
        return Side(name, command, common | environment, size(package))

    yield side("floor: bare LiteRT + Pillow", "litert.handler", ours, MODEL=str(bundle / "float32.tflite"))
    yield side("this function, model in its image", HANDLER, ours, TRANSFERLITE_REGISTRY=str(registry))
    yield side("this function, model from S3", HANDLER, ours, TRANSFERLITE_REGISTRY=f"s3://{BUCKET}/registry")
    if importlib.util.find_spec("tf2onnx"):
        other = packages / "onnx"
        if not other.exists():
            installed(other, "onnxruntime", "pillow", "numpy")
        yield side("onnxruntime", "ort.handler", other, MODEL=str(to_onnx(bundle / "saved_model" / "1", folder / "m")))
    other = packages / "tensorflow"
    if not other.exists():
        installed(other, "tensorflow>=2.20,<2.22", "pillow")
    yield side("TensorFlow + SavedModel", "savedmodel.handler", other, MODEL=str(bundle / "saved_model" / "1"))


def one_round(side: Side, event: Mapping[str, Any], responses: int, expected: float) -> None:
    """Measure a cold start and warm responses. Raises ClickException if the function fails or its score is wrong."""
    shutil.rmtree(Path(tempfile.gettempdir()) / "transferlite", ignore_errors=True)
    with Function(side.environment, side.command, timeout=120, memory=MEGABYTES) as function:
        first = function.invoke(event)
        if first.error is not None or abs(first.payload["score"] - expected) > 1e-2:
            raise click.ClickException(f"{side.name}: {first.error or first.payload}\n{function.log[-2000:]}")
        side.init.append(first.init_seconds)
        side.cold.append(first.init_seconds + first.seconds)
        side.warm += [function.invoke(event).seconds for _ in range(responses)]
        status = Path(f"/proc/{function.pid}/status").read_text().splitlines()
        side.memory.append(1024 * int(next(line for line in status if line.startswith("VmHWM:")).split()[1]))


def ratio(numerators: list[float], denominators: list[float]) -> float:
    """Median of the ratios of two sides' rounds, which took turns."""
    return statistics.median(a / b for a, b in zip(numerators, denominators, strict=True))


def table(measured: list[Side], responses: int) -> Iterator[list[str]]:
    """Format the table rows."""
    floor, tensorflow = measured[0], measured[-1]
    for side in measured:
        yield [
            side.name,
            f"{1000 * statistics.median(side.cold):.0f} ms",
            f"{ratio(side.cold, floor.cold):.2f}x",
            f"{ratio(tensorflow.cold, side.cold):.1f}x",
            f"{1000 * statistics.median(side.warm):.1f} ms",
            f"{ratio(round_medians(side, responses), round_medians(floor, responses)):.2f}x",
            f"{1000 * float(np.percentile(side.warm, 99)):.1f} ms",
            f"{statistics.median(side.memory) / 2**20:.0f} MiB",
            f"{side.package / 2**20:.0f} MiB",
        ]


def round_medians(side: Side, responses: int) -> list[float]:
    """Median of the warm responses of each round."""
    return [statistics.median(side.warm[i : i + responses]) for i in range(0, len(side.warm), responses)]


@click.command()
@click.option("--rounds", default=9, show_default=True)
@click.option("--responses", "responses", default=50, show_default=True, help="Warm responses per round.")
@click.option("--packages", type=click.Path(path_type=Path), help="Folder to keep the sides' packages for another run.")
@click.option("--quick", is_flag=True, help="Two rounds of ten responses.")
def main(rounds: int, responses: int, packages: Path | None, quick: bool) -> None:
    """Print a table: cold start, warm response, memory and package size of every side, and their ratios."""
    rounds, responses = (2, 10) if quick else (rounds, responses)
    if not importlib.util.find_spec("tf2onnx"):
        click.echo("onnxruntime is skipped: install the extra `bench`", err=True)
    with tempfile.TemporaryDirectory() as temporary, local_s3():
        folder = Path(temporary)
        registry = trained(folder)
        s3_client().create_bucket(Bucket=BUCKET)
        for entry in FolderStore(registry).entries():
            if entry.key.startswith(("models/", "channels/")):
                s3_client().upload_file(str(registry / entry.key), BUCKET, f"registry/{entry.key}")
        real = real_photos()
        photo = next((real / "test_img").rglob("*.jpg")).read_bytes() if real else USUAL.jpeg(7)
        bundle = registry / "models" / Registry.open(str(registry)).channel("production").model_id
        expected = Predictor.load(bundle)(photo).score
        measured = list(sides(folder, registry, packages or folder / "packages"))
        for number in range(rounds + 1):
            for side in measured:
                one_round(side, {"image": base64.b64encode(photo).decode()}, responses, expected)
                if number == 0:  # the first round reads every file from disk
                    for figures in (side.init, side.cold, side.warm, side.memory):
                        figures.clear()
            click.echo(f"{time.strftime('%H:%M:%S')} round {number} of {rounds}", err=True)
    header = ["side", "cold", "/ floor", "TensorFlow /", "warm p50", "/ floor", "p99", "memory", "package"]
    print_table("python -m benchmarks.lambda_peers", header, table(measured, responses))
    cold = f"cold at least {COLD_TF:g}x faster than TensorFlow and at most {COLD_FLOOR}x of the floor"
    click.echo(f"targets: {cold} (model in the image, as for the floor), warm at most {WARM_FLOOR}x of the floor")


if __name__ == "__main__":
    main()
