"""Open JPEG XL photos with pillow-jxl-plugin, which is imported for the first of them only.

The plugin decodes a file when it opens it, so that its size is read from the header first.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from transferlite.errors import PhotoError
from transferlite.images.iso_boxes import children

if TYPE_CHECKING:
    from PIL import Image

FORMAT = "JXL"
"""Pillow's name of the format."""

_CODESTREAM = b"\xff\x0a"
_CONTAINER = b"\x00\x00\x00\x0cJXL \x0d\x0a\x87\x0a"
_SIZE_BITS = (9, 13, 18, 30)
_RATIOS = {1: (1, 1), 2: (12, 10), 3: (4, 3), 4: (3, 2), 5: (16, 9), 6: (5, 4), 7: (2, 1)}
_MAX_BOXES = 100


def is_jxl(data: bytes) -> bool:
    """Return whether the file is a JPEG XL image."""
    return data.startswith((_CODESTREAM, _CONTAINER))


def jxl_size(data: bytes) -> tuple[int, int]:
    """Return width and height of a JPEG XL file. Raises PhotoError ``truncated`` without a header."""
    return _size(_codestream(data))


def open_jxl(data: bytes) -> Image.Image:
    """Open and decode a JPEG XL file; of an animation, its first frame.

    Raises:
        PhotoError: ``missing-decoder``; pillow-jxl-plugin is not installed.
        Exception: the plugin cannot decode the file.
    """
    try:
        from pillow_jxl.JpegXLImagePlugin import JXLImageFile  # lazy: few photos need it
    except ImportError:
        hint = "pip install 'transferlite[jxl]', or save the photo as JPEG or PNG"
        raise PhotoError("missing-decoder", "JPEG XL needs the package pillow-jxl-plugin", hint=hint) from None
    opened = JXLImageFile(io.BytesIO(data), "")
    image: Image.Image = opened
    if not opened.jpeg:  # libjxl has turned the image; EXIF counts only for a JPEG that was repacked as JPEG XL
        image.info.pop("exif", None)
    return image


def _codestream(data: bytes) -> bytes:
    """Return the start of the codestream, without its signature."""
    if data.startswith(_CODESTREAM):
        return data[2:32]
    for _, (kind, content) in zip(range(_MAX_BOXES), children(data), strict=False):
        if kind in {b"jxlc", b"jxlp"}:
            start = 0 if kind == b"jxlc" else 4  # after the number of the part
            return content[start + 2 : start + 32]
    raise PhotoError("truncated", "the JPEG XL file has no image")


def _size(codestream: bytes) -> tuple[int, int]:
    """Read width and height. Source: ISO/IEC 18181-1, SizeHeader."""
    bits, position = int.from_bytes(codestream, "little"), 0

    def read(count: int) -> int:
        nonlocal position
        position += count
        if position > 8 * len(codestream):
            raise PhotoError("truncated", "the header of the JPEG XL file is cut off")
        return bits >> (position - count) & ((1 << count) - 1)

    def side(is_small: bool) -> int:
        return 8 * (read(5) + 1) if is_small else 1 + read(_SIZE_BITS[read(2)])

    is_small = bool(read(1))
    height = side(is_small)
    if ratio := _RATIOS.get(read(3)):
        return height * ratio[0] // ratio[1], height
    return side(is_small), height
