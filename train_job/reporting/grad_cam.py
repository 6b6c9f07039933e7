"""Class-activation maps: where in a photo the model saw the class it named.

Grad-CAM (Selvaraju et al. 2017, https://arxiv.org/abs/1610.02391), which for a head on globally pooled maps is the
class activation mapping of Zhou et al. (2016, https://arxiv.org/abs/1512.04150) carried through the hidden layer. The
head is piecewise linear, so that its gradient is a product of two matrices and needs no tape.
"""

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from transferlite.images.decoder import RGB

THUMBNAIL = 160
"""The longer side of a thumbnail, in pixels."""

_BATCH = 16
_QUALITY = 82
_COLOURS = "inferno"
_OPACITY = 0.65


def activation_maps(
    base_maps: Any, head: Any, images: NDArray[np.uint8], classes: NDArray[np.integer[Any]]
) -> NDArray[np.float32]:
    """How much each place spoke for a class, ``[N, h, w]`` from 0 to 1; all 0 where nothing did.

    Args:
        base_maps: a Keras model from float RGB 0 to 255 to the last maps, such as ``Classifier.maps``.
        head: Dense relu, Dense softmax on the pooled maps, such as ``Classifier.head``.
        images: ``[N, H, W, 3]`` of the model's input size.
        classes: ``[N]``, the class that is asked about of each.
    """
    if not len(images):
        return np.zeros((0, *base_maps.output.shape[1:3]), np.float32)
    hidden, output = head.layers
    weights = [[np.asarray(weight, np.float32) for weight in layer.get_weights()] for layer in (hidden, output)]
    parts = []
    for start in range(0, len(images), _BATCH):
        some = slice(start, start + _BATCH)
        maps = np.asarray(base_maps(images[some].astype(np.float32), training=False), np.float32)
        parts.append(_heat(maps, _gradients(maps, classes[some], *weights)))
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


def _heat(maps: NDArray[np.float32], gradients: NDArray[np.float32]) -> NDArray[np.float32]:
    spoken = np.maximum(np.einsum("nhwd,nd->nhw", maps, gradients), 0)
    most = spoken.max(axis=(1, 2), keepdims=True)
    heat: NDArray[np.float32] = np.divide(spoken, most, out=np.zeros_like(spoken), where=most > 0)
    return heat


def thumbnail(image: RGB, side: int = THUMBNAIL) -> bytes:
    """A photo ``[H, W, 3]`` as a JPEG whose longer side is at most ``side`` pixels."""
    return _jpeg(_small(image, side))


def overlay(image: RGB, heat: NDArray[np.float32], side: int = THUMBNAIL) -> bytes:
    """The thumbnail of a photo ``[H, W, 3]``, grey where its map ``[h, w]`` is 0, the brighter the nearer to 1."""
    from matplotlib import colormaps

    small = _small(image, side)
    grey = np.asarray(small.convert("L").convert("RGB"), np.float32)
    smooth = Image.fromarray(heat.astype(np.float32)).resize(small.size, Image.Resampling.BICUBIC)
    share = np.clip(np.asarray(smooth), 0, 1)
    colours = colormaps[_COLOURS](share)[..., :3] * 255
    opacity = _OPACITY * np.sqrt(share)[..., None]
    return _jpeg(Image.fromarray((grey * (1 - opacity) + colours * opacity).astype(np.uint8)))


def _small(image: RGB, side: int) -> Image.Image:
    small = Image.fromarray(image)
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    return small


def _jpeg(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=_QUALITY, optimize=True)
    return file.getvalue()
