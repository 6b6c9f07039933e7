"""SIGTERM, as a Spot interruption or ``docker stop`` sends it, asks a job to stop: it keeps what it has and ends."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from transferlite.errors import StoppedError


class StopRequest:
    """Whether the job was asked to stop. Long work asks by calling it, or has :meth:`check` raise StoppedError."""

    def __init__(self) -> None:
        self._asked = False

    def __call__(self) -> bool:
        """Whether it was asked."""
        return self._asked

    def ask(self, _signal: int = 0, _frame: FrameType | None = None) -> None:
        """Ask for it; a second SIGTERM ends the process at once."""
        self._asked = True
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def check(self) -> None:
        """Raises StoppedError if asked."""
        if self._asked:
            raise StoppedError("stopped by SIGTERM", hint="run the same command again: it goes on from here")


@contextmanager
def on_sigterm() -> Iterator[StopRequest]:
    """A :class:`StopRequest` that SIGTERM asks; off the main thread, where Python takes no signals, nothing asks it."""
    stop = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = signal.signal(signal.SIGTERM, stop.ask)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGTERM, before)
