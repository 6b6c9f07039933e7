"""Encode HEIC photos as phones do: in tiles, turned, with several images."""

import io
import struct
from typing import Any

import numpy as np
import pillow_heif
from numpy.typing import NDArray
from PIL import Image


def heic(*images: NDArray[np.uint8] | Image.Image, primary: int = 0, **options: Any) -> bytes:
    """Encode one image or several, the ``primary`` one among them."""
    pictures = [image if isinstance(image, Image.Image) else Image.fromarray(image) for image in images]
    file = io.BytesIO()
    heif = pillow_heif.from_pillow(pictures[0])
    for picture in pictures[1:]:
        heif.add_from_pillow(picture)
    heif.save(file, **{"quality": 95, "chroma": 444, "primary_index": primary, **options})
    return file.getvalue()


def box(kind: bytes, *content: bytes) -> bytes:
    """Return a box."""
    return struct.pack(">I4s", 8 + sum(map(len, content)), kind) + b"".join(content)


def full_box(kind: bytes, version: int, flags: int, *content: bytes) -> bytes:
    """Return a box with version and flags."""
    return box(kind, struct.pack(">I", version << 24 | flags), *content)


def tiled_heic(
    tile: NDArray[np.uint8],
    columns: int,
    rows: int,
    size: tuple[int, int],
    canvas: tuple[int, int],
    *more: bytes,
    **options: Any,
) -> bytes:
    """Encode an image of equal square tiles.

    Args:
        tile: pixels of each tile.
        columns: tiles in a row.
        rows: rows of tiles.
        size: width and height that the container declares.
        canvas: width and height of the grid itself.
        more: properties of the image, such as a rotation.
        options: of :func:`heic`, for the tile.
    """
    encoded, count, side = heic(tile, **options), columns * rows, len(tile)
    start = encoded.index(b"hvcC") - 4
    configuration = encoded[start : start + int.from_bytes(encoded[start : start + 4], "big")]
    coded = encoded[encoded.index(b"mdat") + 4 :]
    grid = struct.pack(">BBBBII", 0, 1, rows - 1, columns - 1, *canvas)
    sizes = [full_box(b"ispe", 0, 0, struct.pack(">II", *each)) for each in ((side, side), size)]
    whole = bytes([3, *range(4, 4 + len(more))])
    associations = b"".join(struct.pack(">HBBB", item, 2, 0x81, 2) for item in range(1, count + 1))
    associations += struct.pack(">HB", count + 1, len(whole)) + whole
    properties = box(
        b"iprp",
        box(b"ipco", configuration, *sizes, *more),
        full_box(b"ipma", 0, 0, struct.pack(">I", count + 1), associations),
    )
    items = [full_box(b"infe", 2, 1, struct.pack(">HH", item, 0), b"hvc1\0") for item in range(1, count + 1)]
    items.append(full_box(b"infe", 2, 0, struct.pack(">HH", count + 1, 0), b"grid\0"))
    references = struct.pack(f">HH{count}H", count + 1, count, *range(1, count + 1))
    head = [
        full_box(b"hdlr", 0, 0, bytes(4), b"pict", bytes(13)),
        full_box(b"pitm", 0, 0, struct.pack(">H", count + 1)),
        full_box(b"iinf", 0, 0, struct.pack(">H", count + 1), *items),
        full_box(b"iref", 0, 0, box(b"dimg", references)),
        properties,
    ]

    def meta(offset: int) -> bytes:
        places = [struct.pack(">HHHII", item, 0, 1, offset, len(coded)) for item in range(1, count + 1)]
        places.append(struct.pack(">HHHII", count + 1, 0, 1, offset + len(coded), len(grid)))
        return full_box(b"meta", 0, 0, *head, full_box(b"iloc", 0, 0, b"\x44\0", struct.pack(">H", count + 1), *places))

    brand = box(b"ftyp", b"heic\0\0\0\0mif1heic")
    return brand + meta(len(brand) + len(meta(0)) + 8) + box(b"mdat", coded, grid)
