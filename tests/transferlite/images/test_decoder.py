import io
import random
import struct
import subprocess
import sys
import threading
import warnings
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import ExifTags, Image, features

from tests.pictures import jpeg
from transferlite.errors import InputError, PhotoError
from transferlite.images import decoder, input_spec
from transferlite.images.decoder import DRAFT_DIFFERENCE, PHOTO_CODES, RGB, decode, resize_to
from transferlite.images.input_spec import InputSpec
from transferlite.images.upright_rgb import orientation_transpose, upright_rgb

PICTURE = np.asarray(Image.open(io.BytesIO(jpeg("red"))))  # [48, 64, 3]
ORIENTATION = 0x0112


def encoded(pixels: NDArray[Any] | Image.Image, form: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(file, form, **options)
    return file.getvalue()


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def bare_png(width: int, height: int, stream: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", stream), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(kind, data) for kind, data in chunks)


def exif_block(*entries: tuple[int, int, int, bytes]) -> bytes:
    """A little-endian EXIF block of ``(tag, type, count, four bytes of value)``."""
    fields = b"".join(struct.pack("<HHI4s", *entry) for entry in sorted(entries))
    return b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + fields + bytes(4)


def decoding_error(data: bytes) -> PhotoError:
    with pytest.raises(PhotoError) as caught:
        decode(data, where="s3://b/cat.jpg")
    return caught.value


# -- orientation -----------------------------------------------------------------------------------------------------

# Stored pixels of an upright picture, by EXIF orientation.
STORED = {
    1: PICTURE,
    2: PICTURE[:, ::-1],
    3: PICTURE[::-1, ::-1],
    4: PICTURE[::-1],
    5: PICTURE.swapaxes(0, 1),
    6: np.rot90(PICTURE),
    7: PICTURE[::-1, ::-1].swapaxes(0, 1),
    8: np.rot90(PICTURE, -1),
}


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize(("form", "options"), [("PNG", {}), ("WEBP", {"lossless": True})])
def test_every_exif_orientation_gives_the_upright_pixels(orientation: int, form: str, options: dict[str, bool]) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    stored = np.ascontiguousarray(STORED[orientation])
    assert np.array_equal(decode(encoded(stored, form, exif=exif, **options)), PICTURE)


@pytest.mark.parametrize("orientation", STORED)
def test_every_exif_orientation_of_a_jpeg_is_applied(orientation: int) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    stored = np.ascontiguousarray(STORED[orientation])
    upright = decode(encoded(stored, "JPEG", exif=exif, quality=100, subsampling=0))
    assert np.abs(upright.astype(int) - PICTURE).mean() < 2


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_changes_nothing(orientation: int) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    assert np.array_equal(decode(encoded(PICTURE, "PNG", exif=exif)), PICTURE)


SIDEWAYS = (ORIENTATION, 3, 1, b"\x06\0\0\0")


@pytest.mark.parametrize(
    "field",
    [
        pytest.param((0x010E, 5, 1, b"\x1a\0\0\0"), id="a description that is a fraction"),
        pytest.param((0x011A, 2, 2, b"A\0\0\0"), id="a resolution that is text"),
        pytest.param((0x0128, 2, 2, b"A\0\0\0"), id="a resolution unit that is text"),
        pytest.param((0x011A, 6, 1, b"\xff\0\0\0"), id="a negative resolution"),
    ],
)
def test_an_invalid_exif_field_does_not_prevent_the_rotation(field: tuple[int, int, int, bytes]) -> None:
    data = encoded(PICTURE, "JPEG", exif=exif_block(SIDEWAYS, field) + bytes(32))
    assert decode(data).shape == (64, 48, 3)


# -- modes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["PNG", "WEBP"])
def test_transparent_rgba_becomes_white(form: str) -> None:
    pixels = np.array([[[200, 0, 0, 255], [200, 0, 0, 0], [200, 0, 0, 51]]], np.uint8)
    options = {"lossless": True, "exact": True} if form == "WEBP" else {}
    assert decode(encoded(pixels, form, **options)).tolist() == [[[200, 0, 0], [255, 255, 255], [244, 204, 204]]]


def test_transparent_grey_becomes_white() -> None:
    pixels = Image.fromarray(np.array([[[100, 255], [100, 0]]], np.uint8), "LA")
    assert decode(encoded(pixels, "PNG")).tolist() == [[[100, 100, 100], [255, 255, 255]]]


@pytest.mark.parametrize("form", ["PNG", "GIF"])
def test_a_palette_s_transparent_colour_becomes_white(form: str) -> None:
    assert decode(encoded(two_colours(), form, transparency=1)).tolist() == [[[10, 20, 30], [255, 255, 255]]]


@pytest.mark.parametrize("form", ["PNG", "GIF", "BMP", "TIFF"])
def test_a_palette_gives_its_colours(form: str) -> None:
    assert decode(encoded(two_colours(), form)).tolist() == [[[10, 20, 30], [200, 100, 50]]]


def two_colours() -> Image.Image:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((1, 0), 1)
    return image


def test_a_colour_that_a_png_declares_transparent_becomes_white() -> None:
    pixels = np.array([[[1, 2, 3], [9, 9, 9]]], np.uint8)
    assert decode(encoded(pixels, "PNG", transparency=(1, 2, 3))).tolist() == [[[255, 255, 255], [9, 9, 9]]]


@pytest.mark.parametrize("form", ["JPEG", "TIFF"])
def test_cmyk_is_converted(form: str) -> None:
    red = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    assert np.abs(decode(encoded(red, form)).astype(int) - [255, 0, 0]).max() <= 2


def test_one_bit_becomes_black_and_white() -> None:
    pixels = Image.fromarray(np.array([[0, 255], [255, 0]], np.uint8)).convert("1")
    assert decode(encoded(pixels, "PNG"))[..., 1].tolist() == [[0, 255], [255, 0]]


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_sixteen_bit_grey_keeps_its_high_byte(form: str) -> None:
    pixels = np.array([[0x0000, 0x12FF, 0x8000, 0xFFFF]], np.uint16)
    assert decode(encoded(pixels, form))[0].tolist() == [[0] * 3, [0x12] * 3, [0x80] * 3, [0xFF] * 3]


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        pytest.param([0.0, 0.5, 1.0], [0, 128, 255], id="0 to 1"),
        pytest.param([0.0, 128.4, 255.0], [0, 128, 255], id="0 to 255"),
        pytest.param([-5.0, 2.0, 260.0], [0, 2, 255], id="a little outside 0 to 255"),
        pytest.param([float("nan"), 0.0, 1.0], [0, 0, 255], id="not a number"),
    ],
)
@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_float_samples_become_bytes(samples: list[float], expected: list[int]) -> None:
    assert decode(encoded(np.array([samples], np.float32), "TIFF"))[0, :, 0].tolist() == expected


