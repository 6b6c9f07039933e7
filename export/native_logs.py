"""Filter the log lines that TensorFlow's C++ code writes past Python's logging."""

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

NOISE = (
    r"^[IWE][0-9]{4} "  # a log line of information, a warning or an error; the last line before an abort begins with F
    r"|^[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9:.]+: [IWE] "
    r"|^WARNING: All log messages before absl::InitializeLog"
    r"|^(INFO|WARNING): "
    r"|^To enable the following instructions:"
    r"|^fully_quantize: "
)
"""Extended regular expression of the lines that are dropped. Everything else is passed on: what a crash writes, too."""

_SECONDS_TO_DRAIN = 2.0


class _Filter:
    """The filter of file descriptor 2, shared by the contexts of all threads: the first starts it, the last ends it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._running: tuple[int, subprocess.Popen[bytes]] | None = None

    def enter(self) -> None:
        """Start the filter for the first user."""
        with self._lock:
            self._users += 1
            sed = shutil.which("sed") if self._users == 1 else None
            if sed is None:
                return
            sys.stderr.flush()
            process = subprocess.Popen([sed, "-u", "-E", f"/{NOISE}/d"], stdin=subprocess.PIPE, stdout=2, stderr=2)
            assert process.stdin is not None
            self._running = os.dup(2), process
            os.dup2(process.stdin.fileno(), 2)
            process.stdin.close()

    def leave(self) -> None:
        """End the filter with the last user."""
        with self._lock:
            self._users -= 1
            if self._users or self._running is None:
                return
            terminal, process = self._running
            self._running = None
            sys.stderr.flush()
            os.dup2(terminal, 2)
            os.close(terminal)
            with suppress(subprocess.TimeoutExpired):  # a process that was started meanwhile may still hold its input
                process.wait(timeout=_SECONDS_TO_DRAIN)


_filter = _Filter()


@contextmanager
def quiet_native_logs() -> Iterator[None]:
    """Drop TensorFlow's log lines from file descriptor 2 while the context runs, on all threads.

    A process of its own filters them, so that what this process writes before it aborts is still passed on. Does
    nothing if the environment has ``TF_CPP_MIN_LOG_LEVEL=0``, or without the program ``sed``.
    """
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL") == "0":
        yield
        return
    _filter.enter()
    try:
        yield
    finally:
        _filter.leave()
