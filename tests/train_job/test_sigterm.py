import os
import signal
import threading

import pytest

from train_job.sigterm import StopRequest, on_sigterm
from transferlite.errors import StoppedError


def test_sigterm_is_noted_and_the_handler_before_is_put_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with on_sigterm() as stop:
        assert not stop()
        stop.check()
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop()
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL  # a second one ends the process
        with pytest.raises(StoppedError, match="run the same command again") as caught:
            stop.check()
    assert caught.value.exit_code == 143
    assert signal.getsignal(signal.SIGTERM) is before


def test_off_the_main_thread_nothing_asks() -> None:
    found: list[StopRequest] = []

    def work() -> None:
        with on_sigterm() as stop:
            found.append(stop)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert not found[0]()
