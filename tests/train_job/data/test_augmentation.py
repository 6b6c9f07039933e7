import hashlib

import numpy as np
import pytest

from train_job.data.augmentation import augment, view_names
from transferlite.errors import InputError

SHA = hashlib.sha256(b"a").hexdigest()
OTHER = hashlib.sha256(b"b").hexdigest()


def gradient() -> np.ndarray[tuple[int, int, int], np.dtype[np.uint8]]:
    ramp = np.linspace(0, 255, 40)
    channels = [np.tile(ramp, (30, 1)), np.tile(ramp[:30, None], (1, 40)), np.full((30, 40), 90)]
    return np.stack(channels, 2).astype(np.uint8)


def test_the_plain_view_comes_first() -> None:
    assert view_names("none", 7) == ("plain",)
    assert view_names("flip", 1) == ("plain", "flip-1")
    assert view_names("standard", 3) == ("plain", "standard-1", "standard-2", "standard-3")


def test_a_photo_has_only_one_mirror_image() -> None:
    with pytest.raises(InputError, match=r"--views 2.*one mirror image.*standard"):
        view_names("flip", 2)


def test_the_plain_view_is_the_photo_and_flip_its_mirror_image() -> None:
    image = gradient()
    assert augment(image, "plain", SHA) is image
    np.testing.assert_array_equal(augment(image, "flip-1", SHA), image[:, ::-1])


def test_a_view_depends_on_the_photo_and_its_number_alone() -> None:
    image = gradient()
    first = augment(image, "standard-1", SHA)
    np.testing.assert_array_equal(augment(image, "standard-1", SHA), first)
    assert (augment(image, "standard-2", SHA) != first).any()
    assert (augment(image, "standard-1", OTHER) != first).any()


def test_standard_views_are_of_the_photos_size_and_close_to_it() -> None:
    image = gradient()
    for number in range(1, 30):
        view = augment(image, f"standard-{number}", SHA)
        assert view.shape == image.shape
        assert view.dtype == np.uint8
        assert abs(float(view.mean()) - float(image.mean())) < 60


def test_some_standard_views_are_mirrored_and_some_are_not() -> None:
    rows = [augment(gradient(), f"standard-{number}", SHA)[0, :, 0].astype(int) for number in range(1, 21)]
    assert {np.sign(row @ np.arange(-20, 20)) for row in rows} == {-1, 1}
