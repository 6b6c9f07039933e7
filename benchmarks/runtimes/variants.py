"""Compare the variants: agreement with Keras in every runtime, size, and time on one thread.

Trains a version for each backbone. The first table has the results of its gate. Runtimes that do not serve a file see
fewer photos in the gate; here they predict all of them and are compared with float32. In the second table the files of
a version take turns. Only EfficientNet-Lite0 has ImageNet weights. The other backbones have random kernels, and
BatchNormalization fitted to the photos, so that activations have a usual size.
"""

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from statistics import median
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from benchmarks.fine_tune import flowers
from benchmarks.helpers.photos import USUAL, decoded_photos, real_photos, write_folders
from benchmarks.helpers.processes import print_table, run_module
from transferlite.images.decoder import RGB, decode
from transferlite.inference.interpreter import TFLiteClassifier
from transferlite.inference.variants import FLOAT32
from transferlite.registry.local_bundle import read_manifest
from transferlite.registry.manifest import GateResult, Manifest

BACKBONES = ("efficientnet_lite0", "inception_v3", "mobilenet_v2", "mobilenet_v3_small", "efficientnet_v2_b0")
_FITTED_ON = 64


def cats_and_dogs(folder: Path) -> tuple[list[str], Path]:
    """Options for 200 training photos, and a folder of 200 test photos."""
    real = real_photos()
    if real is not None:
        options = ["--labels", str(real / "label-train.csv"), "--images", str(real / "train_img")]
        return options, real / "test_img"
    for name in ("train", "test"):
        write_folders(folder / name, 200, USUAL)
    return ["--images", str(folder / "train")], folder / "test"


def fitted_weights(backbone: str, photos: Path | None, path: Path) -> str:
    """Value for ``--weights``: ImageNet's if they are installed, otherwise random weights written to ``path``."""
    import keras

    from train_job.backbones.build import build_backbone
    from train_job.backbones.catalog import BACKBONES as CATALOG
    from train_job.backbones.input_scaling import normalise

    entry = CATALOG[backbone]
    if entry.application is None:
        return "default"
    model = build_backbone(entry, (entry.size, entry.size, 3), "none")
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable, layer.momentum = True, 0.0
    images = decoded_photos(photos, _FITTED_ON, entry.size).astype(np.float32)
    model(normalise(images, entry.normalisation), training=True)
    model.save_weights(path)
    return str(path)


def read_test_photos(manifest: Manifest, folder: Path) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """Decode the test photos ``[N, H, W, 3]`` of a folder with a folder per class; also returns their labels."""
    paths = [(path, label) for label, name in enumerate(manifest.labels) for path in sorted((folder / name).iterdir())]
    photos: list[RGB] = [decode(path.read_bytes(), manifest.input) for path, _ in paths]
    return np.stack(photos), np.array([label for _, label in paths], np.int32)


def gate_results(bundle: Path, python: str | None, tests: Path) -> Iterator[GateResult]:
    """The gate's results of a version, extended to all photos."""
    from export.gate.limits import AgreementCounts, Candidate
    from export.gate.other_python import other_python
    from export.gate.runtimes import tensorflow_predict

    manifest = read_manifest(bundle)
    photos, labels = read_test_photos(manifest, tests)
    reference = TFLiteClassifier(bundle / f"{FLOAT32}.tflite").predict_batch(photos)
    for result in manifest.gate:
        path = bundle / f"{result.variant}.tflite"
        if result.photos == len(photos) or not path.is_file():
            yield result
            continue
        with other_python(python, path) if python and "tensorflow" not in result.runtime else nullcontext() as other:
            probabilities = (other or tensorflow_predict(path))(photos)
        counts = AgreementCounts.count(probabilities, reference, labels)
        yield counts.to_gate_result(Candidate(result.variant, result.runtime), None)


