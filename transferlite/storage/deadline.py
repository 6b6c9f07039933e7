"""Store whose calls end in time, for a Lambda function: a call that stalls fails one photo and not the whole batch.

Timeouts of sockets are not enough: a server that sends a byte now and then never exceeds them, and libraries repeat
requests. So each call runs in a thread, which is left behind if it takes too long.
"""

import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from transferlite.errors import UnavailableError

CALL_SECONDS = 8.0
"""Limit of one call, its retries included."""

_RESERVED_SECONDS = 2.0
"""Time kept before the end of the invocation for the reply."""
_LEAST_SECONDS = 0.5
_STREAMS = frozenset({"stream", "entries", "children"})

T = TypeVar("T")


class _Invocation(threading.local):
    """When the current invocation ends, as a time of ``time.monotonic()``."""

    ends_at = float("inf")


_invocation = _Invocation()


def end_calls_before(ends_at: float) -> None:
    """Let the calls of this thread end before ``ends_at``, a time of ``time.monotonic()``."""
    _invocation.ends_at = ends_at


def call_in_time(work: Callable[[], T], what: str, limit: float | None = None) -> T:
    """Return what ``work`` returns, or raise what it raises.

    Args:
        work: the call.
        what: what is called, for the message.
        limit: seconds; default :data:`CALL_SECONDS`. Less if the invocation ends earlier.

    Raises:
        UnavailableError: it takes too long.
    """
    left = _invocation.ends_at - _RESERVED_SECONDS - time.monotonic()
    seconds = max(min(CALL_SECONDS if limit is None else limit, left), _LEAST_SECONDS)
    outcome: queue.SimpleQueue[tuple[bool, Any]] = queue.SimpleQueue()

    def run() -> None:
        try:
            outcome.put((True, work()))
        except BaseException as error:
            outcome.put((False, error))

    threading.Thread(target=run, name="store-call", daemon=True).start()
    try:
        has_succeeded, result = outcome.get(timeout=seconds)
    except queue.Empty:
        raise UnavailableError(f"no complete answer within {seconds:.3g} s", where=what, hint="try again") from None
    if not has_succeeded:
        raise result
    return result  # type: ignore[no-any-return]


class DeadlineStore:
    """Store that forwards each call to another store and ends it in time."""

    def __init__(self, store: Any) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        if not callable(found):
            return found
        uri = str(self._store.uri)

        def call(*arguments: Any, **options: Any) -> Any:
            where = f"{uri}/{arguments[0]}" if arguments else uri
            result = call_in_time(lambda: found(*arguments, **options), where)
            return _each_in_time(result, where) if name in _STREAMS else result

        return call


_END = object()


def _each_in_time(items: Iterator[Any], where: str) -> Iterator[Any]:
    while (item := call_in_time(lambda: next(items, _END), where)) is not _END:
        yield item
