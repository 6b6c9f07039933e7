"""Translate a Keras feature model into a TFLite file layer by layer.

This is the only way in which a backbone becomes a TFLite file, for feature extraction and for published versions.
TensorFlow's converter takes 4 s (EfficientNet-Lite0) to 9 s (InceptionV3); this takes a fraction of a second, and the
files are as fast and as exact (``docs/benchmarks.md``, "The forward pass"). BatchNormalization is folded into the
convolution before it, and activations into the operation before them.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
from ai_edge_litert.schema_py_generated import ActivationFunctionType

from export.keras_to_tflite.layers import (
    LAYERS,
    UnsupportedLayerError,
    fusible_activation,
    layer_scale_shift,
    with_batch_of_one,
)
from export.keras_to_tflite.operations import Array, reshape
from export.tflite.tflite_writer import TFLiteWriter

TRANSLATION_VERSION = 1
"""Raise it when a change of the translation changes a feature row: stored rows and files are then made again."""

_CONVOLUTIONS = {"Conv2D", "DepthwiseConv2D"}


def translate_to_tflite(model: Any) -> bytes:
    """Translate a functional Keras model with one input; every output becomes flat ``[1, D]``.

    Raises:
        UnsupportedLayerError: a layer has no translation.
    """
    writer = TFLiteWriter()
    pixels = writer.tensor(with_batch_of_one(model.inputs[0].shape))
    outputs = _Translation(writer, model).run([pixels])
    return writer.pack([pixels], [_flatten(writer, output) for output in outputs])


def translate_head(head: Any) -> bytes:
    """Translate a Keras model from feature rows ``[N, D]`` to a file from ``[1, D]``; its output becomes flat."""
    writer = TFLiteWriter()
    row = writer.tensor(with_batch_of_one(head.inputs[0].shape))
    (output,) = _Translation(writer, head).run([row])
    return writer.pack([row], [_flatten(writer, output)])


def append_head(backbone: bytes, head: Any) -> bytes:
    """Append a head, as of :func:`translate_head`, to a file with feature rows ``[1, D]`` as its only output.

    The outputs are the head's, then the feature row.
    """
    writer = TFLiteWriter(backbone)
    (row,) = writer.outputs
    (output,) = _Translation(writer, head).run([row])
    return writer.pack(writer.inputs, [_flatten(writer, output), row])


def _flatten(writer: TFLiteWriter, tensor: int) -> int:
    shape = writer.shape(tensor)
    return tensor if len(shape) == 2 else reshape(writer, tensor, [1, int(np.prod(shape))])


class _Translation:
    """The translation of one functional model.

    Attributes:
        nodes: the model's nodes in order of execution.
        consumers: nodes that take a Keras tensor as input, by the tensor's id.
        output_ids: ids of the Keras tensors that the model returns.
        tensors: the file's tensor for a Keras tensor, by the latter's id.
        fused: ids of nodes already folded into an earlier operation.
    """

    def __init__(self, writer: TFLiteWriter, model: Any) -> None:
        self.writer = writer
        self.model = model = getattr(model, "_functional", model)  # a Sequential wraps a functional model
        depths = model._nodes_by_depth
        self.nodes = [node for depth in sorted(depths, reverse=True) for node in depths[depth]]
        self.consumers: dict[int, list[Any]] = defaultdict(list)
        for node in self.nodes:
            for tensor in node.input_tensors:
                self.consumers[id(tensor)].append(node)
        self.output_ids = {id(tensor) for tensor in model.outputs}
        self.tensors: dict[int, int] = {}
        self.fused: set[int] = set()

    def run(self, inputs: Sequence[int]) -> list[int]:
        """Append the model's operations on the tensors ``inputs``; returns its output tensors."""
        self.tensors = {id(tensor): index for tensor, index in zip(self.model.inputs, inputs, strict=True)}
        for node in self.nodes:
            if node.operation is not None and not node.is_input and id(node) not in self.fused:
                self._append(node)
        return [self.tensors[id(tensor)] for tensor in self.model.outputs]

    def _append(self, node: Any) -> None:
        """Append the operation of ``node``, together with the nodes after it that can be fused into it."""
        kind = type(node.operation).__name__
        arguments = [self._argument(value) for value in node.arguments.args]
        if kind in {"Functional", "Sequential"}:
            outputs = _Translation(self.writer, node.operation).run(arguments)
            self.tensors |= {id(tensor): index for tensor, index in zip(node.outputs, outputs, strict=True)}
            return
        fold, last = self._fuse_batch_norm(node) if kind in _CONVOLUTIONS else (None, node)
        activation = int(ActivationFunctionType.NONE)
        if kind in {*_CONVOLUTIONS, "Add", "BatchNormalization"}:
            activation, last = self._fuse_activation(last)
        try:
            append = LAYERS[kind]
        except KeyError:
            raise UnsupportedLayerError(kind) from None
        self.writer.layer = node.operation.name
        self.tensors[id(last.outputs[0])] = append(self.writer, node.operation, arguments, activation, fold)

    def _argument(self, value: Any) -> Any:
        """A call's argument with each Keras tensor replaced by the file's tensor."""
        if isinstance(value, list | tuple):
            return [self._argument(item) for item in value]
        return self.tensors[id(value)] if hasattr(value, "_keras_history") else value

    def _sole_consumer(self, node: Any) -> Any:
        """The only node that uses the output of ``node``, or None."""
        output = id(node.outputs[0])
        consumers = self.consumers[output]
        return consumers[0] if len(consumers) == 1 and output not in self.output_ids else None

    def _fuse_batch_norm(self, node: Any) -> tuple[tuple[Array, Array] | None, Any]:
        """Scale and shift of a BatchNormalization after ``node``, if there is one, and the last node that is fused."""
        consumer = self._sole_consumer(node)
        if consumer is None or type(consumer.operation).__name__ != "BatchNormalization":
            return None, node
        self.fused.add(id(consumer))
        return layer_scale_shift(consumer.operation), consumer

    def _fuse_activation(self, node: Any) -> tuple[int, Any]:
        """The activation after ``node`` that its operation can apply itself, and the last node that is fused."""
        consumer = self._sole_consumer(node)
        activation = None if consumer is None else fusible_activation(consumer.operation)
        if activation is None:
            return int(ActivationFunctionType.NONE), node
        self.fused.add(id(consumer))
        return activation, consumer
