"""Facts of a photo: format, size, unusual traits, and a perceptual signature to find near-duplicates.

The facts depend on the photo's bytes only. They are collected when the photo is decoded for its features, at less than
10% of the decoding time, and stored: about 130 bytes a photo.
"""

from dataclasses import dataclass
from enum import IntFlag
from pathlib import PurePosixPath
from typing import Any

from PIL import Image

from train_job.data.perceptual_hash import perceptual_signature
from transferlite.errors import PhotoError
from transferlite.images.decoder import RGB, decoding
from transferlite.images.find_photos import PHOTO_EXTENSIONS
from transferlite.images.input_spec import InputSpec
from transferlite.images.upright_rgb import orientation_transpose

FACTS_VERSION = 1
"""Version of the facts. Increment it when their meaning changes: stored facts of other versions are ignored."""

MIN_SIDE = 8
"""Smallest usable width and height in pixels, that of scikit-learn's digits."""

_EXTENSIONS = {
    "JPEG": {".jpg", ".jpeg", ".jpe", ".jfif"},
    "MPO": {".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"},
    "PNG": {".png"},
    "GIF": {".gif"},
    "BMP": {".bmp", ".dib"},
    "DIB": {".bmp", ".dib"},
    "WEBP": {".webp"},
    "TIFF": {".tif", ".tiff"},
    "PPM": {".ppm", ".pgm", ".pbm", ".pnm"},
    "AVIF": {".avif"},
    "HEIF": {".heic", ".heif", ".hif"},
    "JXL": {".jxl"},
    "JPEG2000": {".jp2", ".j2k", ".jpf", ".jpx"},
    "ICO": {".ico"},
    "ICNS": {".icns"},
    "PSD": {".psd"},
    "DDS": {".dds"},
    "TGA": {".tga"},
    "PCX": {".pcx"},
}
"""File name extensions of each format, by Pillow's name of the format."""


class PhotoTrait(IntFlag):
    """An unusual property of a usable photo. The feature store keeps the values: never change one."""

    ANIMATED = 1
    CMYK = 2
    DEEP = 4
    PALETTE = 8
    ROTATED = 16


@dataclass(frozen=True)
class PhotoFacts:
    """Facts of a photo that depend on its bytes only.

    Attributes:
        format: Pillow's name of the format.
        width: in pixels, before EXIF rotation.
        height: in pixels, before EXIF rotation.
        traits: unusual properties.
        signature: see :func:`perceptual_signature`; empty for an image without contrast.
    """

    format: str
    width: int
    height: int
    traits: PhotoTrait
    signature: bytes


def decode_with_facts(data: bytes, spec: InputSpec) -> tuple[RGB, PhotoFacts]:
    """Decode a photo as :func:`transferlite.images.decoder.decode` does, and collect its facts.

    Raises:
        PhotoError: as ``decode``; also ``too-small``, below :data:`MIN_SIDE`.
    """
    with decoding(data, spec) as decoded:
        width, height = decoded.width, decoded.height
        if min(width, height) < MIN_SIDE:
            raise PhotoError("too-small", f"{width}x{height} pixels; each side needs at least {MIN_SIDE}")
        format_name, traits = str(decoded.source.format), _traits(decoded.source, data)
    signature = perceptual_signature(Image.fromarray(decoded.pixels))
    return decoded.pixels, PhotoFacts(format_name, width, height, traits, signature)


def has_wrong_extension(uri: str, format_name: str) -> bool:
    """Return whether the file name has the extension of another format; no or an unknown extension is not wrong."""
    extension = PurePosixPath(uri).suffix.lower()
    return extension in PHOTO_EXTENSIONS and extension not in _EXTENSIONS.get(format_name, PHOTO_EXTENSIONS)


# -- traits ----------------------------------------------------------------------------------------------------------


def _traits(source: Image.Image, data: bytes) -> PhotoTrait:
    traits = PhotoTrait(0)
    if _is_animated(source):
        traits |= PhotoTrait.ANIMATED
    if source.mode in {"CMYK", "LAB"}:
        traits |= PhotoTrait.CMYK
    if _bits_per_sample(source, data) > 8:
        traits |= PhotoTrait.DEEP
    if source.mode in {"P", "PA"}:
        traits |= PhotoTrait.PALETTE
    if orientation_transpose(source) is not None:
        traits |= PhotoTrait.ROTATED
    return traits


def _is_animated(source: Image.Image) -> bool:
    """Return whether the file has several frames; a phone's second image (MPO) and an icon's sizes do not count."""
    if source.format not in {"GIF", "PNG", "WEBP", "AVIF", "TIFF"}:
        return False
    try:
        return bool(getattr(source, "is_animated", False))
    except Exception:  # Pillow reads the second frame, and a damaged frame raises all kinds of errors
        return False


def _bits_per_sample(source: Image.Image, data: bytes) -> int:
    """Return the bits per sample in the file. Pillow's mode shows it for grey images only."""
    if source.mode.startswith("I") or source.mode == "F":
        return 16
    if source.format == "PNG":
        return data[24] if len(data) > 24 else 8  # the bit depth in the IHDR chunk, which comes first
    if source.format == "HEIF":
        return int(source.info.get("bit_depth", 8))
    tags: Any = getattr(source, "tag_v2", None)
    if source.format == "TIFF" and tags is not None:
        samples = tags.get(258, (8,))  # BitsPerSample
        return max(samples) if isinstance(samples, tuple) and samples else 8
    return 8
