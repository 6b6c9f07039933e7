import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.pictures import jpeg
from tests.train_job.known_rows import hashes_of
from train_job.data.perceptual_hash import SIGNATURE_BYTES
from train_job.data.photo_facts import MIN_SIDE, PhotoFacts, PhotoTrait, decode_with_facts, has_wrong_extension
from train_job.store.compaction import compact
from train_job.store.feature_store import FeatureStore
from transferlite.errors import PhotoError
from transferlite.images.decoder import decode
from transferlite.images.input_spec import InputSpec
from transferlite.storage.store import MemoryStore

SPEC = InputSpec(64, 64)
PICTURE = Image.open(io.BytesIO(jpeg("red")))


def encoded(image: Image.Image, form: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


FRAMES = [PICTURE.convert("P"), PICTURE.rotate(90).convert("P")]
DEEP = Image.fromarray(np.full((16, 16), 4000, np.uint16))
KINDS = {
    "plain JPEG": (encoded(PICTURE, "JPEG"), "JPEG", PhotoTrait(0)),
    "turned JPEG": (encoded(PICTURE, "JPEG", exif=turned()), "JPEG", PhotoTrait.ROTATED),
    "CMYK JPEG": (encoded(PICTURE.convert("CMYK"), "JPEG"), "JPEG", PhotoTrait.CMYK),
    "palette PNG": (encoded(PICTURE.convert("P"), "PNG"), "PNG", PhotoTrait.PALETTE),
    "16-bit PNG": (encoded(DEEP, "PNG"), "PNG", PhotoTrait.DEEP),
    "16-bit TIFF": (encoded(DEEP, "TIFF"), "TIFF", PhotoTrait.DEEP),
    "RGBA PNG": (encoded(PICTURE.convert("RGBA"), "PNG"), "PNG", PhotoTrait(0)),
    "GIF of one picture": (encoded(FRAMES[0], "GIF"), "GIF", PhotoTrait.PALETTE),
    "animated GIF": (
        encoded(FRAMES[0], "GIF", save_all=True, append_images=FRAMES[1:]),
        "GIF",
        PhotoTrait.PALETTE | PhotoTrait.ANIMATED,
    ),
    "animated WebP": (
        encoded(PICTURE, "WEBP", save_all=True, append_images=[PICTURE.rotate(180)]),
        "WEBP",
        PhotoTrait.ANIMATED,
    ),
    "a phone's two pictures": (encoded(PICTURE, "MPO", save_all=True, append_images=[PICTURE]), "MPO", PhotoTrait(0)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_facts_describe_the_photo(kind: str) -> None:
    data, form, traits = KINDS[kind]
    pixels, facts = decode_with_facts(data, SPEC)
    assert (facts.format, facts.traits) == (form, traits)
    np.testing.assert_array_equal(pixels, decode(data, SPEC))


def test_the_size_is_that_of_the_file_also_of_a_jpeg_that_is_scaled_as_it_is_decoded() -> None:
    _, facts = decode_with_facts(jpeg("red", size=(900, 700)), InputSpec(32, 32))
    assert (facts.width, facts.height) == (900, 700)


@pytest.mark.parametrize(("width", "height"), [(MIN_SIDE - 1, 100), (100, MIN_SIDE - 1), (1, 1)])
def test_a_photo_of_a_few_pixels_is_too_small(width: int, height: int) -> None:
    with pytest.raises(PhotoError) as caught:
        decode_with_facts(encoded(Image.new("RGB", (width, height)), "PNG"), SPEC)
    assert caught.value.code == "too-small"
    assert f"{width}x{height}" in caught.value.message


def test_a_photo_of_just_enough_pixels_is_used() -> None:
    decode_with_facts(encoded(Image.new("RGB", (MIN_SIDE, MIN_SIDE)), "PNG"), SPEC)


def test_a_picture_without_contrast_has_no_signature() -> None:
    assert decode_with_facts(encoded(Image.new("RGB", (90, 60), "teal"), "PNG"), SPEC)[1].signature == b""
    assert len(decode_with_facts(jpeg("red"), SPEC)[1].signature) == SIGNATURE_BYTES


@pytest.mark.parametrize(
    ("uri", "form", "wrong"),
    [
        ("s3://b/a.jpg", "JPEG", False),
        ("a.JPEG", "JPEG", False),
        ("a.jpg", "MPO", False),
        ("a.jpg", "PNG", True),
        ("a.png", "JPEG", True),
        ("a.HEIC", "HEIF", False),
        ("a.hif", "HEIF", False),
        ("a.jpg", "HEIF", True),
        ("a.heic", "JPEG", True),
        ("a.jxl", "JXL", False),
        ("no extension", "JPEG", False),
        ("photo.v2", "JPEG", False),
        ("a.b/c", "PNG", False),
        ("a.jpg", "a format of the future", False),
    ],
)
def test_an_extension_of_another_format_is_wrong(uri: str, form: str, wrong: bool) -> None:
    assert has_wrong_extension(uri, form) is wrong


# -- stored ----------------------------------------------------------------------------------------------------------


def facts_of(number: int) -> PhotoFacts:
    return PhotoFacts(
        "JPEG", 100 + number, 80, PhotoTrait(number % 32), bytes([number]) * SIGNATURE_BYTES if number else b""
    )


def test_facts_are_stored_unchanged_also_when_merged() -> None:
    features = FeatureStore(MemoryStore())
    hashes = hashes_of(range(30))
    for start in range(0, 30, 10):
        features.add_facts({hashes[number]: facts_of(number) for number in range(start, start + 10)})
    wanted, expected = [*reversed(hashes), "f" * 64], [*map(facts_of, reversed(range(30))), None]
    assert features.facts().lookup(wanted) == expected
    assert compact(features.facts_parts) == 2
    assert features.facts().lookup(wanted) == expected
    assert len(features.facts()) == 30


def test_a_store_without_facts_knows_none() -> None:
    assert FeatureStore(MemoryStore()).facts().lookup(hashes_of([1])) == [None]
    assert FeatureStore(MemoryStore()).facts().lookup([]) == []


def test_facts_of_another_version_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    features = FeatureStore(MemoryStore())
    monkeypatch.setattr("train_job.store.facts_index.FACTS_VERSION", 99)
    features.add_facts({hashes_of([1])[0]: facts_of(1)})
    monkeypatch.undo()
    assert features.facts().lookup(hashes_of([1])) == [None]


def test_facts_take_less_than_150_bytes_a_photo() -> None:
    features = FeatureStore(MemoryStore())
    features.add_facts(dict(zip(hashes_of(range(1000)), [facts_of(9)] * 1000, strict=True)))
    assert sum(entry.size for entry in features.store.entries("facts/")) < 150_000
