"""Augmented views of a photo: each is fixed by the photo's content and the view's name, so that its row can be kept.

``plain`` is the photo itself. ``flip-1`` is its mirror image. ``standard-1``, ``standard-2``… are what is usual for
ImageNet: a random crop of 50 to 100 % of the area with an aspect ratio up to 4:5 off, mirrored half the time, with
brightness and contrast within 20 %. Source: Szegedy et al. 2014, https://arxiv.org/abs/1409.4842, section 6.
"""

import math

import numpy as np
from PIL import Image, ImageEnhance

from transferlite.errors import InputError
from transferlite.images.decoder import RGB

PLAIN = "plain"
AUGMENTATIONS = ("none", "flip", "standard")

_AREA = (0.5, 1.0)
_RATIO = (4 / 5, 5 / 4)
_LIGHT = (0.8, 1.2)


def view_names(augment: str, count: int) -> tuple[str, ...]:
    """The views of one training photo, the plain one first.

    Args:
        augment: ``none``, ``flip`` or ``standard``.
        count: how many views besides the plain one; a mirror image has just one.

    Raises:
        InputError: there are not that many different views.
    """
    if augment == "none":
        return (PLAIN,)
    if augment == "flip" and count != 1:
        raise InputError("a photo has one mirror image", where=f"--views {count}", hint="use --augment standard")
    return (PLAIN, *(f"{augment}-{number}" for number in range(1, count + 1)))


def augment(image: RGB, name: str, sha256: str) -> RGB:
    """One view of a decoded photo, uint8 RGB ``[H, W, 3]``, of the same size; the same for the same ``sha256``."""
    if name == PLAIN:
        return image
    if name == "flip-1":
        return np.ascontiguousarray(image[:, ::-1])
    number = int(name.removeprefix("standard-"))
    return _standard(image, np.random.default_rng([number, *bytes.fromhex(sha256)]))


def _standard(image: RGB, random: np.random.Generator) -> RGB:
    height, width = image.shape[:2]
    picture = Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC, _crop(height, width, random))
    if random.random() < 0.5:
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    picture = ImageEnhance.Brightness(picture).enhance(random.uniform(*_LIGHT))
    return np.asarray(ImageEnhance.Contrast(picture).enhance(random.uniform(*_LIGHT)))


def _crop(height: int, width: int, random: np.random.Generator) -> tuple[float, float, float, float]:
    """The box ``(left, upper, right, lower)`` in pixels of a random crop inside the picture."""
    area = random.uniform(*_AREA)
    ratio = math.exp(random.uniform(math.log(_RATIO[0]), math.log(_RATIO[1])))
    wide, high = min(1.0, math.sqrt(area * ratio)) * width, min(1.0, math.sqrt(area / ratio)) * height
    left, upper = random.uniform(0, width - wide), random.uniform(0, height - high)
    return left, upper, left + wide, upper + high
