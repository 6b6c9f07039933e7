"""Where a base is cut for fine-tuning: what lies below runs once a photo and is cached, what lies above is trained.

The second stage of Keras's own example: https://keras.io/api/applications/#usage-examples-for-image-classification-models
"""

import math
from dataclasses import dataclass
from typing import Any

import keras
from keras import layers

from transferlite.errors import InputError


@dataclass(frozen=True)
class Cut:
    """
    Attributes:
        below: the index in ``base.layers`` of the last layer below the cut; its output is all that the layers above
            see of a photo.
        first: the index of the first layer that is trained. ``transferlite inspect`` lists layers with their index.
    """

    below: int
    first: int

    def tensor(self, base: Any) -> Any:
        """The symbolic output at the cut."""
        return base.layers[self.below].output


def find_cut(base: Any, fine_tune_from: str) -> Cut:
    """The highest place at or below the layer ``fine_tune_from`` (a name or an index) where one tensor carries all.

    Between the cut and that layer, inside a residual block for instance, the layers stay frozen and run every epoch.

    Raises:
        InputError: there is no such layer, or nothing to train from it on.
    """
    first = _index(base, fine_tune_from)
    operations = list(base.operations)
    limit = operations.index(base.layers[first])
    below = {id(operation) for operation in operations[:limit]}
    for place in range(limit, 0, -1):
        carried = {id(tensor): tensor for tensor in _carried(base, below)}
        if len(carried) == 1:
            (tensor,) = carried.values()
            return Cut(base.layers.index(tensor._keras_history.operation), first)
        below.discard(id(operations[place - 1]))
    raise InputError(f"the layers below {fine_tune_from!r} cannot be cut off", where="--fine-tune-from")


def _index(base: Any, layer: str) -> int:
    names = [one.name for one in base.layers]
    index = names.index(layer) if layer in names else int(layer) if layer.isascii() and layer.isdigit() else -1
    if not 1 <= index < len(names) or not any(one.weights for one in base.layers[index:]):
        raise InputError(
            f"cannot fine-tune {base.name} from layer {layer!r}",
            where="--fine-tune-from",
            hint=f"give a name or an index from 1 to {len(names) - 1}: transferlite inspect lists them",
        )
    return index


def _carried(base: Any, below: set[int]) -> list[Any]:
    """The tensors made by the operations ``below`` that those above take."""
    return [
        tensor
        for nodes in base._nodes_by_depth.values()
        for node in nodes
        if not node.is_input and id(node.operation) not in below
        for tensor in node.input_tensors
        if id(tensor._keras_history.operation) in below
    ]


def top_model(base: Any, cut: Cut, head: Any) -> Any:
    """What is trained in the second stage: flat activations at the cut ``[N, D]`` to probabilities ``[N, C]``.

    It shares its layers with ``base`` and ``head``. Layers of the base from ``cut.first`` on are set trainable, but for
    BatchNormalization, which keeps its statistics and stays in inference mode.
    """
    base.trainable = True
    for index, layer in enumerate(base.layers):
        layer.trainable = index >= cut.first and not isinstance(layer, layers.BatchNormalization)
    at_cut = cut.tensor(base)
    flat = keras.Input((math.prod(at_cut.shape[1:]),), name="activation")
    maps = keras.Model(at_cut, base.output)(layers.Reshape(at_cut.shape[1:])(flat), training=False)
    return keras.Model(flat, head(layers.GlobalAveragePooling2D()(maps)), name="top")
