"""Grad-CAM heat maps of the image regions that raise a class's logit, and thumbnails with them.

Sources: Selvaraju et al. 2017, https://arxiv.org/abs/1610.02391; Zhou et al. 2016, https://arxiv.org/abs/1512.04150.
The head is piecewise linear, so its gradient is a product of two matrices and needs no gradient tape.
"""

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from transferlite.images.decoder import RGB

THUMBNAIL_SIDE = 160
"""Longer side of a thumbnail in pixels."""

_BATCH = 16
_QUALITY = 82
_COLORMAP = "inferno"
_OPACITY = 0.65


def activation_maps(
    feature_maps: Any, head: Any, images: NDArray[np.uint8], classes: NDArray[np.integer[Any]]
) -> NDArray[np.float32]:
    """Compute Grad-CAM heat maps ``[N, h, w]`` from 0 to 1; all 0 if no region raises the class's logit.

    Args:
        feature_maps: a Keras model from float RGB 0 to 255 to the last activation maps: ``Classifier.activation_maps``.
        head: Dense relu, Dense softmax on the pooled maps: ``Classifier.head``.
        images: ``[N, H, W, 3]`` of the model's input size.
        classes: class to explain for each image, ``[N]``.
    """
    if not len(images):
        return np.zeros((0, *feature_maps.output.shape[1:3]), np.float32)
    hidden, output = head.layers
    weights = [[np.asarray(weight, np.float32) for weight in layer.get_weights()] for layer in (hidden, output)]
    parts = []
    for start in range(0, len(images), _BATCH):
        batch = slice(start, start + _BATCH)
        maps = np.asarray(feature_maps(images[batch].astype(np.float32), training=False), np.float32)
        parts.append(_heat_map(maps, _gradients(maps, classes[batch], *weights)))
    return np.concatenate(parts)


def _gradients(
    maps: NDArray[np.float32],
    classes: NDArray[np.integer[Any]],
    hidden: list[NDArray[np.float32]],
    output: list[NDArray[np.float32]],
) -> NDArray[np.float32]:
    """The gradient of each class's logit with respect to the pooled features, ``[N, D]``."""
    active = maps.mean(axis=(1, 2)) @ hidden[0] + hidden[1] > 0  # [N, units]
    gradients: NDArray[np.float32] = (active * output[0][:, classes].T) @ hidden[0].T
    return gradients


def _heat_map(maps: NDArray[np.float32], gradients: NDArray[np.float32]) -> NDArray[np.float32]:
    """Weight the maps ``[N, h, w, D]`` by the gradients ``[N, D]``, and scale each to a maximum of 1."""
    heat = np.maximum(np.einsum("nhwd,nd->nhw", maps, gradients), 0)
    maximum = heat.max(axis=(1, 2), keepdims=True)
    scaled: NDArray[np.float32] = np.divide(heat, maximum, out=np.zeros_like(heat), where=maximum > 0)
    return scaled


def thumbnail(image: RGB, side: int = THUMBNAIL_SIDE) -> bytes:
    """Encode an image ``[H, W, 3]`` as a JPEG whose longer side is at most ``side`` pixels."""
    return _jpeg(_resized(image, side))


def overlay(image: RGB, heat: NDArray[np.float32], side: int = THUMBNAIL_SIDE) -> bytes:
    """Encode a thumbnail of an image ``[H, W, 3]``: grey where the heat map ``[h, w]`` is 0, bright where it is 1."""
    from matplotlib import colormaps

    small = _resized(image, side)
    grey = np.asarray(small.convert("L").convert("RGB"), np.float32)
    smooth = Image.fromarray(heat.astype(np.float32)).resize(small.size, Image.Resampling.BICUBIC)
    share = np.clip(np.asarray(smooth), 0, 1)
    colours = colormaps[_COLORMAP](share)[..., :3] * 255
    opacity = _OPACITY * np.sqrt(share)[..., None]
    return _jpeg(Image.fromarray((grey * (1 - opacity) + colours * opacity).astype(np.uint8)))


def _resized(image: RGB, side: int) -> Image.Image:
    small = Image.fromarray(image)
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    return small


def _jpeg(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=_QUALITY, optimize=True)
    return file.getvalue()
