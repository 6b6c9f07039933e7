"""Convert a Pillow image of any mode to upright 8-bit RGB."""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import ExifTags, Image

if TYPE_CHECKING:  # saves import time on a cold start
    from numpy.typing import NDArray

PILLOW_ERRORS = (
    *(OSError, ValueError, SyntaxError, TypeError, IndexError, KeyError, ArithmeticError, AttributeError),
    *(AssertionError, NotImplementedError, EOFError, BufferError, RuntimeError, struct.error, zlib.error),
)
"""Exceptions that Pillow raises for damaged files. It documents OSError only; fuzzing found the others."""

_TRANSPOSE_OF_ORIENTATION = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ROWS_PER_STRIP = 256
"""Rows converted at a time: an array of wide samples is several times larger than the 8-bit image."""


def upright_rgb(image: Image.Image) -> Image.Image:
    """Apply the EXIF orientation and convert to RGB; transparent pixels become white."""
    # ImageOps.exif_transpose also rewrites the EXIF block, and fails on an unusual one.
    transpose = orientation_transpose(image)
    if transpose is not None:
        image = image.transpose(transpose)
    if image.mode.startswith("I") or image.mode == "F":
        return Image.fromarray(_to_uint8(image)).convert("RGB")
    if image.mode == "LAB":
        return _lab_to_rgb(image)
    if image.has_transparency_data:
        rgba = image if image.mode == "RGBA" else image.convert("RGBA")  # convert copies even an RGBA image
        background = Image.new("RGB", rgba.size, "white")
        background.paste(rgba, mask=rgba.getchannel("A"))
        return background
    return image if image.mode == "RGB" else image.convert("RGB")


def orientation_transpose(image: Image.Image) -> Image.Transpose | None:
    """Return the transposition that turns the image upright by its EXIF orientation; None if it is upright.

    A damaged EXIF block counts as no orientation.
    """
    try:
        return _TRANSPOSE_OF_ORIENTATION.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except PILLOW_ERRORS:
        return None


def _to_uint8(image: Image.Image) -> NDArray[np.uint8]:
    """Convert 16-bit, 32-bit or float grey samples to uint8 ``[H, W]``, strip by strip to save memory."""
    width, height = image.size
    grey = np.empty((height, width), np.uint8)
    strips = [slice(top, min(top + _ROWS_PER_STRIP, height)) for top in range(0, height, _ROWS_PER_STRIP)]

    def samples(rows: slice) -> NDArray[Any]:
        return np.asarray(image.crop((0, rows.start, width, rows.stop)))

    if image.mode != "F":
        for rows in strips:
            grey[rows] = np.clip(samples(rows), 0, 65535) >> 8
        return grey
    scale = 255 if max(float(_clip_to_255(samples(rows)).max()) for rows in strips) <= 1.0 else 1
    for rows in strips:
        grey[rows] = np.rint(_clip_to_255(samples(rows)) * scale)
    return grey


def _clip_to_255(samples: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(np.clip(np.nan_to_num(samples), 0, 255))


def _lab_to_rgb(image: Image.Image) -> Image.Image:
    from PIL import ImageCms  # lazy: few photos are LAB, and a cold start would wait for it

    try:
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        converted = ImageCms.applyTransform(image, ImageCms.buildTransform(lab, srgb, "LAB", "RGB"))
    except ImageCms.PyCMSError as error:
        raise ValueError(f"LAB conversion failed ({error})") from error
    if converted is None:
        raise ValueError("LAB conversion failed")
    return converted