@pytest.mark.parametrize(
    ("lab", "rgb"), [((255, 128, 128), (255, 255, 255)), ((0, 128, 128), (0, 0, 0)), ((138, 209, 198), (255, 0, 0))]
)
def test_lab_is_converted(lab: tuple[int, int, int], rgb: tuple[int, int, int]) -> None:
    assert np.abs(decode(encoded(Image.new("LAB", (8, 8), lab), "TIFF")).astype(int) - rgb).max() <= 6


@pytest.mark.parametrize(("form", "options"), [("GIF", {}), ("PNG", {}), ("WEBP", {"lossless": True}), ("TIFF", {})])
def test_an_animation_gives_its_first_frame(form: str, options: dict[str, bool]) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue", "lime")]
    data = encoded(frames[0], form, save_all=True, append_images=frames[1:], **options)
    assert np.unique(decode(data).reshape(-1, 3), axis=0).tolist() == [[255, 0, 0]]


# -- formats and sizes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "options"),
    [
        *[(form, {}) for form in ("PNG", "BMP", "PPM", "TIFF", "DIB", "DDS", "TGA", "PCX", "JPEG2000")],
        ("WEBP", {"lossless": True}),
        ("TIFF", {"compression": "tiff_lzw"}),
    ],
)
def test_a_lossless_format_gives_its_exact_pixels(form: str, options: dict[str, Any]) -> None:
    assert np.array_equal(decode(encoded(PICTURE, form, **options)), PICTURE)


@pytest.mark.parametrize("form", ["JPEG", "WEBP", "AVIF", "MPO", "GIF"])
def test_a_lossy_format_gives_nearly_its_pixels(form: str) -> None:
    if form == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    several = {"save_all": True, "append_images": [Image.fromarray(PICTURE)]} if form == "MPO" else {}
    assert np.abs(decode(encoded(PICTURE, form, **several)).astype(int) - PICTURE).mean() < 20


