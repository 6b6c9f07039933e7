"""What a photo is besides its pixels: format, size, oddities, and a signature by which near-duplicates are found.

The facts follow from the photo's bytes alone. They are taken when it is decoded for its features, which costs
less than a tenth of the decoding, and kept: about 130 bytes a photo.
"""

from dataclasses import dataclass
from enum import IntFlag
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from transferlite.errors import PhotoError
from transferlite.images.decoder import RGB, decode_with_source, exif_turn
from transferlite.images.find_photos import SUFFIXES
from transferlite.images.input_spec import InputSpec

FACTS_VERSION = 1
"""Raised with every change of what the facts say: those of another version are not used."""

MIN_SIDE = 8
"""A photo of fewer pixels a side shows nothing that could be learnt; the digits of scikit-learn have as many."""

_ENDINGS = {
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
    "JPEG2000": {".jp2", ".j2k", ".jpf", ".jpx"},
    "ICO": {".ico"},
    "ICNS": {".icns"},
    "PSD": {".psd"},
    "DDS": {".dds"},
    "TGA": {".tga"},
    "PCX": {".pcx"},
}
"""Formats, by Pillow's names, and how the names of their files end."""


class PhotoTrait(IntFlag):
    """An oddity of a photo that is used all the same. The values are kept: never change one."""

    ANIMATED = 1
    CMYK = 2
    DEEP = 4
    PALETTE = 8
    ROTATED = 16


@dataclass(frozen=True)
class PhotoFacts:
    """What a photo's bytes say.

    Attributes:
        format: Pillow's name of it.
        width: in pixels, as they are stored.
        height: the same.
        traits: its oddities.
        signature: see :func:`signature_of`; empty for a picture without contrast.
    """

    format: str
    width: int
    height: int
    traits: PhotoTrait
    signature: bytes


def examine(data: bytes, spec: InputSpec) -> tuple[RGB, PhotoFacts]:
    """A photo as :func:`transferlite.images.decoder.decode` gives it, and its facts.

    Raises:
        PhotoError: as ``decode``; also ``too-small``, below :data:`MIN_SIDE`.
    """
    decoded = decode_with_source(data, spec)
    if min(decoded.width, decoded.height) < MIN_SIDE:
        raise PhotoError("too-small", f"{decoded.width}x{decoded.height} pixels are less than {MIN_SIDE} a side")
    form, traits = str(decoded.source.format), _traits(decoded.source, data)
    facts = PhotoFacts(form, decoded.width, decoded.height, traits, signature_of(decoded.image))
    return decoded.pixels, facts


def wrong_extension(uri: str, form: str) -> bool:
    """Whether a name ends like that of another format than it is; an unknown ending, or none, is no claim."""
    ending = PurePosixPath(uri).suffix.lower()
    return ending in SUFFIXES and ending not in _ENDINGS.get(form, SUFFIXES)


# -- oddities --------------------------------------------------------------------------------------------------------


def _traits(source: Image.Image, data: bytes) -> PhotoTrait:
    found = PhotoTrait(0)
    if _has_frames(source):
        found |= PhotoTrait.ANIMATED
    if source.mode in {"CMYK", "LAB"}:
        found |= PhotoTrait.CMYK
    if _bits(source, data) > 8:
        found |= PhotoTrait.DEEP
    if source.mode in {"P", "PA"}:
        found |= PhotoTrait.PALETTE
    if exif_turn(source) is not None:
        found |= PhotoTrait.ROTATED
    return found


def _has_frames(source: Image.Image) -> bool:
    """Whether there are more pictures than the one that is used; a phone's second one (MPO) and icons do not count."""
    if source.format not in {"GIF", "PNG", "WEBP", "AVIF", "TIFF"}:
        return False
    try:
        return bool(getattr(source, "is_animated", False))
    except Exception:  # Pillow looks for a second frame, which may be damaged in as many ways as a photo
        return False


def _bits(source: Image.Image, data: bytes) -> int:
    """Bits of a sample. Pillow says it of grey pictures only: of colours it has kept the high byte."""
    if source.mode.startswith("I") or source.mode == "F":
        return 16
    if source.format == "PNG":
        return data[24] if len(data) > 24 else 8  # in the header, which is always first
    tags: Any = getattr(source, "tag_v2", None)
    if source.format == "TIFF" and tags is not None:
        samples = tags.get(258, (8,))
        return max(samples) if isinstance(samples, tuple) and samples else 8
    return 8


# -- signature -------------------------------------------------------------------------------------------------------

SIDE, FREQUENCIES, CELLS = 32, 128, 4
SIGNATURE_BYTES = FREQUENCIES // 8 + 3 * CELLS * CELLS
_MIN_CONTRAST = 1.0  # in levels of 0 to 255: below it the signs are those of rounding errors

_LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)
_WAVES = 16  # of each direction; the 128 lowest frequencies reach up to the 15th


def _cosines() -> NDArray[np.float32]:
    """The first rows of the DCT-II, orthonormal, ``[_WAVES, SIDE]``."""
    angles = np.pi / (2 * SIDE) * np.arange(_WAVES)[:, None] * (2 * np.arange(SIDE)[None] + 1)
    rows = np.cos(angles) * np.sqrt(2 / SIDE)
    rows[0] /= np.sqrt(2)
    return np.asarray(rows, np.float32)


def _zigzag() -> NDArray[np.int64]:
    """The places of the lowest frequencies but the mean in a flattened ``[_WAVES, _WAVES]``, lowest first."""
    pairs = sorted((i + j, i, j) for i in range(_WAVES) for j in range(_WAVES) if i + j)
    return np.array([i * _WAVES + j for _, i, j in pairs[:FREQUENCIES]])


_COSINES, _LOWEST = _cosines(), _zigzag()
_POOL = np.kron(np.eye(CELLS), np.ones(SIDE // CELLS) * CELLS / SIDE).astype(np.float32)  # [CELLS, SIDE], means


def signature_of(image: Image.Image) -> bytes:
    """The look of an RGB picture in :data:`SIGNATURE_BYTES`: 16 of signs, 48 of colours.

    The signs are those of the 128 lowest frequencies of its luminance, as in a perceptual hash
    (https://www.hackerfactor.com/blog/index.php?/archives/432-Looks-Like-It.html; ImageHash's phash has 64
    and takes longer than the decoding). They survive another size, quality or brightness. The colours are the mean RGB
    of each field of a grid of 4 x 4, which tells pictures of the same shapes apart. Empty where there is no contrast.
    """
    small = np.asarray(_reduced(image), np.float32)  # [SIDE, SIDE, 3]
    waves = (_COSINES @ (small @ _LUMINANCE) @ _COSINES.T).reshape(-1)[_LOWEST]
    if np.sqrt(np.sum(waves[:64] ** 2)) / SIDE < _MIN_CONTRAST:
        return b""
    colours = _POOL @ np.moveaxis(small, 2, 0) @ _POOL.T  # [3, CELLS, CELLS]
    return np.packbits(waves > 0).tobytes() + np.rint(colours).astype(np.uint8).tobytes()


def _reduced(image: Image.Image) -> Image.Image:
    """To ``SIDE`` x ``SIDE`` by means of fields, in whole pixels first, which is quicker."""
    whole = (max(1, image.width // SIDE), max(1, image.height // SIDE))
    image = image.reduce(whole) if whole != (1, 1) else image
    return image.resize((SIDE, SIDE), Image.Resampling.BOX)
