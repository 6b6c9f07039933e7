"""Damaged or very large metadata does not matter: only pixels do. Damage of pixels is still damage."""

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.pictures import jpeg
from transferlite.errors import PhotoError
from transferlite.images.decoder import decode

PHOTO = np.asarray(Image.open(io.BytesIO(jpeg("red"))))  # [48, 64, 3]


def encoded(form: str, image: Image.Image | None = None, **options: Any) -> bytes:
    file = io.BytesIO()
    (image or Image.fromarray(PHOTO)).save(file, form, **options)
    return file.getvalue()


def exif(orientation: int = 1) -> Image.Exif:
    block = Image.Exif()
    block[0x0112], block[0x010F] = orientation, "Camera"
    return block


def chunk(kind: bytes, content: bytes, is_damaged: bool = False) -> bytes:
    checksum = zlib.crc32(kind + content) ^ is_damaged
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


def png_with(*chunks: bytes, image: Image.Image | None = None, at_end: bool = False, **options: Any) -> bytes:
    """Encode a PNG with more chunks after IHDR or before IEND."""
    data = encoded("PNG", image, **options)
    position = len(data) - 12 if at_end else 33
    return data[:position] + b"".join(chunks) + data[position:]


BIG = zlib.compress(b" " * 3 * 2**20)


@pytest.mark.parametrize("at_end", [False, True], ids=["before the pixels", "after the pixels"])
@pytest.mark.parametrize(
    "extra",
    [
        pytest.param(chunk(b"zTXt", b"Comment\0\0" + BIG), id="zTXt of 3 MB"),
        pytest.param(chunk(b"iTXt", b"Comment\0\1\0\0\0" + BIG), id="iTXt of 3 MB"),
        pytest.param(chunk(b"iCCP", b"icc\0\0" + BIG), id="profile of 3 MB"),
        pytest.param(b"".join(chunk(b"tEXt", b"a%d\0" % i + b"x" * 2**20) for i in range(3)), id="tEXt of 3 MB"),
        pytest.param(chunk(b"zTXt", b"Comment\0\0" + BIG[:-9]), id="damaged zTXt"),
        pytest.param(chunk(b"zTXt", b"Comment\0\7" + BIG), id="unknown compression"),
        *[pytest.param(chunk(kind, b"a\0b", True), id=f"{kind.decode()} with a wrong checksum")
          for kind in (b"tEXt", b"iTXt", b"zTXt", b"iCCP", b"eXIf", b"pHYs", b"gAMA", b"tIME", b"cHRM", b"sBIT")],
        pytest.param(chunk(b"pHYs", b""), id="empty pHYs"),
        pytest.param(chunk(b"iCCP", b""), id="empty iCCP"),
        pytest.param(chunk(b"acTL", b"\0" * 3), id="short acTL"),
    ],
)  # fmt: skip
def test_a_png_is_decoded_despite_its_metadata(extra: bytes, at_end: bool) -> None:
    assert np.array_equal(decode(png_with(extra, at_end=at_end)), PHOTO)


def test_an_orientation_is_applied_beside_damaged_metadata() -> None:
    data = png_with(chunk(b"zTXt", b"Comment\0\0" + BIG), exif=exif(6))
    assert np.array_equal(decode(data), np.rot90(PHOTO, -1))


def test_an_orientation_in_a_damaged_chunk_counts_as_none() -> None:
    data = bytearray(encoded("PNG", exif=exif(6)))
    at = data.index(b"eXIf")
    data[at + 4 + int.from_bytes(data[at - 4 : at], "big")] ^= 1
    assert np.array_equal(decode(bytes(data)), PHOTO)


def test_a_transparent_colour_is_kept_beside_damaged_metadata() -> None:
    image = Image.fromarray(np.array([[[1, 2, 3], [9, 9, 9]]], np.uint8))
    data = png_with(chunk(b"tEXt", b"a\0b", True), image=image, transparency=(1, 2, 3))
    assert decode(data).tolist() == [[[255, 255, 255], [9, 9, 9]]]


