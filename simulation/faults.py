"""S3 on a bad day: a proxy on loopback that now and then answers 503, waits, or breaks a body off in the middle."""

import http.client
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

_SLOW_DOWN = (
    b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
)
_HOP = {"connection", "transfer-encoding", "keep-alive", "expect", "content-length", "date", "server"}


@dataclass
class Faults:
    """How often each fault happens, as a share of requests, and how often it did."""

    seed: int
    refused: float = 0.03
    slow: float = 0.03
    cut: float = 0.02
    seconds: float = 0.3
    counts: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def draw(self) -> str:
        """The fault of the next request: ``refused``, ``slow``, ``cut`` or ``none``."""
        shares = {"refused": self.refused, "slow": self.slow, "cut": self.cut}
        with self._lock:
            drawn = self._random.random()
            for name, share in shares.items():
                if drawn < share:
                    self.counts[name] += 1
                    return name
                drawn -= share
            self.counts["none"] += 1
        return "none"


@contextmanager
def faulty(endpoint: str, faults: Faults) -> Iterator[str]:
    """The endpoint of a proxy to ``endpoint``, until the context ends."""
    upstream = urlsplit(endpoint).netloc

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            """Say nothing."""

        def _any(self) -> None:
            body, fault = self._body(), faults.draw()
            if fault == "refused":
                self._send(503, [("Content-Type", "application/xml"), ("Retry-After", "0")], _SLOW_DOWN)
                return
            if fault == "slow":
                time.sleep(faults.seconds)
            connection = http.client.HTTPConnection(upstream, timeout=60)
            headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP}
            try:
                connection.request(self.command, self.path, body or None, headers | {"Content-Length": str(len(body))})
                answer = connection.getresponse()
                content = answer.read()
                length = answer.getheader("Content-Length", str(len(content)))
            finally:
                connection.close()
            kept = [(name, value) for name, value in answer.getheaders() if name.lower() not in _HOP]
            cut = fault == "cut" and self.command == "GET" and len(content) > 1
            self._send(answer.status, kept, content, length, cut)

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _any  # noqa: N815 - the names that http.server calls

        def _body(self) -> bytes:
            if "chunked" not in self.headers.get("Transfer-Encoding", ""):
                return self.rfile.read(int(self.headers.get("Content-Length") or 0))
            chunks = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                chunks.append(self.rfile.read(size))
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass  # trailers
            return b"".join(chunks)

        def _send(
            self, status: int, headers: list[tuple[str, str]], content: bytes, length: str = "", cut: bool = False
        ) -> None:
            self.send_response_only(status)
            for name, value in headers:
                self.send_header(name, value)
            self.send_header("Content-Length", length or str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content[: len(content) // 2] if cut else content)
            self.close_connection = self.close_connection or cut

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            """A client that was killed is no error."""

    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
