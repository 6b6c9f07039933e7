"""Each golden event, with a photo that is well, bad, missing, forbidden, or not to be had just now: the whole table."""

import json
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from inference_lambda import handler
from inference_lambda.current_model import CurrentModel
from inference_lambda.events.batch_operations import Job, Task
from inference_lambda.events.distributed_map import Items
from inference_lambda.events.outcomes import Outcome, Result, attempt_all, outcome_of
from inference_lambda.events.parse import Direct, parse
from inference_lambda.events.s3 import Batch, Message, Notification, S3Photo
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
"""What the golden events call the photo's version, where they name one."""
PHOTO, OF_VERSION = S3Photo(BUCKET, KEY), S3Photo(BUCKET, KEY, VERSION)
INVOCATION = "YXNkbGZqYWRmaiBhc2RmdW9hZHNmZGpmaGFzbGtkaGZza2RmaAo"
TASK = "dGFza2lkZ29lc2hlcmUK"

MEANT = {
    "s3_put": Notification((PHOTO,)),
    "s3_multipart": Notification((OF_VERSION,)),
    "s3_test_event": Notification(()),
    "eventbridge": Notification((PHOTO,)),
    "eventbridge_version": Notification((OF_VERSION,)),
    "sns_s3": Notification((PHOTO,)),
    "sns_eventbridge": Notification((PHOTO,)),
    "sqs_s3": Batch((Message("m0", Notification((PHOTO,))),)),
    "sqs_s3_twice": Batch((Message("m0", Notification((OF_VERSION, OF_VERSION))),)),
    "sqs_s3_test_event": Batch((Message("m0", Notification(())),)),
    "sqs_eventbridge": Batch((Message("m0", Notification((PHOTO,))),)),
    "sqs_sns_s3": Batch((Message("m0", Notification((PHOTO,))),)),
    "batch_operations_1": Job("1.0", INVOCATION, (Task(TASK, OF_VERSION),)),
    "batch_operations_2": Job("2.0", INVOCATION, (Task(TASK, PHOTO),)),
    "distributed_map_batch": Items((PHOTO,)),
    "distributed_map_item": Items((PHOTO,)),
    "distributed_map_inventory": Items((OF_VERSION,)),
    "direct_s3": Direct(uri=PHOTO.uri),
    "direct_image": Direct(image=b"\xff\xd8\xff\xe0\x00\x10"),
}
NOTIFICATIONS = ["s3_put", "s3_multipart", "eventbridge", "eventbridge_version", "sns_s3", "sns_eventbridge"]
QUEUES = ["sqs_s3", "sqs_s3_twice", "sqs_eventbridge", "sqs_sns_s3"]
JOBS = ["batch_operations_1", "batch_operations_2"]
MAPS = ["distributed_map_batch", "distributed_map_item", "distributed_map_inventory"]
HTTP = ["http_alb", "http_alb_multi", "http_api_v1", "http_api_v2_stage", "http_function_url"]
WAYS = ["ok", "bad", "missing", "throttled", "forbidden"]

RECORDED = {"ok": None, "bad": "not-image", "missing": "missing"}
"""The error code of each record; photos that are to be sent again have none."""
RAISED: dict[str, tuple[type[TransferLiteError], str]] = {
    "throttled": (UnavailableError, "S3 answered 503 SlowDown"),
    "forbidden": (AccessDeniedError, "access denied"),
}
IN_A_JOB = {
    "ok": ("Succeeded", '{"label": "red", "score": '),
    "bad": ("PermanentFailure", "not-image: not an image"),
    "missing": ("PermanentFailure", "missing: does not exist"),
    "throttled": ("TemporaryFailure", "S3 answered 503 SlowDown"),
    "forbidden": ("PermanentFailure", "access denied"),
}
OVER_HTTP = {"ok": 200, "bad": 422, "missing": 404, "throttled": 503, "forbidden": 403}


@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith("http_")])
def test_a_golden_event_is_what_its_source_means(name: str) -> None:
    assert parse(golden(name)) == MEANT[name]


def test_every_golden_event_that_asks_for_a_photo_is_in_the_table() -> None:
    silent = {"s3_test_event", "sqs_s3_test_event", "direct_image", "http_alb_health"}
    assert {*NOTIFICATIONS, *QUEUES, *JOBS, *MAPS, *HTTP, "direct_s3"} | silent == set(NAMES)


