"""Augmented views of a photo.

A view depends on the photo's content and the view's name only, so the feature store can keep its feature row.
``plain`` is the photo itself and ``flip-1`` its mirror image. ``standard-1``, ``standard-2``, ... are the usual
augmentation for ImageNet: a random crop of 50% to 100% of the area with its aspect ratio changed by up to 4:5, mirrored
half the time, with brightness and contrast changed by up to 20%. Source: Szegedy et al. 2014,
https://arxiv.org/abs/1409.4842, section 6.
"""

import math

import numpy as np
from PIL import Image, ImageEnhance

from transferlite.errors import InputError
from transferlite.images.decoder import RGB

PLAIN = "plain"
AUGMENTATION_VERSION = 1
"""Raise it when a view of a photo changes: feature rows of earlier versions are not reused."""

_CROP_AREA = (0.5, 1.0)
_ASPECT_RATIO = (4 / 5, 5 / 4)
_BRIGHTNESS = _CONTRAST = (0.8, 1.2)


def view_names(augment: str, count: int) -> tuple[str, ...]:
    """Return the names of a training photo's views, the plain one first.

    Args:
        augment: ``none``, ``flip`` or ``standard``.
        count: number of views besides the plain one; ``flip`` has one.

    Raises:
        InputError: there are fewer than ``count`` different views.
    """
    if augment == "none":
        return (PLAIN,)
    if augment == "flip" and count != 1:
        raise InputError("a photo has one mirror image", where=f"--views {count}", hint="use --augment standard")
    return (PLAIN, *(f"{augment}-{number}" for number in range(1, count + 1)))


def augment(image: RGB, view: str, sha256: str) -> RGB:
    """Return a view of a decoded image, uint8 RGB ``[H, W, 3]``, of the same size.

    ``sha256`` of the photo and the view's name seed the random numbers: the same photo always gives the same view.
    """
    if view == PLAIN:
        return image
    if view == "flip-1":
        return np.ascontiguousarray(image[:, ::-1])
    number = int(view.removeprefix("standard-"))
    return _standard(image, np.random.default_rng([number, *bytes.fromhex(sha256)]))


def _standard(image: RGB, random: np.random.Generator) -> RGB:
    height, width = image.shape[:2]
    box = _random_crop(height, width, random)
    view = Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC, box)
    if random.random() < 0.5:
        view = view.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    view = ImageEnhance.Brightness(view).enhance(random.uniform(*_BRIGHTNESS))
    return np.asarray(ImageEnhance.Contrast(view).enhance(random.uniform(*_CONTRAST)))


def _random_crop(height: int, width: int, random: np.random.Generator) -> tuple[float, float, float, float]:
    """Draw a crop box ``(left, upper, right, lower)`` in pixels inside the image."""
    area = random.uniform(*_CROP_AREA)
    ratio = math.exp(random.uniform(math.log(_ASPECT_RATIO[0]), math.log(_ASPECT_RATIO[1])))
    crop_width, crop_height = min(1.0, math.sqrt(area * ratio)) * width, min(1.0, math.sqrt(area / ratio)) * height
    left, upper = random.uniform(0, width - crop_width), random.uniform(0, height - crop_height)
    return left, upper, left + crop_width, upper + crop_height
