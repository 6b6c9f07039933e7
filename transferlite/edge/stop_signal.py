"""SIGINT and SIGTERM as a wish to end, for commands that run until then: the photo in hand is finished first."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_NAP = 0.1
"""Seconds in which a wish is noticed. An Event would be quicker, and the handler could interrupt its own lock."""


class StopSignal:
    """Whether the end was asked for."""

    def __init__(self) -> None:
        self.asked = False

    def wait(self, seconds: float) -> None:
        """Sleep so long, or until the end is asked for."""
        until = time.monotonic() + seconds
        while not self.asked and (rest := until - time.monotonic()) > 0:
            time.sleep(min(rest, _NAP))


@contextmanager
def catch_stop_signals() -> Iterator[StopSignal]:
    """An :class:`StopSignal` that the first signal asks for; a second one ends the process as it does everywhere.

    Off the main thread, where Python takes no signals, nothing asks.
    """
    wish = StopSignal()
    if threading.current_thread() is not threading.main_thread():
        yield wish
        return
    before = {number: signal.getsignal(number) for number in _SIGNALS}

    def ask(_number: int, _frame: FrameType | None) -> None:
        wish.asked = True
        for number in _SIGNALS:
            signal.signal(number, before[number])

    for number in _SIGNALS:
        signal.signal(number, ask)
    try:
        yield wish
    finally:
        for number in _SIGNALS:
            signal.signal(number, before[number])
