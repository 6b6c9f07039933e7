"""TIFF files: the range, sign and order of samples, pages, palettes, raw photos."""

import io
from typing import Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.transferlite.images.tiff_files import BITS, MAX, PHOTOMETRIC, SMAX, SMIN, SUBFILE_TYPE, Order, Tags, tiff
from transferlite.errors import PhotoError
from transferlite.images.decoder import decode
from transferlite.images.input_spec import InputSpec

RAMP = np.arange(256).reshape(8, 32)
WHITE_IS_ZERO: Tags = {PHOTOMETRIC: ("H", [0])}
ORDERS = pytest.mark.parametrize("order", ["<", ">"])
COMPRESSIONS = pytest.mark.parametrize("is_deflated", [False, True], ids=["uncompressed", "deflate"])


def grey(data: bytes) -> NDArray[np.uint8]:
    """Decode, and return the one channel of a grey image."""
    pixels = decode(data)
    assert (pixels[..., 0] == pixels[..., 1]).all()
    assert (pixels[..., 0] == pixels[..., 2]).all()
    return pixels[..., 0]


def rejection(data: bytes) -> PhotoError:
    with pytest.raises(PhotoError) as caught:
        decode(data)
    return caught.value


# -- range -----------------------------------------------------------------------------------------------------------


@ORDERS
@COMPRESSIONS
@pytest.mark.parametrize(
    ("samples", "tags"),
    [
        pytest.param(RAMP.astype(np.uint32), {SMIN: ("I", [0]), SMAX: ("I", [255])}, id="uint32"),
        pytest.param(RAMP.astype(np.uint32) << 24, {SMAX: ("I", [255 << 24])}, id="uint32 beyond int32"),
        pytest.param(RAMP.astype(np.uint32), {MAX: ("H", [255])}, id="uint32 with MaxSampleValue"),
        pytest.param(RAMP.astype(np.int32) - 100, {SMIN: ("i", [-100]), SMAX: ("i", [155])}, id="int32"),
        pytest.param(RAMP.astype(np.int16) - 100, {SMIN: ("h", [-100]), SMAX: ("h", [155])}, id="int16"),
        pytest.param(RAMP.astype(np.uint16) * 16, {SMAX: ("H", [255 * 16])}, id="12 bits in uint16"),
        pytest.param((RAMP / 51 - 3).astype(np.float32), {SMIN: ("f", [-3.0]), SMAX: ("f", [2.0])}, id="float"),
    ],
)
def test_samples_are_scaled_by_the_range_that_the_file_declares(
    samples: NDArray[Any], tags: Tags, order: Order, is_deflated: bool
) -> None:
    assert np.array_equal(grey(tiff((samples, tags), order=order, is_deflated=is_deflated)), RAMP)


@pytest.mark.parametrize("dtype", [np.uint32, np.int32, np.int16])
def test_integers_without_a_known_range_are_rejected_with_the_reason(dtype: type) -> None:
    error = rejection(tiff((RAMP.astype(dtype), {})))
    assert error.code == "unsupported-format"
    assert "without a declared range" in error.message
    assert "SMaxSampleValue" in str(error)


@pytest.mark.parametrize(
    "limits",
    [(9.0, 9.0), (9.0, 1.0), (float("nan"), 255.0), (0.0, float("inf"))],
    ids=["empty", "reversed", "nan", "infinite"],
)
def test_a_declared_range_that_makes_no_sense_is_not_used(limits: tuple[float, float]) -> None:
    tags: Tags = {SMIN: ("f", [limits[0]]), SMAX: ("f", [limits[1]])}
    assert np.array_equal(grey(tiff((RAMP.astype(np.float32), tags))), RAMP)


@ORDERS
@COMPRESSIONS
@pytest.mark.parametrize("scale", [1 / 255, 1])
def test_float_samples_of_0_to_1_and_0_to_255_keep_their_levels(order: Order, is_deflated: bool, scale: float) -> None:
    samples = (RAMP * scale).astype(np.float32)
    assert np.array_equal(grey(tiff((samples, {}), order=order, is_deflated=is_deflated)), RAMP)


def test_float_samples_a_little_over_1_are_clipped_and_do_not_make_the_photo_black() -> None:
    samples = (RAMP / 255 * 1.08 - 0.04).astype(np.float32)
    levels = grey(tiff((samples, {})))
    assert (levels.min(), levels.max()) == (0, 255)
    assert np.abs(levels - samples * 255).max() < 11


