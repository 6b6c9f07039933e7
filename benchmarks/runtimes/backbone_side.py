"""Export one backbone with a head for two classes, and measure its files; for ``benchmarks.runtimes.backbones``."""

import json
import tempfile
import time
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks.helpers.photos import decoded_photos, real_photos
from benchmarks.sides import forward
from export.keras_to_tflite.convert import convert
from export.keras_to_tflite.translate_model import translate_to_tflite
from export.tflite.quantise import Calibration, merge_ranges, observe
from export.tflite.write_variants import write_variant
from train_job.backbones.catalog import BACKBONES, Backbone, has_packaged_weights
from train_job.head.model import head_model
from train_job.options import TrainOptions
from transferlite.inference.interpreter import TFLiteClassifier
from transferlite.inference.variants import DYNAMIC, FLOAT16, FLOAT32, INT8

VARIANTS = (FLOAT32, FLOAT16, DYNAMIC, INT8)
_CALIBRATION_PHOTOS = 4


def write_files(backbone: Backbone, size: int, folder: Path) -> tuple[int, dict[str, Path]]:
    """Write the file of each variant to ``folder``; also returns the backbone's number of parameters."""
    weights = "default"
    if not has_packaged_weights(backbone, weights):
        weights = str(folder / "backbone.weights.h5")
        forward.prepare(backbone, size, weights)
    features = forward.feature_model(backbone, weights, size)
    head = head_model(backbone.width, TrainOptions.hidden_units, 2)
    photos = real_photos()
    calibration = decoded_photos(photos / "train_img" if photos else None, _CALIBRATION_PHOTOS, size)
    content = translate_to_tflite(features)
    ranges, rows = zip(*observe(content, calibration), strict=True)
    converted = convert(content, head, Calibration(merge_ranges(ranges), np.stack(rows)))
    return features.count_params(), write_variant(converted, VARIANTS, folder)


def thread_milliseconds(path: Path, rounds: int) -> float:
    """Shortest CPU time per photo on one thread, in ms: the run that other processes disturbed least."""
    model = TFLiteClassifier(path, threads=1)
    photo = np.random.default_rng(0).integers(0, 256, (model.height, model.width, 3), np.uint8)
    model(photo)  # the first run also allocates memory
    milliseconds = []
    for _ in range(rounds):
        started = time.thread_time()
        model(photo)
        milliseconds.append(1000 * (time.thread_time() - started))
    return min(milliseconds)


@click.command()
@click.argument("name", type=click.Choice(list(BACKBONES)))
@click.option("--size", type=int, help="Side of the input in pixels  [default: the backbone's].")
@click.option("--rounds", default=100, show_default=True, help="Runs of each file.")
def main(name: str, size: int | None, rounds: int) -> None:
    """Print size in pixels, parameters, and bytes and milliseconds by variant, as a line of JSON."""
    backbone = BACKBONES[name]
    size = size or backbone.size
    with tempfile.TemporaryDirectory() as folder:
        parameters, files = write_files(backbone, size, Path(folder))
        result: dict[str, Any] = {"size": size, "parameters": parameters}
        result["bytes"] = {variant: path.stat().st_size for variant, path in files.items()}
        result["milliseconds"] = {variant: thread_milliseconds(path, rounds) for variant, path in files.items()}
    click.echo(json.dumps(result))


if __name__ == "__main__":
    main()
