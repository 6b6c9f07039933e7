"""Pool of worker processes that label the queue's photos; some are killed during a batch, as by a Lambda timeout."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from simulation.account import Account

_WORKERS = 2
_MAX_SECONDS = 600


@dataclass(frozen=True)
class _Worker:
    process: "subprocess.Popen[bytes]"
    busy: Path
    log: Path


class WorkerPool:
    """Worker processes, each with its own folder as /tmp.

    Attributes:
        killed: number of workers killed during a batch.
    """

    def __init__(self, account: Account, folder: str) -> None:
        self._account = account
        self._folder = folder
        self._workers: list[_Worker] = []
        self.killed = 0

    def start_worker(self) -> None:
        """Start another worker."""
        folder = tempfile.mkdtemp(dir=self._folder)
        busy, log = Path(folder, "busy"), Path(folder, "log")
        command = [sys.executable, "-m", "simulation.worker", self._account.queue_url, str(busy)]
        environment = {**self._account.environment, "TMPDIR": folder}
        with log.open("wb") as output:
            process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
        self._workers.append(_Worker(process, busy, log))

    def drain(self, kills: int) -> None:
        """Wait until the queue is empty; meanwhile kill and replace up to ``kills`` busy workers.

        Raises:
            TimeoutError: the queue is not empty after 600 s.
            RuntimeError: a worker exited by itself.
        """
        while len(self._workers) < _WORKERS:
            self.start_worker()
        deadline = time.monotonic() + _MAX_SECONDS
        while self._account.count_messages():
            if kills and self._kill_busy_worker(self._account.rng.uniform(0, 0.5)):
                kills -= 1
                self.start_worker()
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self._account.count_messages()} messages are still in the queue")
            for worker in self._workers:
                if worker.process.poll() is not None:
                    raise RuntimeError(f"a worker exited by itself: {worker.log.read_text()[-2000:]}")
            time.sleep(0.05)

    def stop(self) -> None:
        """Kill every worker."""
        while self._workers:
            self._kill(self._workers[0])

    def _kill_busy_worker(self, delay: float) -> bool:
        """Kill a worker that is busy for longer than ``delay`` seconds; return whether there was one."""
        for worker in self._workers:
            if worker.busy.exists():
                time.sleep(delay)
                if worker.busy.exists():
                    self._kill(worker)
                    self.killed += 1
                    return True
        return False

    def _kill(self, worker: _Worker) -> None:
        self._workers.remove(worker)
        worker.process.kill()
        worker.process.wait()


@contextmanager
def worker_pool(account: Account) -> Iterator[WorkerPool]:
    """Create a pool, and kill its workers when the context ends."""
    with tempfile.TemporaryDirectory(prefix="transferlite-sim-") as folder:
        pool = WorkerPool(account, folder)
        try:
            yield pool
        finally:
            pool.stop()