@pytest.mark.parametrize("form", ["ICO", "ICNS"])
def test_an_icon_gives_rgb(form: str) -> None:
    assert decode(encoded(np.full((32, 32, 3), 77, np.uint8), form))[0, 0].tolist() == [77, 77, 77]


@pytest.mark.parametrize("size", [(64, 64), (8, 300), (48, 64)])
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "I;16", "P"])
def test_a_photo_is_resized_to_the_spec(size: tuple[int, int], mode: str) -> None:
    grey = Image.fromarray(PICTURE).convert("L")
    image = Image.fromarray(np.asarray(grey).astype(np.uint16) << 8) if mode == "I;16" else grey.convert(mode)
    resized = decode(encoded(image, "PNG"), InputSpec(*size))
    assert resized.shape == (*size, 3)
    assert resized.dtype == np.uint8


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "GIF"])
@pytest.mark.parametrize("spec", [InputSpec(64, 64), InputSpec(20, 25), InputSpec(48, 64), InputSpec(200, 100)])
def test_decoding_to_a_size_equals_decoding_then_resizing(form: str, spec: InputSpec) -> None:
    data = encoded(PICTURE, form)
    assert np.array_equal(decode(data, spec), resize_to(decode(data), spec))


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((4, 4, 3), np.float32),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4), np.uint8),
        np.zeros((1, 4, 4, 3), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
    ],
    ids=lambda array: f"{array.dtype}{list(array.shape)}",
)
def test_resize_refuses_arrays_other_than_uint8_rgb(array: NDArray[Any]) -> None:
    with pytest.raises(InputError, match=r"expected uint8 RGB \[H, W, 3\]"):
        resize_to(array, InputSpec(8, 8))


@pytest.mark.parametrize(("height", "width"), [(0, 64), (64, -1), (7, 64), (64, 7), (4097, 64), (64, 4097)])
def test_an_input_of_an_impossible_size_is_refused(height: int, width: int) -> None:
    with pytest.raises(InputError, match=f"{height}x{width}"):
        InputSpec(height, width)


def test_an_unknown_resize_is_refused() -> None:
    with pytest.raises(InputError, match="nearest"):
        InputSpec(64, 64, "nearest")


# -- photos that cannot be used --------------------------------------------------------------------------------------


def test_no_bytes_give_the_code_empty() -> None:
    assert decoding_error(b"").code == "empty"


@pytest.mark.parametrize(
    ("data", "start"),
    [
        (b"this is no image", '"this is "'),
        (b"\x00\x05\x16\x00\x00\x02\x00\x00rest", "00 05 16 00 00 02 00 00"),
        (b"\xffabc", "ff 61 62 63"),
    ],
)
def test_a_file_of_an_unknown_format_is_reported_with_its_first_bytes(data: bytes, start: str) -> None:
    error = decoding_error(data)
    assert error.code == "not-image"
    assert f"starts with {start}" in error.message


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "PPM", "WEBP"])
def test_a_photo_without_its_end_is_truncated(form: str, share: float) -> None:
    data = encoded(PICTURE, form)
    assert decoding_error(data[: int(len(data) * share)]).code == "truncated"


@pytest.mark.parametrize("missing", [1, 2, 50])
def test_a_jpeg_that_lacks_its_last_bytes_is_truncated(missing: int) -> None:
    assert decoding_error(jpeg("blue")[:-missing]).code == "truncated"


def test_a_png_with_a_damaged_stream_is_unreadable() -> None:
    assert decoding_error(bare_png(4, 4, b"this is not a zlib stream")).code == "unreadable"


def test_too_many_bytes_are_too_large() -> None:
    error = decoding_error(jpeg("red") + bytes(input_spec.MAX_BYTES))
    assert error.code == "too-large"
    assert f"{input_spec.MAX_BYTES:,}" in error.message


@pytest.mark.parametrize(
    ("width", "height"), [(100_000, 100_000), (50_000_001, 1), (10_000, 5_001), (2, 65_536), (70_000, 1)]
)
def test_too_many_pixels_are_refused_before_decoding(width: int, height: int) -> None:
    assert decoding_error(bare_png(width, height, b"")).code == "too-large"


