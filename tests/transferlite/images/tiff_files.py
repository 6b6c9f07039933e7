"""Write uncompressed TIFF files of any kind of samples: Pillow writes few."""

import struct
import zlib
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

BITS, COMPRESSION, PHOTOMETRIC, SUBFILE_TYPE = 258, 259, 262, 254
SMIN, SMAX, MAX = 340, 341, 281
_SAMPLE_FORMATS = {"u": 1, "i": 2, "f": 3}
_FIELD_KINDS = {"H": 3, "I": 4, "h": 8, "i": 9, "f": 11, "B": 1}

Order = Literal["<", ">"]
Tags = dict[int, tuple[str, list[Any]]]
"""Values by tag, with the code of their type in ``struct``."""


def tiff(*pages: tuple[NDArray[Any] | bytes, Tags], order: Order = "<", is_deflated: bool = False) -> bytes:
    """Write pages; an array ``[H, W]`` or ``[H, W, C]`` brings its own tags, which may be replaced."""
    data, link = bytearray(b"II*\0\0\0\0\0" if order == "<" else b"MM\0*\0\0\0\0"), 4
    for samples, tags in pages:
        strip = samples if isinstance(samples, bytes) else samples.astype(samples.dtype.newbyteorder(order)).tobytes()
        strip = zlib.compress(strip) if is_deflated else strip
        fields = {**(_tags(samples) if isinstance(samples, np.ndarray) else {}), **tags}
        fields |= {273: ("I", [len(data)]), 279: ("I", [len(strip)]), COMPRESSION: ("H", [8 if is_deflated else 1])}
        data += strip + bytes(len(strip) % 2)
        struct.pack_into(order + "I", data, link, len(data))
        link = _append_directory(data, fields, order)
    return bytes(data)


def _tags(samples: NDArray[Any]) -> Tags:
    height, width, *rest = samples.shape
    channels = rest[0] if rest else 1
    return {
        256: ("I", [width]),
        257: ("I", [height]),
        BITS: ("H", [8 * samples.dtype.itemsize] * channels),
        PHOTOMETRIC: ("H", [2 if channels > 1 else 1]),
        277: ("H", [channels]),
        278: ("I", [height]),
        339: ("H", [_SAMPLE_FORMATS[samples.dtype.kind]] * channels),
    }


def _append_directory(data: bytearray, fields: Tags, order: str) -> int:
    """Append a directory; return the position of the link to the next."""
    end = len(data) + 2 + 12 * len(fields) + 4
    entries, values = b"", b""
    for tag, (code, numbers) in sorted(fields.items()):
        packed = struct.pack(f"{order}{len(numbers)}{code}", *numbers)
        if len(packed) > 4:
            inline, values = struct.pack(order + "I", end + len(values)), values + packed + bytes(len(packed) % 2)
        else:
            inline = packed.ljust(4, b"\0")
        entries += struct.pack(order + "HHI", tag, _FIELD_KINDS[code], len(numbers)) + inline
    link = len(data) + 2 + len(entries)
    data += struct.pack(order + "H", len(fields)) + entries + bytes(4) + values
    return link
