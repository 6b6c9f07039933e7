"""Each golden event with a photo that is usable, unusable, missing, throttled or forbidden: the table of outcomes."""

import json
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from inference_lambda import handler
from inference_lambda.current_model import CurrentModel
from inference_lambda.events.batch_operations import BatchOperationsJob, BatchOperationsTask
from inference_lambda.events.distributed_map import MapItems
from inference_lambda.events.outcomes import Outcome, PhotoResult, outcome_of, process_until_deadline
from inference_lambda.events.parse import DirectInvocation, parse_event
from inference_lambda.events.ping import Ping
from inference_lambda.events.s3 import S3Notification, S3Photo
from inference_lambda.events.sqs import SqsBatch, SqsMessage
from inference_lambda.handler import lambda_handler
from tests.inference_lambda.colours import colour_predictor
from tests.inference_lambda.golden import BUCKET, KEY, NAMES, golden
from tests.pictures import jpeg
from tests.transferlite.faults import refuse
from transferlite.errors import (
    AccessDeniedError,
    BundleError,
    ConflictError,
    InputError,
    MissingStoreError,
    NotFoundError,
    PhotoError,
    TransferLiteError,
    UnavailableError,
)

OUTPUT = "predictions-bucket"
VERSION = "096fKKXTRTtl3on89fVO.nfljtsv6qko"
"""Version id of the photo in those golden events that have one."""
PHOTO, PHOTO_VERSION = S3Photo(BUCKET, KEY), S3Photo(BUCKET, KEY, VERSION)
INVOCATION = "YXNkbGZqYWRmaiBhc2RmdW9hZHNmZGpmaGFzbGtkaGZza2RmaAo"
TASK = "dGFza2lkZ29lc2hlcmUK"

EXPECTED = {
    "s3_put": S3Notification((PHOTO,)),
    "s3_multipart": S3Notification((PHOTO_VERSION,)),
    "s3_test_event": S3Notification(()),
    "eventbridge": S3Notification((PHOTO,)),
    "eventbridge_version": S3Notification((PHOTO_VERSION,)),
    "sns_s3": S3Notification((PHOTO,)),
    "sns_eventbridge": S3Notification((PHOTO,)),
    "sqs_s3": SqsBatch((SqsMessage("m0", S3Notification((PHOTO,))),)),
    "sqs_s3_twice": SqsBatch((SqsMessage("m0", S3Notification((PHOTO_VERSION, PHOTO_VERSION))),)),
    "sqs_s3_test_event": SqsBatch((SqsMessage("m0", S3Notification(())),)),
    "sqs_eventbridge": SqsBatch((SqsMessage("m0", S3Notification((PHOTO,))),)),
    "sqs_sns_s3": SqsBatch((SqsMessage("m0", S3Notification((PHOTO,))),)),
    "batch_operations_1": BatchOperationsJob("1.0", INVOCATION, (BatchOperationsTask(TASK, PHOTO_VERSION),)),
    "batch_operations_2": BatchOperationsJob("2.0", INVOCATION, (BatchOperationsTask(TASK, PHOTO),)),
    "distributed_map_batch": MapItems((PHOTO,)),
    "distributed_map_item": MapItems((PHOTO,)),
    "distributed_map_inventory": MapItems((PHOTO_VERSION,)),
    "eventbridge_schedule": Ping("aws.events"),
    "eventbridge_scheduler": Ping("aws.scheduler"),
    "direct_s3": DirectInvocation(uri=PHOTO.uri),
    "direct_image": DirectInvocation(image=b"\xff\xd8\xff\xe0\x00\x10"),
}
NOTIFICATIONS = ["s3_put", "s3_multipart", "eventbridge", "eventbridge_version", "sns_s3", "sns_eventbridge"]
QUEUES = ["sqs_s3", "sqs_s3_twice", "sqs_eventbridge", "sqs_sns_s3"]
JOBS = ["batch_operations_1", "batch_operations_2"]
MAPS = ["distributed_map_batch", "distributed_map_item", "distributed_map_inventory"]
HTTP = ["http_alb", "http_alb_multi", "http_api_v1", "http_api_v2_stage", "http_function_url"]
CONDITIONS = ["ok", "bad", "missing", "throttled", "forbidden"]

