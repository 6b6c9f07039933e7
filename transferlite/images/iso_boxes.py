"""Read the boxes of ISO media files: HEIC, AVIF, JPEG 2000, JPEG XL and video. Source: ISO/IEC 14496-12, 4.2."""

from collections.abc import Iterator

_MAX_BRANDS = 64
_SIGNATURES = (b"ftyp", b"jP  ", b"JXL ")


def brands(data: bytes) -> list[bytes]:
    """Return the major brand and the compatible brands of a file; empty if it has none."""
    if data[4:8] != b"ftyp":
        return []
    end = min(int.from_bytes(data[:4], "big"), 16 + 4 * _MAX_BRANDS)
    return [data[8:12], *(data[at : at + 4] for at in range(16, end, 4))]


def children(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the kind and content of each box; a box that is cut off ends with the content."""
    for kind, start, end in _headers(content):
        yield kind, content[start:end]


def is_truncated(data: bytes) -> bool:
    """Return whether the last box of the file is cut off."""
    return data[4:8] in _SIGNATURES and any(end > len(data) for _, _, end in _headers(data))


def _headers(content: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield the kind of each box, and where its content starts and ends."""
    at = 0
    while at + 8 <= len(content):
        size, kind, header = int.from_bytes(content[at : at + 4], "big"), content[at + 4 : at + 8], 8
        if size == 1:
            size, header = int.from_bytes(content[at + 8 : at + 16], "big"), 16
        if size == 0:  # up to the end of the file
            size = len(content) - at
        if size < header:
            return
        yield kind, at + header, at + size
        at += size
