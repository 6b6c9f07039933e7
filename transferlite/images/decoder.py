"""The one decoder, for training, export gate, Lambda and edge: a photo's bytes to upright uint8 RGB.

A photo that cannot be used raises :class:`transferlite.errors.PhotoError` with one of these codes:

==============  ======================================================================
``empty``       no bytes at all
``not-image``   no known image format
``unreadable``  an image format, but damaged or of a kind the decoder does not handle
``truncated``   the end is missing
``too-large``   over :data:`MAX_BYTES`, :data:`MAX_PIXELS` or :data:`MAX_SIDE` (checked before decoding)
==============  ==============================================================="""

from __future__ import annotations

import io
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import ExifTags, Image, JpegImagePlugin, PpmImagePlugin, UnidentifiedImageError

from transferlite.errors import InputError, PhotoError
from transferlite.images.input_spec import MAX_BYTES, InputSpec

if TYPE_CHECKING:  # a start need not wait for it
    from numpy.typing import NDArray

DRAFT_DIFFERENCE = 5.0
"""The most that scaling a large JPEG while decoding changes a photo, as a mean over its samples of 0 to 255.

Measured: 1.1 on average and 4.5 at worst on 400 photos that are sharp to the pixel, 0.5 and 1.8 on 150 that are as soft
as large photos mostly are.
"""

MAX_PIXELS = 50_000_000
MAX_SIDE = 65_535
"""What a JPEG can have. Of a picture with more rows than that, Pillow's lists of rows outweigh the pixels."""
PHOTO_CODES = frozenset({"empty", "not-image", "unreadable", "truncated", "too-large"})
"""What can be wrong with a photo itself, as against with fetching it."""

_COMMON = ("JPEG", "PNG", "GIF", "BMP", "PPM")
_RARE = ("WEBP", "TIFF", "AVIF", "JPEG2000", "DIB", "ICO", "ICNS", "PSD", "DDS", "TGA", "PCX")

# Pillow loads its plugins at the first use of each group, and not safely where several threads are first. Those of what
# most photos are, and of a bundle's test pictures, come with this module; a cold start need not wait for the others,
# which come when a photo asks for them.
_QUICK = (JpegImagePlugin.JpegImageFile.format, PpmImagePlugin.PpmImageFile.format)
_loading = threading.Lock()
_NOT_THIS = (SyntaxError, IndexError, TypeError, struct.error)
"""What a plugin raises for a file that is not of its kind after all. Source: Pillow's ``Image.open``."""

# Pillow's notes on odd metadata and on large pictures, which are judged here. Once and for all: to change the filters
# for each photo is not for threads.
warnings.filterwarnings("ignore", module=r"PIL\.")

_ROWS = 256
"""How many rows of wide samples are numbers at once."""

_TRUNCATED = ("truncated", "not processed", "unexpected end", "eof")

# Pillow documents OSError; damaged files also end in these.
_DAMAGED = (OSError, ValueError, SyntaxError, TypeError, IndexError, KeyError, ArithmeticError, AttributeError)
_DAMAGED_DEEPER = (AssertionError, NotImplementedError, EOFError, BufferError, RuntimeError, struct.error, zlib.error)

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

RGB = np.ndarray[Any, np.dtype[np.uint8]]
"""A picture as uint8 ``[H, W, 3]``, upright."""

Photo = bytes | str | Path | RGB | Image.Image
"""An encoded photo (its bytes or its local path), or a decoded one: upright pixels, or as Pillow has it."""


class Decoded(NamedTuple):
    """A decoded photo and the file it came from.

    Attributes:
        pixels: as :func:`decode` gives them.
        image: the same as Pillow has it.
        source: the file as Pillow opened it, for what it says besides its pixels, which are not to be read from it.
        width: in pixels as they are stored: before any scaling, and before EXIF turns them.
        height: the same.
    """

    pixels: RGB
    image: Image.Image
    source: Image.Image
    width: int
    height: int


