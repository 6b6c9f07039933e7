"""Proxy to an S3 server that injects faults: 503 responses, delays, cut and lost responses."""

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
_HOP_BY_HOP_HEADERS = {"connection", "transfer-encoding", "keep-alive", "expect", "content-length", "date", "server"}
NAMES = ("refused", "slow", "cut", "lost")
Headers = list[tuple[str, str]]


@dataclass
class Faults:
    """Share of requests with each fault, and counts of faults so far.

    Attributes:
        seed: seed of the random choice of faults.
        refused: share answered with 503 and not executed.
        slow: share delayed by ``seconds``.
        cut: share of GET responses that end after half of the body.
        lost: share executed without a response; the client retries, and finds its request already executed.
        seconds: delay of a slow request.
        counts: requests so far by fault, ``none`` included.
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

    def next_fault(self) -> str:
        """Choose the fault of the next request: one of ``NAMES``, or ``none``."""
        shares = [getattr(self, name) for name in NAMES]
        with self._lock:
            (fault,) = self._random.choices([*NAMES, "none"], [*shares, 1 - sum(shares)])
            self.counts[fault] += 1
        return fault


@dataclass(frozen=True)
class _Response:
    status: int
    headers: Headers
    content: bytes
    length: str


class _Proxy(BaseHTTPRequestHandler):
    """Forwards each request to ``upstream`` and injects faults; a subclass sets both attributes."""

    protocol_version = "HTTP/1.1"
    upstream: str
    faults: Faults

    def log_message(self, *_: object) -> None:
        """Do not log requests."""

    def _handle(self) -> None:
        body, fault = self._read_body(), self.faults.next_fault()
        if fault == "refused":
            headers = [("Content-Type", "application/xml"), ("Retry-After", "0")]
            self._send(_Response(503, headers, _SLOW_DOWN, str(len(_SLOW_DOWN))))
            return
        if fault == "slow":
            time.sleep(self.faults.seconds)
        response = self._forward(body)
        if fault == "lost":
            self.close_connection = True
            return
        self._send(response, cut=fault == "cut" and self.command == "GET" and len(response.content) > 1)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _handle  # noqa: N815 - the names that http.server calls

    def _forward(self, body: bytes) -> _Response:
        connection = http.client.HTTPConnection(self.upstream, timeout=60)
        headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP_BY_HOP_HEADERS}
        try:
            connection.request(self.command, self.path, body or None, headers | {"Content-Length": str(len(body))})
            upstream = connection.getresponse()
            content = upstream.read()
            length = upstream.getheader("Content-Length", str(len(content)))
        finally:
            connection.close()
        kept = [(name, value) for name, value in upstream.getheaders() if name.lower() not in _HOP_BY_HOP_HEADERS]
        return _Response(upstream.status, kept, content, length)

    def _read_body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        chunks = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass  # trailers
        return b"".join(chunks)

    def _send(self, response: _Response, cut: bool = False) -> None:
        self.send_response_only(response.status)
        for name, value in response.headers:
            self.send_header(name, value)
        self.send_header("Content-Length", response.length)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(response.content[: len(response.content) // 2] if cut else response.content)
        self.close_connection = self.close_connection or cut


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore errors of killed clients."""


@contextmanager
def faulty_proxy(endpoint: str, faults: Faults) -> Iterator[str]:
    """Run a proxy to ``endpoint`` until the context ends; return the proxy's endpoint."""
    proxy = type("Proxy", (_Proxy,), {"upstream": urlsplit(endpoint).netloc, "faults": faults})
    server = _Server(("127.0.0.1", 0), proxy)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
