"""A small network with random weights, exported as every variant; its predictions for the pictures differ widely."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tests.pictures import COLOURS, jpeg
from transferlite.images.decoder import decode
from transferlite.images.input_spec import InputSpec
from transferlite.inference.variants import TFLITE_VARIANTS

SPEC = InputSpec(32, 40)
LABELS = ("Käfer", "two words", "third")


@dataclass(frozen=True)
class Exported:
    feature_model: Any
    keras: Any
    saved_model: Path
    converted: Any
    tflite: dict[str, Path]


def pictures(count: int) -> list[Any]:
    colours = tuple(COLOURS)
    return [decode(jpeg(colours[number % 3], number), SPEC) for number in range(count)]


def export(folder: Path) -> Exported:
    """Build the network and export it to ``folder``."""
    import keras
    from keras import layers

    from export.saved_model.graph import Graph
    from export.saved_model.write import write_saved_model
    from export.tflite.convert import convert, write_variant

    keras.utils.set_random_seed(0)
    scaling = [layers.Rescaling(1 / 127.5, -1), layers.Normalization(mean=[0.1, 0.0, -0.1], variance=[1.2, 1.0, 0.8])]
    stack = [*scaling, layers.Conv2D(8, 3, 2), layers.BatchNormalization(), layers.ReLU(6.0)]
    feature_model = keras.Sequential([keras.Input((32, 40, 3)), *stack, layers.GlobalAveragePooling2D()])
    head = keras.Sequential([keras.Input((8,)), layers.Dense(16, "relu"), layers.Dense(3, "softmax")])
    kernel = head.layers[-1].get_weights()[0] * 30
    hidden = head.layers[0](feature_model(np.stack(pictures(9)).astype(np.float32)))
    head.layers[-1].set_weights([kernel, -np.asarray(hidden).mean(axis=0) @ kernel])
    graph = Graph(feature_model, head, SPEC)
    saved_model = write_saved_model(graph, LABELS, folder)
    converted = convert(graph, pictures(12))
    tflite = write_variant(converted, TFLITE_VARIANTS, folder)
    return Exported(feature_model, keras.Sequential([feature_model, head]), saved_model, converted, tflite)
