"""Photos of any size in every format that Pillow reads, and small files whose headers state a huge size."""

import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import ExifTags, Image

HUGE = 30_000
_TURNED = 6
"""EXIF orientation: rows and columns are exchanged."""


@dataclass(frozen=True)
class PhotoKind:
    """Kind of photo: Pillow's format, mode and options to write it, and its EXIF orientation."""

    name: str
    form: str
    mode: str = "RGB"
    options: tuple[tuple[str, Any], ...] = ()
    orientation: int = 1

    def write(self, width: int, height: int) -> bytes:
        """Return a photo of gradients."""
        file, exif = io.BytesIO(), Image.Exif()
        exif[ExifTags.Base.Orientation] = self.orientation
        extra = {"exif": exif} if self.orientation != 1 else {}
        _gradient(self.mode, width, height).save(file, self.form, **dict(self.options), **extra)
        return file.getvalue()


def _kind(name: str, form: str, mode: str = "RGB", orientation: int = 1, **options: Any) -> PhotoKind:
    return PhotoKind(name, form, mode, tuple(options.items()), orientation)


KINDS = (
    _kind("JPEG", "JPEG", subsampling=0),
    _kind("JPEG, turned", "JPEG", orientation=_TURNED),
    _kind("JPEG, progressive", "JPEG", progressive=True, subsampling=0),
    _kind("JPEG, progressive CMYK", "JPEG", "CMYK", progressive=True),
    _kind("MPO", "MPO"),
    _kind("PNG", "PNG", compress_level=1),
    _kind("PNG with alpha", "PNG", "RGBA", compress_level=1),
    _kind("PNG with alpha, turned", "PNG", "RGBA", _TURNED, compress_level=1),
    _kind("PNG, grey with alpha", "PNG", "LA", compress_level=1),
    _kind("PNG, 16 bits", "PNG", "I;16", compress_level=1),
    _kind("PNG, palette", "PNG", "P", compress_level=1),
    _kind("GIF", "GIF", "P"),
    _kind("GIF with transparency", "GIF", "P", transparency=0),
    _kind("WebP", "WEBP", method=0),
    _kind("WebP with alpha", "WEBP", "RGBA", method=0, lossless=True),
    _kind("WebP, turned", "WEBP", "RGB", _TURNED, method=0),
    _kind("TIFF", "TIFF"),
    _kind("TIFF, LZW in one strip", "TIFF", compression="tiff_lzw", strip_size=2**30),
    _kind("TIFF, JPEG in one strip", "TIFF", compression="jpeg", strip_size=2**30),
    _kind("TIFF with alpha, turned", "TIFF", "RGBA", _TURNED, compression="tiff_adobe_deflate"),
    _kind("TIFF, floats", "TIFF", "F", compression="tiff_lzw"),
    _kind("TIFF, LAB", "TIFF", "LAB", compression="tiff_lzw"),
    _kind("BMP", "BMP"),
    _kind("PPM", "PPM"),
    _kind("JPEG 2000", "JPEG2000"),
    _kind("JPEG 2000 with alpha", "JPEG2000", "RGBA"),
    _kind("JPEG 2000, 16 bits", "JPEG2000", "I;16"),
    _kind("AVIF", "AVIF", speed=10),
    _kind("AVIF, full colours", "AVIF", speed=10, subsampling="4:4:4"),
    _kind("AVIF with alpha, turned", "AVIF", "RGBA", _TURNED, speed=10),
    _kind("HEIC", "HEIF", quality=50),
    _kind("HEIC, turned", "HEIF", "RGB", _TURNED, quality=50),
    _kind("HEIC, full colours", "HEIF", quality=50, chroma=444),
    _kind("HEIC, 10 bits", "HEIF", "I;16", quality=50),
    _kind("HEIC with alpha", "HEIF", "RGBA", quality=50),
    _kind("JPEG XL", "JXL", effort=1, quality=90),
    _kind("JPEG XL with alpha", "JXL", "RGBA", effort=1, lossless=True),
    _kind("JPEG XL, 16 bits", "JXL", "I;16", effort=1, lossless=True),
    _kind("TGA", "TGA", "RGBA", compression="tga_rle"),
    _kind("PCX", "PCX"),
    _kind("DDS", "DDS"),
    _kind("DDS, compressed", "DDS", "RGBA", pixel_format="DXT5"),
)


def register_encoders() -> None:
    """Let Pillow write HEIC and JPEG XL."""
    import pillow_heif
    import pillow_jxl  # noqa: F401 - adds its encoder to Pillow

    pillow_heif.register_heif_opener()


def _gradient(mode: str, width: int, height: int) -> Image.Image:
    grey = ((np.arange(width) % 251)[None, :] + (np.arange(height) % 5)[:, None]).astype(np.uint8)
    if mode == "I;16":
        return Image.fromarray(grey.astype(np.uint16) * 257)
    if mode == "F":
        return Image.fromarray(grey.astype(np.float32) / 255)
    image = Image.fromarray(grey)
    if mode == "LAB":
        return Image.merge("LAB", (image, image, image))
    if mode in {"RGBA", "LA"}:
        image = image.convert(mode)
        image.putalpha(Image.fromarray(grey))
        return image
    return image.convert(mode)


# -- bombs -----------------------------------------------------------------------------------------------------------


def icon_bomb(side: int = HUGE) -> bytes:
    """Return an icon (ICO) of 16 x 16 pixels whose PNG states another size."""
    png = _png_header(side)
    return struct.pack("<HHHBBBBHHII", 0, 1, 1, 16, 16, 0, 0, 1, 32, len(png), 22) + png


def icns_bomb(side: int = HUGE) -> bytes:
    """Return an icon (ICNS) whose PNG states another size."""
    png = _png_header(side)
    return struct.pack(">4sI4sI", b"icns", len(png) + 16, b"icp5", len(png) + 8) + png


def bombs(kind: PhotoKind, side: int = HUGE) -> Iterator[bytes]:
    """Yield copies of a small photo; in each, the stated size is ``side`` x ``side`` in one place or in all places."""
    width, height = 211, 173  # rare bytes
    small = kind.write(width, height)
    places: list[tuple[bytes, bytes]] = []
    for form, offset in ((">II", 0), ("<II", 0), (">HH", 0), ("<HH", 0), ("<HH", -1), ("<ii", 0)):
        for pair in ((width + offset, height + offset), (height + offset, width + offset)):
            places.append((struct.pack(form, *pair), struct.pack(form, side + offset, side + offset)))
    places.append((_24_bits(width - 1) + _24_bits(height - 1), 2 * _24_bits(side - 1)))
    found = [(old, new) for old, new in places if old in small[:4096]]
    patched = [small[:4096].replace(old, new) + small[4096:] for old, new in found]
    everywhere = small
    for old, new in found:
        everywhere = everywhere.replace(old, new)
    for data in dict.fromkeys([*patched, everywhere]):
        yield _with_png_checksums(data) if data.startswith(b"\x89PNG") else data


def _png_header(side: int) -> bytes:
    header = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 6, 0, 0, 0)
    rows = zlib.compress(bytes(2**20))
    data = b"IDAT" + rows
    chunks = (header, data, b"IEND")
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) for chunk in chunks
    )


def _24_bits(number: int) -> bytes:
    return number.to_bytes(3, "little")


def _with_png_checksums(data: bytes) -> bytes:
    parts, at = [data[:8]], 8
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        body = data[at + 4 : at + 8 + length]
        parts.append(data[at : at + 4] + body + struct.pack(">I", zlib.crc32(body)))
        at += 12 + length
    return b"".join(parts)