@pytest.mark.parametrize(("low", "high"), [(0, 7), (-3, 3), (0, 4095), (0, 1e30), (0, float("inf")), (-3e38, 1)])
def test_float_samples_of_another_range_are_rejected_with_their_range(low: float, high: float) -> None:
    error = rejection(tiff((np.array([[low, 0.5, high]], np.float32), {})))
    assert error.code == "unsupported-format"
    assert f"from {low:g} to {high:g}" in error.message


def test_a_rotated_photo_with_deep_samples_keeps_its_declared_range() -> None:
    tags: Tags = {SMAX: ("I", [255]), 274: ("H", [6])}
    assert np.array_equal(grey(tiff((RAMP.astype(np.uint32), tags))), np.rot90(RAMP, -1))


def test_integers_of_a_pillow_image_outside_16_bits_are_rejected() -> None:
    from transferlite.images.decoder import model_input

    with pytest.raises(PhotoError, match="without a declared range"):
        model_input(Image.fromarray(np.full((8, 8), 70_000, np.int32)), InputSpec(8, 8))


# -- sign and order --------------------------------------------------------------------------------------------------


@ORDERS
@COMPRESSIONS
@pytest.mark.parametrize(
    ("samples", "tags"),
    [
        (RAMP.astype(np.uint8), {}),
        (RAMP.astype(np.uint16) << 8, {}),
        (RAMP.astype(np.uint32), {SMAX: ("I", [255])}),
        ((RAMP / 255).astype(np.float32), {}),
    ],
    ids=["8", "16", "32", "float"],
)
def test_white_is_zero_is_inverted_at_every_depth(
    samples: NDArray[Any], tags: Tags, order: Order, is_deflated: bool
) -> None:
    data = tiff((samples, {**tags, **WHITE_IS_ZERO}), order=order, is_deflated=is_deflated)
    assert np.array_equal(grey(data), 255 - RAMP)


@pytest.mark.parametrize("bits", [1, 2, 4])
@pytest.mark.parametrize("photometric", [0, 1])
def test_samples_of_fewer_than_8_bits_are_scaled_to_0_to_255(bits: int, photometric: int) -> None:
    levels = np.arange(16).reshape(2, 8) % 2**bits
    packed = np.packbits((levels[..., None] >> np.arange(bits)[::-1] & 1).astype(np.uint8).reshape(2, -1), axis=1)
    size: Tags = {256: ("I", [8]), 257: ("I", [2]), 278: ("I", [2]), 277: ("H", [1])}
    data = tiff((packed.tobytes(), {**size, BITS: ("H", [bits]), PHOTOMETRIC: ("H", [photometric])}))
    expected = levels * 255 // (2**bits - 1)
    assert np.array_equal(grey(data), expected if photometric else 255 - expected)


def test_samples_of_12_bits_keep_their_high_bits() -> None:
    levels = np.arange(0, 4096, 256, dtype=np.uint16).reshape(2, 8)
    packed = np.packbits((levels[..., None] >> np.arange(12)[::-1] & 1).astype(np.uint8).reshape(2, -1), axis=1)
    size: Tags = {256: ("I", [8]), 257: ("I", [2]), 278: ("I", [2]), 277: ("H", [1]), PHOTOMETRIC: ("H", [1])}
    assert np.array_equal(grey(tiff((packed.tobytes(), {**size, BITS: ("H", [12])}))), levels >> 4)


@ORDERS
def test_planes_of_16_bits_are_not_read_as_8_bits(order: Order) -> None:
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3))
    planes = np.moveaxis(image, 2, 0).astype(np.uint16) * 257
    strip = planes.astype(planes.dtype.newbyteorder(order))
    size: Tags = {256: ("I", [7]), 257: ("I", [5]), 278: ("I", [5]), 277: ("H", [3]), PHOTOMETRIC: ("H", [2])}
    data = bytearray(tiff((strip.tobytes(), {**size, BITS: ("H", [16] * 3), 284: ("H", [2])}), order=order))
    offsets = [8, 8 + 70, 8 + 140]  # one strip a plane
    code: Literal["little", "big"] = "little" if order == "<" else "big"
    at = data.index((273).to_bytes(2, code) + (4).to_bytes(2, code))
    for position in (at, data.index((279).to_bytes(2, code) + (4).to_bytes(2, code))):
        values = offsets if position == at else [70] * 3
        data[position + 4 : position + 12] = (3).to_bytes(4, code) + len(data).to_bytes(4, code)
        data += b"".join(value.to_bytes(4, code) for value in values)
    assert np.array_equal(decode(bytes(data)), image)


