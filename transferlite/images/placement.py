"""Resize a photo to a model's input: which part of it is used, and which part of the input it fills.

Integers only, so that the SavedModel and the browser's page compute the same pixels as the decoder.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image

from transferlite.images.input_spec import CENTER_CROP, LETTERBOX, InputSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

PADDING = 127
"""Grey level beside a letterboxed photo: the middle of the range."""


class Box(NamedTuple):
    """A rectangle in pixels."""

    left: int
    top: int
    width: int
    height: int

    @property
    def corners(self) -> tuple[int, int, int, int]:
        """Left, top, right and bottom, as Pillow takes a box."""
        return self.left, self.top, self.left + self.width, self.top + self.height


class Placement(NamedTuple):
    """The part ``source`` of the upright photo is resized to the part ``target`` of the model's input."""

    source: Box
    target: Box


def place(width: int, height: int, spec: InputSpec) -> Placement:
    """Place an upright photo of ``width`` x ``height`` pixels in the input ``spec``."""
    source, target = Box(0, 0, width, height), Box(0, 0, spec.width, spec.height)
    if spec.resize == CENTER_CROP:
        source = _centred(_fit(spec.width, spec.height, width, height), width, height)
    elif spec.resize == LETTERBOX:
        target = _centred(_fit(width, height, spec.width, spec.height), spec.width, spec.height)
    return Placement(source, target)


def _fit(width: int, height: int, max_width: int, max_height: int) -> tuple[int, int]:
    """The largest size of the shape ``width`` x ``height`` within the maximum, at least one pixel a side."""
    if width * max_height > height * max_width:  # wider than the maximum
        return max_width, max(1, (2 * height * max_width + width) // (2 * width))
    return max(1, (2 * width * max_height + height) // (2 * height)), max_height


def _centred(size: tuple[int, int], width: int, height: int) -> Box:
    return Box((width - size[0]) // 2, (height - size[1]) // 2, *size)


def resize_image(image: Image.Image, spec: InputSpec) -> Image.Image:
    """Resize an upright RGB image to ``spec``, with Pillow's bicubic filter."""
    if image.size == (spec.width, spec.height):
        return image
    source, target = place(*image.size, spec)
    if (source.width, source.height) != image.size:
        image = image.crop(source.corners)
    return pad(image.resize((target.width, target.height), Image.Resampling.BICUBIC), target, spec)


def pad(resized: Image.Image, target: Box, spec: InputSpec) -> Image.Image:
    """Put a resized RGB image in its place in the input ``spec``; what is beside it becomes grey."""
    if resized.size == (spec.width, spec.height):
        return resized
    padded = Image.new("RGB", (spec.width, spec.height), (PADDING, PADDING, PADDING))
    padded.paste(resized, (target.left, target.top))
    return padded


def map_to_photo(values: NDArray[np.float32], placed: Placement, photo_size: tuple[int, int]) -> NDArray[np.float32]:
    """Map values for each pixel of a model's input ``[H, W]`` to the whole photo of ``photo_size`` (width, height).

    Returns float32 ``[h, w]``, to be stretched over the photo: the input's padding is cut off, and parts of the photo
    that the model does not see are 0.
    """
    left, top, right, bottom = placed.target.corners
    seen = values[top:bottom, left:right]
    source, (width, height) = placed.source, photo_size
    if source.width == width and source.height == height:
        return seen
    rows = round(seen.shape[0] * height / source.height)
    columns = round(seen.shape[1] * width / source.width)
    whole = np.zeros((rows, columns), np.float32)
    first_row, first_column = (rows - seen.shape[0]) // 2, (columns - seen.shape[1]) // 2
    whole[first_row : first_row + seen.shape[0], first_column : first_column + seen.shape[1]] = seen
    return whole


def shares_of_photo(
    shares: tuple[float, float, float, float], placed: Placement, spec: InputSpec, photo_size: tuple[int, int]
) -> tuple[float, float, float, float]:
    """Convert left, top, right and bottom from shares of a model's input to shares of the photo, within the photo."""

    def convert(share: float, axis: int, input_side: int) -> float:
        inside = (share * input_side - placed.target[axis]) / placed.target[axis + 2]
        return (placed.source[axis] + min(max(inside, 0.0), 1.0) * placed.source[axis + 2]) / photo_size[axis]

    left, top, right, bottom = shares
    return (
        convert(left, 0, spec.width),
        convert(top, 1, spec.height),
        convert(right, 0, spec.width),
        convert(bottom, 1, spec.height),
    )
