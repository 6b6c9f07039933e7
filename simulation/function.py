"""The function: workers that drain the queue, and are killed in the middle of a batch as a timeout does."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from simulation.world import World

_WORKERS = 2
_SECONDS = 600


@dataclass(frozen=True)
class _Worker:
    process: "subprocess.Popen[bytes]"
    busy: Path
    log: Path


class Function:
    """Some workers, each with a folder of its own for what Lambda keeps in /tmp."""

    def __init__(self, world: World, folder: str) -> None:
        self._world = world
        self._folder = folder
        self._workers: list[_Worker] = []
        self.killed = 0

    def start(self) -> None:
        """One more worker."""
        folder = tempfile.mkdtemp(dir=self._folder)
        busy = Path(folder, "busy")
        command = [sys.executable, "-m", "simulation.worker", self._world.queue, str(busy)]
        log, environment = Path(folder, "log"), {**self._world.environment, "TMPDIR": folder}
        with log.open("wb") as said:
            process = subprocess.Popen(command, env=environment, stdout=said, stderr=said)
        self._workers.append(_Worker(process, busy, log))

    def drain(self, kills: int) -> None:
        """Have the workers empty the queue; at most ``kills`` times one is killed with a batch, and replaced."""
        while len(self._workers) < _WORKERS:
            self.start()
        deadline = time.monotonic() + _SECONDS
        while self._world.waiting():
            if kills and self._kill_one_with_a_batch(self._world.chance.uniform(0, 0.5)):
                kills -= 1
                self.start()
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self._world.waiting()} messages are still in the queue")
            for worker in self._workers:
                if worker.process.poll() is not None:
                    raise RuntimeError(f"a worker ended by itself: {worker.log.read_text()[-2000:]}")
            time.sleep(0.05)

    def stop(self) -> None:
        """End every worker."""
        while self._workers:
            self._end(self._workers[0])

    def _kill_one_with_a_batch(self, after: float) -> bool:
        """Whether a worker had one for longer than ``after`` seconds, and is dead."""
        for worker in self._workers:
            if worker.busy.exists():
                time.sleep(after)
                if worker.busy.exists():
                    self._end(worker)
                    self.killed += 1
                    return True
        return False

    def _end(self, worker: _Worker) -> None:
        self._workers.remove(worker)
        worker.process.kill()
        worker.process.wait()


@contextmanager
def running(world: World) -> Iterator[Function]:
    """The function, until the context ends."""
    with tempfile.TemporaryDirectory(prefix="transferlite-sim-") as folder:
        function = Function(world, folder)
        try:
            yield function
        finally:
            function.stop()