# -- pages and palettes ----------------------------------------------------------------------------------------------


def test_a_thumbnail_before_the_photo_is_skipped() -> None:
    photo, thumbnail = RAMP.astype(np.uint8), np.zeros((2, 3), np.uint8)
    data = tiff((thumbnail, {SUBFILE_TYPE: ("I", [1])}), (photo, {}))
    assert np.array_equal(grey(data), photo)


def test_a_file_of_thumbnails_only_gives_the_first() -> None:
    reduced: Tags = {SUBFILE_TYPE: ("I", [1])}
    data = tiff((RAMP.astype(np.uint8), reduced), (np.zeros((2, 3), np.uint8), reduced))
    assert np.array_equal(grey(data), RAMP)


def test_the_first_of_several_pages_is_used() -> None:
    assert np.array_equal(grey(tiff((RAMP.astype(np.uint8), {}), (np.zeros((9, 9), np.uint8), {}))), RAMP)


@pytest.mark.parametrize("factor", [257, 256, 1], ids=["16 bits", "high byte", "8 bits"])
def test_a_colour_map_of_8_or_16_bits_gives_its_colours(factor: int) -> None:
    colours = np.random.default_rng(0).integers(0, 256, (3, 256))
    tags: Tags = {PHOTOMETRIC: ("H", [3]), 320: ("H", [int(value) * factor for value in colours.ravel()])}
    expected = np.moveaxis(colours[:, RAMP], 0, 2)
    assert np.array_equal(decode(tiff((RAMP.astype(np.uint8), tags))), expected)


# -- kinds that are not decoded --------------------------------------------------------------------------------------

CFA: Tags = {PHOTOMETRIC: ("H", [32803])}


def nested_raw() -> bytes:
    """A thumbnail with the raw photo in a directory of its own, as in NEF and ARW files."""
    data = bytearray(tiff((np.zeros((2, 3), np.uint8), {330: ("I", [0])})))
    inner = len(data)
    data += b"\1\0" + (262).to_bytes(2, "little") + b"\3\0\1\0\0\0" + (32803).to_bytes(4, "little") + bytes(4)
    at = data.index((330).to_bytes(2, "little") + b"\4\0")
    data[at + 8 : at + 12] = inner.to_bytes(4, "little")
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "name"),
    [
        pytest.param(tiff((np.zeros((2, 3), np.uint8), {50706: ("B", [1, 4, 0, 0])})), "DNG", id="DNG"),
        pytest.param(tiff((np.zeros((2, 3), np.uint16), CFA)), "a raw photo", id="PEF"),
        pytest.param(tiff((np.zeros((2, 3), np.uint16), CFA), order=">"), "a raw photo", id="big-endian"),
        pytest.param(nested_raw(), "a raw photo", id="NEF"),
        pytest.param(b"II*\0\x10\0\0\0CR\2\0" + bytes(200), "CR2", id="CR2"),
    ],
)
def test_a_raw_photo_is_named_and_not_decoded_as_its_thumbnail(data: bytes, name: str) -> None:
    error = rejection(data)
    assert error.code == "unsupported-format"
    assert name in error.message
    assert "export it" in str(error)


@pytest.mark.parametrize("compression", [34887, 34712, 50002])
def test_a_compression_that_pillow_lacks_is_named(compression: int) -> None:
    data = bytearray(tiff((RAMP.astype(np.uint8), {})))
    at = data.index((259).to_bytes(2, "little") + b"\3\0")
    data[at + 8 : at + 10] = compression.to_bytes(2, "little")
    error = rejection(bytes(data))
    assert (error.code, str(compression) in error.message) == ("unsupported-format", True)


@pytest.mark.parametrize("dtype", [np.float64, np.float16, np.uint64])
def test_samples_that_pillow_cannot_read_are_unsupported_and_not_damaged(dtype: type) -> None:
    assert rejection(tiff((RAMP.astype(dtype), {}))).code == "unsupported-format"


def test_a_damaged_directory_is_unreadable_and_never_not_an_image() -> None:
    file = io.BytesIO()
    Image.fromarray(RAMP.astype(np.uint8)).save(file, "TIFF")
    data = bytearray(file.getvalue())
    data[4:8] = b"\xff\xff\xff\x7f"
    assert rejection(bytes(data)).code in {"unreadable", "truncated"}
