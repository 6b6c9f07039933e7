"""Property tests of the decoder, and a short fuzzing run."""

import io
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, features

from tests.transferlite.damage import FORMS, PNG_START, damaged, picture, split, write, written
from transferlite.errors import PhotoError
from transferlite.images.decoder import PHOTO_CODES, decode
from transferlite.images.input_spec import InputSpec

ROOT = Path(__file__).parents[3]
SEEDS = written()
SPECS = st.one_of(st.none(), st.builds(InputSpec, st.integers(8, 64), st.integers(8, 64)))

# Derandomised: every run tests the same examples, so that only a code change can make one fail.
quick = settings(deadline=None, derandomize=True, max_examples=150, suppress_health_check=list(HealthCheck))

SIGNATURES = (b"", b"\xff\xd8\xff", PNG_START, b"GIF89a", b"RIFF\x40\0\0\0WEBPVP8 ", b"II*\0\x08\0\0\0", b"BM", b"P6\n")
KINDS = [
    (form, mode)
    for form, (modes, _) in FORMS.items()
    for mode in modes
    if form != "AVIF" or features.check("avif")
]  # fmt: skip
EXACT = {"PNG", "WEBP lossless", "TIFF", "BMP", "PPM", "DIB", "DDS", "TGA", "PCX", "JPEG2000"}
TURNED = {"PNG", "TIFF", "WEBP lossless"}
TURNS: dict[int, Callable[[NDArray[np.uint8]], NDArray[np.uint8]]] = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: np.rot90,
}


def outcome(data: bytes, spec: InputSpec | None) -> str:
    """Return ``decoded`` or the error's code; fail on any other result."""
    photo_error = None
    try:
        image = decode(data, spec, where="s3://b/x")
    except PhotoError as error:
        photo_error = error
    if photo_error:
        assert photo_error.code in PHOTO_CODES
        assert str(photo_error).startswith("s3://b/x: ")
        return photo_error.code
    assert image.dtype == np.uint8
    assert image.ndim == 3
    assert image.shape[2] == 3
    assert spec is None or image.shape == (spec.height, spec.width, 3)
    return "decoded"


@quick
@given(st.sampled_from(SIGNATURES), st.binary(max_size=300), SPECS)
@example(b"", b"", None)
@example(b"BM", b"", None)
def test_any_bytes_give_a_photo_or_a_photo_error(start: bytes, rest: bytes, spec: InputSpec | None) -> None:
    outcome(start + rest, spec)


@quick
@given(st.integers(0, 2**32), st.sampled_from(SEEDS), SPECS)
def test_any_damage_gives_a_photo_or_a_photo_error(number: int, data: bytes, spec: InputSpec | None) -> None:
    outcome(damaged(data, SEEDS, random.Random(number)), spec)


@quick
@given(st.sampled_from(SEEDS), st.floats(0, 1, exclude_max=True), SPECS)
def test_a_photo_truncated_anywhere_gives_a_photo_or_a_photo_error(
    data: bytes, share: float, spec: InputSpec | None
) -> None:
    truncated = data[: int(len(data) * share)]
    assert (outcome(truncated, spec) == "empty") == (not truncated)


@quick
@given(st.sampled_from(KINDS), st.integers(1, 40), st.integers(1, 40), st.integers(1, 8), SPECS)
def test_pictures_of_every_format_and_mode_are_decoded_upright(
    kind: tuple[str, str], width: int, height: int, orientation: int, spec: InputSpec | None
) -> None:
    form, mode = kind
    if form in {"ICO", "ICNS"}:
        width = height = 32
    data = write(picture(mode, width, height), form, orientation)
    assert outcome(data, spec) == "decoded"
    turned = form in {"JPEG", "MPO", "PNG", "WEBP", "TIFF", "AVIF"} and orientation > 4
    assert decode(data).shape == ((width, height, 3) if turned else (height, width, 3))


@quick
@given(st.sampled_from(sorted(EXACT)), st.integers(1, 40), st.integers(1, 40), st.integers(1, 8), st.integers(0, 99))
def test_a_lossless_rgb_picture_keeps_every_pixel(
    form: str, width: int, height: int, orientation: int, number: int
) -> None:
    stored = picture("RGB", width, height, number)
    data = write(
        stored, form.removesuffix(" lossless"), orientation, **({"lossless": True} if "lossless" in form else {})
    )
    upright = TURNS[orientation if form in TURNED else 1](np.asarray(stored))
    assert np.array_equal(decode(data), upright)


@pytest.mark.parametrize("data", SEEDS, ids=lambda data: f"{data[:4]!r}-{len(data)}")
def test_the_chunks_of_a_picture_join_to_the_picture(data: bytes) -> None:
    assert b"".join(split(data)) == data
    assert outcome(data, None) == "decoded"
    assert data[:2] not in {PNG_START[:2], b"\xff\xd8", b"RI"} or len(split(data)) > 2


def test_the_seeds_cover_every_format() -> None:
    formats = {Image.open(io.BytesIO(data)).format for data in SEEDS}
    assert formats >= set(FORMS) - {"AVIF"}


def test_a_short_fuzzing_run_finds_no_crash_hang_or_memory_blow_up(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "tests.transferlite.images.fuzz_decoder",
        "--count",
        "1000",
        "--out",
        str(tmp_path),
    ]
    completed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert completed.returncode == 0, completed.stdout + completed.stderr
    assert completed.stdout.startswith("1000 inputs from ")


@pytest.mark.photos
def test_every_hard_input_is_decoded_or_rejected_within_256_mib(photo_sets: Path, tmp_path: Path) -> None:
    corpus = ["--corpus", str(photo_sets / "hard_inputs"), "--count", "340", "--out", str(tmp_path)]
    completed = subprocess.run(
        [sys.executable, "-m", "tests.transferlite.images.fuzz_decoder", *corpus],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert completed.returncode == 0, completed.stdout + completed.stderr
    assert int(completed.stdout.split("from ")[1].split()[0]) <= 340  # so that every seed was tried undamaged
