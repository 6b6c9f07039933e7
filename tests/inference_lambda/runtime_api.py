"""Lambda as a function sees it: the Runtime API on loopback, and a process that is started, asked and killed.

Source: https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html
"""

import json
import os
import queue
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self

ROOT = Path(__file__).parents[2]
HANDLER = "inference_lambda.handler.lambda_handler"
COMMAND = (sys.executable, "-m", "awslambdaric", HANDLER)
"""What runs in this machine's own Python; a test of an image or of a zip gives another."""

_API = "/2018-06-01/runtime"
_TRACE = "Root=1-5759e988-bd862e3fe1be46a994272793;Sampled=0"
_ARN = "arn:aws:lambda:us-east-1:111122223333:function:transferlite"
_INIT_SECONDS = 60.0  # Lambda's ten, for a machine that others share
_CREDENTIALS = {"AccessKeyId": "k", "SecretAccessKey": "s", "Token": "t", "Expiration": "2099-01-01T00:00:00Z"}
_INHERITED = ("PATH", "HOME", "LANG", "TMPDIR", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL")


@dataclass(frozen=True)
class Answer:
    """What came of one invocation.

    Attributes:
        payload: what the handler returned; None where it failed.
        error: ``{"errorType", "errorMessage", ...}`` as Lambda hands it to whoever invoked; None where it did not fail.
        cold: whether a process was started for it.
        init_seconds: from the process's start until it asked for its first event; 0 if it was warm.
        seconds: from the event's hand-over to the answer.
    """

    payload: Any
    error: dict[str, Any] | None
    cold: bool
    init_seconds: float
    seconds: float


class Function:
    """One execution environment: a process that runs the handler, started at the first event, one event at a time.

    A process that is not done in ``timeout`` seconds is killed, and so is one whose initialisation failed; the next
    event starts another. As a context it ends with its process.

    Args:
        environment: the function's variables beside those that Lambda sets itself.
        command: how the process is started; it finds the API's address in ``AWS_LAMBDA_RUNTIME_API``.
        timeout: seconds that one event may take.
        memory: megabytes that the process is told it has.
        kill: how to end the process, where killing the command is not enough.
        trace: the X-Ray header of each event; Lambda sends one that is not sampled where tracing is off.
    """

    def __init__(
        self,
        environment: Mapping[str, str],
        command: Sequence[str] = COMMAND,
        timeout: float = 60.0,
        memory: int = 1769,
        kill: Callable[["subprocess.Popen[bytes]"], None] = subprocess.Popen.kill,
        trace: str = _TRACE,
    ) -> None:
        self._command = list(command)
        self.timeout = timeout
        self._kill = kill
        self._api = _Api(trace)
        self._process: subprocess.Popen[bytes] | None = None
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the function
        self._environment = _lambda_s_own(self._api.address, memory) | dict(environment)
        if self._environment["AWS_LAMBDA_INITIALIZATION_TYPE"] == "snap-start":  # a snapshot outlives any key
            self._environment["AWS_CONTAINER_CREDENTIALS_FULL_URI"] = f"http://{self._api.address}/credentials"
            for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
                self._environment.pop(name, None)

    def invoke(self, event: Any) -> Answer:
        """Hand one event over and wait for what comes of it: an answer, an error, or the deadline."""
        cold, init = self._process is None or self._process.poll() is not None or self._api.failed.is_set(), 0.0
        if cold:
            begun = time.perf_counter()
            self.start()
            init = time.perf_counter() - begun
        begun = time.perf_counter()
        payload, error = self._ask(json.dumps(event).encode())
        return Answer(payload, error, cold, init, time.perf_counter() - begun)

    def start(self) -> None:
        """Start the process and wait until its initialisation is over, as provisioned concurrency does."""
        self._end()
        self._api.forget()
        self._process = subprocess.Popen(
            self._command, cwd=ROOT, env=self._environment, stdout=self._log, stderr=subprocess.STDOUT
        )
        deadline = time.monotonic() + _INIT_SECONDS
        while not self._api.ready.wait(0.02) and self._process.poll() is None and time.monotonic() < deadline:
            pass

    @property
    def pid(self) -> int:
        """Of the process that runs, or ran last."""
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> str:
        """All that the processes wrote so far."""
        self._log.seek(0)
        return self._log.read().decode(errors="replace")

    def _ask(self, event: bytes) -> tuple[Any, dict[str, Any] | None]:
        """The payload or the error. A process that fails in its initialisation, ends or is late has an error."""
        assert self._process is not None
        deadline = time.monotonic() + self.timeout
        request = self._api.hand_over(event, time.time() + self.timeout)
        while True:
            ended = self._process.poll() is not None
            found = self._api.answer(request, 0.02)
            if found is not None:
                return found
            if ended:
                message = f"Runtime exited with error: exit status {self._process.returncode}"
                return None, {"errorType": "Runtime.ExitError", "errorMessage": message}
            if time.monotonic() >= deadline:
                self._end()
                message = f"Task timed out after {self.timeout:.2f} seconds"
                return None, {"errorType": "Sandbox.Timedout", "errorMessage": message}

    def _end(self) -> None:
        if self._process is not None:
            self._kill(self._process)
            self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()
        self._api.close()
        self._log.close()


def drain(sqs: Any, url: str, function: Function, most: int = 10) -> list[Answer]:
    """Hand a queue's messages to a function until none is to be had: :func:`deliver` again and again."""
    answers = []
    while answer := deliver(sqs, url, function, most):
        answers.append(answer)
    return answers


def deliver(sqs: Any, url: str, function: Function, most: int = 10) -> Answer | None:
    """Hand up to ``most`` messages to a function, as Lambda's event source does; None where the queue has none.

    Of an invocation that fails or times out no message is deleted, of any other those that it does not name as failed;
    what is left is seen again once the queue's visibility timeout is over.
    """
    received = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=most, AttributeNames=["All"]).get("Messages")
    if not received:
        return None
    answer = function.invoke({"Records": [_record(one) for one in received]})
    if answer.error is None:
        failed = {one["itemIdentifier"] for one in (answer.payload or {}).get("batchItemFailures", ())}
        for one in received:
            if one["MessageId"] not in failed:
                sqs.delete_message(QueueUrl=url, ReceiptHandle=one["ReceiptHandle"])
    return answer


