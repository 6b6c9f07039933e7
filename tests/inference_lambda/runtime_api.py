"""Local Lambda: a Runtime API on loopback, and a process that runs the handler and can be killed.

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
"""Command for this machine's Python; tests of an image or a zip pass another."""

_API = "/2018-06-01/runtime"
_TRACE = "Root=1-5759e988-bd862e3fe1be46a994272793;Sampled=0"
_ARN = "arn:aws:lambda:us-east-1:111122223333:function:transferlite"
_INIT_SECONDS = 60.0  # Lambda allows 10 s; a busy test machine needs more
_CREDENTIALS = {"AccessKeyId": "k", "SecretAccessKey": "s", "Token": "t", "Expiration": "2099-01-01T00:00:00Z"}
_INHERITED = ("PATH", "HOME", "LANG", "TMPDIR", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL")


@dataclass(frozen=True)
class InvocationResult:
    """Result of one invocation.

    Attributes:
        payload: return value of the handler; None if it failed.
        error: ``{"errorType", "errorMessage", ...}`` as Lambda returns it to the caller; None on success.
        cold: whether a process was started for it.
        init_seconds: time from the start of the process to its first request for an event; 0 if it was warm.
        seconds: time from sending the event to the result.
    """

    payload: Any
    error: dict[str, Any] | None
    cold: bool
    init_seconds: float
    seconds: float


class Function:
    """Execution environment: a process that runs the handler, started by the first event, one event at a time.

    A process is killed after ``timeout`` seconds on one event, or if its initialisation failed; the next event starts
    another. The context manager kills the process at its end.

    Args:
        environment: the function's variables, besides those that Lambda sets.
        command: command of the process; it finds the API's address in ``AWS_LAMBDA_RUNTIME_API``.
        timeout: time limit per event in seconds.
        memory: value of ``AWS_LAMBDA_FUNCTION_MEMORY_SIZE`` in MB.
        kill: kills the process, if killing the command is not enough.
        trace: X-Ray header of each event; the default is not sampled, as with tracing off.
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
        self._environment = _lambda_variables(self._api.address, memory) | dict(environment)
        if self._environment["AWS_LAMBDA_INITIALIZATION_TYPE"] == "snap-start":  # a snapshot outlives any key
            self._environment["AWS_CONTAINER_CREDENTIALS_FULL_URI"] = f"http://{self._api.address}/credentials"
            for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
                self._environment.pop(name, None)

    def invoke(self, event: Any) -> InvocationResult:
        """Send one event and wait for its result, its error or the time limit."""
        cold, init = self._process is None or self._process.poll() is not None or self._api.failed.is_set(), 0.0
        if cold:
            started = time.perf_counter()
            self.start()
            init = time.perf_counter() - started
        started = time.perf_counter()
        payload, error = self._send(json.dumps(event).encode())
        return InvocationResult(payload, error, cold, init, time.perf_counter() - started)

    def start(self) -> None:
        """Start the process and wait for its initialisation, as provisioned concurrency does."""
        self._end()
        self._api.reset()
        self._process = subprocess.Popen(
            self._command, cwd=ROOT, env=self._environment, stdout=self._log, stderr=subprocess.STDOUT
        )
        deadline = time.monotonic() + _INIT_SECONDS
        while not self._api.ready.wait(0.02) and self._process.poll() is None and time.monotonic() < deadline:
            pass

    @property
    def pid(self) -> int:
        """Process id of the running, or last, process."""
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> str:
        """Everything the processes have written so far."""
        self._log.seek(0)
        return self._log.read().decode(errors="replace")

    def _send(self, event: bytes) -> tuple[Any, dict[str, Any] | None]:
        """Return the payload and the error; a failed initialisation, death and timeout are errors too."""
        assert self._process is not None
        deadline = time.monotonic() + self.timeout
        request = self._api.send_event(event, time.time() + self.timeout)
        while True:
            ended = self._process.poll() is not None
            outcome = self._api.get_result(request, 0.02)
            if outcome is not None:
                return outcome
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


def drain(sqs: Any, url: str, function: Function, max_messages: int = 10) -> list[InvocationResult]:
    """Call :func:`deliver` until the queue has no visible message."""
    results = []
    while result := deliver(sqs, url, function, max_messages):
        results.append(result)
    return results


def deliver(sqs: Any, url: str, function: Function, max_messages: int = 10) -> InvocationResult | None:
    """Send up to ``max_messages`` messages to a function, as Lambda's event source does; None if the queue has none.

    If the invocation fails or times out, no message is deleted; otherwise all but the listed failures are. The others
    become visible again after the queue's visibility timeout.
    """
    received = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=max_messages, AttributeNames=["All"]).get(
        "Messages"
    )
    if not received:
        return None
    result = function.invoke({"Records": [_record(message) for message in received]})
    if result.error is None:
        failed = {failure["itemIdentifier"] for failure in (result.payload or {}).get("batchItemFailures", ())}
        for message in received:
            if message["MessageId"] not in failed:
                sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    return result


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


def _lambda_variables(address: str, memory: int) -> dict[str, str]:
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
    """Runtime API server: sends the waiting event and receives its result."""

    def __init__(self, trace: str) -> None:
        self.trace = trace
        self._events: queue.Queue[tuple[str, bytes, float]] = queue.Queue()
        self._results: queue.Queue[tuple[str, Any, dict[str, Any] | None]] = queue.Queue()
        self.ready = threading.Event()
        """Set when the process requests an event, or reports that it cannot start."""
        self.restored = threading.Event()
        """Set when the first event arrives, which resumes an environment from its snapshot."""
        self.failed = threading.Event()
        """Set when the initialisation has failed."""
        api = self

        class Handler(_Handler):
            server_api = api

        self._server = _Server(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=[0.05], daemon=True).start()
        self.address = f"127.0.0.1:{self._server.server_port}"

    def send_event(self, event: bytes, deadline: float) -> str:
        request = str(uuid.uuid4())
        self.restored.set()
        self._events.put((request, event, deadline))
        return request

    def next(self, gone: Callable[[], bool]) -> tuple[str, bytes, float] | None:
        """Return the waiting event, or None when the requesting process is gone."""
        self.ready.set()
        while not gone():
            try:
                return self._events.get(timeout=0.02)
            except queue.Empty:
                continue
        return None

    def store_result(self, request: str, payload: Any, error: dict[str, Any] | None) -> None:
        if not request:
            self.failed.set()
        self._results.put((request, payload, error))
        self.ready.set()

    def get_result(self, request: str, seconds: float) -> tuple[Any, dict[str, Any] | None] | None:
        """Return the result of this request or of the initialisation before it, or None if there is none yet."""
        try:
            name, payload, error = self._results.get(timeout=seconds)
        except queue.Empty:
            return None
        return (payload, error) if name in ("", request) else None

    def reset(self) -> None:
        """Reset for a new process; drop the events and late results of the previous one."""
        for flag in (self.ready, self.restored, self.failed):
            flag.clear()
        for pending in (self._events, self._results):
            while not pending.empty():
                pending.get()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    def handle_error(self, *_: Any) -> None:
        return None  # the process was killed during its request


class _Handler(BaseHTTPRequestHandler):
    server_api: _Api
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # send headers and body in one packet; two cost the client 40 ms
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
        *_, request, kind = self.path.split("/")
        request = "" if request in {"init", "restore"} else request
        if kind == "error":
            self.server_api.store_result(request, None, json.loads(body))
        else:
            self.server_api.store_result(request, json.loads(body), None)
        self._send(202, b'{"status": "OK"}', {})

    def _send(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Type": "application/json", "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def _is_gone(self) -> bool:
        """Return whether the requesting process has closed its connection."""
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
