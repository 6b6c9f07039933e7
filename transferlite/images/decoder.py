"""Decode photos to upright uint8 RGB: the one decoder of training, export gate, Lambda and edge.

A photo that cannot be used raises :class:`transferlite.errors.PhotoError` with one of these codes:

==============  ======================================================================
``empty``       the file has no bytes
``not-image``   the format is not a known image format
``unreadable``  the image is damaged, or of a kind that the decoder does not support
``truncated``   the end of the file is missing
``too-large``   over :data:`MAX_BYTES`, :data:`MAX_PIXELS` or :data:`MAX_SIDE` (checked before decoding)
==============  ======================================================================
"""

from __future__ import annotations

import io
import struct
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, JpegImagePlugin, PpmImagePlugin, UnidentifiedImageError

from transferlite.errors import InputError, PhotoError
from transferlite.images.input_spec import MAX_BYTES, InputSpec
from transferlite.images.upright_rgb import PILLOW_ERRORS, upright_rgb

DRAFT_DIFFERENCE = 5.0
"""Upper bound of the mean difference, in samples of 0 to 255, that scaling a large JPEG while decoding causes.

Measured: mean 1.1 and maximum 4.5 on 400 photos that are sharp to the pixel; mean 0.5 and maximum 1.8 on 150 photos as
soft as most large photos.
"""

MAX_PIXELS = 50_000_000
MAX_SIDE = 65_535
"""Longest side of a JPEG. In an image with more rows, Pillow's row tables take more memory than the pixels."""
PHOTO_CODES = frozenset({"empty", "not-image", "unreadable", "truncated", "too-large"})
"""Codes for faults of the photo itself, as opposed to errors while fetching it."""

_COMMON_FORMATS = ("JPEG", "PNG", "GIF", "BMP", "PPM")
_RARE_FORMATS = ("WEBP", "TIFF", "AVIF", "JPEG2000", "DIB", "ICO", "ICNS", "PSD", "DDS", "TGA", "PCX")

# Pillow loads its plugins on the first use of each group, and not thread-safely: hence the lock. JPEG (most photos) and
# PPM (a bundle's self-test photos) are imported with this module; a cold start does not wait for the other plugins.
_PRELOADED_FORMATS = (JpegImagePlugin.JpegImageFile.format, PpmImagePlugin.PpmImageFile.format)
_plugin_lock = threading.Lock()
_WRONG_FORMAT_ERRORS = (SyntaxError, IndexError, TypeError, struct.error)
"""Exceptions a plugin raises for a file of another format. Source: Pillow's ``Image.open``."""

# Pillow warns about odd metadata and large images; this module checks both. Set once: warning filters are not
# thread-safe.
warnings.filterwarnings("ignore", module=r"PIL\.")

_TRUNCATION_WORDS = ("truncated", "not processed", "unexpected end", "eof")
"""Words in Pillow's messages about files whose end is missing."""

RGB = np.ndarray[Any, np.dtype[np.uint8]]
"""Upright image as uint8 ``[H, W, 3]``."""

Photo = bytes | str | Path | RGB | Image.Image
"""A photo as file content, local path, upright pixels or Pillow image."""


class DecodedPhoto(NamedTuple):
    """A decoded photo with its opened file.

    Attributes:
        pixels: upright image ``[H, W, 3]``, resized if a size was given.
        image: the same as a Pillow image.
        source: the file as Pillow opened it, for its metadata; do not read its pixels.
        width: stored width in pixels, before scaling and EXIF orientation.
        height: stored height, likewise.
    """

    pixels: RGB
    image: Image.Image
    source: Image.Image
    width: int
    height: int


def decode(data: bytes, spec: InputSpec | None = None, *, where: str = "") -> RGB:
    """Decode a photo to upright uint8 RGB ``[H, W, 3]``, resized to ``spec`` if given.

    EXIF orientation is applied. Transparent pixels become white. An animation gives its first frame. 16-bit samples
    keep their high byte; float samples range from 0 to 1, or from 0 to 255 if any is above 1.

    libjpeg scales a JPEG of at least four times the size of ``spec`` while decoding, to at least twice that size. This
    takes a fraction of the time and changes the result by less than :data:`DRAFT_DIFFERENCE`.

    Raises:
        PhotoError: with a code of this module's table; ``where`` names the photo in the message.
    """
    return decode_with_source(data, spec, where=where).pixels


def decode_with_source(data: bytes, spec: InputSpec | None = None, *, where: str = "") -> DecodedPhoto:
    """Decode a photo like :func:`decode`, and return its opened file too. Raises PhotoError."""
    if not data:
        raise PhotoError("empty", "the file is empty", where=where)
    if len(data) > MAX_BYTES:
        raise PhotoError("too-large", f"more than {MAX_BYTES:,} bytes", where=where)
    with _translate_errors(data, where):
        source = _open_image(data)
        width, height = source.size
        _load_pixels(source, spec)
        image = upright_rgb(source)
        image = image if spec is None else _resize(image, spec)
        return DecodedPhoto(np.asarray(image), image, source, width, height)