def _record(message: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "messageId": message["MessageId"],
        "receiptHandle": message["ReceiptHandle"],
        "body": message["Body"],
        "attributes": message.get("Attributes", {}),
        "messageAttributes": {},
        "md5OfBody": message["MD5OfBody"],
        "eventSource": "aws:sqs",
        "eventSourceARN": "arn:aws:sqs:us-east-1:111122223333:photos",
        "awsRegion": "us-east-1",
    }


def _lambda_s_own(address: str, memory: int) -> dict[str, str]:
    """Source: https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html"""
    inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    return inherited | {
        "AWS_LAMBDA_RUNTIME_API": address,
        "AWS_LAMBDA_FUNCTION_NAME": "transferlite",
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(memory),
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "AWS_EXECUTION_ENV": f"AWS_Lambda_python{sys.version_info.major}.{sys.version_info.minor}",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_REGION": "us-east-1",
        "NO_PROXY": "127.0.0.1",
        "_HANDLER": HANDLER,
    }


class _Api:
    """The server: it hands out the event that waits, and takes the answer to it."""

    def __init__(self, trace: str) -> None:
        self.trace = trace
        self._events: queue.Queue[tuple[str, bytes, float]] = queue.Queue()
        self._answers: queue.Queue[tuple[str, Any, dict[str, Any] | None]] = queue.Queue()
        self.ready = threading.Event()
        """Set once the process asks for an event, or says that it cannot start."""
        self.restored = threading.Event()
        """Set once an environment whose snapshot was taken is to go on, which is when an event comes."""
        self.failed = threading.Event()
        """Set once the initialisation has failed."""
        api = self

        class Handler(_Handler):
            server_api = api

        self._server = _Server(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=[0.05], daemon=True).start()
        self.address = f"127.0.0.1:{self._server.server_port}"

    def hand_over(self, event: bytes, deadline: float) -> str:
        request = str(uuid.uuid4())
        self.restored.set()
        self._events.put((request, event, deadline))
        return request

    def next(self, gone: Callable[[], bool]) -> tuple[str, bytes, float] | None:
        """The event that waits, None once who asked for it is gone."""
        self.ready.set()
        while not gone():
            try:
                return self._events.get(timeout=0.02)
            except queue.Empty:
                continue
        return None

    def take(self, request: str, payload: Any, error: dict[str, Any] | None) -> None:
        if not request:
            self.failed.set()
        self._answers.put((request, payload, error))
        self.ready.set()

    def answer(self, request: str, seconds: float) -> tuple[Any, dict[str, Any] | None] | None:
        """What came of this request, or of the initialisation before it."""
        try:
            name, payload, error = self._answers.get(timeout=seconds)
        except queue.Empty:
            return None
        return (payload, error) if name in ("", request) else None

    def forget(self) -> None:
        """The process is another one: what the last one was to be asked, or answered too late, is of no interest."""
        for fact in (self.ready, self.restored, self.failed):
            fact.clear()
        for waiting in (self._events, self._answers):
            while not waiting.empty():
                waiting.get()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    def handle_error(self, *_: Any) -> None:
        return None  # a process was killed while it asked


class _Handler(BaseHTTPRequestHandler):
    server_api: _Api
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # headers and body leave together: apart they cost the client 40 ms
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        if self.path == "/credentials":
            self._send(200, json.dumps(_CREDENTIALS).encode(), {})
        elif self.path == f"{_API}/restore/next":
            self.server_api.ready.set()
            self.server_api.restored.wait()
            self._send(200, b"", {})
        elif found := self.server_api.next(self._is_gone):
            request, event, deadline = found
            headers = {
                "Lambda-Runtime-Aws-Request-Id": request,
                "Lambda-Runtime-Deadline-Ms": str(int(deadline * 1000)),
                "Lambda-Runtime-Invoked-Function-Arn": _ARN,
                "Lambda-Runtime-Trace-Id": self.server_api.trace,
            }
            self._send(200, event, headers)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        *_, request, what = self.path.split("/")
        request = "" if request in {"init", "restore"} else request
        if what == "error":
            self.server_api.take(request, None, json.loads(body))
        else:
            self.server_api.take(request, json.loads(body), None)
        self._send(202, b'{"status": "OK"}', {})

    def _send(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Type": "application/json", "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def _is_gone(self) -> bool:
        """Whether the process that asked has closed its side: the event is another's then."""
        self.connection.setblocking(False)
        try:
            return not self.connection.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True
        finally:
            self.connection.setblocking(True)

    def log_message(self, *_: Any) -> None:
        return None
