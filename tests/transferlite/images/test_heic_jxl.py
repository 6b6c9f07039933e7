"""HEIC and JPEG XL photos: decoded upright and within limits, by packages that are imported for them only."""

import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pillow_heif
import pillow_jxl
import pytest
from PIL import Image

from tests.pictures import jpeg
from tests.transferlite.damage import picture, write
from tests.transferlite.images.heic_files import box, full_box, heic, tiled_heic
from transferlite.errors import PhotoError
from transferlite.images import decoder
from transferlite.images.decoder import decode, decoding
from transferlite.images.input_spec import InputSpec

PHOTO = np.asarray(Image.open(io.BytesIO(jpeg("red"))))  # [48, 64, 3]
ROTATIONS: dict[int, Callable[[Any], Any]] = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: np.rot90,
}


def jxl(pixels: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(file, "JXL", **{"lossless": True, **options})
    return file.getvalue()


def rejection(data: bytes) -> PhotoError:
    with pytest.raises(PhotoError) as caught:
        decode(data, where="s3://b/cat")
    return caught.value


def difference(pixels: Any, expected: Any) -> float:
    assert pixels.shape == expected.shape
    return float(np.abs(pixels.astype(int) - expected).mean())


# -- pixels ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", ROTATIONS)
def test_a_heic_photo_is_turned_exactly_once(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = heic(PHOTO, exif=exif.tobytes())  # writes irot and imir beside the EXIF block, as phones do
    assert difference(decode(data), ROTATIONS[orientation](PHOTO)) < 4


def test_an_exif_orientation_that_the_heic_container_lacks_is_not_applied() -> None:
    data = write(Image.fromarray(PHOTO), "HEIF", 6, quality=95, chroma=444)
    assert b"irot" not in data
    assert difference(decode(data), PHOTO) < 4


def test_the_orientation_of_a_jpeg_xl_photo_is_that_of_its_codestream() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    assert np.array_equal(decode(jxl(PHOTO, exif=exif.tobytes(), use_container=True)), PHOTO)


@pytest.mark.parametrize("orientation", [1, 6, 8])
def test_a_jpeg_repacked_as_jpeg_xl_is_turned_exactly_once(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    Image.fromarray(PHOTO).save(file, "JPEG", exif=exif)
    encoder: Any = pillow_jxl.Encoder  # its type stub is out of date
    encode = encoder(mode="RGB", lossless=True, quality=100, decoding_speed=0, effort=3, use_container=True,
                                use_original_profile=False, num_threads=0)  # fmt: skip
    repacked = encode(file.getvalue(), 64, 48, jpeg_encode=True)
    assert difference(decode(repacked), decode(file.getvalue())) == 0


@pytest.mark.parametrize("mode", ["RGB", "L", "I;16"])
@pytest.mark.parametrize("use_container", [True, False])
def test_a_lossless_jpeg_xl_photo_keeps_its_pixels(mode: str, use_container: bool) -> None:
    image = picture(mode, 40, 30)
    file = io.BytesIO()
    image.save(file, "PNG")
    assert np.array_equal(decode(jxl(image, use_container=use_container)), decode(file.getvalue()))


@pytest.mark.parametrize("encode", [heic, jxl])
def test_transparent_pixels_become_white(encode: Callable[..., bytes]) -> None:
    pixels = np.full((32, 32, 4), (200, 0, 0, 255), np.uint8)
    pixels[:, 16:, 3] = 0
    decoded = decode(encode(pixels)).astype(int)
    assert np.abs(decoded[:, :14] - (200, 0, 0)).max() < 12
    assert np.abs(decoded[:, 18:] - 255).max() < 12


def test_a_heic_photo_of_10_bits_gives_the_pixels_of_8_bits() -> None:
    wide = pillow_heif.from_bytes("RGB;16", (64, 48), (PHOTO.astype(np.uint16) * 257).tobytes())
    file = io.BytesIO()
    wide.save(file, quality=95, chroma=444)
    with decoding(file.getvalue()) as decoded:
        assert decoded.source.info["bit_depth"] == 10
        assert difference(decoded.pixels, PHOTO) < 4


@pytest.mark.parametrize("primary", [0, 1, 2])
def test_of_a_burst_the_primary_image_is_used(primary: int) -> None:
    images = [np.full((32, 40, 3), level, np.uint8) for level in (20, 120, 220)]
    assert abs(decode(heic(*images, primary=primary)).mean() - (20, 120, 220)[primary]) < 3


@pytest.mark.parametrize("rotation", range(4))
def test_a_photo_in_tiles_is_joined_and_turned(rotation: int) -> None:
    tile = np.full((64, 64, 3), 50, np.uint8)
    tile[:32, :32] = 200
    data = tiled_heic(tile, 3, 2, (180, 120), (180, 120), box(b"irot", bytes([rotation])))
    assert difference(decode(data), np.rot90(np.tile(tile, (2, 3, 1))[:120, :180], rotation)) < 3


@pytest.mark.parametrize("encode", [heic, jxl])
def test_a_photo_is_resized_to_the_spec_like_any_other(encode: Callable[..., bytes]) -> None:
    data = encode(PHOTO)
    assert np.array_equal(decode(data, InputSpec(20, 25)), decoder.resize_to(decode(data), InputSpec(20, 25)))


@pytest.mark.parametrize("major", [b"heic", b"heix", b"mif1", b"msf1"])
def test_the_brands_decide_between_heic_and_avif(major: bytes) -> None:
    data = heic(PHOTO)
    assert decode(data[:8] + major + data[12:]).shape == PHOTO.shape
    file = io.BytesIO()
    Image.fromarray(PHOTO).save(file, "AVIF")
    avif = file.getvalue().replace(b"avif", b"mif1", 1)
    with decoding(avif) as decoded:
        assert decoded.source.format == "AVIF"


@pytest.mark.photos
@pytest.mark.parametrize("name", ["cat.HEIC", "heic_bytes_cat.jpg"])
def test_a_heic_photo_as_phones_write_it_is_decoded(photo_sets: Path, name: str) -> None:
    assert decode((photo_sets / "cases" / name).read_bytes()).std() > 20


# -- limits ----------------------------------------------------------------------------------------------------------

TILE = np.full((64, 64, 3), 99, np.uint8)


def jxl_header(width: int, height: int) -> bytes:
    bits = 0b110 | (height - 1) << 3 | (width - 1) << 36 if height > 2**18 else 0
    bits = bits or (0b110 | (height - 1) << 3 | 0b11 << 36 | (width - 1) << 38)
    return b"\xff\x0a" + bits.to_bytes(16, "little")


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(tiled_heic(TILE, 2, 2, (20_000, 20_000), (128, 128)), id="declared size"),
        pytest.param(
            tiled_heic(TILE, 2, 2, (9_999, 9_999), (128, 128), full_box(b"clap", 0, 0, bytes(32))), id="cropped"
        ),
        pytest.param(heic(TILE).replace(b"\0\0\0\x40" * 2, b"\0\0\xff\xff" * 2), id="one"),
        pytest.param(jxl_header(8_000, 8_000), id="JPEG XL"),
        pytest.param(box(b"JXL ", b"\r\n\x87\n") + box(b"jxlc", jxl_header(9_000, 9_000)), id="JPEG XL in boxes"),
    ],
)  # fmt: skip
def test_too_many_pixels_are_refused_before_decoding(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pi_heif", None)
    monkeypatch.setitem(sys.modules, "pillow_jxl.JpegXLImagePlugin", None)
    assert rejection(data).code == "too-large"


def test_tiles_of_more_pixels_than_the_photo_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoder, "MAX_PIXELS", 10_000)
    assert decode(tiled_heic(TILE, 2, 2, (100, 100), (100, 100), chroma=420)).shape == (100, 100, 3)
    error = rejection(tiled_heic(TILE, 3, 3, (100, 100), (190, 190)))
    assert (error.code, "tiles" in error.message) == ("too-large", True)


def test_an_overlay_is_refused_because_its_canvas_has_no_limit() -> None:
    assert rejection(heic(TILE).replace(b"hvc1", b"iovl")).code == "unsupported-format"


@pytest.mark.parametrize(
    "size", [(8, 8), (16, 8), (64, 48), (300, 200), (40, 30), (30, 20), (160, 90), (2000, 1), (1, 2000), (256, 256)]
)
def test_the_size_in_a_jpeg_xl_header_is_read(size: tuple[int, int]) -> None:
    from transferlite.images.jxl import _codestream, _size

    for use_container in (True, False):
        data = jxl(Image.new("L", size), use_container=use_container)
        assert _size(_codestream(data)) == size


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.95])
@pytest.mark.parametrize("encode", [heic, jxl])
def test_a_photo_without_its_end_is_rejected(encode: Callable[..., bytes], share: float) -> None:
    data = encode(picture("RGB", 100, 80))
    error = rejection(data[: int(len(data) * share)])
    assert error.code in {"truncated", "unreadable"}
    assert str(error).startswith("s3://b/cat: ")


