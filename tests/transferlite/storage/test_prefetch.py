import hashlib
import threading
from collections.abc import Iterator

import pytest

from transferlite.storage.prefetch import prefetch_map


@pytest.mark.parametrize("count", [0, 1, 3, 100])
@pytest.mark.parametrize("window", [None, 1, 7])
def test_results_come_in_order(count: int, window: int | None) -> None:
    assert list(prefetch_map(str, range(count), workers=4, window=window)) == list(map(str, range(count)))


def test_no_more_items_than_the_window_are_taken() -> None:
    taken = []

    def items() -> Iterator[int]:
        for number in range(50):
            taken.append(number)
            yield number

    for result in prefetch_map(int, items(), workers=2, window=5):
        assert len(taken) <= result + 6


def test_items_are_processed_concurrently() -> None:
    all_running = threading.Barrier(4, timeout=30)
    assert len(set(prefetch_map(lambda _: all_running.wait(), range(4), workers=4))) == 4


def test_an_exception_is_raised_in_its_item_s_position() -> None:
    results = prefetch_map(lambda number: 12 // number, [3, 2, 0, 1], workers=4)
    assert [next(results), next(results)] == [4, 6]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_waiting_items_are_dropped_after_an_exception() -> None:
    started = []

    def work(number: int) -> str:
        started.append(number)
        return hashlib.sha256(bytes(10**6 // number)).hexdigest()

    with pytest.raises(ZeroDivisionError):
        list(prefetch_map(work, [0] + [1] * 299, workers=1, window=300))
    assert len(started) < 300
