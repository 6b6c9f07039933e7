import io
import json
import logging
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jsonschema
import pytest

from inference_lambda import handler
from inference_lambda.current_model import CurrentModel
from inference_lambda.handler import lambda_handler
from inference_lambda.observability import telemetry
from inference_lambda.observability.telemetry import (
    MAX_LABELS,
    MAX_VALUES,
    JsonLineFormatter,
    Metrics,
    begin_invocation,
    dimension_value,
)
from tests.conftest import BUCKET
from tests.inference_lambda.colours import colour_predictor
from tests.inference_lambda.golden import golden
from tests.inference_lambda.notifications import messages, notification
from tests.pictures import jpeg
from tests.transferlite.faults import refuse
from transferlite.errors import UnavailableError
from transferlite.registry.open_registry import Registry

OUTPUT = "test-predictions"
CONTEXT = SimpleNamespace(aws_request_id="79104EXAMPLEB723")

METRIC = {"type": "object", "required": ["Name"], "properties": {"Name": {"type": "string", "minLength": 1}}}
DIRECTIVE = {
    "type": "object",
    "required": ["Namespace", "Dimensions", "Metrics"],
    "properties": {
        "Namespace": {"type": "string", "minLength": 1, "maxLength": 1024},
        "Dimensions": {
            "type": "array",
            "minItems": 1,
            "items": {"type": "array", "minItems": 1, "maxItems": 30, "items": {"type": "string", "maxLength": 250}},
        },
        "Metrics": {"type": "array", "maxItems": 100, "items": METRIC},
    },
}
EMBEDDED = {
    "type": "object",
    "required": ["_aws"],
    "properties": {
        "_aws": {
            "type": "object",
            "required": ["Timestamp", "CloudWatchMetrics"],
            "properties": {
                "Timestamp": {"type": "integer"},
                "CloudWatchMetrics": {"type": "array", "items": DIRECTIVE},
            },
        }
    },
}
"""JSON schema of CloudWatch's embedded metric format."""


def checked(text: str) -> list[Any]:
    """Return the metric lines in a text, each checked against the schema."""
    lines = [json.loads(line) for line in text.splitlines() if '"_aws"' in line]
    for line in lines:
        jsonschema.validate(line, EMBEDDED)
        (directive,) = line["_aws"]["CloudWatchMetrics"]
        for metric in directive["Metrics"]:
            value = line[metric["Name"]]
            values = value if isinstance(value, list) else [value]
            assert 0 < len(values) <= 100
            assert all(isinstance(value, int | float) for value in values)
        for name in directive["Dimensions"][0]:
            assert re.fullmatch(r"[\x20-\x7e]{1,1024}", line[name])
            assert line[name].strip()
    return lines


def totals(lines: list[Any]) -> dict[tuple[str, ...], Any]:
    """Return all values or the total of each metric, by name and dimensions other than FunctionName."""
    found: dict[tuple[str, ...], Any] = {}
    for line in lines:
        (directive,) = line["_aws"]["CloudWatchMetrics"]
        by = [f"{name}={line[name]}" for name in directive["Dimensions"][0] if name != "FunctionName"]
        for metric in directive["Metrics"]:
            key, value = (metric["Name"], *by), line[metric["Name"]]
            found[key] = found[key] + value if key in found else value
    return found


@pytest.fixture
def s3(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    bucket.create_bucket(Bucket=OUTPUT)
    monkeypatch.setenv("TRANSFERLITE_REGISTRY", "unused")
    monkeypatch.setenv("TRANSFERLITE_OUTPUT_BUCKET", OUTPUT)
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "photos")
    predictor = colour_predictor(threshold=0.67)
    monkeypatch.setattr(CurrentModel, "get", lambda *_: predictor)
    handler._service.cache_clear()
    handler._api.cache_clear()
    telemetry._pending_model_events.clear()  # left by earlier tests
    for name, colour in (("red", "red"), ("blue", "blue"), ("throttled", "red")):
        bucket.put_object(Bucket=BUCKET, Key=f"{name}.jpg", Body=jpeg(colour))
    bucket.put_object(Bucket=BUCKET, Key="unsure.jpg", Body=jpeg("green"))
    bucket.put_object(Bucket=BUCKET, Key="bad.jpg", Body=b"%PDF-1.7")
    refuse("GetObject", "SlowDown", 503, "throttled.jpg")
    yield bucket
    handler._service.cache_clear()
    handler._api.cache_clear()
    begin_invocation(None)


