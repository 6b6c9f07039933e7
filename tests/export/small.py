"""A small network with random weights, exported as every variant; its predictions for the pictures differ widely."""

from collections.abc import Sequence
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


def converted_of(feature_model: Any, head: Any, photos: Sequence[Any] = ()) -> Any:
    """Convert a feature model and a head; with ``photos``, calibrated for int8."""
    from export.keras_to_tflite.convert import convert
    from export.keras_to_tflite.translate_model import translate_to_tflite
    from export.tflite.quantise import Calibration, merge_ranges, observe

    backbone, calibration = translate_to_tflite(feature_model), None
    if len(photos):
        ranges, rows = zip(*observe(backbone, photos), strict=True)
        calibration = Calibration(merge_ranges(ranges), np.stack(rows))
    return convert(backbone, head, calibration)


def saved_model_of(feature_model: Any, head: Any, spec: InputSpec, folder: Path) -> Path:
    """Write the SavedModel of a feature model and a head."""
    from export.saved_model.write import trace_saved_model, write_saved_model

    return write_saved_model(trace_saved_model(feature_model, head, spec), head.get_weights(), LABELS, folder)


def export(folder: Path) -> Exported:
    """Build the network and export it to ``folder``."""
    import keras
    from keras import layers

    from export.tflite.write_variants import write_variant

    keras.utils.set_random_seed(0)
    scaling = [layers.Rescaling(1 / 127.5, -1), layers.Normalization(mean=[0.1, 0.0, -0.1], variance=[1.2, 1.0, 0.8])]
    stack = [*scaling, layers.Conv2D(8, 3, 2), layers.BatchNormalization(), layers.ReLU(6.0)]
    feature_model = keras.Sequential([keras.Input((32, 40, 3)), *stack, layers.GlobalAveragePooling2D()])
    head = keras.Sequential([keras.Input((8,)), layers.Dense(16, "relu"), layers.Dense(3, "softmax")])
    kernel = head.layers[-1].get_weights()[0] * 30
    hidden = head.layers[0](feature_model(np.stack(pictures(9)).astype(np.float32)))
    head.layers[-1].set_weights([kernel, -np.asarray(hidden).mean(axis=0) @ kernel])
    saved_model = saved_model_of(feature_model, head, SPEC, folder)
    converted = converted_of(feature_model, head, pictures(12))
    tflite = write_variant(converted, TFLITE_VARIANTS, folder)
    return Exported(feature_model, keras.Sequential([feature_model, head]), saved_model, converted, tflite)
