import os
import signal
import threading

import pytest

from train_job.sigterm import StopRequest, stop_on_sigterm
from transferlite.errors import StoppedError


def test_sigterm_triggers_the_request_and_the_previous_handler_is_restored() -> None:
    previous = signal.getsignal(signal.SIGTERM)
    with stop_on_sigterm() as stop:
        assert not stop()
        stop.check()
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop()
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL  # a second one ends the process
        with pytest.raises(StoppedError, match="run the same command again") as caught:
            stop.check()
    assert caught.value.exit_code == 143
    assert signal.getsignal(signal.SIGTERM) is previous


def test_off_the_main_thread_nothing_triggers_the_request() -> None:
    requests: list[StopRequest] = []

    def work() -> None:
        with stop_on_sigterm() as stop:
            requests.append(stop)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert not requests[0]()
