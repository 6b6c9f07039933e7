"""The memory that decoding takes stays within the budget, and the budget within the memory at hand."""

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.decoding_memory import decode_limited, peaks, refused
from benchmarks.helpers.large_photos import KINDS, PhotoKind, register_encoders
from tests.pictures import jpeg
from tests.transferlite.damage import picture, write
from transferlite.errors import PhotoError
from transferlite.images import decoder
from transferlite.images.decoder import decode
from transferlite.images.input_spec import InputSpec
from transferlite.inference import memory_budget
from transferlite.inference.memory_budget import MemoryBudget, limit_decoding, memory_at_hand, share_for_decoding

MIB = 2**20
FUNCTION_MEMORY = 96
"""A tenth of the default size: the largest accepted photos have 1 to 9 million pixels."""
BUDGET_MIB = FUNCTION_MEMORY / 2
CHEAP = (
    "PNG with alpha, turned",
    "WebP with alpha",
    "JPEG, progressive",
    "TIFF, LZW in one strip",
    "TIFF with alpha, turned",
    "JPEG 2000",
)
"""Kinds that take little time; ``python -m benchmarks.decoding_memory`` measures all of them."""


def kinds() -> list[PhotoKind]:
    return [kind for kind in KINDS if kind.name in CHEAP]


@pytest.mark.parametrize("kind", kinds(), ids=lambda kind: str(kind.name))
def test_the_largest_accepted_photo_stays_within_the_budget(kind: PhotoKind, tmp_path: Path) -> None:
    *_, accepted = peaks(kind, FUNCTION_MEMORY, 2500, tmp_path)
    assert (accepted.code, accepted.message) == ("", "")
    assert accepted.pixels > 800_000
    assert accepted.mib <= BUDGET_MIB


def test_a_bomb_of_every_format_is_refused_within_the_budget(tmp_path: Path) -> None:
    found = list(refused(1024, tmp_path))
    assert len(found) == len(KINDS) + 2
    assert {peak.name: peak.mib for peak in found if peak.mib > 32} == {}
    assert {peak.code for peak in found} <= {"too-large", "unreadable", "truncated", "unsupported-format", ""}


@pytest.mark.photos
def test_every_hard_input_takes_at_most_256_mib(photo_sets: Path) -> None:
    paths = [path for path in sorted((photo_sets / "hard_inputs").rglob("*")) if path.suffix != ".csv"]
    results = decode_limited([path for path in paths if path.is_file()], 1024)
    assert len(results) == 209
    assert max(result["mib"] for result in results) <= 256
    assert {result["code"] for result in results} <= decoder.PHOTO_CODES | {""}


# -- the budget ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("memory", "share"), [(256, 128), (512, 256), (1024, 256), (2048, 512), (10_240, 2560)])
def test_the_share_of_decoding(memory: int, share: int) -> None:
    assert share_for_decoding(memory * MIB) == share * MIB


def test_the_memory_at_hand_is_the_smallest_limit(tmp_path: Path) -> None:
    group = tmp_path / "sys/fs/cgroup/a/b"
    group.mkdir(parents=True)
    (tmp_path / "proc/self").mkdir(parents=True)
    assert memory_at_hand({}, tmp_path) > 1024 * MIB
    assert memory_at_hand({"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "512"}, tmp_path) == 512 * MIB
    (tmp_path / "proc/self/cgroup").write_text("0::/a/b\n")
    (group / "memory.max").write_text("max\n")
    (group.parent / "memory.max").write_text(f"{300 * MIB}\n")
    assert memory_at_hand({"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "512"}, tmp_path) == 300 * MIB


@pytest.fixture
def small_budget(monkeypatch: pytest.MonkeyPatch) -> Iterator[MemoryBudget]:
    """A process with 64 MiB that may use 8 MiB for one photo's pixels."""
    memory_budget.decoding_budget.cache_clear()
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "64")
    yield memory_budget.decoding_budget()
    memory_budget.decoding_budget.cache_clear()


def test_the_message_has_the_size_and_the_limit_of_the_format(small_budget: MemoryBudget) -> None:
    data = write(Image.new("RGBA", (1000, 800)), "WEBP", lossless=True)
    with pytest.raises(PhotoError) as caught:
        decode(data, InputSpec(64, 64))
    assert caught.value.code == "too-large"
    assert caught.value.message.startswith("1000x800 is more than ")
    assert caught.value.message.endswith(" pixels, the limit for WebP in 32 MiB")
    assert "more memory" in caught.value.hint
    assert decode(jpeg("red", size=(1000, 800)), InputSpec(64, 64)).shape == (64, 64, 3)


def test_a_limit_lowers_the_budget_and_never_raises_it(small_budget: MemoryBudget) -> None:
    limit_decoding(2**40)
    assert small_budget.limit == 32 * MIB
    limit_decoding(30 * MIB)
    assert small_budget.limit == 30 * MIB


def test_photos_wait_until_others_leave_enough_memory() -> None:
    budget, held, done = MemoryBudget(100 * MIB), threading.Event(), threading.Event()

    def second() -> None:
        held.wait()
        with budget.reserve(50 * MIB, "PNG", (1, 1)):
            done.set()

    thread = threading.Thread(target=second)
    thread.start()
    with budget.reserve(50 * MIB, "PNG", (1, 1)):
        held.set()
        assert not done.wait(0.2)
    thread.join(10)
    assert done.is_set()


def test_a_memory_error_is_an_error_of_the_photo(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(decoder, "upright_rgb", no_memory)
    with pytest.raises(PhotoError, match="needs more memory than there is") as caught:
        decode(jpeg("red"))
    assert caught.value.code == "too-large"


# -- strips ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("size", [(150, 70), (70, 150), (40, 300)])
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "I;16", "P"])
def test_a_photo_resized_in_strips_has_the_pixels_of_one_resized_whole(
    mode: str, size: tuple[int, int], orientation: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, specs = (
        write(picture(mode, *size), "PNG", orientation),
        (InputSpec(16, 12), InputSpec(10, 50, "letterbox"), InputSpec(9, 9, "center-crop"), None),
    )
    whole = [decode(data, spec) for spec in specs]
    monkeypatch.setattr("transferlite.images.upright_rgb._STRIP_PIXELS", 1000)
    in_strips = [decode(data, spec) for spec in specs]
    for one, other in zip(whole, in_strips, strict=True):
        assert np.array_equal(one, other)


def test_the_kinds_of_the_benchmark_can_be_written() -> None:
    register_encoders()
    assert all(decode(kind.write(80, 60)).shape in {(60, 80, 3), (80, 60, 3)} for kind in KINDS)
