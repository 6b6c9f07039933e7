"""Open TIFF files, and read the facts in them that Pillow does not use.

Pillow opens a raw photo as its thumbnail, does not invert deep samples whose zero is white, and knows no range of
samples. Tags: https://www.loc.gov/preservation/digital/formats/content/tiff_tags.shtml
"""

from __future__ import annotations

import io
import math
from typing import Any, Literal, NamedTuple

from PIL import TiffImagePlugin

from transferlite.errors import PhotoError
from transferlite.images.pillow_errors import PILLOW_ERRORS
from transferlite.images.signatures import EXPORT_HINT

_RAW_PHOTOMETRIC = frozenset({32803, 34892})  # colour filter array, linear raw
_SUBFILE_TYPE, _BITS, _PHOTOMETRIC, _COLOUR_MAP, _SUB_DIRECTORIES = 254, 258, 262, 320, 330
_SAMPLE_FORMAT, _DNG_VERSION = 339, 50706
_LIMITS = ((340, 341), (280, 281))
"""Tags of the range: SMin- and SMaxSampleValue, then Min- and MaxSampleValue."""
_PLANAR, _COMPRESSION = 284, 259
_SEPARATE = 2
_NATIVE = {"F;32BF": "F;32NF", "I;32B": "I;32N", "I;32BS": "I;32NS", "I;16BS": "I;16NS"}
_BLACK_IS_ZERO = 1
_UNSIGNED = 1
_REDUCED = 1
_FIELD_BYTES = {1: 1, 3: 2, 4: 4, 13: 4}  # BYTE, SHORT, LONG, IFD
_MAX_FIELDS, _MAX_VALUES, _MAX_PAGES = 512, 16, 16


class SampleRange(NamedTuple):
    """How to read the samples of a grey image.

    Attributes:
        limits: lowest and highest value; None if the file does not declare them.
        is_inverted: the lowest value is white.
        is_unsigned_32: unsigned integers of 32 bits, which Pillow reads as signed.
    """

    limits: tuple[float, float] | None
    is_inverted: bool = False
    is_unsigned_32: bool = False


def open_tiff(data: bytes) -> TiffImagePlugin.TiffImageFile:
    """Open the first page of full size.

    Raises:
        PhotoError: ``unsupported-format`` for a raw photo.
        Exception: one of :data:`transferlite.images.pillow_errors.PILLOW_ERRORS` for a damaged file.
    """
    if name := _raw_photo(data):
        raise PhotoError("unsupported-format", f"{name} cannot be decoded", hint=EXPORT_HINT)
    if name := _unsupported_kind(data):
        raise PhotoError("unsupported-format", f"{name} cannot be decoded", hint="save it as PNG or uncompressed TIFF")
    _add_grey_kinds()
    image = TiffImagePlugin.TiffImageFile(io.BytesIO(data), "")
    if image.tag_v2.get(_SUBFILE_TYPE, 0) & _REDUCED:
        _seek_full_size(image)
    _fix_tiles(image)
    _fix_colour_map(image)
    return image


def sample_range(image: Any) -> SampleRange:
    """Return the range of the samples of a page that Pillow opened.

    16 bits and fewer have the range of all their values. 32-bit and float samples have none, unless the file declares
    it: an integer of 32 bits could be a byte, a distance or an identifier.
    """
    tags = image.tag_v2
    is_inverted = tags.get(_PHOTOMETRIC, _BLACK_IS_ZERO) != _BLACK_IS_ZERO
    bits, is_unsigned = _first(tags.get(_BITS, 8)), _first(tags.get(_SAMPLE_FORMAT, _UNSIGNED)) == _UNSIGNED
    has_convention = is_unsigned and bits <= 16
    limits = (0.0, 2.0**bits - 1) if has_convention else None
    for low_tag, high_tag in _LIMITS[:1] if has_convention else _LIMITS:
        low, high = _number(tags.get(low_tag, 0)), _number(tags.get(high_tag))
        if low is not None and high is not None and low < high:
            limits = low, high
            break
    return SampleRange(limits, is_inverted, is_unsigned and bits == 32)


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, tuple) else value


def _number(value: Any) -> float | None:
    """Return the first value of a tag as a finite number, or None."""
    try:
        number = float(_first(value))
    except (TypeError, ValueError, IndexError, ArithmeticError):
        return None
    return number if math.isfinite(number) else None


def _add_grey_kinds() -> None:
    """Let Pillow open deep samples whose zero is white (Pillow#8363), and big-endian unsigned integers of 32 bits."""
    kinds = TiffImagePlugin.OPEN_INFO
    kinds.setdefault((TiffImagePlugin.MM, _BLACK_IS_ZERO, (_UNSIGNED,), 1, (32,), ()), ("I", "I;32B"))
    for key, modes in list(kinds.items()):
        order, photometric, sample_format, fill_order, bits, extra = key
        if photometric == _BLACK_IS_ZERO and len(bits) == 1 and bits[0] > 8:
            kinds.setdefault((order, 0, sample_format, fill_order, bits, extra), modes)


