"""Leave metadata out of a file that cannot be decoded with it: only its pixels matter."""

import struct
import zlib

from transferlite.images.iso_boxes import brands

_PNG = b"\x89PNG\r\n\x1a\n"
_ANCILLARY = 0x20  # bit of the first letter: lower case
_ORIENTATION_KINDS = frozenset({b"eXIf", b"iTXt", b"zTXt", b"tEXt"})
_ORIENTATION_TEXTS = (b"XML:com.adobe.xmp\0", b"Raw profile type exif\0")
_MAX_ORIENTATION_BYTES = 2**18


def without_metadata(data: bytes) -> bytes | None:
    """Return a PNG or AVIF file without its metadata; None for other formats, whose plugins ignore damage there."""
    if data.startswith(_PNG):
        return _png_pixels(data)
    return _avif_without_exif(data) if {b"avif", b"avis"} & set(brands(data)) else None


def _png_pixels(data: bytes) -> bytes:
    """Keep the chunks that matter for upright pixels.

    These are the critical chunks and ``tRNS``, damaged or not, and undamaged metadata with the orientation. An
    animation becomes its first image.
    """
    kept, at = [_PNG], len(_PNG)
    while at < len(data):
        (length,) = struct.unpack(">I", data[at : at + 4].rjust(4, b"\0"))
        end = at + 12 + length
        kind = data[at + 4 : at + 8]
        is_critical = kind != b"" and not kind[0] & _ANCILLARY
        if is_critical or kind == b"tRNS" or _has_orientation(kind, data[at:end]):
            kept.append(data[at:end])
        at = end
    return b"".join(kept)


def _has_orientation(kind: bytes, chunk: bytes) -> bool:
    """Return whether an undamaged chunk of reasonable size can hold the orientation."""
    if kind not in _ORIENTATION_KINDS or len(chunk) > _MAX_ORIENTATION_BYTES:
        return False
    is_damaged = zlib.crc32(chunk[4:-4]) != int.from_bytes(chunk[-4:], "big")
    return not is_damaged and (kind == b"eXIf" or chunk[8:].startswith(_ORIENTATION_TEXTS))


def _avif_without_exif(data: bytes) -> bytes:
    """Hide the EXIF block from libavif, which refuses a damaged one; the orientation is in other boxes."""
    start = data.find(b"meta")
    end = start + int.from_bytes(data[start - 4 : start], "big") if start > 4 else 0
    return data[: max(start, 0)] + data[max(start, 0) : end].replace(b"Exif", b"none") + data[max(start, end, 0) :]
