"""Encode pictures in every format and damage them, for fuzzing and property tests of the decoder."""

import io
import random
import struct
import zlib
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import pillow_heif
import pillow_jxl  # noqa: F401 - adds its encoder to Pillow
from PIL import ExifTags, Image, features

PNG_START = b"\x89PNG\r\n\x1a\n"

# format -> modes to write, and sets of Pillow options to write each with
FORMS: dict[str, tuple[tuple[str, ...], tuple[dict[str, Any], ...]]] = {
    "JPEG": (("RGB", "L", "CMYK"), ({}, {"progressive": True}, {"subsampling": 0, "restart_marker_rows": 1})),
    "MPO": (("RGB",), ({"save_all": True},)),
    "PNG": (("RGB", "RGBA", "P", "L", "LA", "1", "I;16"), ({}, {"save_all": True})),
    "GIF": (("P", "L"), ({}, {"save_all": True, "transparency": 0})),
    "WEBP": (("RGB", "RGBA"), ({}, {"lossless": True}, {"save_all": True})),
    "TIFF": (
        ("RGB", "RGBA", "CMYK", "LAB", "F", "I;16", "1"),
        ({}, {"compression": "tiff_lzw"}, {"compression": "tiff_adobe_deflate"}, {"compression": "packbits"}),
    ),
    "BMP": (("RGB", "P", "L", "1", "RGBA"), ({},)),
    "PPM": (("RGB", "L", "1", "I;16"), ({},)),
    "JPEG2000": (("RGB", "RGBA", "L"), ({}, {"irreversible": True}, {"no_jp2": True})),
    "AVIF": (("RGB", "RGBA"), ({"speed": 10},)),
    "DDS": (("RGB", "RGBA"), ({}, {"pixel_format": "DXT5"})),
    "TGA": (("RGB", "RGBA", "P", "L"), ({}, {"compression": "tga_rle"})),
    "PCX": (("RGB", "P", "1"), ({},)),
    "ICO": (("RGBA",), ({}, {"bitmap_format": "bmp"})),
    "ICNS": (("RGBA",), ({},)),
    "DIB": (("RGB",), ({},)),
    "HEIF": (("RGB", "RGBA", "L"), ({"quality": 90},)),
    "JXL": (("RGB", "RGBA", "L", "I;16"), ({"lossless": True}, {"quality": 90, "use_container": True})),
}
pillow_heif.register_heif_opener()  # adds the encoder to Pillow; the decoder under test uses pi-heif


def picture(mode: str, width: int, height: int, number: int = 0) -> Image.Image:
    """Make a picture of gradients and noise in any mode that Pillow writes."""
    random_numbers = np.random.default_rng(number)
    y, x = np.mgrid[:height, :width]
    planes = [
        x * 255 // max(width - 1, 1),
        y * 255 // max(height - 1, 1),
        random_numbers.integers(0, 256, (height, width)),
    ]
    image = Image.fromarray(np.stack(planes, 2).astype(np.uint8))
    if mode in {"I;16", "F"}:
        grey = np.asarray(image.convert("L"))
        return Image.fromarray(grey.astype(np.uint16) * 257 if mode == "I;16" else grey.astype(np.float32) / 255)
    if mode == "LAB":
        return Image.fromarray(np.asarray(image), "LAB")
    if mode in {"RGBA", "LA"}:
        image = image.convert(mode)
        image.putalpha(Image.fromarray(planes[0].astype(np.uint8)))
        return image
    return image.convert(mode)


def write(image: Image.Image, form: str, orientation: int = 1, **options: Any) -> bytes:
    """Encode a picture, with an EXIF orientation if the format has one."""
    if form == "ICNS":  # Pillow would write the icon in every size up to 1024
        entry = write(image, "PNG")
        return struct.pack(">4sI4sI", b"icns", len(entry) + 16, b"icp5", len(entry) + 8) + entry
    exif, file = Image.Exif(), io.BytesIO()
    exif[ExifTags.Base.Orientation] = orientation
    exif[ExifTags.Base.Make] = "Camera"
    block = {"exif": exif} if form in {"JPEG", "PNG", "WEBP", "TIFF", "AVIF", "MPO", "HEIF"} else {}
    several = {"append_images": [image, image]} if options.get("save_all") else {}
    image.save(file, form, **block, **several, **options)
    return file.getvalue()


def written() -> list[bytes]:
    """Encode a small picture in every format, mode and option of :data:`FORMS` that the installed Pillow supports."""
    pictures: list[bytes] = []
    for form, (modes, choices) in FORMS.items():
        if form == "AVIF" and not features.check("avif"):
            continue
        side = (32, 32) if form in {"ICO", "ICNS"} else (24, 18)
        for number, mode in enumerate(modes):
            for options in choices:
                try:
                    pictures.append(write(picture(mode, *side, number), form, 1 + len(pictures) % 8, **options))
                except (OSError, ValueError, SystemError):
                    continue  # the option does not support this mode
    return pictures


# -- damage ----------------------------------------------------------------------------------------------------------

BOUNDARY_VALUES = (
    0,
    1,
    2,
    7,
    8,
    0x7F,
    0x80,
    0xFF,
    0x100,
    0x7FFF,
    0x8000,
    0xFFFF,
    0x10000,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFF,
)
Chance = random.Random


def damaged(data: bytes, others: Sequence[bytes], chance: Chance) -> bytes:
    """Damage ``data`` one to four times, each time in a random way of :data:`MUTATIONS`."""
    for _ in range(chance.choice((1, 1, 2, 4))):
        data = chance.choice(MUTATIONS)(data, chance.choice(others), chance)[: 2**20] or b"\0"
    return data