def test_an_invocation_measures_what_it_did(s3: Any, capsys: pytest.CaptureFixture[str]) -> None:
    names = ("red.jpg", "red.jpg", "blue.jpg", "unsure.jpg", "bad.jpg", "throttled.jpg", "folder/")
    lambda_handler(messages(*(notification(BUCKET, name) for name in names)), CONTEXT)
    lines = checked(capsys.readouterr().out)
    assert {line["FunctionName"] for line in lines} == {"photos"}
    assert {line["request_id"] for line in lines} == {"79104EXAMPLEB723"}
    assert {line["model_id"] for line in lines} == {"20260131-235959-3f9a1c07"}
    assert {line["_aws"]["CloudWatchMetrics"][0]["Namespace"] for line in lines} == {"TransferLite"}
    found = totals(lines)
    assert [len(found.pop((name,))) for name in ("Fetch", "Decode", "Invoke", "Write")] == [6, 5, 4, 5]
    confidence = found.pop(("Confidence",))
    assert len(confidence) == 4
    assert all(0 <= value <= 1 for value in confidence)
    assert found == {
        ("Labelled", "Label=red"): 2,
        ("Labelled", "Label=blue"): 1,
        ("Labelled", "Label=unknown"): 1,
        ("Answered",): 4,
        ("Abstained",): 1,
        ("PhotosLabelled",): 4,
        ("PhotosUnusable",): 1,
        ("PhotosLater",): 1,
        ("PhotosSkipped",): 1,
        ("Errors", "Code=not-image"): 1,
        ("Errors", "Code=UnavailableError"): 1,
        ("ColdStart",): 1,
    }


def over_http(content: Any) -> Any:
    event = golden("http_function_url") | {"rawQueryString": "", "isBase64Encoded": False}
    return event | {"headers": {"content-type": "application/json"}, "body": json.dumps(content)}