@pytest.mark.parametrize(("width", "height"), [(65_535, 1), (1, 65_535)])
def test_the_longest_jpeg_side_is_allowed(width: int, height: int) -> None:
    data = encoded(Image.new("L", (width, height), 7), "PNG")
    assert decode(data).shape == (height, width, 3)
    assert decode(data, InputSpec(8, 8)).shape == (8, 8, 3)


def test_exactly_the_maximum_of_pixels_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoder, "MAX_PIXELS", 64 * 48)
    assert decode(jpeg("red", size=(64, 48))).shape == (48, 64, 3)
    assert decoding_error(jpeg("red", size=(65, 48))).code == "too-large"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"plain text",
        jpeg("red")[:-1],
        bare_png(4, 4, b"damaged"),
        bare_png(9_999, 9_999, b""),
        bytes(input_spec.READ_BYTES),
    ],
    ids=["empty", "not-image", "truncated", "unreadable", "too-many-pixels", "too-many-bytes"],
)
def test_the_message_names_the_photo(data: bytes) -> None:
    assert str(decoding_error(data)).startswith("s3://b/cat.jpg: ")


def mutations(data: bytes, seed: str, count: int = 300) -> Iterator[bytes]:
    chance = random.Random(seed)
    for _ in range(count):
        mutant = bytearray(data)
        for _ in range(chance.choice([1, 1, 3, 10])):
            mutant[chance.randrange(chance.choice([40, 200, len(mutant)]))] ^= 1 << chance.randrange(8)
        yield bytes(mutant[: chance.randrange(len(mutant))] if chance.random() < 0.3 else mutant)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP"])
def test_a_damaged_photo_never_raises_anything_but_a_photo_error(form: str) -> None:
    exif = {} if form in {"GIF", "BMP"} else {"exif": exif_block(SIDEWAYS, (0x0128, 3, 1, b"\x02\0\0\0"))}
    codes = set()
    for mutant in mutations(encoded(PICTURE[:18, :24], form, **exif), form):
        try:
            assert decode(mutant).dtype == np.uint8
        except PhotoError as error:
            codes.add(error.code)
    assert codes <= PHOTO_CODES - {"missing-decoder"}
    assert codes


