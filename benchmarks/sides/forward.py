"""Run a frozen backbone in one of three ways, for ``benchmarks.forward_table`` and ``benchmarks.limits``.

``tensorflow`` is a ``tf.function`` on batches of 32. ``ours`` is the forward pass of a training job on a CPU.
``converter`` is a LiteRT interpreter per core on the official converter's file, with float arrays in memory.
"""

import json
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from benchmarks.helpers.photos import decoded_photos
from benchmarks.helpers.processes import serve
from train_job.backbones.catalog import BACKBONES, Backbone

Images = NDArray[np.uint8]
Rows = NDArray[np.float32]
Run = Callable[[Images], Rows]
"""From images ``[N, H, W, 3]`` to feature rows ``[N, D]``."""

_BATCH = 32


def feature_model(backbone: Backbone, weights: str, size: int) -> Any:
    """Build the Keras model that all ways run."""
    from train_job.backbones import build
    from transferlite.images.input_spec import InputSpec

    return build.feature_model(
        build.build_backbone(backbone, (size, size, 3), weights), backbone, InputSpec(size, size)
    )


def tensorflow(model: Any) -> Run:
    """A ``tf.function`` on batches of 32."""
    import tensorflow as tf

    forward = tf.function(lambda images: model(tf.cast(images, tf.float32), training=False))

    def run(images: Images) -> Rows:
        starts = range(0, len(images), _BATCH)
        return np.concatenate([forward(tf.constant(images[start : start + _BATCH])).numpy() for start in starts])

    return run


def ours(model: Any) -> Run:
    """The training job's forward pass: LiteRT on the file of ``export.keras_to_tflite.translate_model``."""
    from export.keras_to_tflite.translate_model import translate_to_tflite
    from train_job.extraction.forward_pass import available_cores, litert_forward_pass

    forward = litert_forward_pass(translate_to_tflite(model), available_cores())

    def run(images: Images) -> Rows:
        outputs = forward.run((i, partial(images.__getitem__, i)) for i in range(len(images)))
        return np.stack([rows[0] for _, rows in outputs])

    return run


def converter(model: Any) -> Run:
    """Bare LiteRT on the official converter's file, made from the frozen graph: smaller than from variables."""
    import tensorflow as tf
    from ai_edge_litert.interpreter import Interpreter
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    forward = tf.function(lambda pixels: model(pixels, training=False))
    traced = forward.get_concrete_function(tf.TensorSpec((1, *model.inputs[0].shape[1:])))
    frozen = convert_variables_to_constants_v2(traced)
    content = tf.lite.TFLiteConverter.from_concrete_functions([frozen]).convert()
    interpreters = [Interpreter(model_content=content, num_threads=1) for _ in os.sched_getaffinity(0)]
    for interpreter in interpreters:
        interpreter.allocate_tensors()
    return lambda images: _on_threads(interpreters, images)


def _on_threads(interpreters: list[Any], images: Images) -> Rows:
    """Run each interpreter on its own share of the images, without synchronisation."""
    pixels = images.astype(np.float32)
    rows = np.empty((len(images), interpreters[0].get_output_details()[0]["shape"][-1]), np.float32)

    def work(interpreter: Any, indices: range) -> None:
        input_index = interpreter.get_input_details()[0]["index"]
        output_index = interpreter.get_output_details()[0]["index"]
        for i in indices:
            interpreter.set_tensor(input_index, pixels[i : i + 1])
            interpreter.invoke()
            rows[i] = interpreter.get_tensor(output_index)[0]

    shares = [range(number, len(images), len(interpreters)) for number in range(len(interpreters))]
    threads = [Thread(target=work, args=pair) for pair in zip(interpreters, shares, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return rows


WAYS: dict[str, Callable[[Any], Run]] = {"tensorflow": tensorflow, "ours": ours, "converter": converter}


def prepare(backbone: Backbone, size: int, file: str) -> None:
    """Save random weights that give features of a usual size: BatchNormalization is fitted to a few images."""
    import keras

    from train_job.backbones.build import build_backbone
    from train_job.backbones.input_scaling import normalise

    model = build_backbone(backbone, (size, size, 3), "none")
    model.trainable = True
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    model(normalise(decoded_photos(None, 8, size).astype(np.float32), backbone.normalisation), training=True)
    model.save_weights(file)


@click.command()
@click.argument("way", type=click.Choice([*WAYS, "prepare"]))
@click.option("--backbone", required=True, type=click.Choice(list(BACKBONES)))
@click.option("--weights", required=True)
@click.option("--size", required=True, type=int)
@click.option("--photos", type=click.Path(path_type=Path), help="Folder of JPEGs  [default: generated photos].")
@click.option("--count", default=64, show_default=True)
@click.option("--rows", type=click.Path(path_type=Path), help="File for the feature rows, as .npy.")
def main(way: str, backbone: str, weights: str, size: int, photos: Path | None, count: int, rows: Path | None) -> None:
    """Serve ``ready``, the seconds of preparation, and ``round``, the seconds of one pass over all images.

    ``prepare`` only writes the file of weights given by ``--weights``.
    """
    if way == "prepare":
        prepare(BACKBONES[backbone], size, weights)
        return click.echo(json.dumps(weights))
    images = decoded_photos(photos, count, size)
    model = feature_model(BACKBONES[backbone], weights, size)
    start = time.perf_counter()
    run = WAYS[way](model)
    run(images[:_BATCH])
    ready = time.perf_counter() - start
    if rows is not None:
        np.save(rows, run(images))

    def timed() -> float:
        start = time.perf_counter()
        run(images)
        return time.perf_counter() - start

    return serve({"ready": lambda: ready, "round": timed})


if __name__ == "__main__":
    main()
