"""``transferlite serve`` in a separate process."""

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
class RunningServer:
    """Running server: its address, process and log file."""

    url: str
    process: subprocess.Popen[str]
    log: Path

    def request(
        self, method: str, path: str, body: bytes | None = None, **headers: str | bytes
    ) -> tuple[int, dict[str, str], bytes]:
        """Send one request on a new connection, its path unchanged; return status, headers and body."""
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=60)
        try:
            renamed = {name.replace("_", "-"): text for name, text in headers.items()}
            connection.request(method, path, body, renamed)
            response = connection.getresponse()
            return response.status, {name.lower(): text for name, text in response.getheaders()}, response.read()
        finally:
            connection.close()

    def peak_memory(self) -> int:
        """Return the peak memory of the process in bytes."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) * 1024

    def stop(self, signal_number: signal.Signals = signal.SIGTERM) -> tuple[int, str]:
        """Stop the server; return its exit status and remaining output."""
        self.process.send_signal(signal_number)
        output, _ = self.process.communicate(timeout=30)
        return self.process.returncode, output


@contextmanager
def serving(folder: Path, *arguments: str, **environment: str) -> Iterator[RunningServer]:
    """Run the server on a free port until the context ends; ``folder`` is its /tmp."""
    settings = {name: text for name, text in os.environ.items() if not name.startswith("TRANSFERLITE_")}
    folder.mkdir(exist_ok=True)
    log = folder / "log"
    with log.open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "transferlite", "serve", "--port", "0", *arguments],
            env=settings | {"TMPDIR": str(folder)} | environment,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            assert "http://" in line, log.read_text()
            yield RunningServer(line.split()[-1], process, log)
        finally:
            if process.poll() is None:
                process.terminate()
                process.communicate(timeout=30)
