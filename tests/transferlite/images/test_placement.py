"""Squash, letterbox and center crop."""

import io
import itertools

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageOps

from transferlite.errors import InputError
from transferlite.images.decoder import RGB, decode, resize_to
from transferlite.images.input_spec import CENTER_CROP, LETTERBOX, RESIZE_MODES, SQUASH, InputSpec
from transferlite.images.placement import PADDING, map_to_photo, place, shares_of_photo

SIZES = (1, 7, 64, 79, 120, 640)


@pytest.mark.parametrize("resize", RESIZE_MODES)
def test_a_photo_of_any_shape_fills_an_input_of_any_shape(resize: str) -> None:
    for width, height, shape in itertools.product(SIZES, SIZES, [(64, 64), (32, 96)]):
        spec = InputSpec(*shape, resize)
        source, target = place(width, height, spec)
        assert 0 <= source.left <= source.left + source.width <= width
        assert 0 <= source.top <= source.top + source.height <= height
        assert min(source[2:] + target[2:]) >= 1
        assert target.left + target.width <= spec.width
        assert target.top + target.height <= spec.height
        assert (source[2:] == (width, height)) or resize == CENTER_CROP
        assert (target[2:] == (spec.width, spec.height)) or resize == LETTERBOX
        image = np.zeros((height, width, 3), np.uint8)
        assert resize_to(image, spec).shape == (spec.height, spec.width, 3)


def test_letterbox_keeps_the_shape_and_pads_with_grey() -> None:
    image = np.zeros((120, 640, 3), np.uint8)
    boxed = resize_to(image, InputSpec(64, 64, LETTERBOX))
    assert (boxed[:26] == PADDING).all()
    assert (boxed[26:38] == 0).all()
    assert (boxed[38:] == PADDING).all()


def test_center_crop_equals_pillows() -> None:
    image = np.random.default_rng(0).integers(0, 256, (90, 200, 3), np.uint8)
    expected = Image.fromarray(image).crop((55, 0, 145, 90)).resize((64, 64), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(resize_to(image, InputSpec(64, 64, CENTER_CROP)), np.asarray(expected))


def test_letterbox_equals_pillows_pad() -> None:
    image = np.random.default_rng(0).integers(0, 256, (90, 180, 3), np.uint8)
    expected = ImageOps.pad(Image.fromarray(image), (64, 64), Image.Resampling.BICUBIC, (PADDING,) * 3)
    np.testing.assert_array_equal(resize_to(image, InputSpec(64, 64, LETTERBOX)), np.asarray(expected))


def strip(dark_left: bool) -> RGB:
    """A photo of 120 x 640 pixels whose class shows in the outer tenth of its long side only."""
    image = np.full((120, 640, 3), 200, np.uint8)
    image[:, :64] = 20 if dark_left else 200
    return image


def test_a_class_in_the_outer_tenth_is_lost_by_a_center_crop_only() -> None:
    for resize in RESIZE_MODES:
        left, plain = (resize_to(strip(dark), InputSpec(64, 64, resize)) for dark in (True, False))
        assert np.array_equal(left, plain) is (resize == CENTER_CROP)


def disc(width: int, height: int) -> RGB:
    image = Image.new("RGB", (width, height), "white")
    ImageDraw.Draw(image).ellipse((width * 0.2, height * 0.2, width * 0.8, height * 0.8), fill="black")
    return np.asarray(image)


def test_wide_and_tall_objects_are_alike_only_when_squashed() -> None:
    def difference(resize: str) -> float:
        wide, tall = (resize_to(disc(*size), InputSpec(64, 64, resize)) for size in ((400, 200), (200, 400)))
        return float(np.abs(wide.astype(int) - tall).mean())

    assert difference(SQUASH) < 3
    assert difference(LETTERBOX) > 40
    assert difference(CENTER_CROP) > 40


@pytest.mark.parametrize("resize", RESIZE_MODES)
def test_a_turned_and_scaled_jpeg_is_placed_as_the_upright_image(resize: str) -> None:
    upright = Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 21, 3), np.uint8)).resize((2100, 900))
    exif = Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    upright.transpose(Image.Transpose.ROTATE_90).save(file, "JPEG", quality=95, exif=exif)
    spec = InputSpec(64, 64, resize)
    difference = np.abs(decode(file.getvalue(), spec).astype(int) - resize_to(np.asarray(upright), spec))
    assert difference.mean() < 4


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(InputError, match=r"unknown resize mode 'bicubic'; this release knows squash, letterbox"):
        InputSpec(64, 64, "bicubic")


def test_values_of_an_input_lie_over_the_part_of_the_photo_that_it_shows() -> None:
    values = np.arange(64 * 64, dtype=np.float32).reshape(64, 64)
    boxed = InputSpec(64, 64, LETTERBOX)
    assert map_to_photo(values, place(640, 120, boxed), (640, 120)).shape == (12, 64)
    cropped = InputSpec(64, 64, CENTER_CROP)
    whole = map_to_photo(values, place(640, 120, cropped), (640, 120))
    assert whole.shape == (64, 341)
    np.testing.assert_array_equal(whole[:, 138:202], values)
    assert not whole[:, :138].any()
    assert not whole[:, 202:].any()
    np.testing.assert_array_equal(map_to_photo(values, place(640, 120, InputSpec(64, 64)), (640, 120)), values)


def test_a_part_of_an_input_is_a_part_of_the_photo() -> None:
    boxed, cropped = InputSpec(64, 64, LETTERBOX), InputSpec(64, 64, CENTER_CROP)
    size = (640, 120)
    assert shares_of_photo((0, 0, 1, 1), place(*size, boxed), boxed, size) == (0, 0, 1, 1)
    left, top, right, bottom = shares_of_photo((0.5, 0, 1, 1), place(*size, cropped), cropped, size)
    assert (left, top, right, bottom) == pytest.approx((0.5, 0, (260 + 120) / 640, 1))
