"""A Keras graph of a frozen base as a TFLite file, layer by layer: what extraction on a CPU runs.

The official converter takes 4 s (EfficientNet-Lite0) to 9 s (InceptionV3) to trace, freeze and convert, longer than it
takes to run 200 photos; this takes a fraction of a second. What is published is made by the converter all the same.
BatchNormalization is folded into the convolution before it, and activations into their operation.
Layers that are not known here raise :class:`UnknownLayerError`: the caller then lets TensorFlow run the graph.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
from ai_edge_litert.schema_py_generated import ActivationFunctionType

from train_job.backbones.litert.layers import (
    LAYERS,
    Array,
    UnknownLayerError,
    fused,
    reshape,
    scale_and_shift,
    with_batch_of_one,
)
from train_job.backbones.litert.tflite_writer import TFLiteWriter


def translate_to_tflite(model: Any) -> bytes:
    """A TFLite file from float RGB 0 to 255 ``[1, H, W, 3]`` to each of the model's outputs, flat ``[1, D]``.

    Args:
        model: a functional Keras model with one input.

    Raises:
        UnknownLayerError: a layer of the model is not known here.
    """
    flat = TFLiteWriter()
    pixels = flat.tensor(with_batch_of_one(model.inputs[0].shape))
    outputs = _Translation(flat, model).run([pixels])
    rows = [_flattened(flat, output) for output in outputs]
    return flat.pack([pixels], rows)


def _flattened(flat: TFLiteWriter, tensor: int) -> int:
    shape = flat.shape(tensor)
    return tensor if len(shape) == 2 else reshape(flat, tensor, [1, int(np.prod(shape))])


class _Translation:
    """The translation of one functional model: which of its Keras tensors is which tensor of the file."""

    def __init__(self, flat: TFLiteWriter, model: Any) -> None:
        self.flat = flat
        self.model = model = getattr(model, "_functional", model)  # what a Sequential model is inside
        depths = model._nodes_by_depth
        self.nodes = [node for depth in sorted(depths, reverse=True) for node in depths[depth]]
        self.users: dict[int, list[Any]] = defaultdict(list)
        for node in self.nodes:
            for tensor in node.input_tensors:
                self.users[id(tensor)].append(node)
        self.kept = {id(tensor) for tensor in model.outputs}
        self.known: dict[int, int] = {}
        self.taken: set[int] = set()

    def run(self, inputs: Sequence[int]) -> list[int]:
        """Append the model's operations on ``inputs``; returns its outputs."""
        self.known = {id(tensor): number for tensor, number in zip(self.model.inputs, inputs, strict=True)}
        for node in self.nodes:
            if node.operation is not None and not node.is_input and id(node) not in self.taken:
                self._append(node)
        return [self.known[id(tensor)] for tensor in self.model.outputs]

    def _append(self, node: Any) -> None:
        """Append the operation of ``node`` with those after it that it can take in."""
        kind = type(node.operation).__name__
        arguments = [self._value(value) for value in node.arguments.args]
        if kind in {"Functional", "Sequential"}:
            outputs = _Translation(self.flat, node.operation).run(arguments)
            self.known |= {id(tensor): number for tensor, number in zip(node.outputs, outputs, strict=True)}
            return
        scale, last = self._batch_norm_after(node) if kind in {"Conv2D", "DepthwiseConv2D"} else (None, node)
        activation = ActivationFunctionType.NONE
        if kind in {"Conv2D", "DepthwiseConv2D", "Add", "BatchNormalization"}:
            activation, last = self._activation_after(last)
        try:
            append = LAYERS[kind]
        except KeyError:
            raise UnknownLayerError(kind) from None
        self.known[id(last.outputs[0])] = append(self.flat, node.operation, arguments, activation, scale)

    def _value(self, value: Any) -> Any:
        if isinstance(value, list | tuple):
            return [self._value(one) for one in value]
        return self.known[id(value)] if hasattr(value, "_keras_history") else value

    def _sole_user(self, node: Any) -> Any:
        """The only node that uses the output of ``node``, or None."""
        output = id(node.outputs[0])
        users = self.users[output]
        return users[0] if len(users) == 1 and output not in self.kept else None

    def _batch_norm_after(self, node: Any) -> tuple[tuple[Array, Array] | None, Any]:
        user = self._sole_user(node)
        if user is None or type(user.operation).__name__ != "BatchNormalization":
            return None, node
        self.taken.add(id(user))
        return scale_and_shift(user.operation), user

    def _activation_after(self, node: Any) -> tuple[int, Any]:
        user = self._sole_user(node)
        activation = None if user is None else fused(user.operation)
        if activation is None:
            return int(ActivationFunctionType.NONE), node
        self.taken.add(id(user))
        return activation, user
