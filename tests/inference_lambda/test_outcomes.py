"""Each golden event, with a photo that is well, bad, missing, forbidden, or not to be had just now."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from inference_lambda import service
from inference_lambda.batch_operations import Job, Task
from inference_lambda.distributed_map import Items
from inference_lambda.events import Direct, parse
from inference_lambda.s3_events import Batch, Message, Notification, S3Photo
from inference_lambda.service import Service
from inference_lambda.settings import Settings
from runtime.errors import AccessDeniedError, InputError, NotFoundError, TransferLiteError, UnavailableError
from runtime.store import MemoryStore
from tests.inference_lambda.colours import colour_predictor
from tests.inference_lambda.golden import BUCKET, KEY, NAMES, golden
from tests.pictures import jpeg

PHOTO = S3Photo(BUCKET, KEY)
RECORD = f"predictions/{KEY}.json"
INVOCATION = "YXNkbGZqYWRmaiBhc2RmdW9hZHNmZGpmaGFzbGtkaGZza2RmaAo"
TASK = "dGFza2lkZ29lc2hlcmUK"

MEANT = {
    "s3_put": Notification((PHOTO,)),
    "s3_multipart": Notification((PHOTO,)),
    "s3_test_event": Notification(()),
    "eventbridge": Notification((PHOTO,)),
    "sns_s3": Notification((PHOTO,)),
    "sqs_s3": Batch((Message("m0", Notification((PHOTO,))),)),
    "sqs_eventbridge": Batch((Message("m0", Notification((PHOTO,))),)),
    "sqs_sns_s3": Batch((Message("m0", Notification((PHOTO,))),)),
    "batch_operations_1": Job("1.0", INVOCATION, (Task(TASK, PHOTO),)),
    "batch_operations_2": Job("2.0", INVOCATION, (Task(TASK, PHOTO),)),
    "distributed_map_batch": Items((PHOTO,)),
    "distributed_map_item": Items((PHOTO,)),
    "distributed_map_inventory": Items((PHOTO,)),
    "direct_s3": Direct(uri=PHOTO.uri),
    "direct_image": Direct(image=b"\xff\xd8\xff\xe0\x00\x10"),
}
NOTIFICATIONS = ["s3_put", "s3_multipart", "eventbridge", "sns_s3"]
QUEUES = ["sqs_s3", "sqs_eventbridge", "sqs_sns_s3"]
JOBS = ["batch_operations_1", "batch_operations_2"]
MAPS = ["distributed_map_batch", "distributed_map_item", "distributed_map_inventory"]

ANSWERS: dict[str, bytes | TransferLiteError] = {
    "ok": jpeg("red"),
    "bad": b"%PDF-1.7",
    "missing": NotFoundError("does not exist"),
    "throttled": UnavailableError("S3 answered 503 SlowDown"),
    "forbidden": AccessDeniedError("access denied (AccessDenied)"),
}
RECORDED = {"ok": None, "bad": "not-image", "missing": "missing"}


@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith("http_")])
def test_a_golden_event_is_what_its_source_means(name: str) -> None:
    assert parse(golden(name)) == MEANT[name]


@pytest.fixture
def output(monkeypatch: pytest.MonkeyPatch) -> MemoryStore:
    """The output bucket."""
    store = MemoryStore("s3://predictions-bucket")
    monkeypatch.setattr(service, "open_store", {"s3://predictions-bucket": store}.__getitem__)
    return store


@pytest.fixture
def served(output: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Service]:
    """The service where S3 answers for the photo in the given way, and does not know any other."""
    assert output

    def made(way: str) -> Service:
        def read(uri: str, most: int | None = None) -> bytes:
            assert most
            found = ANSWERS[way] if uri == PHOTO.uri else NotFoundError("does not exist", where=uri)
            if isinstance(found, TransferLiteError):
                raise found
            return found

        monkeypatch.setattr(service, "read_uri", read)
        made_one = Service(Settings("unused", "predictions-bucket"))
        monkeypatch.setattr(made_one.model, "get", lambda *_: colour_predictor())
        return made_one

    return made


def check_record(output: MemoryStore, way: str) -> None:
    """A photo that is well or bad has its one record; the others have none, for they are to be asked for again."""
    assert [entry.key for entry in output.entries()] == ([RECORD] if way in RECORDED else [])
    if way in RECORDED:
        record = json.loads(output.get(RECORD).data)
        assert record["image"] == PHOTO.uri
        assert record.get("error", {}).get("code") == RECORDED[way]
        assert record.get("label") == ("red" if way == "ok" else None)


@pytest.mark.parametrize("way", ANSWERS)
@pytest.mark.parametrize("name", NOTIFICATIONS + MAPS)
def test_a_notification_and_a_map_fail_where_s3_does(
    name: str, way: str, served: Callable[[str], Service], output: MemoryStore
) -> None:
    request: Any = parse(golden(name))
    run = served(way).label_items if name in MAPS else served(way).label
    if way in RECORDED:
        answer = run(request)
        assert (answer["labelled"], answer["unusable"]) == ((1, 0) if way == "ok" else (0, 1))
        assert ("records" in answer) == (name not in MAPS)
    else:
        with pytest.raises(TransferLiteError) as caught:
            run(request)
        assert caught.value is ANSWERS[way]
    check_record(output, way)


@pytest.mark.parametrize("way", ANSWERS)
@pytest.mark.parametrize("name", QUEUES)
def test_a_queue_is_told_of_messages_that_failed(
    name: str, way: str, served: Callable[[str], Service], output: MemoryStore
) -> None:
    request: Any = parse(golden(name))
    failed = [] if way in RECORDED else [{"itemIdentifier": "m0"}]
    assert served(way).drain(request) == {"batchItemFailures": failed}
    check_record(output, way)


CODES = {
    "ok": ("Succeeded", '{"label": "red", "score": '),
    "bad": ("PermanentFailure", "not-image: not an image"),
    "missing": ("PermanentFailure", "missing: does not exist"),
    "throttled": ("TemporaryFailure", "S3 answered 503 SlowDown"),
    "forbidden": ("PermanentFailure", "access denied (AccessDenied)"),
}


@pytest.mark.parametrize("way", ANSWERS)
@pytest.mark.parametrize("name", JOBS)
def test_a_job_is_told_of_each_task(name: str, way: str, served: Callable[[str], Service], output: MemoryStore) -> None:
    request: Any = parse(golden(name))
    answer = served(way).run(request)
    (result,) = answer.pop("results")
    assert answer == {
        "invocationSchemaVersion": golden(name)["invocationSchemaVersion"],
        "treatMissingKeysAs": "TemporaryFailure",
        "invocationId": INVOCATION,
    }
    code, start = CODES[way]
    assert (result["taskId"], result["resultCode"]) == (TASK, code)
    assert result["resultString"].startswith(start)
    check_record(output, way)


def test_a_batch_of_items_goes_on_after_one_that_failed(
    served: Callable[[str], Service], output: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    serving = served("ok")
    answers = iter(["throttled", "ok"])

    def read(*_: object) -> bytes:
        answer = ANSWERS[next(answers)]
        if isinstance(answer, TransferLiteError):
            raise answer
        return answer

    monkeypatch.setattr(service, "read_uri", read)
    with pytest.raises(UnavailableError):
        serving.label_items(Items((S3Photo("b", "1.jpg"), S3Photo("b", "2.jpg"))))
    assert [entry.key for entry in output.entries()] == ["predictions/2.jpg.json"]


@pytest.mark.parametrize(
    ("uri", "code"), [(PHOTO.uri, None), ("s3://other/x.jpg", "forbidden"), ("s3://", "forbidden")]
)
def test_a_direct_invocation_keeps_to_the_allowed_buckets(
    uri: str, code: str | None, served: Callable[[str], Service], monkeypatch: pytest.MonkeyPatch
) -> None:
    serving = served("ok")
    monkeypatch.setattr(serving, "settings", Settings("unused", None, allowed_buckets=frozenset({BUCKET})))
    assert serving.answer(Direct(uri=uri)).get("error", {}).get("code") == code


# -- shapes that are nearly right ------------------------------------------------------------------------------------


def test_a_task_that_names_nothing_fails_by_itself(served: Callable[[str], Service]) -> None:
    event = golden("batch_operations_1")
    wrong = [{"taskId": "a"}, {"taskId": "b", "s3BucketArn": "arn:aws:s3:::x"}, {"taskId": "c", "s3Key": "k"}]
    wrong.append({"taskId": "d", "s3Key": "k", "s3BucketArn": "arn:aws:s3:eu-central-1:111122223333:accesspoint/x"})
    event["tasks"] = wrong + event["tasks"]
    request: Any = parse(event)
    results = served("ok").run(request)["results"]
    assert [one["resultCode"] for one in results] == ["PermanentFailure"] * 4 + ["Succeeded"]
    assert {one["resultString"] for one in results[:4]} == {"the task names no bucket", "the task names no object"}


def test_a_folder_in_a_manifest_is_no_failure(served: Callable[[str], Service], output: MemoryStore) -> None:
    answer = served("ok").run(Job("2.0", "i", (Task("t", S3Photo(BUCKET, "in/")),)))
    assert answer["results"][0]["resultCode"] == "Succeeded"
    assert not list(output.entries())


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
