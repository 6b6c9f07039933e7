"""An S3 server on loopback whose answers a test writes: refusals, silence, content that breaks off."""

import socket
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class Request:
    """What a client sent, without the content."""

    method: str
    path: str
    headers: Message

    def range_of(self, size: int) -> slice:
        """The requested bytes of an object of this size."""
        start, _, last = self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")
        return slice(int(start), int(last) + 1 if last else size)


@dataclass(frozen=True)
class Answer:
    """One answer of the server.

    Attributes:
        sent: bytes of the content after which the connection ends; None sends all of it.
        reset: whether the connection ends by a reset.
        silent: whether the server never answers.
        stalls: whether the server keeps the connection open, silent, after the ``sent`` bytes.
        trickles: whether it sends a byte every 0.1 s after the ``sent`` bytes.
    """

    status: int = 200
    content: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    sent: int | None = None
    reset: bool = False
    silent: bool = False
    stalls: bool = False
    trickles: bool = False


def refusal(code: str, status: int) -> Answer:
    """An error as S3 writes it."""
    text = f"<Error><Code>{code}</Code><Message>{code} for a test</Message></Error>"
    return Answer(status, text.encode(), {"Content-Type": "application/xml"})


def content(whole: bytes, request: Request, sent: int | None = None) -> Answer:
    """An object's content, or the requested range of it."""
    headers, wanted = {"ETag": '"e"'}, request.range_of(len(whole))
    if "Range" in request.headers:
        headers["Content-Range"] = f"bytes {wanted.start}-{wanted.stop - 1}/{len(whole)}"
        return Answer(206, whole[wanted], headers, sent)
    return Answer(200, whole, headers, sent)


class ScriptedS3:
    """A running server; ``requests`` has what it received, in order."""

    def __init__(self, script: Callable[[Request], Answer]) -> None:
        self.requests: list[Request] = []
        self._script = script
        self._ended = threading.Event()
        handler = type("Handler", (_Handler,), {"owner": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def answer(self, request: Request) -> Answer:
        self.requests.append(request)
        return self._script(request)

    def wait(self) -> None:
        """Return when the server ends."""
        self._ended.wait(30)

    def ended(self, seconds: float) -> bool:
        """Wait, and return whether the server has ended."""
        return self._ended.wait(seconds)

    def close(self) -> None:
        self._ended.set()
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # which lets botocore send its content at once
    owner: ScriptedS3

    def _any(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.close_connection = True
        answer = self.owner.answer(Request(self.command, self.path, self.headers))
        if answer.silent:
            self.owner.wait()
            return
        self.send_response(answer.status)
        for name, value in (
            {"Content-Length": str(len(answer.content)), "Connection": "close"} | answer.headers
        ).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.content[: answer.sent])
        if answer.trickles:
            self._trickle(answer.content[answer.sent :])
        if answer.stalls:
            self.owner.wait()
        if answer.reset:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()

    def _trickle(self, content: bytes) -> None:
        with suppress(OSError):  # the client is gone
            for byte in content:
                if self.owner.ended(0.1):
                    return
                self.wfile.write(bytes([byte]))
                self.wfile.flush()

    do_GET = do_PUT = do_DELETE = do_HEAD = _any  # noqa: N815 - the names that http.server calls

    def log_message(self, *_: object) -> None:
        pass
