"""A backbone's layers, as the Keras walk-through prints them."""

from typing import Any

from train_job.backbones.build import build_backbone
from train_job.backbones.catalog import BACKBONES
from transferlite.errors import InputError


def _layers(backbone: str, image_size: int | None) -> list[Any]:
    chosen = BACKBONES[backbone]
    size = image_size or chosen.size
    return list(build_backbone(chosen, (size, size, 3), "none").layers)


def list_layers(backbone: str, image_size: int | None = None) -> list[dict[str, Any]]:
    """``index``, ``name``, ``type``, output ``shape`` and ``trainable`` of each layer of the frozen base, in order."""
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
    """The configuration of one layer, by name or index, as Keras's ``get_config`` gives it. Raises InputError."""
    layers = _layers(backbone, image_size)
    for index, one in enumerate(layers):
        if layer in {one.name, str(index)}:
            config: dict[str, Any] = one.get_config()
            return config
    raise InputError(
        f"{backbone} has no layer {layer!r}", hint=f"its layers are 0 to {len(layers) - 1}; list them first"
    )