RECORD_CODES = {"ok": None, "bad": "not-image", "missing": "missing"}
"""Error code in the record by the photo's condition; a photo to be retried has no record."""
RAISED: dict[str, tuple[type[TransferLiteError], str]] = {
    "throttled": (UnavailableError, "S3 answered 503 SlowDown"),
    "forbidden": (AccessDeniedError, "access denied"),
}
TASK_RESULTS = {
    "ok": ("Succeeded", '{"label": "red", "score": '),
    "bad": ("PermanentFailure", "not-image: not an image"),
    "missing": ("PermanentFailure", "missing: does not exist"),
    "throttled": ("TemporaryFailure", "S3 answered 503 SlowDown"),
    "forbidden": ("PermanentFailure", "access denied"),
}
HTTP_STATUSES = {"ok": 200, "bad": 422, "missing": 404, "throttled": 503, "forbidden": 403}


@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith("http_")])
def test_a_golden_event_parses_as_expected(name: str) -> None:
    assert parse_event(golden(name)) == EXPECTED[name]


def test_every_golden_event_with_a_photo_is_tested() -> None:
    without_photo = {"s3_test_event", "sqs_s3_test_event", "direct_image", "http_alb_health"}
    without_photo |= {"eventbridge_schedule", "eventbridge_scheduler"}
    assert {*NOTIFICATIONS, *QUEUES, *JOBS, *MAPS, *HTTP, "direct_s3"} | without_photo == set(NAMES)


