import json
import re
from collections.abc import Iterator
from typing import Any

import boto3
import pytest

from inference_lambda import handler
from inference_lambda.current_model import CurrentModel
from inference_lambda.events.outcomes import Outcome, PhotoResult
from inference_lambda.events.s3 import S3Photo
from inference_lambda.handler import lambda_handler
from inference_lambda.records import tags_events_lines
from inference_lambda.records.tags_events_lines import record_tags
from inference_lambda.settings import Settings
from tests.conftest import BUCKET
from tests.inference_lambda.colours import colour_predictor
from tests.inference_lambda.notifications import messages, notification
from tests.pictures import jpeg
from tests.schemas import problems
from tests.transferlite.faults import refuse
from transferlite.errors import AccessDeniedError, InputError, TransferLiteError, UnavailableError
from transferlite.storage.store import MemoryStore

OUTPUT = "test-predictions"
MODEL = "20260131-235959-3f9a1c07"


@pytest.fixture
def s3(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    bucket.create_bucket(Bucket=OUTPUT)
    monkeypatch.setenv("TRANSFERLITE_REGISTRY", "unused")
    monkeypatch.setenv("TRANSFERLITE_OUTPUT_BUCKET", OUTPUT)
    predictor = colour_predictor()
    monkeypatch.setattr(CurrentModel, "get", lambda *_: predictor)
    caches = (handler._service, tags_events_lines._events_client)
    for cached in caches:
        cached.cache_clear()
    bucket.put_object(Bucket=BUCKET, Key="in/red cat.jpg", Body=jpeg("red"))
    bucket.put_object(Bucket=BUCKET, Key="in/bad.jpg", Body=b"%PDF-1.7")
    yield bucket
    for cached in caches:
        cached.cache_clear()


def send(*keys: str) -> Any:
    """Send one SQS message per photo to the handler; return the reply."""
    return lambda_handler(messages(*(notification(BUCKET, key) for key in keys)), None)


def failed(reply: Any) -> list[str]:
    return [failure["itemIdentifier"] for failure in reply["batchItemFailures"]]


def objects(s3: Any, prefix: str) -> dict[str, bytes]:
    found = s3.list_objects_v2(Bucket=OUTPUT, Prefix=prefix).get("Contents", ())
    return {item["Key"]: s3.get_object(Bucket=OUTPUT, Key=item["Key"])["Body"].read() for item in found}


# -- default -----------------------------------------------------------------------------------------------------------


def test_by_default_only_the_record_is_written(s3: Any) -> None:
    assert failed(send("in/red cat.jpg")) == []
    assert list(objects(s3, "")) == [f"predictions/{BUCKET}/in/red cat.jpg.json"]
    assert s3.get_object_tagging(Bucket=BUCKET, Key="in/red cat.jpg")["TagSet"] == []


def test_published_records_fit_their_json_schema(s3: Any) -> None:
    assert failed(send("in/red cat.jpg", "in/bad.jpg", "in/missing.jpg")) == []
    records = objects(s3, "predictions/")
    assert len(records) == 3
    for content in records.values():
        assert problems("record", content) == []
        assert problems("record", json.dumps({**json.loads(content), "added": 1})) == []
        assert problems("record", json.dumps({"image": json.loads(content)["image"]}))


# -- tags --------------------------------------------------------------------------------------------------------------


def tags(s3: Any, key: str, **version: str) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in s3.get_object_tagging(Bucket=BUCKET, Key=key, **version)["TagSet"]}