@pytest.fixture
def s3(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """S3 with the photos' bucket, which has versions, the output bucket, and a function whose model names colours."""
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
    """The golden event of a name, sent to the function, where S3 answers for its photo in the given way."""

    def send(name: str, way: str) -> Any:
        version = s3.put_object(Bucket=BUCKET, Key=KEY, Body=b"%PDF-1.7" if way == "bad" else jpeg("red"))["VersionId"]
        if way == "missing":
            s3.delete_object(Bucket=BUCKET, Key=KEY, VersionId=version)
        if way in RAISED:
            code, status = {"throttled": ("SlowDown", 503), "forbidden": ("AccessDenied", 403)}[way]
            refuse("GetObject", code, status, ".jpg")
        return lambda_handler(json.loads(json.dumps(golden(name)).replace(VERSION, version)), None)

    return send


def check_records(s3: Any, name: str, way: str) -> None:
    """A photo that is well or bad has its one record; the others have none, for they are to be asked for again."""
    keys = [item["Key"] for item in s3.list_objects_v2(Bucket=OUTPUT).get("Contents", ())]
    if way not in RECORDED:
        assert keys == []
        return
    (key,) = keys
    record = json.loads(s3.get_object(Bucket=OUTPUT, Key=key)["Body"].read())
    version = record.get("version")
    assert bool(version) == (VERSION in json.dumps(golden(name)))
    assert key == f"predictions/{BUCKET}/{KEY}" + (f"@{version}.json" if version else ".json")
    assert record["image"] == PHOTO.uri
    assert record.get("error", {}).get("code") == RECORDED[way]
    assert record.get("label") == ("red" if way == "ok" else None)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", NOTIFICATIONS + MAPS)
def test_a_notification_and_a_map_fail_where_s3_does(
    name: str, way: str, sent: Callable[[str, str], Any], s3: Any
) -> None:
    if way in RAISED:
        kind, text = RAISED[way]
        with pytest.raises(kind, match=text):
            sent(name, way)
    else:
        answer = sent(name, way)
        assert (answer["labelled"], answer["unusable"]) == ((1, 0) if way == "ok" else (0, 1))
        assert ("records" in answer) == (name not in MAPS)
    check_records(s3, name, way)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", QUEUES)
def test_a_queue_is_told_of_messages_that_failed(name: str, way: str, sent: Callable[[str, str], Any], s3: Any) -> None:
    failed = [{"itemIdentifier": "m0"}] if way in RAISED else []
    assert sent(name, way) == {"batchItemFailures": failed}
    check_records(s3, name, way)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", JOBS)
def test_a_job_is_told_of_each_task(name: str, way: str, sent: Callable[[str, str], Any], s3: Any) -> None:
    answer = sent(name, way)
    (result,) = answer.pop("results")
    assert answer == {
        "invocationSchemaVersion": golden(name)["invocationSchemaVersion"],
        "treatMissingKeysAs": "TemporaryFailure",
        "invocationId": INVOCATION,
    }
    code, text = IN_A_JOB[way]
    assert (result["taskId"], result["resultCode"]) == (TASK, code)
    assert text in result["resultString"]
    check_records(s3, name, way)


@pytest.mark.parametrize("way", WAYS)
def test_a_direct_invocation_is_answered_or_raises(way: str, sent: Callable[[str, str], Any], s3: Any) -> None:
    if way in RAISED:
        kind, text = RAISED[way]
        with pytest.raises(kind, match=text):
            sent("direct_s3", way)
    else:
        answer = sent("direct_s3", way)
        assert answer.get("label") == ("red" if way == "ok" else None)
        assert answer.get("error", {}).get("code") == RECORDED[way]
    assert "Contents" not in s3.list_objects_v2(Bucket=OUTPUT)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", HTTP)
def test_http_has_a_status_for_each_outcome(
    name: str, way: str, sent: Callable[[str, str], Any], s3: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = golden(name) | {"body": json.dumps({"s3_uri": PHOTO.uri}), "isBase64Encoded": False}
    for headers, kind in (("headers", "application/json"), ("multiValueHeaders", ["application/json"])):
        if event.get(headers):
            other = {key: value for key, value in event[headers].items() if key.lower() != "content-type"}
            event[headers] = other | {"content-type": kind}
    monkeypatch.setattr("tests.inference_lambda.events.test_outcomes.golden", lambda _: event)
    answer = sent(name, way)
    assert answer["statusCode"] == OVER_HTTP[way]
    assert json.loads(answer["body"]).get("label") == ("red" if way == "ok" else None)


# -- the table itself ------------------------------------------------------------------------------------------------


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


def test_a_photo_that_meets_a_bug_leaves_the_others_alone(
    s3: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("a", "b", "c"):
        s3.put_object(Bucket=BUCKET, Key=f"{name}.jpg", Body=jpeg("red"))
    predictor = colour_predictor()
    answers = iter([predictor, RuntimeError("a bug"), predictor])

    def get(*_: object) -> Any:
        found = next(answers)
        if isinstance(found, Exception):
            raise found
        return found

    monkeypatch.setattr(CurrentModel, "get", get)
    records = [{"messageId": one, "eventSource": "aws:sqs", "body": body_of(f"{one}.jpg")} for one in ("a", "b", "c")]
    assert lambda_handler({"Records": records}, None) == {"batchItemFailures": [{"itemIdentifier": "b"}]}
    written = [item["Key"] for item in s3.list_objects_v2(Bucket=OUTPUT)["Contents"]]
    assert written == [f"predictions/{BUCKET}/{name}.jpg.json" for name in ("a", "c")]
    assert any(record.exc_info and '"code": "internal"' in record.message for record in caplog.records)


def test_the_photos_of_one_message_are_independent_and_it_is_sent_again_for_one(s3: Any) -> None:
    for name in ("a", "b", "c"):
        s3.put_object(Bucket=BUCKET, Key=f"{name}.jpg", Body=jpeg("red"))
    refuse("GetObject", "SlowDown", 503, key="b.jpg")
    records = [{"messageId": "m", "eventSource": "aws:sqs", "body": body_of("a.jpg", "b.jpg", "c.jpg")}]
    assert lambda_handler({"Records": records}, None) == {"batchItemFailures": [{"itemIdentifier": "m"}]}
    assert len(s3.list_objects_v2(Bucket=OUTPUT)["Contents"]) == 2


def body_of(*keys: str) -> str:
    return json.dumps({"Records": [{"s3": {"bucket": {"name": BUCKET}, "object": {"key": key}}} for key in keys]})


# -- the function's time ---------------------------------------------------------------------------------------------


HURRIED = SimpleNamespace(aws_request_id="r", get_remaining_time_in_millis=lambda: 0)
LEISURED = SimpleNamespace(aws_request_id="r", get_remaining_time_in_millis=lambda: 60_000)


def test_what_the_function_has_no_time_for_is_sent_again_and_what_is_done_is_not(s3: Any) -> None:
    for name in ("a", "b", "c"):
        s3.put_object(Bucket=BUCKET, Key=f"{name}.jpg", Body=jpeg("red"))
    records = [{"messageId": one, "eventSource": "aws:sqs", "body": body_of(f"{one}.jpg")} for one in ("a", "b", "c")]
    answer = lambda_handler({"Records": records}, HURRIED)  # one photo is tried however little time there is
    assert answer == {"batchItemFailures": [{"itemIdentifier": "b"}, {"itemIdentifier": "c"}]}
    assert [one["Key"] for one in s3.list_objects_v2(Bucket=OUTPUT)["Contents"]] == [f"predictions/{BUCKET}/a.jpg.json"]
    assert lambda_handler({"Records": records[1:]}, LEISURED) == {"batchItemFailures": []}
    assert len(s3.list_objects_v2(Bucket=OUTPUT)["Contents"]) == 3


def test_a_photo_that_takes_long_leaves_no_time_for_another_like_it(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 20.0, 20.0, 21.0, 40.5])  # the deadline is at 60; photos begin and end
    found = attempt_all(lambda photo: Result(photo, Outcome.LABELLED), [PHOTO] * 3, 60.0, lambda: next(clock))
    assert [one.outcome for one in found] == [Outcome.LABELLED, Outcome.LABELLED, Outcome.LATER]


def test_a_job_is_told_to_repeat_the_tasks_that_there_was_no_time_for(s3: Any) -> None:
    s3.put_object(Bucket=BUCKET, Key=KEY, Body=jpeg("red"))
    event = golden("batch_operations_2")
    event["tasks"] += [{**event["tasks"][0], "taskId": "later"}]
    assert [one["resultCode"] for one in lambda_handler(event, HURRIED)["results"]] == ["Succeeded", "TemporaryFailure"]


# -- whose photos may be asked for -----------------------------------------------------------------------------------


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
        f"s3://arn:aws:s3:::{BUCKET}/x.jpg",
        f"s3://arn:aws:s3:eu-central-1:111122223333:accesspoint/{BUCKET}",
        "s3://",
        "s3:///",
    ],
)
def test_what_is_not_in_an_allowed_bucket_is_refused_and_not_asked_for(
    uri: str, s3: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    s3.meta.events.register("before-call.s3", lambda model, **_: asked.append(model.name))
    assert lambda_handler({"s3": uri}, None)["error"]["code"] == "forbidden"
    answer = lambda_handler(over_http(uri), None)
    assert answer["statusCode"] in {400, 403}
    assert asked == []
    lambda_handler({"s3": PHOTO.uri}, None)
    assert asked == ["GetObject"]


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
def test_what_is_no_s3_uri_is_never_opened(uri: str, s3: Any) -> None:
    with pytest.raises(InputError, match="unknown event"):
        lambda_handler({"s3": uri}, None)
    assert lambda_handler(over_http(uri), None)["statusCode"] == 400


def over_http(uri: str) -> dict[str, Any]:
    event: dict[str, Any] = golden("http_function_url") | {
        "body": json.dumps({"s3_uri": uri}),
        "isBase64Encoded": False,
        "rawQueryString": "",
    }
    return event | {"headers": {"content-type": "application/json"}}


def test_a_photo_of_an_allowed_bucket_is_answered(sent: Callable[[str, str], Any]) -> None:
    assert sent("direct_s3", "ok")["label"] == "red"
    assert json.loads(lambda_handler(over_http(PHOTO.uri), None)["body"])["label"] == "red"


# -- shapes that are nearly right ------------------------------------------------------------------------------------


def test_a_task_that_names_nothing_fails_by_itself(s3: Any) -> None:
    s3.put_object(Bucket=BUCKET, Key=KEY, Body=jpeg("red"))
    event = golden("batch_operations_2")
    wrong = [{"taskId": "a"}, {"taskId": "b", "s3BucketArn": "arn:aws:s3:::x"}, {"taskId": "c", "s3Key": "k"}]
    wrong.append({"taskId": "d", "s3Key": "k", "s3BucketArn": "arn:aws:s3:eu-central-1:111122223333:accesspoint/x"})
    event["tasks"] = wrong + event["tasks"]
    results = lambda_handler(event, None)["results"]
    assert [one["resultCode"] for one in results] == ["PermanentFailure"] * 4 + ["Succeeded"]
    assert {one["resultString"] for one in results[:4]} == {"the task names no bucket", "the task names no object"}


def test_a_folder_in_a_manifest_is_no_failure(s3: Any) -> None:
    event = golden("batch_operations_2")
    event["tasks"][0]["s3Key"] = "in/"
    assert lambda_handler(event, None)["results"][0]["resultCode"] == "Succeeded"
    assert "Contents" not in s3.list_objects_v2(Bucket=OUTPUT)


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        ({"invocationSchemaVersion": "3.0", "tasks": []}, "schema '3.0' is unknown"),
        ({"invocationSchemaVersion": "1.0", "tasks": []}, "lacks its 'invocationId'"),
        ({"invocationSchemaVersion": "1.0", "invocationId": "i", "tasks": [{}]}, "lacks its 'taskId'"),
        ({"invocationSchemaVersion": "1.0", "invocationId": "i", "tasks": ["t"]}, "lacks its"),
        ({"Items": [{"Key": "a.jpg"}]}, 'no Bucket; add it: "ItemBatcher"'),
        ({"Items": [{"Bucket": "b"}], "BatchInput": None}, "no Key"),
        ({"Items": ["a.jpg"]}, "no Key"),
        ({"Key": "a.jpg"}, "no Bucket"),
        ({"Records": [{"EventSource": "aws:sns", "Sns": {}}]}, "a record of SNS lacks its 'Message'"),
        ({"Records": [{"EventSource": "aws:sns", "Sns": {"Message": "hello"}}]}, "not JSON of S3"),
    ],
)
def test_an_event_that_lacks_a_part_says_which(event: dict[str, Any], reason: str) -> None:
    with pytest.raises(InputError) as caught:
        parse(event)
    assert reason in str(caught.value)