def _position(data: bytes, chance: Chance) -> int:
    """Choose a position, often near the start, where formats keep their headers."""
    return chance.randrange(min(len(data), chance.choice((16, 64, 512, len(data)))))


def _flip(data: bytes, _: bytes, chance: Chance) -> bytes:
    changed = bytearray(data)
    for _times in range(chance.choice((1, 1, 3, 16))):
        changed[_position(data, chance)] ^= 1 << chance.randrange(8)
    return bytes(changed)


def _field(data: bytes, _: bytes, chance: Chance) -> bytes:
    """Replace a number of 1 to 4 bytes, such as a length, by a boundary value, its double or a neighbour."""
    size, position = chance.choice((1, 2, 4)), _position(data, chance)
    order: Literal["big", "little"] = "big" if chance.random() < 0.5 else "little"
    old = int.from_bytes(data[position : position + size], order)
    new = chance.choice((old + 1, old - 1, old * 2, chance.choice(BOUNDARY_VALUES))) & ((1 << 8 * size) - 1)
    return data[:position] + new.to_bytes(size, order) + data[position + size :]


def _truncate(data: bytes, _: bytes, chance: Chance) -> bytes:
    return data[: chance.randrange(len(data))]


def _append(data: bytes, _: bytes, chance: Chance) -> bytes:
    return data + chance.randbytes(chance.choice((1, 100, 5000)))


def _block(data: bytes, other: bytes, chance: Chance) -> bytes:
    """Delete, double, copy or overwrite a block, or replace it by a block of another picture."""
    start = _position(data, chance)
    end = min(len(data), start + chance.choice((1, 4, 32, 400)))
    block, target = data[start:end], _position(data, chance)
    foreign = other[chance.randrange(len(other)) :][: len(block)]
    return chance.choice((
        data[:start] + data[end:],
        data[:end] + block + data[end:],
        data[:target] + block + data[target + len(block) :],
        data[:start] + foreign + data[end:],
        data[:start] + bytes([chance.choice((0, 255))]) * len(block) + data[end:],
    ))  # fmt: skip


def _splice(data: bytes, other: bytes, chance: Chance) -> bytes:
    return data[: _position(data, chance)] + other[_position(other, chance) :]


def _chunks(data: bytes, other: bytes, chance: Chance) -> bytes:
    """Delete, double, swap, damage or import a chunk; the checksums of PNG chunks are corrected."""
    chunks = split(data)
    if len(chunks) < 3:
        return _block(data, other, chance)
    source, target = (chance.randrange(1, len(chunks)) for _ in range(2))
    foreign = split(other) if other[:4] == data[:4] else chunks
    match chance.randrange(5):
        case 0:
            del chunks[source]
        case 1:
            chunks.insert(target, chunks[source])
        case 2:
            chunks[source], chunks[target] = chunks[target], chunks[source]
        case 3:
            chunks.insert(target, chance.choice(foreign[1:] or foreign))
        case _:
            damage = chance.choice((_flip, _field, _truncate))
            chunks[source] = damage(chunks[source], other, chance) if chunks[source] else b""
    return _with_valid_checksums(chunks) if data.startswith(PNG_START) else b"".join(chunks)


MUTATIONS: tuple[Callable[[bytes, bytes, Chance], bytes], ...] = (
    _flip, _field, _field, _truncate, _append, _block, _splice, _chunks, _chunks, _chunks,
)  # fmt: skip


def split(data: bytes) -> list[bytes]:
    """Split into PNG or WebP chunks, JPEG segments, or JPEG 2000 or AVIF boxes; other formats are one piece."""
    if data.startswith(PNG_START):
        return [PNG_START, *_cut_by(data, 8, lambda at: 12 + _number(data, at, "big"))]
    if data.startswith(b"\xff\xd8"):
        return [data[:2], *_cut_by(data, 2, lambda at: 2 + int.from_bytes(data[at + 2 : at + 4], "big"), b"\xff\xda")]
    if data.startswith(b"RIFF"):
        return [data[:12], *_cut_by(data, 12, lambda at: 8 + (_number(data, at + 4, "little") + 1) // 2 * 2)]
    if data[4:8] in {b"ftyp", b"jP  "}:
        return [b"", *_cut_by(data, 0, lambda at: _number(data, at, "big"))]
    return [data]


def _number(data: bytes, at: int, order: Literal["big", "little"]) -> int:
    return int.from_bytes(data[at : at + 4], order)


def _cut_by(data: bytes, at: int, length: Callable[[int], int], last: bytes | None = None) -> list[bytes]:
    """Split into pieces whose ``length`` is in their headers; from ``last`` or an invalid length on, one piece."""
    pieces = []
    while at < len(data):
        step = length(at)
        if step < 2 or (last and data.startswith(last, at)):
            step = len(data) - at
        pieces.append(data[at : at + step])
        at += step
    return pieces


def _with_valid_checksums(chunks: Sequence[bytes]) -> bytes:
    """Join PNG chunks after correcting their lengths and checksums."""
    complete = [chunk for chunk in chunks if chunk != PNG_START and len(chunk) >= 12]
    corrected = (struct.pack(">I", len(c) - 12) + c[4:-4] + struct.pack(">I", zlib.crc32(c[4:-4])) for c in complete)
    return PNG_START + b"".join(corrected)
