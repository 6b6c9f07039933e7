"""JSON log lines, and metrics in CloudWatch's embedded metric format.

CloudWatch extracts such metrics from the log, so sending them takes no call. Powertools for AWS Lambda is not used:
Python with Pillow starts in 75 ms with it and in 50 ms with this module (``python -m benchmarks.telemetry``).

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

MAX_VALUES = 100
"""Most values of one metric in one line, a limit of the embedded metric format."""
MAX_LABELS = 50
"""Labels with a metric of their own, since each metric costs money; the others are counted as ``other``."""

PHASES = ("Fetch", "Decode", "Invoke", "Explain", "Write")
"""Measured phases of a photo."""

_invocation: dict[str, str] = {}
"""Request id and trace id of the current invocation, added to every line."""

MODEL_EVENT_METRICS = {"model-changed": "ModelChanged", "model-kept": "ModelKept", "model-refused": "ModelRefused"}
"""Log events of the current model, and the metric that counts each."""
_pending_model_events: deque[str] = deque(maxlen=1000)


def _count_model_event(record: logging.LogRecord) -> bool:
    """Queue a model event for the next flush of the metrics; ``CurrentModel`` logs it and knows no ``Metrics``."""
    event = _parse_message(record.getMessage()).get("event")
    if event in MODEL_EVENT_METRICS:
        _pending_model_events.append(MODEL_EVENT_METRICS[event])
    return True


log.addFilter(_count_model_event)


def begin_invocation(context: object) -> None:
    """Add this invocation's request id and X-Ray trace id to every line from now on."""
    ids = {
        "request_id": str(getattr(context, "aws_request_id", "")),
        "trace_id": os.environ.get("_X_AMZN_TRACE_ID", "").partition(";")[0].removeprefix("Root="),
    }
    _invocation.clear()
    _invocation.update({name: value for name, value in ids.items() if value})


class JsonLineFormatter(logging.Formatter):
    """Format a log record as one line of JSON; if its message is a JSON object, its fields become the line's."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        time_of_record = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line = {"timestamp": f"{time_of_record}.{int(record.msecs):03}Z", "level": record.levelname, **_invocation}
        line |= _parse_message(record.getMessage())
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def _parse_message(message: str) -> dict[str, Any]:
    try:
        fields = json.loads(message)
    except ValueError:
        fields = None
    return fields if isinstance(fields, dict) else {"message": message}


def log_as_json() -> None:
    """Write the log to standard output as JSON lines, instead of in the Lambda runtime's format."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonLineFormatter())
    log.handlers[:] = [handler]
    log.propagate = False


class Metrics:
    """Metrics of one invocation, written to standard output by :meth:`flush`. Not thread-safe.

    Args:
        namespace: CloudWatch namespace; empty to write nothing.
        on_phase_end: called after each phase with its name, its seconds and its error or None.
    """

    def __init__(
        self, namespace: str, on_phase_end: Callable[[str, float, Exception | None], None] | None = None
    ) -> None:
        self._namespace = namespace
        self._on_phase_end = on_phase_end
        self._is_cold = True
        self._values: dict[str, list[float]] = defaultdict(list)
        self._counts: Counter[tuple[str, str, str]] = Counter()  # by metric, dimension name and dimension value
        self.model_id = ""

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Measure the context as one of :data:`PHASES`, in milliseconds."""
        started, failure = time.perf_counter(), None
        try:
            yield
        except Exception as error:
            failure = error
            raise
        finally:
            seconds = time.perf_counter() - started
            self._values[name].append(round(seconds * 1000, 3))
            if self._on_phase_end is not None:
                self._on_phase_end(name, seconds, failure)

    def count(self, name: str, dimension: str = "", value: str = "") -> None:
        """Add 1 to a metric, optionally to that of one value of a dimension."""
        self._counts[name, dimension, value] += 1

    def gauge(self, name: str, value: float) -> None:
        """Record a value without a unit, e.g. a drift index."""
        self._values[name].append(value)

    def count_prediction(self, prediction: Mapping[str, Any], labels: Iterable[str], unknown: str) -> None:
        """Count a prediction by its label, and record its confidence and whether it is ``unknown``."""
        label = prediction["label"]
        known = {unknown, *list(labels)[:MAX_LABELS]}
        self.count("Labelled", "Label", label if label in known else "other")
        self._values["Confidence"].append(round(prediction["score"], 4))
        self.count("Answered")
        self._counts["Abstained", "", ""] += label == unknown
        self.model_id = prediction["model_id"]

    def flush(self) -> None:
        """Write everything measured since the last flush."""
        if self._is_cold:
            self.count("ColdStart")
        self._is_cold = False
        values, self._values = self._values, defaultdict(list)
        counts, self._counts = self._counts, Counter()
        while _pending_model_events:
            counts[_pending_model_events.popleft(), "", ""] += 1
        if self._namespace:
            for line in self._lines(values, counts):
                print(json.dumps(line), flush=True)  # noqa: T201 - standard output is where CloudWatch reads metrics

    def _lines(
        self, values: Mapping[str, list[float]], counts: Mapping[tuple[str, str, str], int]
    ) -> Iterator[dict[str, Any]]:
        plain: dict[str, Any] = {name: count for (name, dimension, _), count in counts.items() if not dimension}
        longest = max(map(len, values.values()), default=0)
        for start in range(0, max(longest, 1), MAX_VALUES):
            chunks = {name: series[start : start + MAX_VALUES] for name, series in values.items()}
            metrics = {name: chunk for name, chunk in chunks.items() if chunk}
            yield self._line(metrics | (plain if start == 0 else {}))
        for (name, dimension, value), count in counts.items():
            if dimension:
                yield self._line({name: count}, {dimension: dimension_value(value)})

    def _line(self, metrics: Mapping[str, Any], dimensions: Mapping[str, str] | None = None) -> dict[str, Any]:
        dimension_values = {"FunctionName": os.environ.get("AWS_LAMBDA_FUNCTION_NAME", "local"), **(dimensions or {})}
        directive = {
            "Namespace": self._namespace,
            "Dimensions": [list(dimension_values)],
            "Metrics": [{"Name": name, "Unit": _unit(name, value)} for name, value in metrics.items()],
        }
        metadata = {"_aws": {"Timestamp": int(time.time() * 1000), "CloudWatchMetrics": [directive]}}
        properties = {**_invocation, **({"model_id": self.model_id} if self.model_id else {})}
        return {**metadata, **properties, **dimension_values, **metrics}


def dimension_value(value: str) -> str:
    """Convert text to what CloudWatch accepts as a dimension value: ASCII, no controls, 1 to 1024 characters."""
    text = value.encode("ascii", "backslashreplace").decode()
    return re.sub(r"[\x00-\x20\x7f]+", " ", text).strip()[:1024] or "(empty)"


def _unit(name: str, value: Any) -> str:
    if not isinstance(value, list):
        return "Count"
    return "Milliseconds" if name in PHASES else "None"
