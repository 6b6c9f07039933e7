"""Load a Keras weights file, in today's ``.weights.h5`` form or the legacy ``.h5`` form, or say what does not fit."""

import re
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from transferlite.errors import InputError, NotFoundError

Arrays = list[np.ndarray[Any, Any]]


def load_weights(model: Any, path: Path) -> None:
    """Set the weights of every layer of ``model`` (a ``keras.Model``) from a file saved from the same network.

    The file's form is told by its content: Keras 3 keeps layers by class and order, the legacy form (also inside a
    whole model's ``.h5``) by name. In the legacy form layers pair by their order where names differ, as Keras numbers
    them anew in each process.

    Raises:
        NotFoundError: there is no such file.
        InputError: it is no Keras weights file, or a layer does not fit; the message names the layer.
    """
    if not path.is_file():
        raise NotFoundError("there is no such weights file", where=str(path))
    try:
        with h5py.File(path) as file:
            source = _by_name(file) if _is_legacy(file) else _by_path(file, model)
        for layer, arrays in _paired([layer for layer in model.layers if layer.weights], source):
            _fit(layer, arrays)
    except OSError as error:
        raise InputError("is not an HDF5 weights file", where=str(path), hint="save it with save_weights") from error
    except (LookupError, ValueError, TypeError, AttributeError) as error:
        raise InputError(f"is not a Keras weights file ({error})", where=str(path)) from error
    except InputError as error:
        raise InputError(
            error.message, where=str(path), hint=f"it is not a file of {model.name} without its top"
        ) from None


def _is_legacy(file: h5py.File) -> bool:
    return "layer_names" in file.attrs or "model_weights" in file


def _by_name(file: h5py.File) -> dict[str, Arrays]:
    """Legacy form: a group a layer, whose ``weight_names`` lists its arrays in Keras's order."""
    group = file["model_weights"] if "layer_names" not in file.attrs else file
    found = {}
    for name in _texts(group.attrs["layer_names"]):
        arrays = [np.asarray(group[name][key]) for key in _texts(group[name].attrs["weight_names"])]
        if arrays:
            found[name] = arrays
    return found


def _texts(names: Any) -> list[str]:
    return [name.decode() if isinstance(name, bytes) else str(name) for name in names]


def _by_path(file: h5py.File, model: Any) -> dict[str, Arrays]:
    """Keras 3 form: ``layers/<class>[_<n>]/vars/<i>``, n counting the model's layers of that class."""
    if "layers" not in file:
        raise InputError("holds no Keras layers")
    found: dict[str, Arrays] = {}
    counts: dict[str, int] = {}
    for layer in model.layers:
        kind = _snake_case(type(layer).__name__)
        index = counts.get(kind, 0)
        counts[kind] = index + 1
        place = f"layers/{kind}_{index}" if index else f"layers/{kind}"
        if layer.weights:
            if f"{place}/vars" not in file:
                raise InputError(f"lacks the weights of layer {layer.name!r} ({place})")
            group = file[f"{place}/vars"]
            found[layer.name] = [np.asarray(group[key]) for key in sorted(group, key=int)]
    return found


def _snake_case(name: str) -> str:
    """``DepthwiseConv2D`` -> ``depthwise_conv2d``, as Keras 3 names a class's groups."""
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


def _paired(layers: list[Any], source: dict[str, Arrays]) -> list[tuple[Any, Arrays]]:
    if all(layer.name in source for layer in layers):
        if len(source) > len(layers):
            extra = next(name for name in source if name not in {layer.name for layer in layers})
            raise InputError(f"holds a layer {extra!r} that the network lacks")
        return [(layer, source[layer.name]) for layer in layers]
    if len(layers) != len(source):
        lacking = next(layer.name for layer in layers if layer.name not in source)
        raise InputError(
            f"holds {len(source)} layers with weights, the network {len(layers)}; {lacking!r} is not among them"
        )
    return list(zip(layers, source.values(), strict=True))


def _fit(layer: Any, arrays: Arrays) -> None:
    expected = [tuple(weight.shape) for weight in layer.weights]
    given = [array.shape for array in arrays]
    if expected != given:
        raise InputError(f"layer {layer.name!r} has weights of shapes {expected}, the file {given}")
    layer.set_weights(arrays)
