import hashlib
import io
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from tests.pictures import COLOURS, jpeg
from train_job.data.photo_facts import decode_with_facts
from train_job.quality.duplicates import MAX_GROUP, group_pairs, near_duplicate_pairs, stack_signatures
from transferlite.images.decoder import decode
from transferlite.images.input_spec import InputSpec

SPEC = InputSpec(224, 224)


def saved(image: Image.Image, form: str = "JPEG", **options: int) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def half(image: Image.Image) -> bytes:
    return saved(image.resize((image.width // 2, image.height // 2), Image.Resampling.LANCZOS), quality=90)


COPIES: dict[str, Callable[[Image.Image], bytes]] = {
    "encoded again": lambda image: saved(image, quality=50),
    "half the size": half,
    "brighter": lambda image: saved(ImageEnhance.Brightness(image).enhance(1.05), quality=90),
    "without metadata": lambda image: saved(image, quality=95),
    "as WebP": lambda image: saved(image, "WEBP", quality=60),
}


def scene(number: int) -> Image.Image:
    """Draw an image of soft shapes."""
    random = np.random.default_rng(number)
    coarse = Image.fromarray(random.integers(0, 256, (7, 9, 3), np.uint8))
    return coarse.resize((320, 240), Image.Resampling.BICUBIC)


def signature(data: bytes, spec: InputSpec = SPEC) -> bytes:
    return decode_with_facts(data, spec)[1].signature


def pairs_of(photos: list[bytes]) -> list[list[int]]:
    pairs: list[list[int]] = near_duplicate_pairs(stack_signatures([signature(data) for data in photos])).tolist()
    return pairs


@pytest.mark.parametrize("kind", COPIES)
def test_a_copy_of_another_quality_size_or_brightness_is_found(kind: str) -> None:
    scenes = [scene(number) for number in range(30)]
    copies = [COPIES[kind](image) for image in scenes]
    assert pairs_of([saved(image, quality=90) for image in scenes] + copies) == [
        [number, number + 30] for number in range(30)
    ]


def test_a_photo_decoded_to_two_sizes_is_a_near_duplicate() -> None:
    first, second = (signature(saved(scene(1)), InputSpec(side, side)) for side in (96, 299))
    assert near_duplicate_pairs(stack_signatures([first, second])).tolist() == [[0, 1]]


def test_photos_of_the_same_shapes_in_other_colours_are_not_the_same() -> None:
    colours = [Image.merge("RGB", [scene(1).split()[i] for i in order]) for order in ((0, 1, 2), (2, 1, 0))]
    assert pairs_of([saved(image) for image in colours]) == []


def test_noise_over_one_colour_is_no_near_duplicate() -> None:
    assert pairs_of([jpeg(colour, number) for colour in COLOURS for number in range(40)]) == []


def test_ten_thousand_equal_photos_are_paired_with_the_first() -> None:
    pairs = near_duplicate_pairs(np.full((10_000, 64), 7, np.uint8))
    assert pairs[:, 0].tolist() == [0] * 9_999
    assert group_pairs(pairs[:0], []) == []


def test_nothing_and_a_single_photo_have_no_pairs() -> None:
    assert near_duplicate_pairs(stack_signatures([])).tolist() == []
    assert pairs_of([jpeg("red")]) == []


def test_the_search_finds_the_same_pairs_as_comparing_all() -> None:
    random = np.random.default_rng(1)
    signatures = random.integers(0, 256, (400, 64), np.uint8)
    signatures[200:] = signatures[:200]
    for _ in range(4):  # 4 signs differ: one band of five is still equal
        signatures[np.arange(200, 400), random.integers(0, 8, 200)] ^= np.uint8(1) << random.integers(
            0, 8, 200, np.uint8
        )
    assert near_duplicate_pairs(signatures).tolist() == [[number, number + 200] for number in range(200)]


# -- groups ----------------------------------------------------------------------------------------------------------


def chained(count: int) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
    """Pair each index with the next two."""
    return np.array([[i, i + step] for step in (1, 2) for i in range(count - step)], np.int64)


def test_a_short_chain_stays_together() -> None:
    assert group_pairs(chained(8), ["cat"] * 40) == [list(range(8))]


def test_a_long_chain_is_divided() -> None:
    groups = group_pairs(chained(40), ["cat"] * 40)
    assert max(map(len, groups)) <= 10
    assert len({i for group in groups for i in group}) == sum(map(len, groups)) > 30


def test_many_equal_photos_are_divided_into_groups() -> None:
    star = np.array([[0, other] for other in range(1, 1000)], np.int64)
    groups = group_pairs(star, ["cat"] * 1000)
    assert sorted(i for group in groups for i in group) == list(range(1000))
    assert max(map(len, groups)) == MAX_GROUP


def test_the_smaller_class_bounds_a_group_of_two_classes() -> None:
    labels = ["cat"] * 100 + ["dog"] * 4
    assert max(map(len, group_pairs(np.array([[98, 99], [99, 100], [100, 101]]), labels))) == 2


# -- real photos -----------------------------------------------------------------------------------------------------


@pytest.mark.photos
@pytest.mark.parametrize("kind", COPIES)
def test_copies_of_real_photos_are_found_and_no_others(photo_sets: Path, kind: str) -> None:
    paths = (
        sorted((photo_sets / "catsdogs" / "train_img").iterdir())[::2]
        + sorted((photo_sets / "flowers" / "train").rglob("*.jpg"))[::6]
    )
    data = list(
        {hashlib.sha256(content).digest(): content for content in (path.read_bytes() for path in paths)}.values()
    )
    copies = [COPIES[kind](Image.fromarray(decode(content))) for content in data]
    pairs = Counter((first, second) for first, second in pairs_of(data + copies))
    right = {(number, number + len(data)) for number in range(len(data))}
    assert len(right & pairs.keys()) >= 0.995 * len(data)
    assert pairs.keys() <= right
