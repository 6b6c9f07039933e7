"""Write the trained classifier as a SavedModel and as TFLite files with a fixed batch of one."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from export.flat_file import name_ends, read, take_uint8, write
from export.memory import give_back_memory
from export.quantise import quantise
from export.quiet import quiet_native_logs
from runtime.imaging import RGB, InputSpec

SAVED_MODEL = "saved_model"
"""The SavedModel's folder in a bundle. TensorFlow Serving's model_base_path: the model itself is its version 1."""

FLOAT32, INT8 = "float32", "int8"
INPUT, OUTPUT = "image", "probabilities"
SIGNATURE = "serving_default"


class Graph(tf.Module):  # type: ignore[misc]
    """The classifier as one traced graph in which every weight is a constant.

    Keras's own ``export`` saves each layer as an object and each weight as a variable: many times as long to write, to
    convert and to load.

    Args:
        models: Keras models to run one after another in inference mode, the first on float RGB 0 to 255
            ``[N, H, W, 3]``, the last giving probabilities ``[N, C]``.
        spec: the photo's size.
    """

    def __init__(self, models: Sequence[Any], spec: InputSpec) -> None:
        super().__init__()
        self._shape = (spec.height, spec.width, 3)
        values = [(variable, np.asarray(variable.value)) for model in models for variable in model.variables]

        def run(image: Any) -> Any:
            with keras.StatelessScope([(variable, tf.constant(value)) for variable, value in values]):
                for model in models:
                    image = model(image, training=False)
            return image

        self._run = tf.function(run, autograph=False).get_concrete_function(self._image(None, tf.float32))
        values.clear()

    def _image(self, batch: int | None, dtype: Any) -> Any:
        return tf.TensorSpec((batch, *self._shape), dtype, name=INPUT)

    def signature(self, batch: int | None, dtype: Any) -> Any:
        """A signature from ``image``, of that batch size and type, to ``probabilities``."""
        answer = tf.function(lambda image: {OUTPUT: self._run(tf.cast(image, tf.float32))}, autograph=False)
        return answer.get_concrete_function(self._image(batch, dtype))

    def definition(self) -> tuple[Any, tuple[str, list[int]], str]:
        """The ``GraphDef`` on float pixels, its input's name with a batch of one as its shape, and its output's name.

        Tensors that the graph takes from outside, as the statistics of Normalization are, become constants.
        """
        definition = self._run.graph.as_graph_def()
        outside = {placeholder.op.name: tensor for tensor, placeholder in self._run.graph.captures}
        for node in definition.node:
            if node.name in outside:
                with tf.Graph().as_default():
                    constant = tf.constant(outside[node.name].numpy(), name=node.name).op.node_def
                node.CopyFrom(constant)
        image, answer = self._run.inputs[0].op.name, self._run.outputs[0].op.name
        return definition, (image, [1, *self._shape]), answer


def write_saved_model(graph: Graph, folder: Path) -> Path:
    """Write the SavedModel, whose ``serving_default`` takes uint8 photos ``[N, H, W, 3]``; returns its base path."""
    serving = {SIGNATURE: graph.signature(None, tf.uint8)}
    tf.saved_model.save(graph, str(folder / SAVED_MODEL / "1"), signatures=serving)
    give_back_memory()
    return folder / SAVED_MODEL


def write_tflite(graph: Graph, spec: InputSpec, calibration: list[RGB], folder: Path) -> dict[str, Path]:
    """Convert to ``float32.tflite`` and ``int8.tflite``, both uint8 RGB ``[1, H, W, 3]`` in; returns them by variant.

    ``calibration`` are training photos, uint8 ``[H, W, 3]``, whose activations set int8's ranges. The int8 file is
    integer throughout: uint8 in with scale 1 and zero point 0 (raw pixels), uint8 out.

    Raises:
        GateError: on a photo, the model gives what is not a finite number.
    """
    with quiet_native_logs():
        converted = _convert(graph)
        give_back_memory()
        float32 = read(converted)
        take_uint8(float32)
        int8 = read(quantise(converted, [*calibration, _full_range(spec)]))
    paths = {name: folder / f"{name}.tflite" for name in (FLOAT32, INT8)}
    for path, model in zip(paths.values(), (float32, int8), strict=True):
        name_ends(model, SIGNATURE, INPUT, OUTPUT)
        path.write_bytes(write(model))
    return paths


def _convert(graph: Graph) -> bytes:
    """A TFLite file from float RGB ``[1, H, W, 3]``.

    The converter of TensorFlow 1 takes a graph without variables as it is. Its successors would freeze it first, at
    three times the cost, or write and load a SavedModel.
    """
    definition, image, answer = graph.definition()
    converter = tf.compat.v1.lite.TFLiteConverter(definition, None, None, [image], [answer])
    return bytes(converter.convert())


def _full_range(spec: InputSpec) -> RGB:
    """A picture from 0 to 255: there is room for every pixel after the normalisation too, however dark the photos."""
    ramp = np.linspace(0, 255, spec.width).astype(np.uint8)
    return np.broadcast_to(ramp[None, :, None], (spec.height, spec.width, 3))