def test_a_heic_photo_without_its_end_is_truncated() -> None:
    data = heic(PHOTO)
    assert rejection(data[:-100]).code == "truncated"


# -- packages --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("encode", "module", "package"),
    [(heic, "pi_heif", "pi-heif"), (jxl, "pillow_jxl.JpegXLImagePlugin", "transferlite[jxl]")],
)
def test_without_its_decoder_a_photo_is_rejected_with_the_package_to_install(
    encode: Callable[..., bytes], module: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    error = rejection(encode(PHOTO))
    assert error.code == "missing-decoder"
    assert "HEIC" in error.message or "JPEG XL" in error.message
    assert f"pip install {package}" in str(error).replace("'", "")


UNUSED = """
import sys
from transferlite.images.decoder import decode
for name in sys.argv[1:]:
    decode(open(name, "rb").read())
plugins = {"pi_heif", "pillow_jxl", "PIL.TiffImagePlugin", "PIL.ImageCms"}
print(sorted(plugins & sys.modules.keys()))
"""


def test_a_usual_photo_imports_no_decoder_of_a_rare_format(tmp_path: Path) -> None:
    paths = []
    for form in ("JPEG", "PNG", "WEBP"):
        paths.append(tmp_path / form)
        Image.fromarray(PHOTO).save(paths[-1], form)
    command = [sys.executable, "-c", UNUSED.replace('"PIL.TiffImagePlugin", ', ""), *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
    done = subprocess.run([sys.executable, "-c", UNUSED, str(paths[0])], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
