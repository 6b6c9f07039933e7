"""X-Ray traces: a subsegment per photo, and within it a subsegment per phase.

Lambda creates the trace of a function with active tracing, and runs the daemon that receives subsegments. AWS's X-Ray
SDK is not used: it is in maintenance mode, and importing it would slow down every cold start. A traced photo costs one
datagram (0.05 ms), sent without waiting; an untraced photo costs nothing.

Sources: https://docs.aws.amazon.com/xray/latest/devguide/xray-api-segmentdocuments.html,
https://docs.aws.amazon.com/xray/latest/devguide/xray-api-sendingdata.html#xray-api-daemon,
https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html
"""

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from inference_lambda.events.outcomes import Outcome, error_code, outcome_of

_DAEMON_HEADER = b'{"format": "json", "version": 1}\n'
_MAX_CHARACTERS = 1000
"""Longest annotation value, a limit of X-Ray; messages are cut to the same length."""


class Trace:
    """Sends the subsegments of photos if the invocation is traced, and does nothing otherwise. Not thread-safe.

    Args:
        environment: variables that hold the trace header and the daemon's address.
    """

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._environment = environment
        self._phases: list[dict[str, Any]] | None = None  # of the current photo; None outside a traced photo
        self._error: Exception | None = None  # of the last failed phase

    @contextmanager
    def photo(self, uri: str = "") -> Iterator[dict[str, str]]:
        """Trace one photo with the phases added inside the context.

        Args:
            uri: photo's URI, sent as metadata; empty for none.

        Yields:
            Annotations by name, to fill in; X-Ray indexes them for searching.
        """
        parent = parent_segment(self._environment.get("_X_AMZN_TRACE_ID", ""))
        address = daemon_address(self._environment.get("AWS_XRAY_DAEMON_ADDRESS", ""))
        annotations: dict[str, str] = {}
        if parent is None or address is None:
            yield annotations
            return
        start_time, started = time.time(), time.perf_counter()
        self._phases, self._error = [], None
        try:
            yield annotations
        except Exception as error:
            self._error = self._error or error
            raise
        finally:
            document = _segment("photo", start_time, time.perf_counter() - started) | _error_flag(self._error)
            document |= {"type": "subsegment", "trace_id": parent[0], "parent_id": parent[1]}
            document["subsegments"] = self._phases
            if self._error is not None:
                annotations["code"] = error_code(self._error)
            document["annotations"] = {name: value[:_MAX_CHARACTERS] for name, value in annotations.items()}
            if uri:
                document["metadata"] = {"transferlite": {"image": uri}}
            self._phases = None
            _send(document, address)

    def add_phase(self, name: str, seconds: float, error: Exception | None) -> None:
        """Add a phase that has just ended to the current photo."""
        if self._phases is None:
            return
        phase = _segment(name, time.time() - seconds, seconds) | _error_flag(error)
        if error is not None:
            self._error = error
            cause = {"id": _new_id(), "type": type(error).__name__, "message": str(error)[:_MAX_CHARACTERS]}
            phase["cause"] = {"exceptions": [cause]}
        self._phases.append(phase)


def parent_segment(header: str) -> tuple[str, str] | None:
    """Return the trace id and the id of Lambda's segment, or None if the invocation is not sampled."""
    fields = dict(field.partition("=")[::2] for field in header.split(";"))
    if fields.get("Sampled") != "1" or not fields.get("Root") or not fields.get("Parent"):
        return None
    return fields["Root"], fields["Parent"]


def daemon_address(address: str) -> tuple[str, str] | None:
    """Return the daemon's UDP host and port from ``HOST:PORT`` or ``tcp:HOST:PORT udp:HOST:PORT``, or None."""
    udp = [part.removeprefix("udp:") for part in address.split() if not part.startswith("tcp:")]
    host, colon, port = udp[0].rpartition(":") if udp else ("", "", "")
    return (host.strip("[]"), port) if colon else None


def _segment(name: str, start_time: float, seconds: float) -> dict[str, Any]:
    return {"id": _new_id(), "name": name, "start_time": start_time, "end_time": start_time + seconds}


def _error_flag(error: Exception | None) -> dict[str, bool]:
    """Return X-Ray's ``error`` for a rejected photo, ``fault`` for a failure of the function or of a service."""
    if error is None:
        return {}
    return {"error" if outcome_of(error, of_photo=True) is Outcome.UNUSABLE else "fault": True}


def _new_id() -> str:
    return os.urandom(8).hex()


def _send(document: Mapping[str, Any], address: tuple[str, str]) -> None:
    """Send a document to the daemon without waiting: no name lookup, and dropped if the socket's buffer is full."""
    import socket  # only a traced invocation needs it

    numeric = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
    try:
        (family, kind, _, _, endpoint), *_ = socket.getaddrinfo(*address, type=socket.SOCK_DGRAM, flags=numeric)
        with socket.socket(family, kind) as udp_socket:
            udp_socket.setblocking(False)
            udp_socket.sendto(_DAEMON_HEADER + json.dumps(document).encode(), endpoint)
    except (OSError, ValueError, OverflowError):
        return
