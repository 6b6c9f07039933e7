"""Write the trained classifier as a SavedModel and as TFLite files with a fixed batch of one."""

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from export.quiet import quiet_native_logs
from runtime.imaging import RGB, InputSpec

SAVED_MODEL = "saved_model"
"""The SavedModel's folder in a bundle. TensorFlow Serving's model_base_path: the model itself is its version 1."""

FLOAT32, INT8 = "float32", "int8"
OUTPUT = "probabilities"


class Graph(tf.Module):  # type: ignore[misc]
    """The classifier as one traced graph over its bare variables.

    Keras's own ``export`` saves each layer as an object as well: twice the time, and more for a server to load.

    Args:
        models: Keras models to run one after another in inference mode, the first on float RGB 0 to 255
            ``[N, H, W, 3]``, the last giving probabilities ``[N, C]``.
        spec: the photo's size.
    """

    def __init__(self, models: Sequence[Any], spec: InputSpec) -> None:
        super().__init__()
        self.held = [variable.value for model in models for variable in model.variables]
        self._shape = (spec.height, spec.width, 3)

        def run(image: Any) -> Any:
            for model in models:
                image = model(image, training=False)
            return image

        self._run = tf.function(run).get_concrete_function(self._image(None, tf.float32))

    def _image(self, batch: int | None, dtype: Any) -> Any:
        return tf.TensorSpec((batch, *self._shape), dtype, name="image")

    def signature(self, batch: int | None, dtype: Any) -> Any:
        """A signature from ``image``, of that batch size and type, to ``probabilities``."""
        answer = tf.function(lambda image: {OUTPUT: self._run(tf.cast(image, tf.float32))})
        return answer.get_concrete_function(self._image(batch, dtype))


def write_saved_model(graph: Graph, folder: Path) -> Path:
    """Write the SavedModel, whose ``serving_default`` takes uint8 photos ``[N, H, W, 3]``; returns its base path."""
    serving = {"serving_default": graph.signature(None, tf.uint8)}
    tf.saved_model.save(graph, str(folder / SAVED_MODEL / "1"), signatures=serving)
    return folder / SAVED_MODEL


def write_tflite(graph: Graph, spec: InputSpec, calibration: list[RGB], folder: Path) -> dict[str, Path]:
    """Convert to ``float32.tflite`` and ``int8.tflite``, both uint8 RGB ``[1, H, W, 3]`` in; returns them by variant.

    ``calibration`` are training photos, uint8 ``[H, W, 3]``, whose activations set int8's ranges. The int8 file is
    integer throughout: uint8 in with scale 1 and zero point 0 (raw pixels), uint8 out.
    Source: https://ai.google.dev/edge/litert/conversion/tensorflow/quantization/post_training_quantization
    """
    files = {
        FLOAT32: _convert(graph, tf.uint8, lambda converter: None),
        INT8: _convert(graph, tf.float32, lambda converter: _quantise(converter, spec, calibration)),
    }
    paths = {name: folder / f"{name}.tflite" for name in files}
    for name, content in files.items():
        paths[name].write_bytes(content)
    return paths


def _convert(graph: Graph, dtype: Any, configure: Any) -> bytes:
    """By way of a SavedModel: from a concrete function, the converter gives files that answer NaN."""
    with tempfile.TemporaryDirectory(prefix="transferlite-") as scratch, quiet_native_logs():
        tf.saved_model.save(graph, scratch, signatures={"one": graph.signature(1, dtype)})
        converter = tf.lite.TFLiteConverter.from_saved_model(scratch, signature_keys=["one"])
        configure(converter)
        return bytes(converter.convert())


def _quantise(converter: Any, spec: InputSpec, calibration: list[RGB]) -> None:
    def samples() -> Iterator[list[Any]]:
        for image in (*calibration, _full_range(spec)):
            yield [image[None].astype(np.float32)]

    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = samples
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = tf.uint8
    converter.inference_output_type = tf.uint8


def _full_range(spec: InputSpec) -> RGB:
    """A picture from 0 to 255, so that the input's scale is exactly 1."""
    ramp = np.linspace(0, 255, spec.width).astype(np.uint8)
    return np.broadcast_to(ramp[None, :, None], (spec.height, spec.width, 3))
