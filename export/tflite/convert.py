"""Write the trained classifier as TFLite files with a fixed batch of one: one conversion, from which all are made."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from export.native_logs import quiet_native_logs
from export.saved_model.graph import IMAGE, PROBABILITIES, Graph
from export.saved_model.write import SERVE, release_memory
from export.tflite.fold_weights import halve_weights, quantise_weights
from export.tflite.metadata import ModelInfo, add_metadata
from export.tflite.quantise import note_ranges, quantise
from export.tflite.tflite_file import name_ends, read_tflite, take_batch, take_uint8, write_tflite
from transferlite.images.decoder import RGB
from transferlite.images.input_spec import InputSpec
from transferlite.inference.variants import DYNAMIC, FLOAT16, FLOAT32, INT8, batch_variant

_CHANGES: Mapping[str, Callable[[Any], None]] = {
    FLOAT32: lambda model: None,
    FLOAT16: halve_weights,
    DYNAMIC: quantise_weights,
}
"""What makes a variant of the converted file."""


@dataclass(frozen=True)
class Converted:
    """The classifier as a TFLite file on float pixels ``[1, H, W, 3]``.

    Attributes:
        content: the file.
        ranged: the same with the range of every activation noted, which int8 is made from; None if it is not wanted.
        about: what each file is told of itself, if anything.
    """

    content: bytes
    ranged: bytes | None = None
    about: ModelInfo | None = None


def convert(graph: Graph, calibration: Sequence[RGB] = (), about: ModelInfo | None = None) -> Converted:
    """Convert the graph; ``calibration`` are training photos, uint8 ``[H, W, 3]``, if there is to be an int8 file.

    The converter of TensorFlow 1 takes a graph without variables as it is. Its successors would freeze it first, at
    three times the cost, or write and load a SavedModel.

    Raises:
        GateError: on a photo, the model gives what is not a finite number.
    """
    definition, image, answer = graph.definition()
    with quiet_native_logs():
        converter = tf.compat.v1.lite.TFLiteConverter(definition, None, None, [image], [answer])
        content = bytes(converter.convert())
        release_memory()
        ranged = note_ranges(content, [*calibration, _full_range(graph.spec)]) if calibration else None
    return Converted(content, ranged, about)


def write_variant(
    converted: Converted, variants: Iterable[str], folder: Path, batch: int = 1, in_float: Sequence[str] = ()
) -> dict[str, Path]:
    """Write ``<variant>.tflite`` for each variant, all uint8 RGB ``[1, H, W, 3]`` in; returns them by variant.

    With a ``batch`` above 1, each has a second file that takes as many photos at once, ``<variant>_batch8.tflite``.

    The int8 file is integer throughout: uint8 in with scale 1 and zero point 0 (raw pixels), uint8 out. Only the
    operations that ``in_float`` names, by their output, compute in float32.
    """
    paths = {}
    for variant in variants:
        model = _made(converted, variant, in_float)
        name_ends(model, SERVE, IMAGE, PROBABILITIES)
        paths[variant] = folder / f"{variant}.tflite"
        paths[variant].write_bytes(write_tflite(model))
        if batch > 1:
            take_batch(model, batch)
            name = batch_variant(variant, batch)
            paths[name] = folder / f"{name}.tflite"
            paths[name].write_bytes(write_tflite(model))
    if converted.about is not None:
        for path in paths.values():
            add_metadata(path, converted.about)
    return paths


def _made(converted: Converted, variant: str, in_float: Sequence[str]) -> Any:
    if variant == INT8:
        if converted.ranged is None:
            raise ValueError("int8 takes calibration photos")
        with quiet_native_logs():
            return read_tflite(quantise(converted.ranged, in_float))
    model = read_tflite(converted.content)
    _CHANGES[variant](model)
    take_uint8(model)
    return model


def _full_range(spec: InputSpec) -> RGB:
    """A picture from 0 to 255: there is room for every pixel after the normalisation too, however dark the photos."""
    ramp = np.linspace(0, 255, spec.width).astype(np.uint8)
    return np.broadcast_to(ramp[None, :, None], (spec.height, spec.width, 3))
