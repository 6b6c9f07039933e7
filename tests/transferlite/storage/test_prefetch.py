import hashlib
import threading
from collections.abc import Iterator

import pytest

from transferlite.storage.prefetch import prefetch_map


@pytest.mark.parametrize("count", [0, 1, 3, 100])
@pytest.mark.parametrize("window", [None, 1, 7])
def test_results_are_those_of_map_in_order(count: int, window: int | None) -> None:
    assert list(prefetch_map(str, range(count), workers=4, window=window)) == list(map(str, range(count)))


def test_no_more_than_the_window_is_taken_ahead() -> None:
    taken = []

    def items() -> Iterator[int]:
        for number in range(50):
            taken.append(number)
            yield number

    for result in prefetch_map(int, items(), workers=2, window=5):
        assert len(taken) <= result + 6


def test_items_are_worked_on_at_the_same_time() -> None:
    together = threading.Barrier(4, timeout=30)
    assert len(set(prefetch_map(lambda _: together.wait(), range(4), workers=4))) == 4


def test_an_exception_is_raised_at_its_item_s_turn() -> None:
    results = prefetch_map(lambda number: 12 // number, [3, 2, 0, 1], workers=4)
    assert [next(results), next(results)] == [4, 6]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_after_an_exception_the_items_that_wait_are_dropped() -> None:
    started = []

    def work(number: int) -> str:
        started.append(number)
        return hashlib.sha256(bytes(10**6 // number)).hexdigest()

    with pytest.raises(ZeroDivisionError):
        list(prefetch_map(work, [0] + [1] * 299, workers=1, window=300))
    assert len(started) < 300
