"""Convert a Pillow image of any mode to upright 8-bit RGB, and resize it.

A large image is converted and resized strip by strip, so that no second copy of it is made. The pixels are the same as
those of Pillow, which resizes along one axis and then along the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import ExifTags, Image

from transferlite.images.high_bit_depth import has_deep_samples, sample_scale
from transferlite.images.pillow_errors import PILLOW_ERRORS
from transferlite.images.placement import pad, place, resize_image

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from transferlite.images.input_spec import InputSpec

_STRIP_PIXELS = 2**19
"""Pixels converted at a time; smaller images are one strip."""

_TRANSPOSE_OF_ORIENTATION = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_TURNED = frozenset(
    {Image.Transpose.TRANSPOSE, Image.Transpose.TRANSVERSE, Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_270}
)
"""Transpositions that exchange rows and columns."""
_MIRRORED_ACROSS = frozenset(
    {
        Image.Transpose.FLIP_LEFT_RIGHT,
        Image.Transpose.ROTATE_180,
        Image.Transpose.ROTATE_270,
        Image.Transpose.TRANSVERSE,
    }
)
_MIRRORED_DOWN = frozenset(
    {Image.Transpose.FLIP_TOP_BOTTOM, Image.Transpose.ROTATE_180, Image.Transpose.ROTATE_90, Image.Transpose.TRANSVERSE}
)
_THEN_TRANSPOSED = {
    None: Image.Transpose.TRANSPOSE,
    Image.Transpose.FLIP_LEFT_RIGHT: Image.Transpose.ROTATE_90,
    Image.Transpose.ROTATE_180: Image.Transpose.TRANSVERSE,
    Image.Transpose.FLIP_TOP_BOTTOM: Image.Transpose.ROTATE_270,
    Image.Transpose.TRANSPOSE: None,
    Image.Transpose.ROTATE_270: Image.Transpose.FLIP_TOP_BOTTOM,
    Image.Transpose.TRANSVERSE: Image.Transpose.ROTATE_180,
    Image.Transpose.ROTATE_90: Image.Transpose.FLIP_LEFT_RIGHT,
}
"""For each transposition, the one that also exchanges rows and columns."""

_Box = tuple[int, int, int, int]
"""Left, top, right and bottom of a part of an image."""


def upright_rgb(image: Image.Image, spec: InputSpec | None) -> NDArray[np.uint8]:
    """Apply the EXIF orientation, convert to RGB and resize; transparent pixels become white.

    Returns:
        uint8 ``[H, W, 3]``, of the size of ``spec`` if given.
    """
    transpose = orientation_transpose(image)
    width, height = _turned_size(image, transpose)
    whole = 0, 0, width, height
    if spec is None:
        pixels = np.empty((height, width, 3), np.uint8)
        for top, strip in _upright_strips(image, transpose, whole):
            pixels[top : top + strip.height] = np.asarray(strip)
        return pixels
    if height <= _strip_rows(width) or (width, height) == (spec.width, spec.height):
        (_, upright), *_ = _upright_strips(image, transpose, whole, height)
        return np.asarray(resize_image(upright, spec))
    source, target = place(width, height, spec)
    resized = _resize_strips(image, transpose, source.corners, (target.width, target.height))
    return np.asarray(pad(resized, target, spec))


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Return width and height of an opened image after its EXIF orientation is applied."""
    return _turned_size(image, orientation_transpose(image))


def _resize_strips(
    image: Image.Image, transpose: Image.Transpose | None, part: _Box, size: tuple[int, int]
) -> Image.Image:
    """Resize a part of the transposed RGB image to ``size``, strip by strip."""
    (left, top, right, bottom), (to_width, to_height) = part, size
    width, height = right - left, bottom - top
    if height - to_height > max(2 * (width - to_width), 0):
        # Pillow 13 resizes such a part along its columns first.
        part, size, transpose = (top, left, bottom, right), (to_height, to_width), _THEN_TRANSPOSED[transpose]
        return _resize_rows_first(image, transpose, part, size).transpose(Image.Transpose.TRANSPOSE)
    return _resize_rows_first(image, transpose, part, size)


