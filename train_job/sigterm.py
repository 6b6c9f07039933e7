"""Stop a job on SIGTERM, which a Spot interruption or ``docker stop`` sends: it saves its state and exits."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from transferlite.errors import StoppedError


def stopped_by_sigterm() -> StoppedError:
    """Return the error to raise once the state is saved."""
    return StoppedError("stopped by SIGTERM", hint="run the same command again to resume")


class StopRequest:
    """Flag that a job should stop. Long work polls it by calling it, or calls :meth:`check`."""

    def __init__(self) -> None:
        self._triggered = False

    def __call__(self) -> bool:
        """Return whether the job should stop."""
        return self._triggered

    def trigger(self, _signal: int = 0, _frame: FrameType | None = None) -> None:
        """Request the stop; on the main thread, the next SIGTERM then kills the process at once."""
        self._triggered = True
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def check(self) -> None:
        """Raise StoppedError if the job should stop."""
        if self._triggered:
            raise stopped_by_sigterm()


@contextmanager
def stop_on_sigterm() -> Iterator[StopRequest]:
    """Yield a :class:`StopRequest` that SIGTERM triggers.

    Python handles signals on the main thread only; on any other thread, nothing triggers the request.
    """
    stop = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    previous = signal.signal(signal.SIGTERM, stop.trigger)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGTERM, previous)