def _fix_tiles(image: TiffImagePlugin.TiffImageFile) -> None:
    """Correct how Pillow reads the bytes of samples, in two cases that give noise without an error.

    libtiff returns native samples, which Pillow takes for big-endian ones of 32 bits or with a sign. Planes of 16 bits
    without compression are read as planes of 8 bits.
    """
    bits, order = image.tag_v2.get(_BITS, (8,)), "L" if image.tag_v2.prefix == TiffImagePlugin.II else "B"
    is_deep_plane = image.tag_v2.get(_PLANAR, 1) == _SEPARATE and _first(bits) == 16
    for i, tile in enumerate(image.tile):
        raw_mode, *rest = tile.args if isinstance(tile.args, tuple) else (tile.args,)
        if tile.codec_name == "libtiff":
            fixed = _NATIVE.get(raw_mode, raw_mode)
        else:
            fixed = f"{raw_mode};16{order}" if is_deep_plane and len(raw_mode) == 1 and len(bits) > 1 else raw_mode
        image.tile[i] = tile._replace(args=(fixed, *rest))


def _seek_full_size(image: TiffImagePlugin.TiffImageFile) -> None:
    """Seek the first page that is not a reduced copy of another; stay at the first page if there is none."""
    for page in range(1, _MAX_PAGES):
        try:
            image.seek(page)
        except PILLOW_ERRORS:
            break
        if not image.tag_v2.get(_SUBFILE_TYPE, 0) & _REDUCED:
            return
    image.seek(0)


def _fix_colour_map(image: TiffImagePlugin.TiffImageFile) -> None:
    """Use an 8-bit colour map as it is: colour maps have 16 bits, but some programs write 8, as libtiff knows too."""
    colours = image.tag_v2.get(_COLOUR_MAP) if image.mode in {"P", "PA"} else None
    if colours and max(colours) < 256:
        count = len(colours) // 3
        image.putpalette([colours[channel * count + i] for i in range(count) for channel in range(3)])


def _unsupported_kind(data: bytes) -> str:
    """Return the name of a kind of TIFF file that Pillow reports as damaged; empty for others."""
    if data.startswith(b"MM\0+"):
        return "a big-endian BigTIFF file"
    if data.startswith(b"II+\0"):
        return ""
    order = _byte_order(data)
    (compression,) = _fields(data, int.from_bytes(data[4:8], order), order).get(_COMPRESSION, ()) or (1,)
    return "" if compression in TiffImagePlugin.COMPRESSION_INFO else f"TIFF compression {compression}"


def _byte_order(data: bytes) -> Literal["little", "big"]:
    return "little" if data.startswith(b"II") else "big"


# -- raw photos ------------------------------------------------------------------------------------------------------


def _raw_photo(data: bytes) -> str:
    """Return the name of the kind of raw photo that a TIFF file is; empty if it is none."""
    if data[8:10] == b"CR":
        return "a Canon raw photo (CR2)"
    if not data.startswith((b"II*\0", b"MM\0*")):
        return ""
    order = _byte_order(data)
    first = _fields(data, int.from_bytes(data[4:8], order), order)
    if _DNG_VERSION in first:
        return "a raw photo (DNG)"
    directories = [first, *(_fields(data, offset, order) for offset in first.get(_SUB_DIRECTORIES, ()))]
    if any(_RAW_PHOTOMETRIC & {*directory.get(_PHOTOMETRIC, ())} for directory in directories):
        return "a raw photo of a camera (NEF, ARW, PEF or similar)"
    return ""


def _fields(data: bytes, offset: int, order: Literal["little", "big"]) -> dict[int, tuple[int, ...]]:
    """Return the fields of whole numbers of a directory by tag; the others have no values."""
    count = min(int.from_bytes(data[offset : offset + 2], order), _MAX_FIELDS)
    fields = {}
    for at in range(offset + 2, min(offset + 2 + 12 * count, len(data) - 11), 12):
        tag, kind, length = (
            int.from_bytes(data[at + start : at + end], order) for start, end in ((0, 2), (2, 4), (4, 8))
        )
        size = _FIELD_BYTES.get(kind, 0)
        total = size * min(length, _MAX_VALUES)
        start = at + 8 if total <= 4 else int.from_bytes(data[at + 8 : at + 12], order)
        fields[tag] = tuple(int.from_bytes(data[i : i + size], order) for i in range(start, start + total, size or 1))
    return fields
