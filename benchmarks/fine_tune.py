"""The second stage: accuracy on held-out flowers against the frozen base alone, and what the cached cut saves."""

import os
import tempfile
import time
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks.photos import Kind, decoded, real_photos, write_folders
from benchmarks.sides.processes import once, print_table

LAYER = "block13_expand_conv"
STAGE = ["--fine-tune-from", LAYER, "--fine-tune-epochs", "10", "--fine-tune-learning-rate", "0.001"]
RECIPE = ["--epochs", "10", "--learning-rate", "0.0001"]


def flowers(folder: Path) -> tuple[Path, Path]:
    """Photos to learn from and photos to test on, a folder a class."""
    real = real_photos()
    if real is not None:
        return real.parent / "flowers" / "train", real.parent / "flowers" / "test"
    for name, count in (("train", 200), ("test", 100)):
        write_folders(folder / name, count, Kind(classes=5, width=320, height=240))
    return folder / "train", folder / "test"


def train(photos: tuple[Path, Path], registry: Path, seed: int, stage: list[str]) -> dict[str, Any]:
    """What ``transferlite train`` says of itself."""
    words = ["train", "--images", str(photos[0]), "--test-images", str(photos[1]), "--registry", str(registry)]
    words += ["--channel", f"seed{seed}-{len(stage)}", "--seed", str(seed), "--json"]
    return dict(once("transferlite", *words, *RECIPE, *stage))


def epoch_seconds(photos: Path, count: int = 160, batch: int = 50, rounds: int = 3) -> tuple[float, float]:
    """Seconds of an epoch over ``count`` photos: on activations at the cut, and with the whole base run every step."""
    import keras
    import tensorflow as tf

    from train_job.backbones.build import feature_model
    from train_job.backbones.fine_tune_cut import top_model
    from train_job.extraction.frozen_backbone import FrozenBackbone
    from train_job.head.model import head_model
    from train_job.options import TrainOptions

    base = FrozenBackbone(TrainOptions(str(photos), "", fine_tune_from=LAYER))
    assert base.cut is not None
    images = decoded(photos / sorted(path.name for path in photos.iterdir())[0], count, base.spec.width)
    labels = tf.constant(np.arange(count) % 5)
    _, at_cut = feature_model(base.keras_model, base.backbone, base.spec, base.cut).predict(images, verbose=0)
    head = head_model(base.keras_model.output.shape[-1], 1024, 5)
    top = top_model(base.keras_model, base.cut, head)
    rows = tf.constant(at_cut.reshape(count, -1))
    whole = feature_model(base.keras_model, base.backbone, base.spec)
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

    cached = epoch(rows, lambda x: top(x, training=False))
    plain = epoch(tf.constant(images), lambda x: head(whole(tf.cast(x, tf.float32), training=False)))
    pairs = [(cached(), plain()) for _ in range(rounds)]
    return min(one for one, _ in pairs), min(other for _, other in pairs)


@click.command()
@click.option("--seeds", default=3, show_default=True)
@click.option("--quick", is_flag=True, help="One seed.")
def main(seeds: int, quick: bool) -> None:
    """Print both accuracies for each seed, and both sides of an epoch."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with tempfile.TemporaryDirectory() as folder:
        photos = flowers(Path(folder))

        def row(seed: int) -> list[str]:
            runs = [train(photos, Path(folder, "registry"), seed, stage)["metrics"]["test"] for stage in ([], STAGE)]
            return [str(seed), *(f"{run['accuracy']:.4f} (log loss {run['log_loss']:.3f})" for run in runs)]

        command = "python -m benchmarks.fine_tune"
        print_table(command, ("seed", "frozen base", "with the second stage"), map(row, range(1 if quick else seeds)))
        cached, plain = epoch_seconds(photos[0])
    values = [f"{cached:.2f} s", f"{plain:.2f} s", f"**{plain / cached:.1f}x**"]
    print_table(command, ("an epoch from the cached cut", "the whole base every step", "ratio"), [values])


if __name__ == "__main__":
    main()
