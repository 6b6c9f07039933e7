"""What each variant is worth: whether it answers as Keras does in every runtime, its size, and its time on one thread.

For each backbone a version is trained and published; the first table is its gate's. Where the gate asked fewer photos,
in runtimes that do not serve the file, all are asked here, against float32's answers. In the second table the files of
a version take turns. Weights of ImageNet are there for EfficientNet-Lite0 alone: the other bases have random kernels,
and BatchNormalization fitted to the photos, so that activations are of a usual size.
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
from benchmarks.photos import USUAL, decoded, real_photos, write_folders
from benchmarks.sides.processes import once, print_table
from transferlite.images.decoder import RGB, decode
from transferlite.inference.interpreter import TFLiteClassifier
from transferlite.inference.variants import FLOAT32
from transferlite.registry.local_bundle import read_manifest
from transferlite.registry.manifest import GateResult, Manifest

BACKBONES = ("efficientnet_lite0", "inception_v3", "mobilenet_v2", "mobilenet_v3_small", "efficientnet_v2_b0")
_FITTED_ON = 64


def cats_and_dogs(folder: Path) -> tuple[list[str], Path]:
    """Options that name 200 photos to learn from, and a folder of 200 to test on."""
    real = real_photos()
    if real is not None:
        words = ["--labels", str(real / "label-train.csv"), "--images", str(real / "train_img")]
        return words, real / "test_img"
    for name in ("train", "test"):
        write_folders(folder / name, 200, USUAL)
    return ["--images", str(folder / "train")], folder / "test"


def fitted_weights(backbone: str, photos: Path | None, path: Path) -> str:
    """The option ``--weights``: ImageNet's where they are installed, else random ones in a file at ``path``."""
    import keras

    from train_job.backbones import catalog as backbones
    from train_job.backbones.build import build_backbone, normalise

    table = backbones.BACKBONES[backbone]
    if table.application is None:
        return "default"
    base = build_backbone(table, (table.size, table.size, 3), "none")
    for layer in base.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable, layer.momentum = True, 0.0
    images = decoded(photos, _FITTED_ON, table.size).astype(np.float32)
    base(normalise(images, table.normalisation), training=True)
    base.save_weights(path)
    return str(path)


def tests_of(manifest: Manifest, folder: Path) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """The test photos ``[N, H, W, 3]`` of a folder a class, and their labels."""
    paths = [(path, place) for place, name in enumerate(manifest.labels) for path in sorted((folder / name).iterdir())]
    photos: list[RGB] = [decode(path.read_bytes(), manifest.input) for path, _ in paths]
    return np.stack(photos), np.array([place for _, place in paths], np.int32)


def proofs(bundle: Path, python: str | None, tests: Path) -> Iterator[GateResult]:
    """The gate's lines of a version, each over all photos."""
    from export.gate.compare_variants import AgreementCounts, Candidate
    from export.gate.other_python import other_python
    from export.gate.runtimes import tensorflow_predict

    manifest = read_manifest(bundle)
    photos, labels = tests_of(manifest, tests)
    reference = TFLiteClassifier(bundle / f"{FLOAT32}.tflite").predict_batch(photos)
    for proof in manifest.gate:
        path = bundle / f"{proof.variant}.tflite"
        if proof.photos == len(photos) or not path.is_file():
            yield proof
            continue
        with other_python(python, path) if python and "tensorflow" not in proof.runtime else nullcontext() as other:
            answers = (other or tensorflow_predict(path))(photos)
        yield AgreementCounts.count(answers, reference, labels).proof(Candidate(proof.variant, proof.runtime), None)


