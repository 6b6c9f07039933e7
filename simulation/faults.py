"""S3 on a bad day: a proxy on loopback that now and then answers 503, waits, or loses an answer or half of it."""

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
NAMES = ("refused", "slow", "cut", "lost")
Headers = list[tuple[str, str]]


@dataclass
class Faults:
    """How often each fault happens, as a share of requests, and how often it did.

    Attributes:
        refused: answered 503, and nothing was done.
        slow: answered after ``seconds``.
        cut: a GET's answer ends in its middle.
        lost: done, and never answered: the client has to ask again, and meets its own work.
    """

    seed: int
    refused: float = 0.03
    slow: float = 0.03
    cut: float = 0.02
    lost: float = 0.02
    seconds: float = 0.3
    counts: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def draw(self) -> str:
        """The fault of the next request: one of ``NAMES``, or ``none``."""
        shares = [getattr(self, name) for name in NAMES]
        with self._lock:
            (drawn,) = self._random.choices([*NAMES, "none"], [*shares, 1 - sum(shares)])
            self.counts[drawn] += 1
        return drawn


@dataclass(frozen=True)
class _Answer:
    status: int
    headers: Headers
    content: bytes
    length: str


class _Proxy(BaseHTTPRequestHandler):
    """Passes each request on to ``upstream``, unless a fault is drawn; a subclass has both."""

    protocol_version = "HTTP/1.1"
    upstream: str
    faults: Faults

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _any(self) -> None:
        body, fault = self._body(), self.faults.draw()
        if fault == "refused":
            headers = [("Content-Type", "application/xml"), ("Retry-After", "0")]
            self._send(_Answer(503, headers, _SLOW_DOWN, str(len(_SLOW_DOWN))))
            return
        if fault == "slow":
            time.sleep(self.faults.seconds)
        answer = self._asked(body)
        if fault == "lost":
            self.close_connection = True
            return
        self._send(answer, cut=fault == "cut" and self.command == "GET" and len(answer.content) > 1)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _any  # noqa: N815 - the names that http.server calls

    def _asked(self, body: bytes) -> _Answer:
        connection = http.client.HTTPConnection(self.upstream, timeout=60)
        headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP}
        try:
            connection.request(self.command, self.path, body or None, headers | {"Content-Length": str(len(body))})
            answer = connection.getresponse()
            content = answer.read()
            length = answer.getheader("Content-Length", str(len(content)))
        finally:
            connection.close()
        kept = [(name, value) for name, value in answer.getheaders() if name.lower() not in _HOP]
        return _Answer(answer.status, kept, content, length)

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

    def _send(self, answer: _Answer, cut: bool = False) -> None:
        self.send_response_only(answer.status)
        for name, value in answer.headers:
            self.send_header(name, value)
        self.send_header("Content-Length", answer.length)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.content[: len(answer.content) // 2] if cut else answer.content)
        self.close_connection = self.close_connection or cut


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that was killed is no error."""


@contextmanager
def faulty(endpoint: str, faults: Faults) -> Iterator[str]:
    """The endpoint of a proxy to ``endpoint``, until the context ends."""
    proxy = type("Proxy", (_Proxy,), {"upstream": urlsplit(endpoint).netloc, "faults": faults})
    server = _Server(("127.0.0.1", 0), proxy)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
