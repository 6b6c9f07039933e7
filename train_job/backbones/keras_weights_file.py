"""Load a Keras weights file, in the ``.weights.h5`` format of Keras 3 or the legacy ``.h5`` format."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from transferlite.errors import InputError, NotFoundError

Arrays = list[np.ndarray[Any, Any]]


def load_weights(model: Any, path: Path, include_top: bool = False) -> None:
    """Set the weights of every layer of ``model`` (a ``keras.Model``) from a file saved from the same network.

    The file's content decides its format, not its name. Keras 3 stores layers by class and order; the legacy format,
    also inside a whole model's ``.h5``, stores them by name. Legacy layers whose names differ are paired by order,
    because Keras numbers its default names per process. ``include_top`` tells whether ``model`` has its own classifier.

    Raises:
        NotFoundError: there is no such file.
        InputError: it is not a Keras weights file, or a layer does not fit; the message names the layer.
    """
    if not path.is_file():
        raise NotFoundError("there is no such weights file", where=str(path))
    try:
        with h5py.File(path) as file:
            weights = _legacy_weights(file) if _is_legacy(file) else _keras3_weights(file, model)
        for layer, arrays in _pair([layer for layer in model.layers if layer.weights], weights):
            _set_weights(layer, arrays)
    except OSError as error:
        raise InputError("is not an HDF5 weights file", where=str(path), hint="save it with save_weights") from error
    except (LookupError, ValueError, TypeError, AttributeError) as error:
        raise InputError(f"is not a Keras weights file ({error})", where=str(path)) from error
    except InputError as error:
        top = "with its ImageNet classifier" if include_top else "without its top"
        hint = f"pass weights that were saved from {model.name} {top}"
        raise InputError(error.message, where=str(path), hint=hint) from None


def _is_legacy(file: h5py.File) -> bool:
    return "layer_names" in file.attrs or "model_weights" in file


def _legacy_weights(file: h5py.File) -> dict[str, Arrays]:
    """Arrays by layer: each layer is a group whose ``weight_names`` lists its arrays in Keras's order."""
    group = file["model_weights"] if "layer_names" not in file.attrs else file
    weights = {}
    for name in _decode(group.attrs["layer_names"]):
        arrays = [np.asarray(group[name][key]) for key in _decode(group[name].attrs["weight_names"])]
        if arrays:
            weights[name] = arrays
    return weights


def _decode(names: Any) -> list[str]:
    return [name.decode() if isinstance(name, bytes) else str(name) for name in names]


def _keras3_weights(file: h5py.File, model: Any) -> dict[str, Arrays]:
    """Arrays by layer, from ``layers/<class>[_<n>]/vars/<i>``, where n counts the model's layers of that class."""
    if "layers" not in file:
        raise InputError("holds no Keras layers")
    return {layer.name: _keras3_arrays(file, layer, key) for layer, key in _keras3_groups(model, "layers")}


def _keras3_groups(model: Any, parent: str) -> Iterator[tuple[Any, str]]:
    """Each layer of ``model`` that has weights, and its group's path below ``parent``."""
    counts: dict[str, int] = {}
    for layer in model.layers:
        kind = _snake_case(type(layer).__name__)
        index = counts.get(kind, 0)
        counts[kind] = index + 1
        if layer.weights:
            yield layer, f"{parent}/{kind}_{index}" if index else f"{parent}/{kind}"


def _keras3_arrays(file: h5py.File, layer: Any, key: str) -> Arrays:
    """The layer's arrays in the order of its weights; a ``Sequential`` has a group per inner layer."""
    if hasattr(layer, "layers"):
        inner = _keras3_groups(layer, f"{key}/layers")
        return [array for part, path in inner for array in _keras3_arrays(file, part, path)]
    if f"{key}/vars" not in file:
        raise InputError(f"lacks the weights of layer {layer.name!r} ({key})")
    group = file[f"{key}/vars"]
    return [np.asarray(group[name]) for name in sorted(group, key=int)]


def _snake_case(name: str) -> str:
    """``DepthwiseConv2D`` -> ``depthwise_conv2d``, the group name that Keras 3 derives from a class."""
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


def _pair(layers: list[Any], weights: dict[str, Arrays]) -> list[tuple[Any, Arrays]]:
    """Each layer with its arrays: by name where all names match, otherwise by order."""
    if all(layer.name in weights for layer in layers):
        if len(weights) > len(layers):
            extra = next(name for name in weights if name not in {layer.name for layer in layers})
            raise InputError(f"holds a layer {extra!r} that the network lacks")
        return [(layer, weights[layer.name]) for layer in layers]
    if len(layers) != len(weights):
        missing = next(layer.name for layer in layers if layer.name not in weights)
        raise InputError(
            f"holds {len(weights)} layers with weights, the network {len(layers)}; {missing!r} is not among them"
        )
    return list(zip(layers, weights.values(), strict=True))


def _set_weights(layer: Any, arrays: Arrays) -> None:
    expected = [tuple(weight.shape) for weight in layer.weights]
    actual = [array.shape for array in arrays]
    if expected != actual:
        raise InputError(f"layer {layer.name!r} has weights of shapes {expected}, the file {actual}")
    layer.set_weights(arrays)