def model_input(photo: Photo, spec: InputSpec) -> RGB:
    """Turn a photo in any form into a model's input: uint8 ``[height, width, 3]``.

    Of a multi-frame Pillow image, the current frame is used.

    Raises:
        PhotoError: the photo cannot be decoded.
        InputError: the file cannot be read, the array is not uint8 ``[H, W, 3]``, or the type is not supported.
    """
    if isinstance(photo, np.ndarray):
        return resize_to(photo, spec)
    if isinstance(photo, bytes):
        return decode(photo, spec)
    if isinstance(photo, Image.Image):
        with _translate_errors(b"", str(getattr(photo, "filename", ""))):
            _load_pixels(photo, None)
            return np.asarray(_resize(upright_rgb(photo), spec))
    if not isinstance(photo, str | Path):
        raise InputError(
            f"a {type(photo).__name__} is not a photo", hint="give bytes, a path, an array or a Pillow image"
        )
    try:
        data = Path(photo).read_bytes()
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror})", where=str(photo)) from None
    return decode(data, spec, where=str(photo))


def resize_to(image: RGB, spec: InputSpec) -> RGB:
    """Resize an upright uint8 RGB image ``[H, W, 3]`` to ``spec``, with the same filter as :func:`decode`.

    Raises:
        InputError: the array is not uint8 ``[H, W, 3]``.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise InputError(f"expected uint8 RGB [H, W, 3], not {image.dtype} {list(image.shape)}")
    return np.asarray(_resize(Image.fromarray(image), spec))


@contextmanager
def _translate_errors(data: bytes, where: str) -> Iterator[None]:
    """Turn Pillow's exceptions into a PhotoError; ``data`` is the file's content, if known."""
    try:
        yield
    except PhotoError as error:
        raise PhotoError(error.code, error.message, where=where) from None
    except (Image.DecompressionBombError, MemoryError):
        raise PhotoError("too-large", f"more than {MAX_PIXELS:,} pixels", where=where) from None
    except UnidentifiedImageError:
        raise PhotoError("not-image", f"not an image (starts with {_first_bytes(data)})", where=where) from None
    except PILLOW_ERRORS as error:
        message = " ".join(str(error).split())
        truncated = _is_truncated_webp(data) or any(word in message.lower() for word in _TRUNCATION_WORDS)
        code = "truncated" if truncated else "unreadable"
        raise PhotoError(code, f"cannot be decoded ({message[:120]})", where=where) from None


def _open_image(data: bytes) -> Image.Image:
    """Open an image without decoding its pixels; raises UnidentifiedImageError."""
    for name in _PRELOADED_FORMATS:
        opener, accepts = Image.OPEN[name]
        if accepts is not None and accepts(data[:16]):
            with suppress(*_WRONG_FORMAT_ERRORS):
                return opener(io.BytesIO(data), "")
    with _plugin_lock:
        Image.preinit()
    try:
        return Image.open(io.BytesIO(data), formats=_COMMON_FORMATS)
    except UnidentifiedImageError:
        with _plugin_lock:
            Image.init()
        return Image.open(io.BytesIO(data), formats=_RARE_FORMATS)


def _load_pixels(image: Image.Image, spec: InputSpec | None) -> None:
    """Check the image's size, then decode its pixels; a large JPEG is scaled on the way."""
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise PhotoError("too-large", f"{width}x{height} is more than {MAX_PIXELS:,} pixels")
    if max(width, height) > MAX_SIDE:
        raise PhotoError("too-large", f"{width}x{height} has a side of more than {MAX_SIDE:,} pixels")
    if min(width, height) < 1:
        raise PhotoError("unreadable", f"has no pixels ({width}x{height})")
    if spec is not None:
        side = 2 * max(spec.height, spec.width)  # both sides, because EXIF may turn the image
        image.draft(None, (side, side))  # JPEG and MPO only; does nothing for other formats
    image.load()


def _resize(image: Image.Image, spec: InputSpec) -> Image.Image:
    if image.size == (spec.width, spec.height):
        return image
    return image.resize((spec.width, spec.height), Image.Resampling.BICUBIC)


def _is_truncated_webp(data: bytes) -> bool:
    """Compare a WebP file with the length in its header: Pillow does not report why a WebP decoder failed."""
    return data[:4] == b"RIFF" and int.from_bytes(data[4:8], "little") + 8 > len(data)


def _first_bytes(data: bytes) -> str:
    """Format the first 8 bytes for a message: ``"%PDF-1.7"``, or hexadecimal if they are not printable."""
    head = data[:8]
    return f'"{head.decode("ascii")}"' if head.isascii() and head.decode("ascii").isprintable() else head.hex(" ")
