"""The function: workers that drain the queue, and are killed in the middle of a batch as a timeout does."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager

from simulation.world import World

_WORKERS = 2
_SECONDS = 180


class Function:
    """Some workers, each with a folder of its own for what Lambda keeps in /tmp."""

    def __init__(self, world: World, folder: str) -> None:
        self._world = world
        self._folder = folder
        self._workers: list[subprocess.Popen[bytes]] = []
        self.killed = 0

    def start(self) -> None:
        """One more worker."""
        environment = dict(self._world.environment) | {"TMPDIR": tempfile.mkdtemp(dir=self._folder)}
        command = [sys.executable, "-m", "simulation.worker", self._world.queue]
        self._workers.append(
            subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        )

    def drain(self, kills: int) -> None:
        """Have the workers empty the queue; ``kills`` of them are killed on the way, and replaced."""
        while len(self._workers) < _WORKERS:
            self.start()
        moments = sorted(self._world.chance.uniform(0, 6) for _ in range(kills))
        started = time.monotonic()
        while self._world.waiting() or moments:
            passed = time.monotonic() - started
            if moments and passed > moments[0]:
                moments.pop(0)
                self._kill()
                self.start()
            if passed > _SECONDS:
                raise TimeoutError(f"{self._world.waiting()} messages are still in the queue")
            if self._workers[-1].poll() is not None:
                raise RuntimeError("a worker ended by itself")
            time.sleep(0.1)

    def stop(self) -> None:
        """End every worker."""
        while self._workers:
            self._kill(counted=False)

    def _kill(self, counted: bool = True) -> None:
        worker = self._workers.pop(0)
        worker.kill()
        worker.wait()
        self.killed += counted


@contextmanager
def running(world: World) -> Iterator[Function]:
    """The function, until the context ends."""
    with tempfile.TemporaryDirectory(prefix="transferlite-sim-") as folder:
        function = Function(world, folder)
        try:
            yield function
        finally:
            function.stop()
