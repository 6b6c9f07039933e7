"""Cut a backbone for fine-tuning: layers below the cut run once per photo and are cached, layers above are trained.

Source: the second stage of Keras's example,
https://keras.io/api/applications/#usage-examples-for-image-classification-models
"""

import math
from dataclasses import dataclass
from typing import Any

import keras
from keras import layers

from transferlite.errors import InputError


@dataclass(frozen=True)
class Cut:
    """Position of the cut in a backbone. ``transferlite inspect`` lists layers with their index.

    Attributes:
        below: index in ``backbone.operations`` of the last operation below the cut; its output is cached per photo.
        first: index in ``backbone.layers`` of the first trained layer.
    """

    below: int
    first: int

    def tensor(self, backbone: Any) -> Any:
        """The symbolic output at the cut."""
        return backbone.operations[self.below].output

    def space_name(self, backbone: Any) -> str:
        """Name of the cut's feature space: by the layer, or by the operation if it is none, as ConvNeXt's additions."""
        names = [layer.name for layer in backbone.layers]
        name = backbone.operations[self.below].name
        return f"layer-{names.index(name)}" if name in names else f"operation-{self.below}"


def find_cut(backbone: Any, fine_tune_from: str) -> Cut:
    """Find the highest cut at or below the layer ``fine_tune_from`` (a name or an index) that a single tensor crosses.

    Layers between the cut and that layer, as inside a residual block, stay frozen but run every epoch.

    Raises:
        InputError: there is no such layer, or no layer from it on has weights to train.
    """
    first = _layer_index(backbone, fine_tune_from)
    operations = list(backbone.operations)
    limit = operations.index(backbone.layers[first])
    below = {id(operation) for operation in operations[:limit]}
    for position in range(limit, 0, -1):
        crossing = {id(tensor): tensor for tensor in _crossing_tensors(backbone, below)}
        if len(crossing) == 1:
            (tensor,) = crossing.values()
            return Cut(operations.index(tensor._keras_history.operation), first)
        below.discard(id(operations[position - 1]))
    raise InputError(f"the layers below {fine_tune_from!r} cannot be cut off", where="--fine-tune-from")


def _layer_index(backbone: Any, layer: str) -> int:
    names = [candidate.name for candidate in backbone.layers]
    index = names.index(layer) if layer in names else int(layer) if layer.isascii() and layer.isdigit() else -1
    if not 1 <= index < len(names) or not any(above.weights for above in backbone.layers[index:]):
        raise InputError(
            f"cannot fine-tune {backbone.name} from layer {layer!r}",
            where="--fine-tune-from",
            hint=f"give a name or an index from 1 to {len(names) - 1}: transferlite inspect lists them",
        )
    return index


def _crossing_tensors(backbone: Any, below: set[int]) -> list[Any]:
    """Tensors that an operation in ``below`` (ids) produces and another operation consumes."""
    return [
        tensor
        for nodes in backbone._nodes_by_depth.values()
        for node in nodes
        if not node.is_input and id(node.operation) not in below
        for tensor in node.input_tensors
        if id(tensor._keras_history.operation) in below
    ]


def top_model(backbone: Any, cut: Cut, head: Any) -> Any:
    """Build the model that fine-tuning trains, from flat activations at the cut ``[N, D]`` to probabilities ``[N, C]``.

    It shares its layers with ``backbone`` and ``head``. Backbone layers from ``cut.first`` on become trainable, except
    BatchNormalization, which keeps its statistics and stays in inference mode.
    """
    backbone.trainable = True
    for index, layer in enumerate(backbone.layers):
        layer.trainable = index >= cut.first and not isinstance(layer, layers.BatchNormalization)
    at_cut = cut.tensor(backbone)
    flat = keras.Input((math.prod(at_cut.shape[1:]),), name="activation")
    maps = keras.Model(at_cut, backbone.output)(layers.Reshape(at_cut.shape[1:])(flat), training=False)
    return keras.Model(flat, head(layers.GlobalAveragePooling2D(name="pool")(maps)), name="top")
