"""``transferlite serve`` in a process of its own."""

import http.client
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Served:
    """A server that runs: its address, its process, and where it writes its log."""

    url: str
    process: subprocess.Popen[str]
    log: Path

    def ask(
        self, method: str, path: str, body: bytes | None = None, **headers: str | bytes
    ) -> tuple[int, dict[str, str], bytes]:
        """One request on a connection of its own, its path as it is; the status, the headers and the body."""
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=60)
        try:
            named = {name.replace("_", "-"): text for name, text in headers.items()}
            connection.request(method, path, body, named)
            answer = connection.getresponse()
            return answer.status, {name.lower(): text for name, text in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def peak_memory(self) -> int:
        """The most memory its process ever had, in bytes."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) * 1024

    def stop(self, how: signal.Signals = signal.SIGTERM) -> tuple[int, str]:
        """End it; its exit status and what it had still to say."""
        self.process.send_signal(how)
        said, _ = self.process.communicate(timeout=30)
        return self.process.returncode, said


@contextmanager
def serving(folder: Path, *words: str, **environment: str) -> Iterator[Served]:
    """Run it on a free port until the end of the context; ``folder`` is its /tmp."""
    settings = {name: text for name, text in os.environ.items() if not name.startswith("TRANSFERLITE_")}
    folder.mkdir(exist_ok=True)
    log = folder / "log"
    with log.open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "transferlite", "serve", "--port", "0", *words],
            env=settings | {"TMPDIR": str(folder)} | environment,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            assert "http://" in line, log.read_text()
            yield Served(line.split()[-1], process, log)
        finally:
            if process.poll() is None:
                process.terminate()
                process.communicate(timeout=30)