@pytest.mark.parametrize("kind", [b"IHDR", b"PLTE", b"IDAT", b"tRNS"])
def test_damage_of_a_chunk_that_holds_pixels_is_damage(kind: bytes) -> None:
    image = Image.fromarray(PHOTO).quantize(16)
    data = bytearray(encoded("PNG", image, transparency=3))
    at = data.index(kind)
    if kind == b"IDAT":
        data[at + 8 : at + 40] = b"\xff" * 32
    else:
        data[at + 4 + int.from_bytes(data[at - 4 : at], "big")] ^= 1  # the checksum
    with pytest.raises(PhotoError) as caught:
        decode(bytes(data))
    assert caught.value.code == "unreadable"


@pytest.mark.parametrize("share", [0.3, 0.7, 0.95])
def test_a_png_without_its_end_stays_truncated(share: float) -> None:
    data = png_with(chunk(b"tEXt", b"a\0b"))
    with pytest.raises(PhotoError) as caught:
        decode(data[: int(len(data) * share)])
    assert caught.value.code == "truncated"


def segment(marker: int, content: bytes) -> bytes:
    return b"\xff" + bytes([marker]) + struct.pack(">H", len(content) + 2) + content


@pytest.mark.parametrize(
    "extra",
    [
        pytest.param(segment(0xE1, b"Exif\0\0II*\0\xff\xff\xff\xff"), id="damaged EXIF"),
        pytest.param(segment(0xE1, b"Exif\0\0" + b"\xa5" * 65_000), id="64 KB of EXIF"),
        pytest.param(segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + b"<" * 60_000), id="60 KB of XMP"),
        pytest.param(
            b"".join(segment(0xE2, b"ICC_PROFILE\0%c%c" % (i, 60) + b"\xa5" * 65_000) for i in range(1, 61)),
            id="4 MB of profile",
        ),
        pytest.param(segment(0xE2, b"ICC_PROFILE\0\7\2"), id="wrong number of profile parts"),
        pytest.param(segment(0xE2, b"MPF\0II*\0\xff\xff\xff\x7f"), id="damaged MPO index"),
        pytest.param(segment(0xED, b"Photoshop 3.0\x008BIM\x03\xed\0\0\xff\xff"), id="damaged Photoshop block"),
        pytest.param(segment(0xFE, b"\xff" * 65_000), id="64 KB of comment"),
        pytest.param(b"", id="nothing"),
    ],
)
@pytest.mark.parametrize("trailing", [b"", b"\0" * 9, b"garbage" * 9_999, jpeg("blue")])
def test_a_jpeg_is_decoded_despite_its_metadata_and_what_follows(extra: bytes, trailing: bytes) -> None:
    data = jpeg("red")
    assert np.array_equal(decode(data[:2] + extra + data[2:] + trailing), PHOTO)


@pytest.mark.parametrize("form", ["WEBP", "AVIF", "GIF"])
@pytest.mark.parametrize("position", [0, 4, 8, 12, 20])
def test_other_formats_are_decoded_despite_damaged_metadata(form: str, position: int) -> None:
    options: dict[str, Any] = {"comment": b"hello" * 20} if form == "GIF" else {"exif": exif().tobytes()}
    data = encoded(form, **options)
    expected = decode(data)
    start = data.index(b"hello" if form == "GIF" else b"MM\0*")
    damaged = data[: start + position] + b"\xff" * 6 + data[start + position + 6 :]
    assert np.array_equal(decode(damaged), expected)


def test_an_avif_photo_with_a_damaged_exif_block_keeps_its_orientation() -> None:
    data = encoded("AVIF", exif=exif(6).tobytes())
    assert decode(data).shape == (64, 48, 3)
    start = data.index(b"MM\0*")
    damaged = data[:start] + b"\xff" * 4 + data[start + 4 :]
    assert np.array_equal(decode(damaged), decode(data))


@pytest.mark.photos
def test_a_photo_with_3_mb_of_text_is_decoded(photo_sets: Any) -> None:
    assert decode((photo_sets / "cases" / "bigtext.png").read_bytes()).std() > 20
