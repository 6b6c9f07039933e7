"""Catch SIGINT and SIGTERM, so that a long-running command finishes its current photo before it exits."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_POLL_SECONDS = 0.1
"""Delay until a signal is noticed. Setting a ``threading.Event`` in a handler could deadlock on the event's lock."""


class StopSignal:
    """Flag that a signal sets."""

    def __init__(self) -> None:
        self.received = False

    def wait(self, seconds: float) -> None:
        """Sleep for ``seconds``, or until the signal is received."""
        deadline = time.monotonic() + seconds
        while not self.received and (left := deadline - time.monotonic()) > 0:
            time.sleep(min(left, _POLL_SECONDS))


@contextmanager
def catch_stop_signals() -> Iterator[StopSignal]:
    """Yield a :class:`StopSignal` that the first SIGINT or SIGTERM sets; a second signal ends the process as usual.

    Outside the main thread, where Python cannot handle signals, the flag is never set.
    """
    stop = StopSignal()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    previous = {number: signal.getsignal(number) for number in _SIGNALS}

    def restore() -> None:
        for number, handler in previous.items():
            signal.signal(number, handler)

    def handle(_number: int, _frame: FrameType | None) -> None:
        stop.received = True
        restore()

    for number in _SIGNALS:
        signal.signal(number, handle)
    try:
        yield stop
    finally:
        restore()
