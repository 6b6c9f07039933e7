"""Keras's side of ``benchmarks.seed_job``: a frozen backbone in plain Keras ``fit``, timed for a few steps.

The comparison favours Keras: its photos are already decoded in memory, so that only the steps themselves remain.
"""

import json
import os
import time
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks.helpers.photos import decoded_photos

SKIPPED = 3
"""First steps, which trace and compile, and are not counted."""


def build(backbone: str, weights: str, size: int) -> Any:
    """Build the seed job's Keras model: a frozen backbone with its head, compiled with rmsprop."""
    import keras

    from train_job.backbones.build import build_backbone
    from train_job.backbones.catalog import BACKBONES
    from train_job.backbones.input_scaling import normalise

    entry = BACKBONES[backbone]
    frozen = build_backbone(entry, (size, size, 3), weights)
    image = keras.Input((size, size, 3))
    x = keras.layers.GlobalAveragePooling2D()(frozen(normalise(image, entry.normalisation)))
    x = keras.layers.Dense(1024, activation="relu")(x)
    model = keras.Model(image, keras.layers.Dense(2, activation="softmax")(x))
    model.compile(optimizer="rmsprop", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def seconds_a_step(model: Any, images: Any, labels: Any, batch: int, steps: int) -> list[float]:
    """Wall seconds of each of ``steps`` steps of ``fit``, after :data:`SKIPPED` steps."""
    import keras
    import tensorflow as tf

    moments: list[float] = []

    def note(_batch: int, logs: Any = None) -> None:
        moments.append(time.perf_counter())

    clock = keras.callbacks.LambdaCallback(on_train_batch_end=note)
    data = tf.data.Dataset.from_tensor_slices((images, labels)).shuffle(len(images)).repeat().batch(batch)
    model.fit(data.prefetch(tf.data.AUTOTUNE), steps_per_epoch=SKIPPED + steps, callbacks=[clock], verbose=0)
    return [end - start for start, end in zip(moments[SKIPPED - 1 :], moments[SKIPPED:], strict=False)]


@click.command()
@click.option("--photos", required=True, type=click.Path(path_type=Path))
@click.option("--backbone", required=True)
@click.option("--weights", default="default")
@click.option("--size", required=True, type=int)
@click.option("--count", required=True, type=int)
@click.option("--batch", default=50)
@click.option("--steps", default=5)
def main(photos: Path, backbone: str, weights: str, size: int, count: int, batch: int, steps: int) -> None:
    """Print the seconds of each counted step as a JSON list."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    images = decoded_photos(photos, count, size)
    labels = np.arange(count) % 2
    click.echo(json.dumps(seconds_a_step(build(backbone, weights, size), images, labels, batch, steps)))


if __name__ == "__main__":
    main()
