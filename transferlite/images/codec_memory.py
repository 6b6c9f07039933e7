"""Memory that each codec needs to decode an image, from its header.

``python -m benchmarks.decoding_memory`` measures it. A codec may keep several copies of an image: planes, converted
samples, the bytes that it gives to Pillow, and Pillow's own image.
"""

from __future__ import annotations

import math
import struct
from typing import Any, NamedTuple

from PIL import Image

from transferlite.images.avif import is_avif, largest_image
from transferlite.images.heif import heif_bytes_per_pixel
from transferlite.images.jxl import is_jxl, jxl_size

_NARROW_MODES = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16L": 2, "I;16B": 2, "I;16N": 2}
_PIXEL_BYTES = 4
"""Bytes of a pixel in Pillow's images of all other modes, RGB included."""

_CODEC_BYTES = {"WEBP": 12.5, "DDS": 5.0, "PPM": 4.0, "BMP": 4.0, "DIB": 4.0, "PSD": 1.0, "TGA": 1.0}
"""Bytes a pixel beside Pillow's image. PPM: as text; BMP: run lengths; both are decoded by Pillow in Python."""
_JPEG_2000_BYTES = 5.25
"""Bytes a sample that OpenJPEG keeps: 32-bit integers, and the packed bytes of a tile."""
_JXL_BYTES = 20.0
"""Bytes a pixel for JPEG XL: a file can make libjxl keep 12 bytes a pixel beside the decoded image."""
_ICON_BYTES, _ICON_JPEG_2000_BYTES = 16.0, 26.0
"""Bytes a pixel of an image in an icon, with the copies for its mask."""

_MAX_ICON_IMAGES = 1000
_PNG, _CODESTREAM = b"\x89PNG\r\n\x1a\n", b"\xff\x4f\xff\x51"
_JPEG_2000 = (_CODESTREAM, b"\0\0\0\x0cjP  ")
_BMP_HEADERS = frozenset({12, 40, 52, 56, 64, 108, 124})


class Need(NamedTuple):
    """Bytes that decoding an image takes, the name of its kind, and its width and height."""

    bytes: int
    kind: str
    size: tuple[int, int]


def need_of_image(image: Image.Image, stored: tuple[int, int], data: bytes) -> Need:
    """Return what an opened image needs to be decoded; ``stored`` is its size before a JPEG was scaled by ``draft``."""
    name, pixels = image.format or "image", image.width * image.height
    needed = pixels * storage_bytes(image.mode)
    match name:
        case "JPEG" | "MPO":
            coefficients = _jpeg_coefficients(image, stored, data)
            return Need(needed + coefficients, "progressive JPEG" if coefficients else "JPEG", stored)
        case "TIFF":
            needed = needed * _tiff_copies(image) + _tiff_strip(image)
        case "JPEG2000":
            sample = _JPEG_2000_BYTES + image.mode.startswith("I")
            return Need(int(needed + pixels * sample * len(image.getbands())), "JPEG 2000", stored)
        case "HEIF":
            per_pixel, kind = heif_bytes_per_pixel(image)
            return Need(int(pixels * per_pixel), kind, stored)
        case _:
            needed = int(needed + pixels * _CODEC_BYTES.get(name, 0.0))
    return Need(needed, name, stored)


