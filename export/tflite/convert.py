"""Convert the trained classifier to TFLite: a single conversion, from which all variants are derived."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from export.native_logs import quiet_native_logs
from export.saved_model.graph import FEATURES, IMAGE, PROBABILITIES, Graph
from export.saved_model.write import SERVE, release_memory
from export.tflite.compress_weights import store_weights_as_float16, store_weights_as_int8
from export.tflite.metadata import ModelInfo, add_metadata
from export.tflite.quantise import add_ranges, quantise
from export.tflite.tflite_file import add_uint8_input, read_tflite, set_batch_size, set_signature, write_tflite
from transferlite.images.decoder import RGB
from transferlite.images.input_spec import InputSpec
from transferlite.inference.variants import DYNAMIC, FLOAT16, FLOAT32, INT8, batch_variant

_WEIGHT_CHANGES: Mapping[str, Callable[[Any], None]] = {
    FLOAT32: lambda model: None,
    FLOAT16: store_weights_as_float16,
    DYNAMIC: store_weights_as_int8,
}
"""How each variant but int8 is derived from the converted file."""


@dataclass(frozen=True)
class Converted:
    """The classifier as a float32 TFLite file with input ``[1, H, W, 3]``.

    Attributes:
        content: the file.
        content_with_ranges: the file with the range of every activation, which int8 needs; None without calibration.
        model_info: metadata for each variant's file, if any.
    """

    content: bytes
    content_with_ranges: bytes | None = None
    model_info: ModelInfo | None = None


def convert(graph: Graph, calibration: Sequence[RGB] = (), model_info: ModelInfo | None = None) -> Converted:
    """Convert the graph. ``calibration`` are training photos, uint8 ``[H, W, 3]``, needed for int8.

    Uses the TensorFlow 1 converter, which takes a graph without variables as it is. The newer converters freeze it
    first, at three times the cost, or write and load a SavedModel.

    Raises:
        GateError: an activation of a calibration photo is not a finite number.
    """
    definition, image, outputs = graph.graph_def()
    with quiet_native_logs():
        converter = tf.compat.v1.lite.TFLiteConverter(definition, None, None, [image], outputs)
        content = bytes(converter.convert())
        release_memory()
        with_ranges = add_ranges(content, [*calibration, _full_range(graph.spec)]) if calibration else None
    return Converted(content, with_ranges, model_info)


def write_variant(
    converted: Converted, variants: Iterable[str], folder: Path, batch: int = 1, in_float: Sequence[str] = ()
) -> dict[str, Path]:
    """Write ``<variant>.tflite`` for each variant, with uint8 RGB input ``[1, H, W, 3]``; returns the paths by variant.

    The outputs are ``probabilities`` ``[1, C]`` and, second, the feature row ``features`` ``[1, D]``.

    With ``batch`` above 1, each variant has a second file with that batch size, such as ``<variant>_batch8.tflite``.

    int8 computes with integers only: uint8 input with scale 1 and zero point 0 (raw pixels), uint8 output. The
    operations that ``in_float`` names, by their output, compute in float32.
    """
    paths = {}
    for variant in variants:
        model = _variant_model(converted, variant, in_float)
        set_signature(model, SERVE, IMAGE, [PROBABILITIES, FEATURES])
        paths[variant] = folder / f"{variant}.tflite"
        paths[variant].write_bytes(write_tflite(model))
        if batch > 1:
            set_batch_size(model, batch)
            name = batch_variant(variant, batch)
            paths[name] = folder / f"{name}.tflite"
            paths[name].write_bytes(write_tflite(model))
    if converted.model_info is not None:
        for path in paths.values():
            add_metadata(path, converted.model_info)
    return paths


def _variant_model(converted: Converted, variant: str, in_float: Sequence[str]) -> Any:
    if variant == INT8:
        if converted.content_with_ranges is None:
            raise ValueError("int8 needs calibration photos")
        with quiet_native_logs():
            return read_tflite(quantise(converted.content_with_ranges, in_float))
    model = read_tflite(converted.content)
    _WEIGHT_CHANGES[variant](model)
    add_uint8_input(model)
    return model


def _full_range(spec: InputSpec) -> RGB:
    """A gradient from 0 to 255, so that the calibrated ranges cover every pixel value however dark the photos are."""
    ramp = np.linspace(0, 255, spec.width).astype(np.uint8)
    return np.broadcast_to(ramp[None, :, None], (spec.height, spec.width, 3))