def proof_row(name: str, proof: GateResult, manifest: Manifest) -> list[str]:
    """A line of the first table."""
    row = [name, proof.variant, proof.runtime, str(proof.photos), f"{proof.accuracy:.3f}", f"{proof.agreement:.3f}"]
    row.append("no numbers" if proof.max_difference is None else f"{proof.max_difference:.1e}")
    if proof.variant in manifest.left_out:
        return [*row, f"left out: {manifest.left_out[proof.variant]}"]
    floats = manifest.variants[proof.variant].in_float
    return [*row, f"passed, {len(floats)} operations in float32" if floats else "passed"]


def cost_rows(name: str, bundle: Path, rounds: int) -> Iterator[list[str]]:
    """Lines of the second table: size and time of each file, and their share of float32's."""
    manifest = read_manifest(bundle)
    files = {one: bundle / value.path for one, value in manifest.variants.items() if value.path.endswith(".tflite")}
    models = {one: TFLiteClassifier(path, threads=1) for one, path in files.items()}
    photo = np.random.default_rng(0).integers(0, 256, (manifest.input.height, manifest.input.width, 3), np.uint8)
    took: dict[str, list[float]] = {one: [] for one in models}
    for turn in range(rounds + 1):
        for one, model in models.items():
            started = time.perf_counter()
            model(photo)
            if turn:  # the first run also sets memory aside
                took[one].append(1000 * (time.perf_counter() - started))
    least = files[FLOAT32].stat().st_size, median(took[FLOAT32])
    for one, path in files.items():
        size, spent = path.stat().st_size, median(took[one])
        accuracy = manifest.variants[one].accuracy - manifest.variants[FLOAT32].accuracy
        row = [name, one, f"{size / 2**20:.1f} MiB", f"{size / least[0]:.2f}x", f"{spent:.1f} ms"]
        yield [*row, f"{spent / least[1]:.2f}x", f"{accuracy:+.3f}"]


@click.command()
@click.option("--legacy-python", envvar="TRANSFERLITE_LEGACY_PYTHON", help="A Python with tflite-runtime 2.14.")
@click.option("--only", type=click.Choice(BACKBONES))
@click.option("--rounds", default=60, show_default=True, help="Runs of each file, in turns.")
@click.option("--quick", is_flag=True, help="EfficientNet-Lite0 only.")
def main(legacy_python: str | None, only: str | None, rounds: int, quick: bool) -> None:
    """Print both tables, for cats and dogs by backbone, then for the flowers with EfficientNet-Lite0."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    agreement: list[list[str]] = []
    cost: list[list[str]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)

        def measure(title: str, words: list[str], tests: Path) -> None:
            words = ["train", *words, "--test-images", str(tests), "--registry", str(folder / title), "--json"]
            words += ["--legacy-python", legacy_python] if legacy_python else []
            told: dict[str, Any] = once("transferlite", *words)
            bundle = folder / title / "models" / told["model_id"]
            manifest = read_manifest(bundle)
            agreement.extend(proof_row(title, one, manifest) for one in proofs(bundle, legacy_python, tests))
            cost.extend(cost_rows(title, bundle, rounds))
            click.echo(f"{title}: {told['seconds']}", err=True)

        photos, tests = cats_and_dogs(folder)
        for backbone in BACKBONES:
            if backbone == (only or (BACKBONES[0] if quick else backbone)):
                weights = fitted_weights(
                    backbone, Path(photos[photos.index("--images") + 1]), folder / f"{backbone}.weights.h5"
                )
                measure(backbone, [*photos, "--split", "100/0/0", "--backbone", backbone, "--weights", weights], tests)
        if only is None:
            learnt, tested = flowers(folder)
            measure("efficientnet_lite0, flowers", ["--images", str(learnt), "--split", "85/15/0"], tested)
    command = "python -m benchmarks.runtimes.variants"
    header = ("backbone", "variant", "runtime", "photos", "accuracy", "agrees with Keras", "largest difference", "gate")
    print_table(command, header, agreement)
    print_table(command, ("backbone", "variant", "size", "of float32", "one thread", "of float32", "accuracy"), cost)


if __name__ == "__main__":
    main()
