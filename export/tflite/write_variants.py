"""Write the variants of a classifier as TFLite files; each is derived from one float32 file."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from export.native_logs import quiet_native_logs
from export.tflite.compress_weights import store_weights_as_float16, store_weights_as_int8
from export.tflite.metadata import ModelInfo, add_metadata
from export.tflite.quantise import quantise
from export.tflite.tflite_file import (
    FEATURES,
    IMAGE,
    PROBABILITIES,
    SERVE,
    add_uint8_input,
    read_tflite,
    set_batch_size,
    set_signature,
    write_tflite,
)
from transferlite.inference.variants import DYNAMIC, FLOAT16, FLOAT32, INT8, batch_variant

_WEIGHT_CHANGES: Mapping[str, Callable[[Any], None]] = {
    FLOAT32: lambda model: None,
    FLOAT16: store_weights_as_float16,
    DYNAMIC: store_weights_as_int8,
}
"""How each variant but int8 is derived."""


@dataclass(frozen=True)
class Converted:
    """The classifier as a float32 TFLite file, from pixels ``[1, H, W, 3]`` to probabilities and feature row.

    Attributes:
        content: the file.
        content_with_ranges: the file with the range of every activation, which int8 needs; None without calibration.
        model_info: metadata for each variant's file, if any.
    """

    content: bytes
    content_with_ranges: bytes | None = None
    model_info: ModelInfo | None = None


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
