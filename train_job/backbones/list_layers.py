"""List a backbone's layers, for ``transferlite inspect``."""

from typing import Any

from train_job.backbones.build import build_backbone
from train_job.backbones.catalog import BACKBONES
from transferlite.errors import InputError


def list_layers(backbone: str, image_size: int | None = None) -> list[dict[str, Any]]:
    """``index``, ``name``, ``type``, output ``shape`` and ``trainable`` of each layer, in order."""
    return [
        {
            "index": index,
            "name": layer.name,
            "type": type(layer).__name__,
            "shape": list(layer.output.shape),
            "trainable": bool(layer.trainable),
        }
        for index, layer in enumerate(_layers(backbone, image_size))
    ]


def layer_config(backbone: str, image_size: int | None, layer: str) -> dict[str, Any]:
    """The configuration of one layer as Keras's ``get_config`` returns it.

    Args:
        backbone: name in the table.
        image_size: side of the input in pixels; None is the backbone's default.
        layer: name or index of the layer.

    Raises:
        InputError: the backbone has no such layer.
    """
    layers = _layers(backbone, image_size)
    for index, candidate in enumerate(layers):
        if layer in {candidate.name, str(index)}:
            config: dict[str, Any] = candidate.get_config()
            return config
    raise InputError(
        f"{backbone} has no layer {layer!r}", hint=f"its layers are 0 to {len(layers) - 1}; list them first"
    )


def _layers(backbone: str, image_size: int | None) -> list[Any]:
    entry = BACKBONES[backbone]
    size = image_size or entry.size
    return list(build_backbone(entry, (size, size, 3), "none").layers)
