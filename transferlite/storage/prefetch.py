"""An ordered parallel map that works a bounded number of items ahead, for fetching and decoding many photos."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def prefetch_map(
    work: Callable[[Item], Result], items: Iterable[Item], workers: int = 16, window: int | None = None
) -> Iterator[Result]:
    """``map(work, items)`` on threads: results in order, never more than ``window`` of them waiting in memory.

    An exception of ``work`` is raised at its item's turn; items not yet started are then dropped.
    """
    source = iter(items)
    with ThreadPoolExecutor(workers, thread_name_prefix="ahead") as pool:
        waiting: deque[Future[Result]] = deque(
            pool.submit(work, item) for item in islice(source, window or 2 * workers)
        )
        try:
            while waiting:
                result = waiting.popleft().result()
                waiting.extend(pool.submit(work, item) for item in islice(source, 1))
                yield result
        finally:
            pool.shutdown(cancel_futures=True)
