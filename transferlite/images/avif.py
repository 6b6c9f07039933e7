"""Size and samples of an AVIF file's images, read from the AV1 data itself.

The container states sizes too, but libavif decodes a frame of any size and only then scales it to the stated one.
Sources: AV1 specification, 5.5 (sequence header); AV1 Image File Format; ISO/IEC 14496-12, 8.11.3 (``iloc``).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from transferlite.images.iso_boxes import brands, children

_BRANDS = frozenset({b"avif", b"avis"})
_SEQUENCE_HEADER = 1
_MAX_UNITS, _MAX_ITEMS = 64, 4096
_WRAPPERS = frozenset({b"moov", b"trak", b"mdia", b"minf", b"stbl"})
_RGB_BYTES, _PILLOW_BYTES = 4, 4


class AvifImage(NamedTuple):
    """Largest image of an AVIF file, and the bytes a pixel that decoding it takes."""

    size: tuple[int, int]
    bytes_per_pixel: float


def is_avif(data: bytes) -> bool:
    """Return whether the file is an AVIF image."""
    return bool(_BRANDS & {*brands(data)})


def largest_image(data: bytes) -> AvifImage:
    """Return the largest image that libavif may decode; its size is 0 if the file has none.

    libavif keeps the planes twice at most (a grid and its tile, or an image and its film grain), and the RGB samples.
    """
    sizes: list[tuple[int, int]] = [(0, 0)]
    planes = 1.5
    for kind, content in children(data):
        if kind == b"meta":
            for name, box in children(content[4:]):
                if name == b"iloc":
                    sizes += [size for item in _items(box, data) for size in _frame_sizes(item)]
                elif name == b"iprp":
                    stated, planes = _properties(box)
                    sizes += stated
        elif kind == b"moov":
            sizes += [size for offset in _chunk_offsets(content) for size in _frame_sizes(data[offset:])]
    size = max(sizes, key=lambda sides: sides[0] * sides[1])
    return AvifImage(size, 2 * planes + _RGB_BYTES + _PILLOW_BYTES)


def _properties(iprp: bytes) -> tuple[list[tuple[int, int]], float]:
    """Return the stated sizes, and the bytes a pixel of the planes of all kinds of images together (with alpha)."""
    sizes: list[tuple[int, int]] = []
    kinds: set[bytes] = set()
    for name, box in children(iprp):
        for kind, content in children(box) if name == b"ipco" else ():
            if kind == b"ispe" and len(content) >= 12:
                sizes.append(struct.unpack_from(">II", content, 4))
            elif kind == b"av1C" and len(content) >= 4:
                kinds.add(content[2:3])
    return sizes, sum(_plane_bytes(kind[0]) for kind in kinds) or 1.5


def _plane_bytes(flags: int) -> float:
    """Return the bytes a pixel of all planes, from the third byte of ``av1C``."""
    is_deep, is_grey, halves = bool(flags & 0x40), bool(flags & 0x10), bin(flags & 0x0C).count("1")
    return (2 if is_deep else 1) * (1 + (0 if is_grey else 2 / 2**halves))


# -- where the AV1 data is -------------------------------------------------------------------------------------------


def _items(iloc: bytes, data: bytes) -> Iterator[bytes]:
    """Yield the content of each item."""
    try:
        yield from _located_items(iloc, data)
    except (struct.error, IndexError):
        return


def _located_items(iloc: bytes, data: bytes) -> Iterator[bytes]:
    version, at = iloc[0], 6
    offset_bytes, length_bytes, base_bytes = iloc[4] >> 4, iloc[4] & 15, iloc[5] >> 4
    index_bytes = iloc[5] & 15 if version else 0

    def read(count: int) -> int:
        nonlocal at
        at += count
        if at > len(iloc):
            raise IndexError
        return int.from_bytes(iloc[at - count : at], "big")

    left = len(data)  # extents may overlap
    for _ in range(min(read(4 if version == 2 else 2), _MAX_ITEMS)):
        read((4 if version == 2 else 2) + (2 if version else 0) + 2)
        base, content = read(base_bytes), b""
        for _ in range(min(read(2), _MAX_ITEMS)):
            read(index_bytes)
            start, length = base + read(offset_bytes), read(length_bytes)
            part = data[start : start + length] if length else data[start:]
            content, left = content + part[: max(left, 0)], left - len(part)
        yield content


def _chunk_offsets(box: bytes) -> Iterator[int]:
    """Yield where the chunks of an image sequence start."""
    for kind, content in children(box):
        if kind in _WRAPPERS:
            yield from _chunk_offsets(content)
        elif kind in {b"stco", b"co64"}:
            size = 4 if kind == b"stco" else 8
            for at in range(8, min(len(content), 8 + size * _MAX_ITEMS) - size + 1, size):
                yield int.from_bytes(content[at : at + size], "big")


# -- AV1 -------------------------------------------------------------------------------------------------------------


def _frame_sizes(content: bytes) -> Iterator[tuple[int, int]]:
    """Yield the largest frame size of each sequence header among the units (OBUs) at the start of AV1 data."""
    at = 0
    for _ in range(_MAX_UNITS):
        if at >= len(content) or content[at] & 0x80:
            return
        kind, has_extension, has_size = content[at] >> 3 & 15, content[at] & 4, content[at] & 2
        at += 2 if has_extension else 1
        length = len(content) - at
        if has_size:
            length, at = _leb128(content, at)
        if kind == _SEQUENCE_HEADER:
            yield _Bits(content[at : at + min(length, 512)]).largest_frame()
        at += length


def _leb128(content: bytes, at: int) -> tuple[int, int]:
    """Read a number of 7 bits a byte; return it and where it ends."""
    number = 0
    for shift, byte in enumerate(content[at : at + 8]):
        number |= (byte & 0x7F) << 7 * shift
        if not byte & 0x80:
            return number, at + shift + 1
    return len(content), at + 8


class _Bits:
    """Reader of the bits of a sequence header; bits after its end are 0."""

    def __init__(self, content: bytes) -> None:
        self._number = int.from_bytes(content, "big")
        self._left = 8 * len(content)

    def read(self, count: int) -> int:
        self._left -= count
        if self._left < 0:
            return 0
        return self._number >> self._left & ((1 << count) - 1)

    def largest_frame(self) -> tuple[int, int]:
        """Return the maximum width and height of frames."""
        self.read(4)  # profile, still picture
        if self.read(1):  # reduced header
            self.read(5)
        else:
            self._skip_operating_points()
        across, down = self.read(4) + 1, self.read(4) + 1
        return self.read(across) + 1, self.read(down) + 1

    def _skip_operating_points(self) -> None:
        delay_bits = 0
        if self.read(1):  # timing
            self.read(64)
            if self.read(1):
                self._skip_uvlc()
            if self.read(1):  # decoder model
                delay_bits = self.read(5) + 1
                self.read(42)
        has_display_delay = self.read(1)
        for _ in range(self.read(5) + 1):
            self.read(12)
            if self.read(5) > 7:
                self.read(1)
            if delay_bits and self.read(1):
                self.read(2 * delay_bits + 1)
            if has_display_delay and self.read(1):
                self.read(4)

    def _skip_uvlc(self) -> None:
        zeros = 0
        while zeros < 32 and self._left > 0 and not self.read(1):
            zeros += 1
        self.read(zeros)
