"""Decode photos to upright uint8 RGB: the one decoder of training, export gate, Lambda and edge.

A photo that cannot be used raises :class:`transferlite.errors.PhotoError` with one of these codes:

======================  ==============================================================
``empty``               the file has no bytes
``not-image``           a document, video or archive, which the message names, or no known format
``unsupported-format``  an image format, or a kind of one, that the decoder does not read
``missing-decoder``     a format whose decoder is not installed: HEIC, JPEG XL
``unreadable``          the image is damaged
``truncated``           the end of the file is missing
``too-large``           over the limit of bytes, pixels, rows or memory (checked before decoding)
======================  ==============================================================
"""

from __future__ import annotations

import io
import struct
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, JpegImagePlugin, PpmImagePlugin, UnidentifiedImageError

from transferlite.errors import InputError, PhotoError
from transferlite.images.codec_memory import Need, need_before_opening, need_of_image, resized_bytes
from transferlite.images.heif import is_heif, open_heif
from transferlite.images.input_spec import MAX_BYTES, InputSpec
from transferlite.images.iso_boxes import is_truncated
from transferlite.images.jxl import is_jxl, open_jxl
from transferlite.images.pillow_errors import PILLOW_ERRORS
from transferlite.images.placement import resize_image
from transferlite.images.signatures import EXPORT_HINT, identify, unidentified_error
from transferlite.images.upright_rgb import upright_rgb, upright_size
from transferlite.images.without_metadata import without_metadata
from transferlite.inference.memory_budget import decoding_budget

DRAFT_DIFFERENCE = 5.0
"""Upper bound of the mean difference, in samples of 0 to 255, that scaling a large JPEG while decoding causes.

Measured: mean 1.1 and maximum 4.5 on 400 photos that are sharp to the pixel; mean 0.5 and maximum 1.8 on 150 photos as
soft as most large photos.
"""

MAX_PIXELS = 50_000_000
"""Largest image of any format; the memory budget allows less of formats that need more memory."""
MAX_SIDE = 65_535
"""Longest side of a JPEG. In an image with more rows, Pillow's row tables take more memory than the pixels."""
PHOTO_CODES = frozenset(
    {"empty", "not-image", "unsupported-format", "missing-decoder", "unreadable", "truncated", "too-large"}
)
"""Codes for faults of the photo itself, as opposed to errors while fetching it."""

_TIFF_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_COMMON_FORMATS = ("JPEG", "PNG", "GIF", "BMP", "PPM")
_RARE_FORMATS = ("WEBP", "AVIF", "JPEG2000", "DIB", "ICO", "ICNS", "PSD", "DDS", "TGA", "PCX")

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
_UNSUPPORTED_WORDS = ("unknown pixel mode", "unsupported", "not supported", "cannot handle")
"""Words in messages of Pillow and libheif about files that may be in order, but of a kind they do not decode."""

RGB = np.ndarray[Any, np.dtype[np.uint8]]
"""Upright image as uint8 ``[H, W, 3]``."""

Photo = bytes | str | Path | RGB | Image.Image
"""A photo as file content, local path, upright pixels or Pillow image."""


class DecodedPhoto(NamedTuple):
    """A decoded photo with its opened file.

    Attributes:
        pixels: upright image ``[H, W, 3]``, resized if a size was given.
        source: the file as Pillow opened it, for its metadata; do not read its pixels.
        width: stored width in pixels, before scaling and EXIF orientation.
        height: stored height, likewise.
        upright_size: width and height of the upright image that was resized.
    """

    pixels: RGB
    source: Image.Image
    width: int
    height: int
    upright_size: tuple[int, int]


def decode(data: bytes, spec: InputSpec | None = None, *, where: str = "") -> RGB:
    """Decode a photo to upright uint8 RGB ``[H, W, 3]``, resized to ``spec`` if given.

    EXIF orientation is applied. Transparent pixels become white. An animation gives its first frame. 16-bit samples
    keep their high byte, unless a TIFF declares another range. Float samples range from 0 to 1, or from 0 to 255;
    those outside both, and 32-bit integers, need a declared range.

    libjpeg scales a JPEG of at least four times the size of ``spec`` while decoding, to at least twice that size. This
    takes a fraction of the time and changes the result by less than :data:`DRAFT_DIFFERENCE`.

    Raises:
        PhotoError: with a code of this module's table; ``where`` names the photo in the message.
    """
    with decoding(data, spec, where=where) as decoded:
        return decoded.pixels


@contextmanager
def decoding(data: bytes, spec: InputSpec | None = None, *, where: str = "") -> Iterator[DecodedPhoto]:
    """Decode a photo like :func:`decode`, and keep its file open, within the memory budget, until the context ends."""
    if not data:
        raise PhotoError("empty", "the file is empty", where=where)
    if len(data) > MAX_BYTES:
        raise PhotoError("too-large", f"more than {MAX_BYTES:,} bytes", where=where)
    with ExitStack() as memory:
        with _translate_errors(data, where):
            source, (width, height) = _open_loaded(data, spec, memory)
            decoded = DecodedPhoto(upright_rgb(source, spec), source, width, height, upright_size(source))
        yield decoded


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
        with _translate_errors(b"", str(getattr(photo, "filename", ""))), ExitStack() as memory:
            _load_pixels(photo, b"", None, memory)
            return upright_rgb(photo, spec)
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
    return np.asarray(resize_image(Image.fromarray(image), spec))


