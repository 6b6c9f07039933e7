"""Write the trained classifier as a SavedModel and as TFLite files with a fixed batch of one."""

import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from keras.export import ExportArchive

from runtime.imaging import RGB, InputSpec

SAVED_MODEL = "saved_model"
"""The SavedModel's folder in a bundle. TensorFlow Serving's model_base_path: the model itself is its version 1."""

FLOAT32, INT8 = "float32", "int8"


def write_saved_model(model: Any, folder: Path) -> Path:
    """Export a Keras model on uint8 photos ``[N, H, W, 3]`` with ``serving_default``; returns the base path."""
    archive = ExportArchive()
    archive.track(model)
    signature = [tf.TensorSpec((None, *model.input_shape[1:]), tf.uint8, name="image")]
    archive.add_endpoint("serving_default", lambda image: model(image, training=False), signature)
    archive.write_out(str(folder / SAVED_MODEL / "1"), verbose=False)
    return folder / SAVED_MODEL


def write_tflite(
    probabilities: Callable[[Any], Any], tracked: Iterable[Any], spec: InputSpec, calibration: list[RGB], folder: Path
) -> dict[str, Path]:
    """Convert to ``float32.tflite`` and ``int8.tflite``, both uint8 RGB ``[1, H, W, 3]`` in; returns them by variant.

    Args:
        probabilities: float RGB 0 to 255 ``[1, H, W, 3]`` -> probabilities ``[1, C]``, in TensorFlow ops.
        tracked: the Keras models that ``probabilities`` uses.
        spec: the photo's size.
        calibration: training photos, uint8 ``[H, W, 3]``, whose activations set int8's ranges.
        folder: where the files go.

    The int8 file is integer throughout: uint8 in with scale 1 and zero point 0 (raw pixels), uint8 out.
    Source: https://ai.google.dev/edge/litert/conversion/tensorflow/quantization/post_training_quantization
    """
    with tempfile.TemporaryDirectory(prefix="transferlite-") as scratch:
        _write_fixed_batch(probabilities, tracked, spec, scratch)
        files = {
            FLOAT32: _converter(scratch, "photo").convert(),
            INT8: _int8(_converter(scratch, "pixels"), spec, calibration),
        }
    paths = {name: folder / f"{name}.tflite" for name in files}
    for name, content in files.items():
        paths[name].write_bytes(content)
    return paths


def _write_fixed_batch(
    probabilities: Callable[[Any], Any], tracked: Iterable[Any], spec: InputSpec, scratch: str
) -> None:
    """A SavedModel with a batch of one, from uint8 photos and, to be quantised, from float pixels."""
    archive = ExportArchive()
    for model in tracked:
        archive.track(model)
    shape = (1, spec.height, spec.width, 3)
    photo, pixels = (tf.TensorSpec(shape, dtype, name="image") for dtype in (tf.uint8, tf.float32))
    archive.add_endpoint("photo", lambda image: probabilities(tf.cast(image, tf.float32)), [photo])
    archive.add_endpoint("pixels", probabilities, [pixels])
    archive.write_out(scratch, verbose=False)


def _converter(saved_model: str, signature: str) -> Any:
    return tf.lite.TFLiteConverter.from_saved_model(saved_model, signature_keys=[signature])


def _int8(converter: Any, spec: InputSpec, calibration: list[RGB]) -> bytes:
    def samples() -> Iterator[list[Any]]:
        for image in (*calibration, _full_range(spec)):
            yield [image[None].astype(np.float32)]

    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = samples
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = tf.uint8
    converter.inference_output_type = tf.uint8
    return bytes(converter.convert())


def _full_range(spec: InputSpec) -> RGB:
    """A picture that holds every value from 0 to 255, so that the input's scale is exactly 1."""
    ramp = np.linspace(0, 255, spec.width).astype(np.uint8)
    return np.broadcast_to(ramp[None, :, None], (spec.height, spec.width, 3))