def _resize_rows_first(
    image: Image.Image, transpose: Image.Transpose | None, part: _Box, size: tuple[int, int]
) -> Image.Image:
    narrow = Image.new("RGB", (size[0], part[3] - part[1]))
    for top, strip in _upright_strips(image, transpose, part):
        narrow.paste(_bicubic(strip, (size[0], strip.height)), (0, top))
    return _bicubic(narrow, size)


def _bicubic(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    return image if image.size == size else image.resize(size, Image.Resampling.BICUBIC)


def orientation_transpose(image: Image.Image) -> Image.Transpose | None:
    """Return the transposition that turns the image upright by its EXIF orientation; None if it is upright.

    A damaged EXIF block counts as no orientation.
    """
    # ImageOps.exif_transpose also rewrites the EXIF block, and fails on an unusual one.
    try:
        return _TRANSPOSE_OF_ORIENTATION.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except PILLOW_ERRORS:
        return None


def _turned_size(image: Image.Image, transpose: Image.Transpose | None) -> tuple[int, int]:
    return image.size[::-1] if transpose in _TURNED else image.size


def _strip_rows(width: int) -> int:
    return max(_STRIP_PIXELS // width, 1)


def _upright_strips(
    image: Image.Image, transpose: Image.Transpose | None, part: _Box, rows: int = 0
) -> Iterator[tuple[int, Image.Image]]:
    """Yield strips of a part of the transposed RGB image, each with the row of the part where it starts."""
    to_rgb = _conversion(image)
    left, first, right, last = part
    rows = rows or _strip_rows(right - left)
    for top in range(first, last, rows):
        box = _stored_box(image, transpose, (left, top, right, min(top + rows, last)))
        strip = image if box == (0, 0, *image.size) else image.crop(box)
        yield top - first, to_rgb(strip if transpose is None else strip.transpose(transpose))


def _stored_box(image: Image.Image, transpose: Image.Transpose | None, box: _Box) -> _Box:
    """Return the part of the stored image that becomes ``box`` of the transposed one."""
    width, height = _turned_size(image, transpose)
    left, top, right, bottom = box
    if transpose in _MIRRORED_ACROSS:
        left, right = width - right, width - left
    if transpose in _MIRRORED_DOWN:
        top, bottom = height - bottom, height - top
    return (top, left, bottom, right) if transpose in _TURNED else (left, top, right, bottom)


def _conversion(image: Image.Image) -> Callable[[Image.Image], Image.Image]:
    """Return the function that converts strips of this image to RGB."""
    if has_deep_samples(image):
        scale = sample_scale(image)
        return lambda strip: Image.fromarray(scale(strip)).convert("RGB")
    if image.mode == "LAB":
        return _lab_to_rgb
    if image.has_transparency_data:
        return _on_white
    return lambda strip: strip if strip.mode == "RGB" else strip.convert("RGB")


def _on_white(strip: Image.Image) -> Image.Image:
    rgba = strip if strip.mode == "RGBA" else strip.convert("RGBA")  # convert copies even an RGBA image
    background = Image.new("RGB", rgba.size, "white")
    background.paste(rgba, mask=rgba.getchannel("A"))
    return background


def _lab_to_rgb(strip: Image.Image) -> Image.Image:
    from PIL import ImageCms  # lazy: few photos are LAB, and a cold start would wait for it

    try:
        converted = ImageCms.applyTransform(strip, _lab_transform())
    except ImageCms.PyCMSError as error:
        raise ValueError(f"LAB conversion failed ({error})") from error
    if converted is None:
        raise ValueError("LAB conversion failed")
    return converted


@cache
def _lab_transform() -> Any:
    from PIL import ImageCms

    lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    return ImageCms.buildTransform(lab, srgb, "LAB", "RGB")