def gate_row(name: str, result: GateResult, manifest: Manifest) -> list[str]:
    """Format a row of the first table."""
    row = [name, result.variant, result.runtime, str(result.photos)]
    row += [f"{result.accuracy:.3f}", f"{result.agreement:.3f}"]
    row.append("not finite" if result.max_difference is None else f"{result.max_difference:.1e}")
    if result.variant in manifest.left_out:
        return [*row, f"left out: {manifest.left_out[result.variant]}"]
    in_float = manifest.variants[result.variant].in_float
    return [*row, f"passed, {len(in_float)} operations in float32" if in_float else "passed"]


def cost_rows(name: str, bundle: Path, rounds: int) -> Iterator[list[str]]:
    """Measure the rows of the second table: size and time of each file, and their ratio to float32's."""
    manifest = read_manifest(bundle)
    tflite = {variant: entry for variant, entry in manifest.variants.items() if entry.path.endswith(".tflite")}
    files = {variant: bundle / entry.path for variant, entry in tflite.items()}
    models = {variant: TFLiteClassifier(path, threads=1) for variant, path in files.items()}
    photo = np.random.default_rng(0).integers(0, 256, (manifest.input.height, manifest.input.width, 3), np.uint8)
    milliseconds: dict[str, list[float]] = {variant: [] for variant in models}
    for round_number in range(rounds + 1):
        for variant, model in models.items():
            started = time.perf_counter()
            model(photo)
            if round_number:  # the first run also allocates memory
                milliseconds[variant].append(1000 * (time.perf_counter() - started))
    float32_size, float32_time = files[FLOAT32].stat().st_size, median(milliseconds[FLOAT32])
    for variant, path in files.items():
        size, duration = path.stat().st_size, median(milliseconds[variant])
        accuracy = (tflite[variant].accuracy or 0.0) - (tflite[FLOAT32].accuracy or 0.0)
        row = [name, variant, f"{size / 2**20:.1f} MiB", f"{size / float32_size:.2f}x", f"{duration:.1f} ms"]
        yield [*row, f"{duration / float32_time:.2f}x", f"{accuracy:+.3f}"]


@click.command()
@click.option("--legacy-python", envvar="TRANSFERLITE_LEGACY_PYTHON", help="Python with tflite-runtime 2.14.")
@click.option("--only", type=click.Choice(BACKBONES))
@click.option("--rounds", default=60, show_default=True, help="Runs of each file, by turns.")
@click.option("--quick", is_flag=True, help="EfficientNet-Lite0 only.")
def main(legacy_python: str | None, only: str | None, rounds: int, quick: bool) -> None:
    """Print both tables: cats and dogs for each backbone, then flowers with EfficientNet-Lite0."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    agreement: list[list[str]] = []
    cost: list[list[str]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)

        def measure(title: str, options: list[str], tests: Path) -> None:
            options = [*options, "--test-images", str(tests), "--registry", str(folder / title), "--json"]
            options += ["--legacy-python", legacy_python] if legacy_python else []
            job: dict[str, Any] = run_module("transferlite", "train", *options)
            bundle = folder / title / "models" / job["model_id"]
            manifest = read_manifest(bundle)
            agreement.extend(gate_row(title, result, manifest) for result in gate_results(bundle, legacy_python, tests))
            cost.extend(cost_rows(title, bundle, rounds))
            click.echo(f"{title}: {job['seconds']}", err=True)

        photos, tests = cats_and_dogs(folder)
        for backbone in BACKBONES:
            if backbone == (only or (BACKBONES[0] if quick else backbone)):
                weights = fitted_weights(
                    backbone, Path(photos[photos.index("--images") + 1]), folder / f"{backbone}.weights.h5"
                )
                measure(backbone, [*photos, "--split", "100/0/0", "--backbone", backbone, "--weights", weights], tests)
        if only is None:
            train_photos, test_photos = flowers(folder)
            measure("efficientnet_lite0, flowers", ["--images", str(train_photos), "--split", "85/15/0"], test_photos)
    command = "python -m benchmarks.runtimes.variants"
    header = ("backbone", "variant", "runtime", "photos", "accuracy", "agrees with Keras", "largest difference", "gate")
    print_table(command, header, agreement)
    print_table(command, ("backbone", "variant", "size", "of float32", "one thread", "of float32", "accuracy"), cost)


if __name__ == "__main__":
    main()