@contextmanager
def _translate_errors(data: bytes, where: str) -> Iterator[None]:
    """Turn Pillow's exceptions into a PhotoError; ``data`` is the file's content, if known."""
    try:
        yield
    except PhotoError as error:
        raise PhotoError(error.code, error.message, where=where, hint=error.hint) from None
    except Image.DecompressionBombError:
        raise PhotoError("too-large", f"more than {MAX_PIXELS:,} pixels", where=where) from None
    except MemoryError:
        hint = "scale it down, or decode it with more memory"
        raise PhotoError("too-large", "needs more memory than there is", where=where, hint=hint) from None
    except UnidentifiedImageError:
        raise unidentified_error(data, where) from None
    except PILLOW_ERRORS as error:
        message = " ".join(str(error).split())
        code = _code_of(message.lower(), data)
        hint = EXPORT_HINT if code == "unsupported-format" else "replace or remove it"
        raise PhotoError(code, f"cannot be decoded ({message[:120]})", where=where, hint=hint) from None


def _code_of(message: str, data: bytes) -> str:
    if any(word in message for word in _UNSUPPORTED_WORDS):
        return "unsupported-format"
    is_cut = any(word in message for word in _TRUNCATION_WORDS) or _is_truncated_webp(data) or is_truncated(data)
    return "truncated" if is_cut else "unreadable"


def _open_loaded(data: bytes, spec: InputSpec | None, memory: ExitStack) -> tuple[Image.Image, tuple[int, int]]:
    """Open an image and decode its pixels; return it with its stored size. ``memory`` holds the reservation.

    Only pixels matter: a file that fails is tried once more without its metadata.
    """
    try:
        return _load(data, spec, memory)
    except PILLOW_ERRORS:
        pixels_only = without_metadata(data)
        if pixels_only is None or pixels_only == data:
            raise
    memory.close()
    return _load(pixels_only, spec, memory)


def _load(data: bytes, spec: InputSpec | None, memory: ExitStack) -> tuple[Image.Image, tuple[int, int]]:
    need = need_before_opening(data)
    if need is not None:
        _reserve(need, spec, data, memory)
    image = _open_image(data)
    size = image.size
    if need is not None and image.width * image.height > need.size[0] * need.size[1]:
        raise SyntaxError("its parts state different sizes")
    _load_pixels(image, data if need is None else None, spec, memory)
    return image, size


def _reserve(need: Need, spec: InputSpec | None, data: bytes, memory: ExitStack) -> None:
    """Check an image's size and hold the memory for decoding and resizing it until ``memory`` is closed."""
    width, height = need.size
    if width * height > MAX_PIXELS:
        raise PhotoError("too-large", f"{width}x{height} is more than {MAX_PIXELS:,} pixels")
    if max(width, height) > MAX_SIDE:
        raise PhotoError("too-large", f"{width}x{height} has a side of more than {MAX_SIDE:,} pixels")
    result = 3 * width * height if spec is None else resized_bytes(need.size, max(spec.width, spec.height))
    memory.enter_context(decoding_budget().reserve(need.bytes + result, need.kind, need.size, len(data)))


def _open_image(data: bytes) -> Image.Image:
    """Open an image without decoding its pixels (JPEG XL is decoded); raises UnidentifiedImageError."""
    for name in _PRELOADED_FORMATS:
        opener, accepts = Image.OPEN[name]
        if accepts is not None and accepts(data[:16]):
            with suppress(*_WRONG_FORMAT_ERRORS):
                return opener(io.BytesIO(data), "")
    if is_heif(data):
        return open_heif(data, MAX_PIXELS)
    if is_jxl(data):
        return open_jxl(data)
    if data.startswith(_TIFF_SIGNATURES):
        from transferlite.images.tiff import open_tiff  # lazy: a cold start would wait for Pillow's plugin

        return open_tiff(data)
    with _plugin_lock:
        Image.preinit()
    try:
        return Image.open(io.BytesIO(data), formats=_COMMON_FORMATS)
    except UnidentifiedImageError:
        with _plugin_lock:
            Image.init()
        return _open_rare(data)


def _open_rare(data: bytes) -> Image.Image:
    try:
        return Image.open(io.BytesIO(data), formats=_RARE_FORMATS)
    except UnidentifiedImageError:
        found = identify(data)
        if found is None or found.plugin not in Image.OPEN:
            raise
        return Image.OPEN[found.plugin][0](io.BytesIO(data), "")  # raises the error that Image.open suppresses


def _load_pixels(image: Image.Image, data: bytes | None, spec: InputSpec | None, memory: ExitStack) -> None:
    """Decode an image's pixels after reserving memory, unless ``data`` is None; a large JPEG is scaled on the way."""
    stored = image.size
    if min(stored) < 1:
        raise PhotoError("unreadable", f"has no pixels ({stored[0]}x{stored[1]})")
    if spec is not None:
        side = 2 * max(spec.height, spec.width)  # both sides, because EXIF may turn the image
        image.draft(None, (side, side))  # JPEG and MPO only; does nothing for other formats
    if data is not None:
        _reserve(need_of_image(image, stored, data), spec, data, memory)
    image.load()


def _is_truncated_webp(data: bytes) -> bool:
    """Compare a WebP file with the length in its header: Pillow does not report why a WebP decoder failed."""
    return data[:4] == b"RIFF" and int.from_bytes(data[4:8], "little") + 8 > len(data)