def need_before_opening(data: bytes) -> Need | None:
    """Return what a file needs in whose format Pillow allocates or decodes the image to open it; None for others."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return _webp_need(data)
    if data.startswith(b"\0\0\1\0"):
        return _largest(_icon_images(data), data)
    if data.startswith(b"icns"):
        return _largest(_icns_images(data), data)
    if is_jxl(data):
        width, height = jxl_size(data)
        return Need(int(width * height * _JXL_BYTES), "JPEG XL", (width, height))
    if is_avif(data):
        (width, height), per_pixel = largest_image(data)
        return Need(int(width * height * per_pixel), "AVIF", (width, height))
    return None


def resized_bytes(size: tuple[int, int], side: int) -> int:
    """Return what resizing takes beside the image: its rows or columns at the final size, at most ``side``."""
    return _PIXEL_BYTES * max(size) * side


def storage_bytes(mode: str) -> int:
    """Return the bytes of a pixel in a Pillow image of this mode."""
    return _NARROW_MODES.get(mode, _PIXEL_BYTES)


# -- JPEG and TIFF ---------------------------------------------------------------------------------------------------


def _jpeg_coefficients(image: Any, stored: tuple[int, int], data: bytes) -> int:
    """Return the bytes of all coefficients, which libjpeg keeps if a scan does not hold all components."""
    if not (image.info.get("progressive") or image.info.get("progression") or _has_several_scans(data)):
        return 0
    sampling = [(across, down) for _, across, down, *_ in getattr(image, "layer", ())]
    if not sampling:
        return 0
    largest = max(across for across, _ in sampling) * max(down for _, down in sampling)
    share = sum(across * down for across, down in sampling) / max(largest, 1)
    return int(2 * share * (stored[0] + 64) * (stored[1] + 64))


def _has_several_scans(data: bytes) -> bool:
    """Return whether the first scan lacks a component of the frame."""
    at, components = 2, 0
    while at + 9 < len(data) and data[at] == 0xFF:
        marker, (length,) = data[at + 1], struct.unpack_from(">H", data, at + 2)
        if marker == 0xFF:  # padding
            at += 1
            continue
        if 0xC0 <= marker <= 0xCF and marker not in {0xC4, 0xC8, 0xCC}:
            components = data[at + 9]
        if marker == 0xDA:
            return data[at + 4] < components
        at += 2 + length
    return False


def _tiff_copies(image: Any) -> int:
    """Return how many images Pillow holds at once: it turns a TIFF by its orientation when it decodes it."""
    return 1 if image.tag_v2.get(274, 1) == 1 else 2


def _tiff_strip(image: Any) -> int:
    """Return the bytes of the largest strip or tile, which libtiff decodes whole."""
    tags, (width, height) = image.tag_v2, image.size
    bits = tags.get(258, 1)
    depth = sum(bits) if isinstance(bits, tuple) else bits * _whole(tags.get(277))
    depth = max(depth, 8 * storage_bytes(image.mode))
    if 322 in tags:
        across, down = _whole(tags.get(322)), _whole(tags.get(323))
    else:
        across, down = width, min(_whole(tags.get(278, height)), height)
    return math.ceil(across * down * depth / 8)


def _whole(value: Any) -> int:
    number = value[0] if isinstance(value, tuple) and value else value
    return number if isinstance(number, int) and number > 0 else 1


# -- formats that are decoded when they are opened ---------------------------------------------------------------------


def _webp_need(data: bytes) -> Need | None:
    kind, size = data[12:16], (0, 0)
    if kind == b"VP8X":
        size = 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    elif kind == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        size = 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    elif kind == b"VP8 ":
        size = int.from_bytes(data[26:28], "little") & 0x3FFF, int.from_bytes(data[28:30], "little") & 0x3FFF
    return Need(int(size[0] * size[1] * (_CODEC_BYTES["WEBP"] + _PIXEL_BYTES)), "WebP", size) if all(size) else None


def _largest(offsets: list[int], data: bytes) -> Need | None:
    return max((_icon_need(data, at) for at in offsets), default=None)


def _icon_need(data: bytes, at: int) -> Need:
    """Return what the PNG, JPEG 2000 or BMP image at an offset needs; nothing for another kind."""
    per_pixel = _ICON_BYTES
    if data.startswith(_PNG, at):
        width, height = _numbers(">II", data, at + 16)
    elif data.startswith(_JPEG_2000, at):
        header = max(data.find(_CODESTREAM, at, at + 4096), at)
        (width, height), per_pixel = _numbers(">II", data, header + 8), _ICON_JPEG_2000_BYTES
    elif int.from_bytes(data[at : at + 4], "little") in _BMP_HEADERS:
        width, height = (abs(side) for side in _numbers("<ii", data, at + 4))
        height //= 2
    else:
        width = height = 0
    return Need(int(width * height * per_pixel), "icon", (width, height) if width and height else (0, 0))


def _icon_images(data: bytes) -> list[int]:
    count = min(int.from_bytes(data[4:6], "little"), _MAX_ICON_IMAGES)
    return [int.from_bytes(data[18 + 16 * i : 22 + 16 * i], "little") for i in range(count)]


def _icns_images(data: bytes) -> list[int]:
    offsets: list[int] = []
    at = 8
    while at + 8 <= len(data) and len(offsets) < _MAX_ICON_IMAGES:
        length = int.from_bytes(data[at + 4 : at + 8], "big")
        if data.startswith((_PNG, *_JPEG_2000), at + 8):
            offsets.append(at + 8)
        at += max(length, 8)
    return offsets


def _numbers(form: str, data: bytes, at: int) -> tuple[int, int]:
    try:
        first, second = struct.unpack_from(form, data, at)
    except struct.error:
        return 0, 0
    return first, second
