"""Ordered parallel map with a bounded queue, for fetching and decoding many photos."""

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
    """Map ``work`` over ``items`` on threads and yield the results in order.

    At most ``window`` items (default: twice the workers) are in progress or waiting in memory. An exception of ``work``
    is raised in its item's position; items that have not started are then dropped.
    """
    source = iter(items)
    with ThreadPoolExecutor(workers, thread_name_prefix="prefetch") as pool:
        pending: deque[Future[Result]] = deque(
            pool.submit(work, item) for item in islice(source, window or 2 * workers)
        )
        try:
            while pending:
                result = pending.popleft().result()
                pending.extend(pool.submit(work, item) for item in islice(source, 1))
                yield result
        finally:
            pool.shutdown(cancel_futures=True)
