"""What a photo's time went to, as X-Ray shows it: a subsegment a photo, in it one for each phase.

Lambda makes the trace of a function with active tracing, and runs the daemon that takes what is added to it. The few
lines here stand for AWS's X-Ray SDK, which is in maintenance and would take part in each cold start. A photo costs one
datagram, which nobody waits for, and a photo that is not traced nothing.

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

from inference_lambda.events.outcomes import Outcome, code_of, outcome_of

_HEAD = b'{"format": "json", "version": 1}\n'
_LONGEST = 1000
"""Characters of an annotation, and enough of a message."""


class Trace:
    """The subsegments of a function that is traced; for any other it does nothing. Not for several threads at once."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._environment = environment
        self._phases: list[dict[str, Any]] | None = None  # of the photo that is looked at
        self._wrong: Exception | None = None  # what the last phase that failed met

    @contextmanager
    def photo(self, uri: str = "") -> Iterator[dict[str, str]]:
        """One photo: the phases within belong to it. What is put into the value is what it can be searched by."""
        above = parent(self._environment.get("_X_AMZN_TRACE_ID", ""))
        where = daemon(self._environment.get("AWS_XRAY_DAEMON_ADDRESS", ""))
        told: dict[str, str] = {}
        if above is None or where is None:
            yield told
            return
        begun, clock = time.time(), time.perf_counter()
        self._phases, self._wrong = [], None
        try:
            yield told
        except Exception as error:
            self._wrong = self._wrong or error
            raise
        finally:
            document = _part("photo", begun, time.perf_counter() - clock) | _flag(self._wrong)
            document |= {"type": "subsegment", "trace_id": above[0], "parent_id": above[1], "subsegments": self._phases}
            if self._wrong is not None:
                told["code"] = code_of(self._wrong)
            document["annotations"] = {name: value[:_LONGEST] for name, value in told.items()}
            if uri:
                document["metadata"] = {"transferlite": {"image": uri}}
            self._phases = None
            _send(document, where)

    def add(self, name: str, seconds: float, error: Exception | None) -> None:
        """A phase that has just ended."""
        if self._phases is None:
            return
        part = _part(name, time.time() - seconds, seconds) | _flag(error)
        if error is not None:
            self._wrong = error
            cause = {"id": _new_id(), "type": type(error).__name__, "message": str(error)[:_LONGEST]}
            part["cause"] = {"exceptions": [cause]}
        self._phases.append(part)


def parent(header: str) -> tuple[str, str] | None:
    """The trace's id and that of the segment that Lambda made, None where the invocation is not sampled."""
    known = dict(word.partition("=")[::2] for word in header.split(";"))
    if known.get("Sampled") != "1" or not known.get("Root") or not known.get("Parent"):
        return None
    return known["Root"], known["Parent"]


def daemon(address: str) -> tuple[str, str] | None:
    """The host and port that take datagrams, of ``HOST:PORT`` or of ``tcp:HOST:PORT udp:HOST:PORT``."""
    words = [word.removeprefix("udp:") for word in address.split() if not word.startswith("tcp:")]
    host, colon, port = words[0].rpartition(":") if words else ("", "", "")
    return (host.strip("[]"), port) if colon else None


def _part(name: str, begun: float, seconds: float) -> dict[str, Any]:
    return {"id": _new_id(), "name": name, "start_time": begun, "end_time": begun + seconds}


def _flag(error: Exception | None) -> dict[str, bool]:
    """What is wrong with the photo is an error, all else a fault of the function or of what it depends on."""
    if error is None:
        return {}
    return {"error" if outcome_of(error, of_photo=True) is Outcome.UNUSABLE else "fault": True}


def _new_id() -> str:
    return os.urandom(8).hex()


def _send(document: Mapping[str, Any], where: tuple[str, str]) -> None:
    """Hand it to the daemon or drop it: no name is looked up, and nothing waits for a full buffer or an answer."""
    import socket  # which a function that is not traced need not wait for

    numeric = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
    try:
        (family, kind, _, _, place), *_ = socket.getaddrinfo(*where, type=socket.SOCK_DGRAM, flags=numeric)
        with socket.socket(family, kind) as line:
            line.setblocking(False)
            line.sendto(_HEAD + json.dumps(document).encode(), place)
    except (OSError, ValueError, OverflowError):
        return