def decode(data: bytes, spec: InputSpec | None = None, *, where: str = "") -> RGB:
    """The photo in ``data`` as upright uint8 RGB ``[H, W, 3]``, resized to ``spec`` if given.

    A JPEG of at least four times that size is scaled to no less than twice while it is decoded, which takes a fraction
    of the time and changes the result by less than :data:`DRAFT_DIFFERENCE`.
    EXIF orientation is applied, transparency is laid over white, an animation gives its first frame, 16-bit samples
    keep their high byte, float samples are taken as 0 to 1 (or 0 to 255 where any is above 1).

    Raises:
        PhotoError: with a code of the module's table; ``where`` names the photo in its message.
    """
    return decode_with_source(data, spec, where=where).pixels


def decode_with_source(data: bytes, spec: InputSpec | None = None, *, where: str = "") -> Decoded:
    """The same with the opened file, for who wants to know more of the photo than a model does. Raises PhotoError."""
    if not data:
        raise PhotoError("empty", "the file is empty", where=where)
    if len(data) > MAX_BYTES:
        raise PhotoError("too-large", f"more than {MAX_BYTES:,} bytes", where=where)
    with _explained(data, where):
        source = _identified(data)
        width, height = source.size
        _load(source, spec)
        image = _upright_rgb(source)
        image = image if spec is None else _resized(image, spec)
        return Decoded(np.asarray(image), image, source, width, height)


def model_input(photo: Photo, spec: InputSpec) -> RGB:
    """A photo in any of its forms as what a model takes: uint8 ``[height, width, 3]``.

    Of a picture that Pillow has opened the present frame is taken, upright.

    Raises:
        PhotoError: it cannot be decoded.
        InputError: there is no such file, an array is not uint8 ``[H, W, 3]``, or it is none of these forms.
    """
    if isinstance(photo, np.ndarray):
        return resize_to(photo, spec)
    if isinstance(photo, bytes):
        return decode(photo, spec)
    if isinstance(photo, Image.Image):
        with _explained(b"", str(getattr(photo, "filename", ""))):
            _load(photo, None)
            return np.asarray(_resized(_upright_rgb(photo), spec))
    if not isinstance(photo, str | Path):
        raise InputError(f"a {type(photo).__name__} is no photo", hint="give bytes, a path, an array or a Pillow image")
    try:
        data = Path(photo).read_bytes()
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror})", where=str(photo)) from None
    return decode(data, spec, where=str(photo))


@contextmanager
def _explained(data: bytes, where: str) -> Iterator[None]:
    """Whatever Pillow raises as a PhotoError of ``where``; ``data`` is the file, as far as it is known."""
    try:
        yield
    except PhotoError as error:
        raise PhotoError(error.code, error.message, where=where) from None
    except (Image.DecompressionBombError, MemoryError):
        raise PhotoError("too-large", f"more than {MAX_PIXELS:,} pixels", where=where) from None
    except UnidentifiedImageError:
        raise PhotoError("not-image", f"not an image (starts with {_start(data)})", where=where) from None
    except (*_DAMAGED, *_DAMAGED_DEEPER) as error:
        cut = _is_cut_webp(data) or any(word in str(error).lower() for word in _TRUNCATED)
        code = "truncated" if cut else "unreadable"
        raise PhotoError(code, f"cannot be decoded ({' '.join(str(error).split())[:120]})", where=where) from None


