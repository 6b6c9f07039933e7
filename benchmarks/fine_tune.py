"""Fine-tuning compared with the frozen backbone: accuracy on held-out flowers, and time saved by the cached cut."""

import os
import tempfile
import time
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks.helpers.photos import PhotoStyle, decoded_photos, real_photos, write_folders
from benchmarks.helpers.processes import print_table, run_module

LAYER = "block13_expand_conv"
STAGE = ["--fine-tune-from", LAYER, "--fine-tune-epochs", "10", "--fine-tune-learning-rate", "0.001"]
RECIPE = ["--epochs", "10", "--learning-rate", "0.0001"]


def flowers(folder: Path) -> tuple[Path, Path]:
    """Folders of training and test photos, each with a folder per class."""
    real = real_photos()
    if real is not None:
        return real.parent / "flowers" / "train", real.parent / "flowers" / "test"
    for name, count in (("train", 200), ("test", 100)):
        write_folders(folder / name, count, PhotoStyle(classes=5, width=320, height=240))
    return folder / "train", folder / "test"


def train(photos: tuple[Path, Path], registry: Path, seed: int, stage: list[str]) -> dict[str, Any]:
    """Run ``transferlite train`` and return its JSON."""
    options = ["--images", str(photos[0]), "--test-images", str(photos[1]), "--registry", str(registry)]
    options += ["--channel", f"seed{seed}-{len(stage)}", "--seed", str(seed), "--json"]
    return dict(run_module("transferlite", "train", *options, *RECIPE, *stage))


def epoch_seconds(photos: Path, count: int = 160, batch: int = 50, rounds: int = 3) -> tuple[float, float]:
    """Seconds of an epoch over ``count`` photos: from cached activations, and with the whole backbone in every step."""
    import keras
    import tensorflow as tf

    from train_job.backbones.build import feature_model
    from train_job.backbones.fine_tune_cut import top_model
    from train_job.extraction.frozen_backbone import FrozenBackbone
    from train_job.head.model import head_model
    from train_job.options import TrainOptions

    backbone = FrozenBackbone(TrainOptions(str(photos), "", fine_tune_from=LAYER))
    assert backbone.cut is not None
    images = decoded_photos(photos / sorted(path.name for path in photos.iterdir())[0], count, backbone.spec.width)
    labels = tf.constant(np.arange(count) % 5)
    _, at_cut = feature_model(backbone.keras_model, backbone.backbone, backbone.spec, backbone.cut).predict(
        images, verbose=0
    )
    head = head_model(backbone.keras_model.output.shape[-1], 1024, 5)
    top = top_model(backbone.keras_model, backbone.cut, head)
    activations = tf.constant(at_cut.reshape(count, -1))
    whole = feature_model(backbone.keras_model, backbone.backbone, backbone.spec)
    variables = top.trainable_variables

    def epoch(inputs: Any, model: Any) -> Any:
        optimizer = keras.optimizers.SGD(1e-4, momentum=0.9)
        optimizer.build(variables)
        loss_of = keras.losses.SparseCategoricalCrossentropy()

        def step(x: Any, y: Any) -> Any:
            with tf.GradientTape() as tape:
                loss = loss_of(y, model(x))
            optimizer.apply(tape.gradient(loss, variables), variables)
            return loss

        compiled = tf.function(step)

        def run() -> float:
            start = time.perf_counter()
            for begin in range(0, count - batch + 1, batch):
                compiled(inputs[begin : begin + batch], labels[begin : begin + batch]).numpy()
            return time.perf_counter() - start

        run()
        return run

    cached = epoch(activations, lambda x: top(x, training=False))
    plain = epoch(tf.constant(images), lambda x: head(whole(tf.cast(x, tf.float32), training=False)))
    cached_seconds, plain_seconds = zip(*((cached(), plain()) for _ in range(rounds)), strict=True)
    return min(cached_seconds), min(plain_seconds)


@click.command()
@click.option("--seeds", default=3, show_default=True)
@click.option("--quick", is_flag=True, help="One seed.")
def main(seeds: int, quick: bool) -> None:
    """Print both accuracies for each seed, and the seconds of an epoch of both ways."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with tempfile.TemporaryDirectory() as folder:
        photos = flowers(Path(folder))

        def row(seed: int) -> list[str]:
            runs = [train(photos, Path(folder, "registry"), seed, stage)["metrics"]["test"] for stage in ([], STAGE)]
            return [str(seed), *(f"{run['accuracy']:.4f} (log loss {run['log_loss']:.3f})" for run in runs)]

        command = "python -m benchmarks.fine_tune"
        print_table(command, ("seed", "frozen backbone", "fine-tuned"), map(row, range(1 if quick else seeds)))
        cached, plain = epoch_seconds(photos[0])
    values = [f"{cached:.2f} s", f"{plain:.2f} s", f"**{plain / cached:.1f}x**"]
    print_table(command, ("epoch from the cached cut", "with the whole backbone in every step", "ratio"), [values])


if __name__ == "__main__":
    main()