@pytest.mark.parametrize(
    ("event", "code"),
    [
        ({"s3": f"s3://{BUCKET}/bad.jpg"}, "not-image"),
        ({"s3": f"s3://{BUCKET}/throttled.jpg"}, "UnavailableError"),
        ({"s3": "s3://other/a.jpg"}, "forbidden"),
        (over_http({"s3_uri": f"s3://{BUCKET}/bad.jpg"}), "not-image"),
        (over_http({"s3_uri": f"s3://{BUCKET}/throttled.jpg"}), "storage-unavailable"),
        (over_http({"s3_uri": "s3://other/a.jpg"}), "bucket-not-allowed"),
        (over_http({}), "bad-json"),
    ],
)
def test_an_error_is_counted_by_its_code_for_every_source(
    event: Any, code: str, s3: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRANSFERLITE_ALLOWED_BUCKETS", BUCKET)
    with suppress(UnavailableError):
        lambda_handler(event, CONTEXT)
    found = totals(checked(capsys.readouterr().out))
    assert {key: value for key, value in found.items() if key[0] == "Errors"} == {("Errors", f"Code={code}"): 1}


def test_phases_of_a_direct_invocation_are_measured(s3: Any, capsys: pytest.CaptureFixture[str]) -> None:
    lambda_handler({"s3": f"s3://{BUCKET}/red.jpg"}, CONTEXT)
    assert {"Fetch", "Decode", "Invoke"} <= {name for name, *_ in totals(checked(capsys.readouterr().out))}


def test_an_http_request_that_hits_a_bug_is_counted(
    s3: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(CurrentModel, "get", fail)
    assert lambda_handler(golden("http_function_url"), CONTEXT)["statusCode"] == 500
    assert totals(checked(capsys.readouterr().out))["Errors", "Code=internal"] == 1


def test_only_the_first_invocation_is_a_cold_start(s3: Any, capsys: pytest.CaptureFixture[str]) -> None:
    for expected in (1, None):
        lambda_handler(notification(BUCKET, "red.jpg"), CONTEXT)
        assert totals(checked(capsys.readouterr().out)).get(("ColdStart",)) == expected


def test_metrics_may_have_another_namespace_or_be_off(
    s3: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for namespace, expected in (("Mine", {"Mine"}), ("off", set())):
        monkeypatch.setenv("TRANSFERLITE_METRICS", namespace)
        handler._service.cache_clear()
        lambda_handler(notification(BUCKET, "red.jpg"), CONTEXT)
        lines = checked(capsys.readouterr().out)
        assert {line["_aws"]["CloudWatchMetrics"][0]["Namespace"] for line in lines} == expected


def test_an_invocation_that_raises_is_measured_too(s3: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Exception, match="SlowDown"):
        lambda_handler(notification(BUCKET, "throttled.jpg"), CONTEXT)
    assert totals(checked(capsys.readouterr().out))["PhotosLater",] == 1


def test_many_values_are_split_into_several_lines(capsys: pytest.CaptureFixture[str]) -> None:
    metrics = Metrics("TransferLite")
    for _ in range(2 * MAX_VALUES + 1):
        with metrics.phase("Invoke"):
            pass
    metrics.count("PhotosLabelled")
    metrics.flush()
    lines = checked(capsys.readouterr().out)
    assert [len(line["Invoke"]) for line in lines] == [100, 100, 1]
    assert totals(lines)["PhotosLabelled",] == 1


def test_labels_over_the_limit_are_counted_as_other(capsys: pytest.CaptureFixture[str]) -> None:
    labels = [f"label{number:03}" for number in range(MAX_LABELS + 30)]
    metrics = Metrics("TransferLite")
    for label in labels:
        metrics.count_prediction({"label": label, "score": 0.5, "model_id": "m"}, labels, "unknown")
    metrics.flush()
    found = {key: value for key, value in totals(checked(capsys.readouterr().out)).items() if key[0] == "Labelled"}
    assert len(found) == MAX_LABELS + 1
    assert found["Labelled", "Label=other"] == 30


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ("cat", "cat"),
        ("猫", "\\u732b"),
        ("é t é", "\\xe9 t \\xe9"),
        ("", "(empty)"),
        (" \n", "(empty)"),
        ("a\x00b\tc", "a b c"),
        ("x" * 2000, "x" * 1024),
    ],
)
def test_a_label_becomes_a_valid_dimension_value(label: str, expected: str) -> None:
    assert dimension_value(label) == expected


def line_of(message: str, **changes: Any) -> Any:
    record = logging.LogRecord("transferlite", logging.INFO, "f.py", 1, message, (), None)
    vars(record).update(changes)
    text = JsonLineFormatter().format(record)
    assert "\n" not in text
    return json.loads(text)


def test_a_log_line_has_request_id_and_trace_id(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_X_AMZN_TRACE_ID", "Root=1-5e34a614-10bdxmplf1fb44f07bc535a1;Parent=53995c3f42cd8ad8;Sampled=1")
    begin_invocation(CONTEXT)
    line = line_of('{"event": "labelled", "label": "猫"}', created=1769903999.25, msecs=250.0)
    begin_invocation(None)
    assert line == {
        "timestamp": "2026-01-31T23:59:59.250Z",
        "level": "INFO",
        "request_id": "79104EXAMPLEB723",
        "trace_id": "1-5e34a614-10bdxmplf1fb44f07bc535a1",
        "event": "labelled",
        "label": "猫",
    }


@pytest.mark.parametrize("text", ["hello", "[1]", "{", '"text"', "two\nlines"])
def test_a_plain_text_message_becomes_the_message_field(text: str) -> None:
    assert line_of(text)["message"] == text


def test_a_traceback_is_part_of_its_line() -> None:
    try:
        raise ValueError("a bug")
    except ValueError:
        line = line_of("{}", exc_info=sys.exc_info(), levelname="ERROR")
    assert line["level"] == "ERROR"
    assert line["exception"].endswith("ValueError: a bug")


def test_in_lambda_every_line_of_the_log_is_json(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(telemetry.log, "handlers", [])
    monkeypatch.setattr(telemetry.log, "propagate", True)
    telemetry.log_as_json()
    telemetry.log.error(json.dumps({"event": "failed"}))
    logging.getLogger("transferlite").info("started")
    assert [json.loads(line).get("event") for line in out.getvalue().splitlines()] == ["failed", None]


def test_the_handler_logs_json_only_in_lambda() -> None:
    code = (
        "import logging, inference_lambda.handler;"
        " found = logging.getLogger('transferlite'); print(len(found.handlers), found.propagate)"
    )
    for environment, expected in (({"AWS_LAMBDA_FUNCTION_NAME": "photos"}, "1 False"), ({}, "0 True")):
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == expected


def test_telemetry_imports_only_the_standard_library() -> None:
    code = "import sys; import inference_lambda.observability.telemetry; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"boto3", "numpy", "PIL", "aws_lambda_powertools"} & set(done.stdout.split())


def test_outside_lambda_metrics_are_off_by_default(
    s3: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_LAMBDA_FUNCTION_NAME")
    for namespace, some in ((None, False), ("Mine", True)):
        if namespace:
            monkeypatch.setenv("TRANSFERLITE_METRICS", namespace)
        handler._service.cache_clear()
        lambda_handler(notification(BUCKET, "red.jpg"), CONTEXT)
        assert bool(checked(capsys.readouterr().out)) == some


def test_a_drift_check_writes_metrics_of_the_current_model(
    s3: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    predictor = CurrentModel.get(handler._service().model)
    counts = {"classes": {name: {"predicted": 20} for name in ("red", "blue", "green")}, "abstained": 0}
    metrics = {"validation": counts | {"confidence": {"edges": [0.7], "photos": [30, 30]}}}
    manifest = replace(predictor.manifest, metrics=metrics)
    store = Registry.open(str(tmp_path)).store
    store.put(f"models/{manifest.model_id}/manifest.json", manifest.to_json())
    monkeypatch.setenv("TRANSFERLITE_REGISTRY", str(tmp_path))
    monkeypatch.setattr("transferlite.registry.manifest.Manifest.from_json", lambda *_: manifest)
    handler._service.cache_clear()
    for number in range(60):
        s3.put_object(Bucket=BUCKET, Key=f"many/{number}.jpg", Body=jpeg("red", number))
    lambda_handler(messages(*(notification(BUCKET, f"many/{number}.jpg") for number in range(60))), CONTEXT)
    capsys.readouterr()
    reply = lambda_handler({"drift": {"since": "1h"}}, CONTEXT)
    found = totals(checked(capsys.readouterr().out))
    (drift,) = reply["models"]
    assert (drift["photos"], drift["over"]) == (60, True)
    assert found["DriftOfClasses",] == [drift["classes"]["psi"]]
    assert found["DriftOver",] == [1.0]
    assert "DriftOfConfidence" in {key[0] for key in found}


def test_a_drift_check_without_records_succeeds(s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRANSFERLITE_REGISTRY", str(tmp_path))
    assert lambda_handler({"drift": {}}, CONTEXT) == {"since": "7d", "models": []}


def test_model_events_are_counted(s3: Any, capsys: pytest.CaptureFixture[str]) -> None:
    for event in ("model-refused", "model-kept", "model-kept", "labelled"):
        logging.getLogger("transferlite").error(json.dumps({"event": event}))
    lambda_handler(notification(BUCKET, "red.jpg"), CONTEXT)
    lambda_handler(notification(BUCKET, "red.jpg"), CONTEXT)
    found = totals(checked(capsys.readouterr().out))
    assert (found["ModelRefused",], found["ModelKept",]) == (1, 2)
    assert ("ModelChanged",) not in found
