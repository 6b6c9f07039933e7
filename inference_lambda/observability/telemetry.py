"""What the function tells of itself: a line of JSON for each thing that happens, and metrics in CloudWatch's own form.

CloudWatch makes metrics of lines in the embedded metric format, so no call is made for them. The few lines here stand
for Powertools for AWS Lambda, whose import alone costs a third of what a bare interpreter with Pillow takes to start
(``python -m benchmarks.telemetry``).

Source: https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
"""

import json
import logging
import os
import re
import sys
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

log = logging.getLogger("transferlite")
log.setLevel(logging.INFO)

MOST_VALUES = 100
"""Of one metric in one line."""
MOST_LABELS = 50
"""Labels that have a metric of their own, for each costs; the others are counted together as ``other``."""

PHASES = ("Fetch", "Decode", "Invoke", "Explain", "Write")
"""What a photo's time goes to."""

_request: dict[str, str] = {}


SWAPS = {"model-changed": "ModelChanged", "model-kept": "ModelKept", "model-refused": "ModelRefused"}
"""What the log says of the model in service, and the metric that counts it."""
_swaps: deque[str] = deque(maxlen=1000)


def _count_swap(record: logging.LogRecord) -> bool:
    """Count what happens to the model in service, which has no metrics at hand, from the lines that tell of it."""
    event = _fields(record.getMessage()).get("event")
    if event in SWAPS:
        _swaps.append(SWAPS[event])
    return True


log.addFilter(_count_swap)


def begin(context: object) -> None:
    """From now on every line names this invocation: its request id, and the X-Ray trace that it is part of."""
    found = {
        "request_id": str(getattr(context, "aws_request_id", "")),
        "trace_id": os.environ.get("_X_AMZN_TRACE_ID", "").partition(";")[0].removeprefix("Root="),
    }
    _request.clear()
    _request.update({name: value for name, value in found.items() if value})


class LineFormatter(logging.Formatter):
    """A record as one line of JSON. Its message may be JSON itself, whose fields are then the line's."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        written = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line = {"timestamp": f"{written}.{int(record.msecs):03}Z", "level": record.levelname, **_request}
        line |= _fields(record.getMessage())
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def _fields(message: str) -> dict[str, Any]:
    try:
        found = json.loads(message)
    except ValueError:
        found = None
    return found if isinstance(found, dict) else {"message": message}


def log_lines() -> None:
    """Write the log to standard output in lines of JSON, instead of in the form of the Lambda runtime."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(LineFormatter())
    log.handlers[:] = [handler]
    log.propagate = False


class Metrics:
    """The measurements of one invocation, written when it ends. Not for several threads at once.

    Args:
        namespace: CloudWatch's; empty measures nothing.
        hear: is told of each phase that has ended: its name, its seconds, and what it failed of.
    """

    def __init__(self, namespace: str, hear: Callable[[str, float, Exception | None], None] | None = None) -> None:
        self._namespace = namespace
        self._hear = hear
        self._cold = True
        self._values: dict[str, list[float]] = defaultdict(list)
        self._counts: Counter[tuple[str, str, str]] = Counter()
        self.model_id = ""

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Measure a phase, in milliseconds."""
        begun, failed = time.perf_counter(), None
        try:
            yield
        except Exception as error:
            failed = error
            raise
        finally:
            seconds = time.perf_counter() - begun
            self._values[name].append(round(seconds * 1000, 3))
            if self._hear is not None:
                self._hear(name, seconds, failed)

    def count(self, name: str, by: str = "", value: str = "") -> None:
        """Count one, by the value of a dimension if it is given."""
        self._counts[name, by, value] += 1

    def gauge(self, name: str, value: float) -> None:
        """Tell a value without a unit, as a share or an index is."""
        self._values[name].append(value)

    def answered(self, prediction: Mapping[str, Any], labels: Iterable[str], unknown: str) -> None:
        """Count an answer: its label, its confidence, and whether the model abstained."""
        label = prediction["label"]
        known = {unknown, *list(labels)[:MOST_LABELS]}
        self.count("Labelled", "Label", label if label in known else "other")
        self._values["Confidence"].append(round(prediction["score"], 4))
        self.count("Answered")
        self._counts["Abstained", "", ""] += label == unknown
        self.model_id = prediction["model_id"]

    def flush(self) -> None:
        """Write what was measured since the last time."""
        if self._cold:
            self.count("ColdStart")
        self._cold = False
        values, self._values = self._values, defaultdict(list)
        counts, self._counts = self._counts, Counter()
        while _swaps:
            counts[_swaps.popleft(), "", ""] += 1
        if self._namespace:
            for line in self._lines(values, counts):
                print(json.dumps(line), flush=True)  # noqa: T201 - standard output is where CloudWatch reads metrics

    def _lines(
        self, values: Mapping[str, list[float]], counts: Mapping[tuple[str, str, str], int]
    ) -> Iterator[dict[str, Any]]:
        plain: dict[str, Any] = {name: count for (name, by, _), count in counts.items() if not by}
        longest = max(map(len, values.values()), default=0)
        for start in range(0, max(longest, 1), MOST_VALUES):
            part = {name: all_of[start : start + MOST_VALUES] for name, all_of in values.items()}
            yield self._line({**{name: some for name, some in part.items() if some}, **(plain if not start else {})})
        for (name, by, value), count in counts.items():
            if by:
                yield self._line({name: count}, {by: dimension(value)})

    def _line(self, metrics: Mapping[str, Any], dimensions: Mapping[str, str] | None = None) -> dict[str, Any]:
        names = {"FunctionName": os.environ.get("AWS_LAMBDA_FUNCTION_NAME", "local"), **(dimensions or {})}
        directive = {
            "Namespace": self._namespace,
            "Dimensions": [list(names)],
            "Metrics": [{"Name": name, "Unit": _unit(name, value)} for name, value in metrics.items()],
        }
        about = {**_request, "model_id": self.model_id}
        head = {"_aws": {"Timestamp": int(time.time() * 1000), "CloudWatchMetrics": [directive]}}
        return {**head, **{name: value for name, value in about.items() if value}, **names, **metrics}


def dimension(value: str) -> str:
    """A text as CloudWatch takes it for a dimension: ASCII without controls, not empty, at most 1,024 characters."""
    text = value.encode("ascii", "backslashreplace").decode()
    return re.sub(r"[\x00-\x20\x7f]+", " ", text).strip()[:1024] or "(empty)"


def _unit(name: str, value: Any) -> str:
    if not isinstance(value, list):
        return "Count"
    return "Milliseconds" if name in PHASES else "None"