def test_a_photo_is_tagged_and_keeps_the_tags_it_has(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRANSFERLITE_TAGS", "on")
    mine = [{"Key": "owner", "Value": "me"}, {"Key": "transferlite:label", "Value": "blue"}]
    s3.put_object_tagging(Bucket=BUCKET, Key="in/red cat.jpg", Tagging={"TagSet": mine})
    for _ in range(2):
        assert failed(send("in/red cat.jpg", "in/bad.jpg")) == []
    found = tags(s3, "in/red cat.jpg")
    assert 0.4 < float(found.pop("transferlite:score")) <= 1
    assert found == {"owner": "me", "transferlite:label": "red", "transferlite:model": MODEL}
    assert tags(s3, "in/bad.jpg") == {"transferlite:label": "error:not-image", "transferlite:model": MODEL}


def test_the_version_in_the_event_is_tagged(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRANSFERLITE_TAGS", "on")
    s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    first, second = (
        s3.put_object(Bucket=BUCKET, Key="a.jpg", Body=jpeg(colour))["VersionId"] for colour in ("red", "blue")
    )
    event = notification(BUCKET, "a.jpg")
    event["Records"][0]["s3"]["object"]["versionId"] = first
    assert failed(lambda_handler(messages(event), None)) == []
    assert tags(s3, "a.jpg", VersionId=first)["transferlite:label"] == "red"
    assert tags(s3, "a.jpg", VersionId=second) == {}


def test_a_photo_with_10_tags_is_still_labelled(
    s3: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("TRANSFERLITE_TAGS", "on")
    full = [{"Key": f"t{number}", "Value": "v"} for number in range(10)]
    s3.put_object_tagging(Bucket=BUCKET, Key="in/red cat.jpg", Tagging={"TagSet": full})
    assert failed(send("in/red cat.jpg")) == []
    assert len(tags(s3, "in/red cat.jpg")) == 10
    assert "has 10 tags, and may have 10" in caplog.text


@pytest.mark.parametrize(("code", "status"), [("SlowDown", 503), ("AccessDenied", 403)])
def test_a_photo_whose_tagging_fails_is_retried(
    s3: Any, monkeypatch: pytest.MonkeyPatch, code: str, status: int
) -> None:
    monkeypatch.setenv("TRANSFERLITE_TAGS", "on")
    refuse("PutObjectTagging", code, status)
    assert failed(send("in/missing.jpg", "in/red cat.jpg")) == ["m1"]


def test_a_photo_deleted_before_tagging_is_not_retried(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRANSFERLITE_TAGS", "on")
    refuse("GetObjectTagging", "NoSuchKey", 404)
    assert failed(send("in/red cat.jpg", "in/missing.jpg")) == []


def test_tags_have_only_characters_that_s3_accepts() -> None:
    found = record_tags({"label": "chats & chiens, 猫 <b>\n" + "x" * 300, "score": 0.123456, "model_id": "m.1-2_3"})
    assert found["transferlite:label"].startswith("chats _ chiens_ 猫 _b_")
    assert len(found["transferlite:label"]) == 256
    assert found["transferlite:score"] == "0.1235"
    assert found["transferlite:model"] == "m.1-2_3"
    for value in found.values():
        assert re.fullmatch(r"[\w\s+\-=.:/@]*", value)


# -- events ------------------------------------------------------------------------------------------------------------


def test_eventbridge_receives_an_event_per_photo(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    events, sqs = boto3.client("events"), boto3.client("sqs")
    events.create_event_bus(Name="photos")
    url = sqs.create_queue(QueueName="events")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    pattern = {"source": ["transferlite"], "detail-type": ["Photo Labelled"], "detail": {"label": ["red"]}}
    events.put_rule(Name="all", EventBusName="photos", EventPattern=json.dumps(pattern))
    events.put_targets(Rule="all", EventBusName="photos", Targets=[{"Id": "queue", "Arn": arn}])
    monkeypatch.setenv("TRANSFERLITE_EVENT_BUS", "photos")
    assert failed(send("in/red cat.jpg", "in/bad.jpg")) == []
    (message,) = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10)["Messages"]
    detail = json.loads(message["Body"])["detail"]
    key = f"predictions/{BUCKET}/in/red cat.jpg.json"
    assert detail == {"record": f"s3://{OUTPUT}/{key}", **json.loads(objects(s3, key)[key])}


class FakeEventBridge:
    """EventBridge that refuses events with a given word in their detail."""

    def __init__(self, word: str, code: str) -> None:
        self.word, self.code = word, code
        self.batches: list[list[dict[str, str]]] = []

    def put_events(self, Entries: list[dict[str, str]]) -> Any:  # noqa: N803 - boto3's name
        self.batches.append(Entries)
        return {"Entries": [{"ErrorCode": self.code} if self.word in entry["Detail"] else {} for entry in Entries]}


@pytest.mark.parametrize("code", ["ThrottlingException", "InternalFailure", "NotAuthorizedForSourceException", "Odd"])
def test_only_the_photo_whose_event_failed_is_retried(s3: Any, monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    bridge = FakeEventBridge("bad.jpg", code)
    monkeypatch.setattr(tags_events_lines, "_events_client", lambda: bridge)
    monkeypatch.setenv("TRANSFERLITE_EVENT_BUS", "photos")
    assert failed(send("in/red cat.jpg", "in/bad.jpg", "in/missing.jpg")) == ["m1"]
    assert [entry["DetailType"] for entry in bridge.batches[0]] == [
        "Photo Labelled",
        "Photo Unusable",
        "Photo Unusable",
    ]
    assert {entry["EventBusName"] for entry in bridge.batches[0]} == {"photos"}


def test_events_are_sent_ten_at_a_time(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    bridge = FakeEventBridge("nothing of the kind", "")
    monkeypatch.setattr(tags_events_lines, "_events_client", lambda: bridge)
    monkeypatch.setenv("TRANSFERLITE_EVENT_BUS", "photos")
    send(*["in/red cat.jpg"] * 21)
    assert [len(batch) for batch in bridge.batches] == [10, 10, 1]


def test_if_eventbridge_is_unreachable_the_photos_are_retried(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_EVENTS", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setenv("TRANSFERLITE_EVENT_BUS", "photos")
    assert failed(send("in/red cat.jpg")) == ["m0"]
    assert len(objects(s3, "predictions/")) == 1


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("ThrottlingException", UnavailableError),
        ("AccessDeniedException", AccessDeniedError),
        ("ResourceNotFoundException", TransferLiteError),
    ],
)
def test_an_eventbridge_error_is_retryable_or_not(code: str, kind: type[TransferLiteError]) -> None:
    assert type(tags_events_lines._event_error(code)) is kind


# -- lines -------------------------------------------------------------------------------------------------------------


def test_the_records_of_an_invocation_are_lines_of_one_daily_object(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRANSFERLITE_LINES", "labels")
    assert failed(send("in/red cat.jpg", "in/bad.jpg", "in/red cat.jpg")) == []
    ((key, data),) = objects(s3, "labels/").items()
    day = s3.head_object(Bucket=BUCKET, Key="in/bad.jpg")["LastModified"]
    assert re.fullmatch(rf"labels/dt={day:%Y-%m-%d}/[0-9a-f]{{32}}\.json", key)
    lines = [json.loads(line) for line in data.decode().splitlines()]
    kept = [json.loads(data) for data in objects(s3, "predictions/").values()]
    assert sorted(lines, key=str) == sorted(kept, key=str)
    assert len(lines) == 2


def test_the_same_photos_in_any_order_give_the_same_object(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRANSFERLITE_LINES", "labels/")
    send("in/red cat.jpg", "in/bad.jpg")
    first = objects(s3, "labels/")
    send("in/bad.jpg", "in/red cat.jpg")
    assert objects(s3, "labels/") == first


def test_photos_whose_lines_fail_are_retried() -> None:
    class Failing(MemoryStore):
        def put(self, *_: object, **__: object) -> str:
            raise UnavailableError("S3 answered 503")

    record = {"image": "s3://b/k", "etag": "e", "modified": "2026-01-31T23:59:59Z", "model_id": "m", "label": "red"}
    done = PhotoResult(S3Photo("b", "k"), Outcome.LABELLED, record)
    skipped = PhotoResult(S3Photo("b", "k/"), Outcome.SKIPPED)
    results = tags_events_lines.write_tags_events_lines(
        [done, skipped], Failing(), Settings("unused", OUTPUT, lines_prefix="labels/")
    )
    assert [result.outcome for result in results] == [Outcome.LATER, Outcome.SKIPPED]


def test_the_functions_own_lines_are_not_labelled(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRANSFERLITE_LINES", "labels/")
    s3.put_object(Bucket=OUTPUT, Key="labels/dt=2026-01-31/0.json", Body=b"{}")
    reply = lambda_handler(notification(OUTPUT, "labels/dt=2026-01-31/0.json"), None)
    assert reply == {"labelled": 0, "unusable": 0, "records": []}


@pytest.mark.parametrize("name", ["ObjectTagging:Put", "ObjectTagging:Delete", "ObjectCreated:Put"])
def test_tagging_a_photo_does_not_label_it(s3: Any, name: str) -> None:
    event = notification(BUCKET, "in/red cat.jpg")
    event["Records"][0]["eventName"] = name
    assert lambda_handler(event, None)["labelled"] == (name == "ObjectCreated:Put")


@pytest.mark.parametrize("value", [{"LINES": "/labels"}, {"LINES": "predictions/lines/"}, {"TAGS": "yes"}], ids=str)
def test_an_invalid_setting_is_reported(s3: Any, monkeypatch: pytest.MonkeyPatch, value: dict[str, str]) -> None:
    ((name, text),) = value.items()
    monkeypatch.setenv(f"TRANSFERLITE_{name}", text)
    with pytest.raises(InputError, match=f"TRANSFERLITE_{name} is '{text}"):
        send("in/red cat.jpg")


def test_lines_that_would_trigger_the_function_are_refused(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRANSFERLITE_LINES", "labels")
    monkeypatch.setenv("TRANSFERLITE_INPUTS", f"s3://{OUTPUT}/lab")
    with pytest.raises(InputError, match=rf"records in s3://{OUTPUT}/labels/ would trigger the function again"):
        send("in/red cat.jpg")