def test_concurrent_decoding_keeps_the_warning_filters(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = jpeg("red", 1), jpeg("red", 2)
    began = {first: threading.Event(), second: threading.Event()}
    first_ended = threading.Event()
    open_image = decoder._open_image

    def open_in_turn(data: bytes) -> Image.Image:
        began[data].set()
        (began[second] if data == first else first_ended).wait(30)
        return open_image(data)

    monkeypatch.setattr(decoder, "_open_image", open_in_turn)
    with warnings.catch_warnings(), ThreadPoolExecutor(2) as pool:
        before = list(warnings.filters)
        first_result = pool.submit(decode, first)
        began[first].wait(30)
        second_result = pool.submit(decode, second)
        first_result.result()
        first_ended.set()
        second_result.result()
        assert list(warnings.filters) == before


CONCURRENT_FIRST_DECODE = """
import sys, threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from transferlite.images.decoder import decode

photos = [Path(name).read_bytes() for name in sys.argv[1:]] * 4
start = threading.Barrier(len(photos))

def work(data):
    start.wait()
    return decode(data).shape

sys.setswitchinterval(1e-6)
with ThreadPoolExecutor(len(photos)) as pool:
    print(set(pool.map(work, photos)))
"""


def test_threads_may_decode_the_first_photos_concurrently(tmp_path: Path) -> None:
    photos = []
    for form in ("PNG", "WEBP", "TIFF", "GIF"):
        photos.append(tmp_path / f"photo.{form.lower()}")
        photos[-1].write_bytes(encoded(PICTURE, form))
    command = [sys.executable, "-c", CONCURRENT_FIRST_DECODE, *map(str, photos)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == ("{(48, 64, 3)}", "")


# -- large JPEGs ------------------------------------------------------------------------------------------------------


def large_jpeg(width: int, height: int, mode: str = "RGB", **save: Any) -> bytes:
    """A photo-like picture: smooth shapes, an edge and some grain."""
    x, y = np.meshgrid(np.linspace(0, 9, width), np.linspace(0, 7, height))
    grain = np.random.default_rng(0).normal(0, 6, (height, width))
    channels = [120 + 90 * np.sin(x + k) * np.cos(y - k) + 30 * (x > 4) + grain for k in range(3)]
    file = io.BytesIO()
    picture = Image.fromarray(np.clip(np.stack(channels, 2), 0, 255).astype(np.uint8)).convert(mode)
    picture.save(file, "JPEG", quality=92, **save)
    return file.getvalue()


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("size", [(1000, 900), (2000, 960), (1600, 3000), (511, 4000), (512, 512)])
def test_scaling_a_large_jpeg_while_decoding_keeps_the_picture(size: tuple[int, int], mode: str) -> None:
    data, spec = large_jpeg(*size, mode=mode), InputSpec(128, 128)
    quick, whole = decode(data, spec).astype(int), resize_to(decode(data), spec).astype(int)
    assert np.abs(quick - whole).mean() < 0.5
    assert np.abs(quick - whole).max() <= 3


def test_scaling_noise_while_decoding_stays_below_the_stated_difference() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (900, 900, 3), np.uint8)
    data, spec = encoded(noise, "JPEG"), InputSpec(220, 220)
    assert 0 < np.abs(decode(data, spec).astype(int) - resize_to(decode(data), spec)).mean() < DRAFT_DIFFERENCE


@pytest.fixture
def sizes_decoded(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The upright width and height of each photo before it is resized."""
    seen: list[tuple[int, int]] = []

    def recording(image: Image.Image, spec: InputSpec | None) -> RGB:
        seen.append(image.size if orientation_transpose(image) is None else image.size[::-1])
        return upright_rgb(image, spec)

    monkeypatch.setattr(decoder, "upright_rgb", recording)
    return seen


def test_a_large_jpeg_is_decoded_to_at_least_twice_the_input_size(sizes_decoded: list[tuple[int, int]]) -> None:
    decode(large_jpeg(2000, 1200), InputSpec(100, 100))
    decode(large_jpeg(399, 399), InputSpec(100, 100))
    assert sizes_decoded == [(500, 300), (399, 399)]


def test_a_large_rotated_jpeg_is_decoded_to_at_least_twice_the_input_size(
    sizes_decoded: list[tuple[int, int]],
) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    decode(large_jpeg(2000, 600, exif=exif), InputSpec(64, 256))
    decode(large_jpeg(2400, 1200, exif=exif), InputSpec(64, 256))
    assert sizes_decoded == [(600, 2000), (600, 1200)]


def test_an_mpo_photo_of_a_phone_is_scaled_while_decoding_too(sizes_decoded: list[tuple[int, int]]) -> None:
    first, second = (Image.open(io.BytesIO(large_jpeg(1600, 1200, mode))) for mode in ("RGB", "L"))
    file = io.BytesIO()
    first.save(file, "MPO", save_all=True, append_images=[second])
    assert Image.open(io.BytesIO(file.getvalue())).format == "MPO"
    quick = decode(file.getvalue(), InputSpec(128, 128)).astype(int)
    whole = resize_to(decode(file.getvalue()), InputSpec(128, 128)).astype(int)
    assert sizes_decoded[0] == (400, 300)
    assert np.abs(quick - whole).max() <= 3


@pytest.mark.parametrize("share", [0.3, 0.7, 0.95, 0.999])
def test_a_truncated_large_jpeg_is_reported_as_truncated(share: float) -> None:
    data = large_jpeg(2000, 1200)
    with pytest.raises(PhotoError) as caught:
        decode(data[: int(len(data) * share)], InputSpec(64, 64))
    assert caught.value.code == "truncated"


IN_A_NEW_PROCESS = """
import io, sys
from concurrent.futures import ThreadPoolExecutor
from PIL import Image
from transferlite.images.decoder import decode

assert not {"PIL.GifImagePlugin", "PIL.PngImagePlugin"} & sys.modules.keys(), "imported before any photo needs them"
with ThreadPoolExecutor(8) as pool:
    shapes = set(pool.map(lambda data: decode(data).shape, map(bytes.fromhex, sys.argv[1:])))
print(shapes)
"""


def test_concurrent_first_photos_of_rare_formats_all_decode() -> None:
    def picture(kind: str) -> str:
        file = io.BytesIO()
        Image.new("RGB", (5, 4), "red").save(file, kind)
        return file.getvalue().hex()

    photos = [picture(kind) for kind in ("PNG", "GIF", "BMP", "TIFF", "WEBP") for _ in range(4)]
    done = subprocess.run(
        [sys.executable, "-c", IN_A_NEW_PROCESS, *photos], capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    assert done.stdout == "{(4, 5, 3)}\n"