@pytest.fixture
def s3(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """S3 with a versioned bucket for photos and an output bucket, and a function whose model predicts colours."""
    for name in (BUCKET, OUTPUT):
        bucket.create_bucket(Bucket=name)
    bucket.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    for name, value in {"REGISTRY": "unused", "OUTPUT_BUCKET": OUTPUT, "ALLOWED_BUCKETS": BUCKET}.items():
        monkeypatch.setenv(f"TRANSFERLITE_{name}", value)
    predictor = colour_predictor()
    monkeypatch.setattr(CurrentModel, "get", lambda *_: predictor)
    handler._service.cache_clear()
    handler._api.cache_clear()
    yield bucket
    handler._service.cache_clear()
    handler._api.cache_clear()


@pytest.fixture
def sent(s3: Any) -> Callable[[str, str], Any]:
    """Function that sends a golden event to the handler, with its photo in the given condition."""

    def send(name: str, condition: str) -> Any:
        version = s3.put_object(Bucket=BUCKET, Key=KEY, Body=b"%PDF-1.7" if condition == "bad" else jpeg("red"))[
            "VersionId"
        ]
        if condition == "missing":
            s3.delete_object(Bucket=BUCKET, Key=KEY, VersionId=version)
        if condition in RAISED:
            code, status = {"throttled": ("SlowDown", 503), "forbidden": ("AccessDenied", 403)}[condition]
            refuse("GetObject", code, status, ".jpg")
        return lambda_handler(json.loads(json.dumps(golden(name)).replace(VERSION, version)), None)

    return send


def check_records(s3: Any, name: str, condition: str) -> None:
    """Check that a labelled or rejected photo has one record, and a photo to be retried none."""
    keys = [item["Key"] for item in s3.list_objects_v2(Bucket=OUTPUT).get("Contents", ())]
    if condition not in RECORD_CODES:
        assert keys == []
        return
    (key,) = keys
    record = json.loads(s3.get_object(Bucket=OUTPUT, Key=key)["Body"].read())
    version = record.get("version")
    assert bool(version) == (VERSION in json.dumps(golden(name)))
    assert key == f"predictions/{BUCKET}/{KEY}" + (f"@{version}.json" if version else ".json")
    assert record["image"] == PHOTO.uri
    assert record.get("error", {}).get("code") == RECORD_CODES[condition]
    assert record.get("label") == ("red" if condition == "ok" else None)


@pytest.mark.parametrize("condition", CONDITIONS)
@pytest.mark.parametrize("name", NOTIFICATIONS + MAPS)
def test_a_notification_and_a_map_fail_if_s3_fails(
    name: str, condition: str, sent: Callable[[str, str], Any], s3: Any
) -> None:
    if condition in RAISED:
        kind, text = RAISED[condition]
        with pytest.raises(kind, match=text):
            sent(name, condition)
    else:
        reply = sent(name, condition)
        assert (reply["labelled"], reply["unusable"]) == ((1, 0) if condition == "ok" else (0, 1))
        assert ("records" in reply) == (name not in MAPS)
    check_records(s3, name, condition)


@pytest.mark.parametrize("condition", CONDITIONS)
@pytest.mark.parametrize("name", QUEUES)
def test_an_sqs_reply_lists_the_failed_messages(
    name: str, condition: str, sent: Callable[[str, str], Any], s3: Any
) -> None:
    failed = [{"itemIdentifier": "m0"}] if condition in RAISED else []
    assert sent(name, condition) == {"batchItemFailures": failed}
    check_records(s3, name, condition)


@pytest.mark.parametrize("condition", CONDITIONS)
@pytest.mark.parametrize("name", JOBS)
def test_a_batch_operations_reply_has_a_result_per_task(
    name: str, condition: str, sent: Callable[[str, str], Any], s3: Any
) -> None:
    reply = sent(name, condition)
    (result,) = reply.pop("results")
    assert reply == {
        "invocationSchemaVersion": golden(name)["invocationSchemaVersion"],
        "treatMissingKeysAs": "TemporaryFailure",
        "invocationId": INVOCATION,
    }
    code, text = TASK_RESULTS[condition]
    assert (result["taskId"], result["resultCode"]) == (TASK, code)
    assert text in result["resultString"]
    check_records(s3, name, condition)


@pytest.mark.parametrize("condition", CONDITIONS)
def test_a_direct_invocation_returns_a_prediction_or_raises(
    condition: str, sent: Callable[[str, str], Any], s3: Any
) -> None:
    if condition in RAISED:
        kind, text = RAISED[condition]
        with pytest.raises(kind, match=text):
            sent("direct_s3", condition)
    else:
        reply = sent("direct_s3", condition)
        assert reply.get("label") == ("red" if condition == "ok" else None)
        assert reply.get("error", {}).get("code") == RECORD_CODES[condition]
    assert "Contents" not in s3.list_objects_v2(Bucket=OUTPUT)


@pytest.mark.parametrize("condition", CONDITIONS)
@pytest.mark.parametrize("name", HTTP)
def test_http_has_a_status_for_each_outcome(
    name: str, condition: str, sent: Callable[[str, str], Any], s3: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = golden(name) | {"body": json.dumps({"s3_uri": PHOTO.uri}), "isBase64Encoded": False}
    for headers, kind in (("headers", "application/json"), ("multiValueHeaders", ["application/json"])):
        if event.get(headers):
            other = {key: value for key, value in event[headers].items() if key.lower() != "content-type"}
            event[headers] = other | {"content-type": kind}
    monkeypatch.setattr("tests.inference_lambda.events.test_outcomes.golden", lambda _: event)
    reply = sent(name, condition)
    assert reply["statusCode"] == HTTP_STATUSES[condition]
    assert json.loads(reply["body"]).get("label") == ("red" if condition == "ok" else None)


# -- outcomes of errors ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "of_photo", "elsewhere"),
    [
        (PhotoError("truncated", "the end is missing"), Outcome.UNUSABLE, Outcome.REFUSED),
        (NotFoundError("does not exist"), Outcome.UNUSABLE, Outcome.REFUSED),
        (MissingStoreError("there is no bucket b"), Outcome.REFUSED, Outcome.REFUSED),
        (UnavailableError("S3 answered 500"), Outcome.LATER, Outcome.LATER),
        (ConflictError("others keep writing it"), Outcome.LATER, Outcome.LATER),
        (AccessDeniedError("access denied"), Outcome.REFUSED, Outcome.REFUSED),
        (BundleError("a file is missing"), Outcome.REFUSED, Outcome.REFUSED),
        (KeyError("a bug"), Outcome.REFUSED, Outcome.REFUSED),
    ],
)
def test_each_error_has_its_outcome(error: Exception, of_photo: Outcome, elsewhere: Outcome) -> None:
    assert outcome_of(error, of_photo=True) is of_photo
    assert outcome_of(error) is elsewhere


def test_a_bug_fails_only_its_photo(s3: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("a", "b", "c"):
        s3.put_object(Bucket=BUCKET, Key=f"{name}.jpg", Body=jpeg("red"))
    predictor = colour_predictor()
    loaded = iter([predictor, RuntimeError("a bug"), predictor])

    def get(*_: object) -> Any:
        predictor_or_error = next(loaded)
        if isinstance(predictor_or_error, Exception):
            raise predictor_or_error
        return predictor_or_error

    monkeypatch.setattr(CurrentModel, "get", get)
    records = [
        {"messageId": name, "eventSource": "aws:sqs", "body": body_of(f"{name}.jpg")} for name in ("a", "b", "c")
    ]
    assert lambda_handler({"Records": records}, None) == {"batchItemFailures": [{"itemIdentifier": "b"}]}
    written = [item["Key"] for item in s3.list_objects_v2(Bucket=OUTPUT)["Contents"]]
    assert written == [f"predictions/{BUCKET}/{name}.jpg.json" for name in ("a", "c")]
    assert any(record.exc_info and '"code": "internal"' in record.message for record in caplog.records)


def test_a_message_is_retried_if_one_of_its_photos_fails(s3: Any) -> None:
    for name in ("a", "b", "c"):
        s3.put_object(Bucket=BUCKET, Key=f"{name}.jpg", Body=jpeg("red"))
    refuse("GetObject", "SlowDown", 503, key="b.jpg")
    records = [{"messageId": "m", "eventSource": "aws:sqs", "body": body_of("a.jpg", "b.jpg", "c.jpg")}]
    assert lambda_handler({"Records": records}, None) == {"batchItemFailures": [{"itemIdentifier": "m"}]}
    assert len(s3.list_objects_v2(Bucket=OUTPUT)["Contents"]) == 2


def body_of(*keys: str) -> str:
    return json.dumps({"Records": [{"s3": {"bucket": {"name": BUCKET}, "object": {"key": key}}} for key in keys]})


# -- time limit --------------------------------------------------------------------------------------------------------


WITHOUT_TIME = SimpleNamespace(aws_request_id="r", get_remaining_time_in_millis=lambda: 0)
WITH_TIME = SimpleNamespace(aws_request_id="r", get_remaining_time_in_millis=lambda: 60_000)


def test_messages_without_time_are_retried(s3: Any) -> None:
    for name in ("a", "b", "c"):
        s3.put_object(Bucket=BUCKET, Key=f"{name}.jpg", Body=jpeg("red"))
    records = [
        {"messageId": name, "eventSource": "aws:sqs", "body": body_of(f"{name}.jpg")} for name in ("a", "b", "c")
    ]
    reply = lambda_handler({"Records": records}, WITHOUT_TIME)  # the first photo is always tried
    assert reply == {"batchItemFailures": [{"itemIdentifier": "b"}, {"itemIdentifier": "c"}]}
    assert [item["Key"] for item in s3.list_objects_v2(Bucket=OUTPUT)["Contents"]] == [
        f"predictions/{BUCKET}/a.jpg.json"
    ]
    assert lambda_handler({"Records": records[1:]}, WITH_TIME) == {"batchItemFailures": []}
    assert len(s3.list_objects_v2(Bucket=OUTPUT)["Contents"]) == 3


def test_photos_are_left_for_later_once_time_is_short(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 20.0, 20.0, 21.0, 40.5])  # start and end of each photo; the deadline is at 60
    results = process_until_deadline(
        lambda photo: PhotoResult(photo, Outcome.LABELLED), [PHOTO] * 3, 60.0, lambda: next(clock)
    )
    assert [result.outcome for result in results] == [Outcome.LABELLED, Outcome.LABELLED, Outcome.LATER]


def test_tasks_without_time_are_temporary_failures(s3: Any) -> None:
    s3.put_object(Bucket=BUCKET, Key=KEY, Body=jpeg("red"))
    event = golden("batch_operations_2")
    event["tasks"] += [{**event["tasks"][0], "taskId": "later"}]
    assert [result["resultCode"] for result in lambda_handler(event, WITHOUT_TIME)["results"]] == [
        "Succeeded",
        "TemporaryFailure",
    ]


# -- allowed buckets ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "uri",
    [
        "s3://other/x.jpg",
        f"s3://{BUCKET}.evil.example/x.jpg",
        f"s3://{BUCKET}@evil/x.jpg",
        f"s3://evil/../{BUCKET}/x.jpg",
        f"s3://{BUCKET.upper()}/x.jpg",
        f"s3:// {BUCKET}/x.jpg",
        f"s3:///{BUCKET}/x.jpg",
        "s3://",
        "s3:///",
    ],
)
def test_an_object_outside_allowed_buckets_is_refused_without_calling_s3(
    uri: str, s3: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    s3.meta.events.register("before-call.s3", lambda model, **_: calls.append(model.name))
    assert lambda_handler({"s3": uri}, None)["error"]["code"] == "forbidden"
    reply = lambda_handler(over_http(uri), None)
    assert reply["statusCode"] in {400, 403}
    assert calls == []
    lambda_handler({"s3": PHOTO.uri}, None)
    assert calls == ["GetObject"]


@pytest.mark.parametrize(
    "uri",
    [
        "http://169.254.169.254/latest/meta-data",
        "file:///etc/passwd",
        "https://example.org/x.jpg",
        "/etc/passwd",
        "S3://a/b",
    ],
)
def test_only_s3_uris_are_opened(uri: str, s3: Any) -> None:
    with pytest.raises(InputError, match="unknown event"):
        lambda_handler({"s3": uri}, None)
    assert lambda_handler(over_http(uri), None)["statusCode"] == 400


@pytest.mark.parametrize(
    "uri", [f"s3://arn:aws:s3:::{BUCKET}/x.jpg", f"s3://arn:aws:s3:eu-central-1:111122223333:accesspoint/{BUCKET}"]
)
def test_an_arn_in_a_uri_is_refused_without_calling_s3(uri: str, s3: Any) -> None:
    calls: list[str] = []
    s3.meta.events.register("before-call.s3", lambda model, **_: calls.append(model.name))
    with pytest.raises(InputError, match="the event's s3 is an ARN; use "):
        lambda_handler({"s3": uri}, None)
    assert lambda_handler(over_http(uri), None)["statusCode"] == 400
    assert calls == []


def over_http(uri: str) -> dict[str, Any]:
    event: dict[str, Any] = golden("http_function_url") | {
        "body": json.dumps({"s3_uri": uri}),
        "isBase64Encoded": False,
        "rawQueryString": "",
    }
    return event | {"headers": {"content-type": "application/json"}}


def test_a_photo_in_an_allowed_bucket_is_predicted(sent: Callable[[str, str], Any]) -> None:
    assert sent("direct_s3", "ok")["label"] == "red"
    assert json.loads(lambda_handler(over_http(PHOTO.uri), None)["body"])["label"] == "red"


# -- malformed events --------------------------------------------------------------------------------------------------


def test_a_malformed_task_fails_alone(s3: Any) -> None:
    s3.put_object(Bucket=BUCKET, Key=KEY, Body=jpeg("red"))
    event = golden("batch_operations_2")
    wrong = [{"taskId": "a"}, {"taskId": "b", "s3BucketArn": "arn:aws:s3:::x"}, {"taskId": "c", "s3Key": "k"}]
    wrong.append({"taskId": "d", "s3Key": "k", "s3BucketArn": "arn:aws:s3:eu-central-1:111122223333:accesspoint/x"})
    event["tasks"] = wrong + event["tasks"]
    results = lambda_handler(event, None)["results"]
    assert [result["resultCode"] for result in results] == ["PermanentFailure"] * 4 + ["Succeeded"]
    assert {result["resultString"] for result in results[:4]} == {
        "the task has no bucket",
        "the task has no object key",
        "arn:aws:s3:eu-central-1:111122223333:accesspoint/x: the bucket is given as an ARN; "
        "use the access point's alias as the bucket, e.g. s3://NAME-...-s3alias/key",
    }


def test_a_folder_in_a_manifest_succeeds(s3: Any) -> None:
    event = golden("batch_operations_2")
    event["tasks"][0]["s3Key"] = "in/"
    assert lambda_handler(event, None)["results"][0]["resultCode"] == "Succeeded"
    assert "Contents" not in s3.list_objects_v2(Bucket=OUTPUT)


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        ({"invocationSchemaVersion": "3.0", "tasks": []}, "unknown S3 Batch Operations schema '3.0'"),
        (
            {"invocationSchemaVersion": "1.0", "tasks": []},
            "malformed S3 Batch Operations event: KeyError('invocationId')",
        ),
        (
            {"invocationSchemaVersion": "1.0", "invocationId": "i", "tasks": [{}]},
            "malformed S3 Batch Operations event: KeyError('taskId')",
        ),
        (
            {"invocationSchemaVersion": "1.0", "invocationId": "i", "tasks": ["t"]},
            "malformed S3 Batch Operations event: TypeError",
        ),
        ({"Items": [{"Key": "a.jpg"}]}, 'no Bucket; add "ItemBatcher"'),
        ({"Items": [{"Bucket": "b"}], "BatchInput": None}, "no Key"),
        ({"Items": ["a.jpg"]}, "no Key"),
        ({"Key": "a.jpg"}, "no Bucket"),
        ({"Records": [{"EventSource": "aws:sns", "Sns": {}}]}, "malformed SNS record: KeyError('Message')"),
        ({"Records": [{"EventSource": "aws:sns", "Sns": {"Message": "hello"}}]}, "not the JSON of an S3 notification"),
    ],
)
def test_a_malformed_event_reports_the_missing_part(event: dict[str, Any], reason: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_event(event)
    assert reason in str(caught.value)