def resize_to(image: RGB, spec: InputSpec) -> RGB:
    """An upright uint8 RGB picture ``[H, W, 3]`` of any size, resized to ``spec`` as :func:`decode` does.

    Raises:
        InputError: the array is not uint8 ``[H, W, 3]``.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise InputError(f"expected uint8 RGB [H, W, 3], not {image.dtype} {list(image.shape)}")
    return np.asarray(_resized(Image.fromarray(image), spec))


def _identified(data: bytes) -> Image.Image:
    for name in _QUICK:
        opened, accepts = Image.OPEN[name]
        if accepts is not None and accepts(data[:16]):
            with suppress(*_NOT_THIS):
                return opened(io.BytesIO(data), "")
    with _loading:
        Image.preinit()
    try:
        return Image.open(io.BytesIO(data), formats=_COMMON)
    except UnidentifiedImageError:
        with _loading:
            Image.init()
        return Image.open(io.BytesIO(data), formats=_RARE)


def _load(image: Image.Image, spec: InputSpec | None) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise PhotoError("too-large", f"{width}x{height} is more than {MAX_PIXELS:,} pixels")
    if max(width, height) > MAX_SIDE:
        raise PhotoError("too-large", f"{width}x{height} has a side of more than {MAX_SIDE:,} pixels")
    if min(width, height) < 1:
        raise PhotoError("unreadable", f"has no pixels ({width}x{height})")
    if spec is not None:
        side = 2 * max(spec.height, spec.width)  # either way up, for EXIF may turn it
        image.draft(None, (side, side))  # of JPEGs, the MPO of phones among them; nothing to other formats
    image.load()


def _upright_rgb(image: Image.Image) -> Image.Image:
    image = _oriented(image)
    if image.mode.startswith("I") or image.mode == "F":
        return Image.fromarray(_eight_bit(image)).convert("RGB")
    if image.mode == "LAB":
        return _lab_to_rgb(image)
    if image.has_transparency_data:
        layered = image if image.mode == "RGBA" else image.convert("RGBA")  # which copies whatever the mode
        paper = Image.new("RGB", layered.size, "white")
        paper.paste(layered, mask=layered.getchannel("A"))
        return paper
    return image if image.mode == "RGB" else image.convert("RGB")


def _oriented(image: Image.Image) -> Image.Image:
    """The picture turned as its EXIF says. Pillow's own helper also rewrites the block, and fails on an odd one."""
    turn = exif_turn(image)
    return image if turn is None else image.transpose(turn)


def exif_turn(image: Image.Image) -> Image.Transpose | None:
    """How the EXIF block says that the picture has to be turned; None where it is upright or says nothing."""
    try:
        return _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except (*_DAMAGED, *_DAMAGED_DEEPER):
        return None  # a damaged EXIF block says nothing of the pixels


def _eight_bit(image: Image.Image) -> NDArray[np.uint8]:
    """Grey samples wider than a byte as uint8 ``[H, W]``, some rows at a time: numbers weigh more than the picture."""
    width, height = image.size
    grey = np.empty((height, width), np.uint8)
    parts = [slice(top, min(top + _ROWS, height)) for top in range(0, height, _ROWS)]

    def samples(rows: slice) -> NDArray[Any]:
        return np.asarray(image.crop((0, rows.start, width, rows.stop)))

    if image.mode != "F":
        for rows in parts:
            grey[rows] = np.clip(samples(rows), 0, 65535) >> 8
        return grey
    one = max(float(_to_255(samples(rows)).max()) for rows in parts) <= 1.0
    for rows in parts:
        values = _to_255(samples(rows))
        grey[rows] = np.rint(values * 255 if one else values)
    return grey


def _to_255(samples: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(np.clip(np.nan_to_num(samples), 0, 255))


def _lab_to_rgb(image: Image.Image) -> Image.Image:
    from PIL import ImageCms  # which hardly a photo needs, and a cold start would wait for

    try:
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        converted = ImageCms.applyTransform(image, ImageCms.buildTransform(lab, srgb, "LAB", "RGB"))
    except ImageCms.PyCMSError as error:
        raise ValueError(f"LAB conversion failed ({error})") from error
    if converted is None:
        raise ValueError("LAB conversion failed")
    return converted


def _resized(image: Image.Image, spec: InputSpec) -> Image.Image:
    if image.size == (spec.width, spec.height):
        return image
    return image.resize((spec.width, spec.height), Image.Resampling.BICUBIC)


def _is_cut_webp(data: bytes) -> bool:
    """WebP says its own length at the start; Pillow does not say whether a decoder failed for want of the end."""
    return data[:4] == b"RIFF" and int.from_bytes(data[4:8], "little") + 8 > len(data)


def _start(data: bytes) -> str:
    """The first bytes, as a reader would recognise them: ``"%PDF-1.7"``."""
    head = data[:8]
    return f'"{head.decode("ascii")}"' if head.isascii() and head.decode("ascii").isprintable() else head.hex(" ")
