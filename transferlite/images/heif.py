"""Open HEIC and HEIF photos with pi-heif, which is imported for the first of them only.

libheif turns and crops the image as the container says (``irot``, ``imir``, ``clap``). The EXIF orientation describes
the same turn again, so it is dropped. Source: ISO/IEC 23008-12, 6.5 and annex A.
"""

from __future__ import annotations

import io
import struct
from typing import TYPE_CHECKING

from transferlite.errors import PhotoError
from transferlite.images.iso_boxes import brands, children
from transferlite.images.signatures import EXPORT_HINT

if TYPE_CHECKING:
    from PIL import Image

FORMAT = "HEIF"
"""Pillow's name of the format."""

_HEVC_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"})
_OTHER_BRANDS = frozenset({b"mif1", b"mif2", b"msf1", b"avci", b"avcs", b"j2ki", b"j2is", b"jpeg", b"vvic", b"vvis"})
_AVIF_BRANDS = frozenset({b"avif", b"avis"})

_MAX_AREA_RATIO = 3
"""Limit of the pixels of all tiles together, as a multiple of the limit of an image.

An iPhone's photo of 48 million pixels has tiles of 50 million, and those of its gain map and preview.
"""

_BYTES_PER_PIXEL = {(False, False): 7.5, (False, True): 11.5, (True, False): 17.0, (True, True): 21.0}
"""Bytes a pixel to decode and turn samples: of more than 8 bits or not, with colours at full resolution or not."""
_ALPHA_BYTES = 3.0


def is_heif(data: bytes) -> bool:
    """Return whether the file is a HEIF image, other than AVIF."""
    major, *compatible = brands(data) or [b""]
    if major in _HEVC_BRANDS:
        return True
    return major in _OTHER_BRANDS and (bool(_HEVC_BRANDS & {*compatible}) or not _AVIF_BRANDS & {*compatible})


def open_heif(data: bytes, max_pixels: int) -> Image.Image:
    """Open the primary image of a HEIF file without decoding its pixels.

    Raises:
        PhotoError: ``too-large``, for the whole or a part; ``missing-decoder`` without pi-heif.
        SyntaxError: libheif cannot read the file.
    """
    _check_sizes(data, max_pixels)
    try:
        import pi_heif  # lazy: takes 12 ms and 3 MiB, and few photos need it
    except ImportError:
        hint = "pip install pi-heif (wheels for Linux on x86_64 and aarch64), or save the photo as JPEG"
        raise PhotoError("missing-decoder", "HEIC photos need the package pi-heif", hint=hint) from None
    pi_heif.options.THUMBNAILS = pi_heif.options.DEPTH_IMAGES = pi_heif.options.AUX_IMAGES = False
    image: Image.Image = pi_heif.HeifImageFile(io.BytesIO(data), "")
    for applied in ("exif", "xmp"):
        image.info.pop(applied, None)
    return image


def heif_bytes_per_pixel(image: Image.Image) -> tuple[float, str]:
    """Return the bytes a pixel that decoding an opened image takes, and the name of its kind."""
    is_deep, is_fine = image.info.get("bit_depth", 8) > 8, image.info.get("chroma", 420) != 420
    kind = "HEIC of more than 8 bits" if is_deep else "HEIC with colours at full resolution" if is_fine else "HEIC"
    return _BYTES_PER_PIXEL[is_deep, is_fine] + (_ALPHA_BYTES if "A" in image.mode else 0.0), kind


def _check_sizes(data: bytes, max_pixels: int) -> None:
    """Reject a file with a part that is too large: libheif decodes each part whole before it crops or compares it."""
    for kind, meta in children(data):
        if kind == b"meta":
            boxes = dict(children(meta[4:]))
            areas = _areas(boxes.get(b"iprp", b""), max_pixels)
            if b"iovl" in boxes.get(b"iinf", b""):  # its canvas has any size, and photos have none
                raise PhotoError("unsupported-format", "a HEIF overlay cannot be decoded", hint=EXPORT_HINT)
            tiles = sum(areas.get(item, 0) for item in _tiles(boxes.get(b"iref", b"")))
            if tiles > _MAX_AREA_RATIO * max_pixels:
                raise PhotoError("too-large", f"tiles of more than {_MAX_AREA_RATIO * max_pixels:,} pixels")


def _areas(iprp: bytes, max_pixels: int) -> dict[int, int]:
    """Return the pixels of each item, by its number."""
    areas: list[int] = []  # of each property; 0 if it is not a size
    area_of: dict[int, int] = {}
    for kind, content in children(iprp):
        if kind == b"ipco":
            for name, value in children(content):
                width, height = struct.unpack(">II", value[4:12]) if name == b"ispe" and len(value) >= 12 else (0, 0)
                if width * height > max_pixels:
                    raise PhotoError("too-large", f"{width}x{height} is more than {max_pixels:,} pixels")
                areas.append(width * height)
        elif kind == b"ipma":
            for item, indices in _associations(content):
                area_of[item] = max((areas[i - 1] for i in indices if 0 < i <= len(areas)), default=0)
    return area_of


def _associations(ipma: bytes) -> list[tuple[int, list[int]]]:
    """Return each item's number and the indices of its properties, from 1."""
    item_format, index_bytes = (">IB" if ipma[0] else ">HB"), 2 if ipma[3] & 1 else 1
    pairs, at = [], 8
    while at + struct.calcsize(item_format) <= len(ipma):
        item, count = struct.unpack_from(item_format, ipma, at)
        at += struct.calcsize(item_format)
        raw = (ipma[i : i + index_bytes] for i in range(at, at + count * index_bytes, index_bytes))
        pairs.append((item, [int.from_bytes(index, "big") & (0x7FFF if index_bytes == 2 else 0x7F) for index in raw]))
        at += count * index_bytes
    return pairs


def _tiles(iref: bytes) -> list[int]:
    """Return the number of the item of each tile; an item can be several tiles."""
    size, code = (4, "I") if iref[:1] == b"\x01" else (2, "H")
    tiles: list[int] = []
    for kind, content in children(iref[4:]):
        if kind == b"dimg" and len(content) >= size + 2:
            count = (len(content) - size - 2) // size
            tiles += struct.unpack_from(f">{count}{code}", content, size + 2)
    return tiles
