import base64
import json
import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from inference_lambda import handler, service
from inference_lambda.handler import lambda_handler
from inference_lambda.records import photo_source
from tests.conftest import BUCKET, Trained
from tests.inference_lambda.golden import golden
from tests.inference_lambda.models import publish
from tests.inference_lambda.notifications import TEST_EVENT, eventbridge, messages, notification, through_sns
from tests.pictures import jpeg
from tests.transferlite.faults import refuse
from transferlite.errors import InputError, MissingStoreError, NotFoundError, UnavailableError
from transferlite.predict.predictor import Predictor

OUTPUT = "test-predictions"


@pytest.fixture(autouse=True)
def _fresh_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """New execution environment: no settings, no model, an empty /tmp."""
    for name in ("REGISTRY", "OUTPUT_BUCKET", "CHANNEL", "VARIANT", "REFRESH_SECONDS"):
        monkeypatch.delenv(f"TRANSFERLITE_{name}", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    handler._service.cache_clear()
    handler._api.cache_clear()
    yield
    handler._service.cache_clear()
    handler._api.cache_clear()


@pytest.fixture
def s3(bucket: Any, trained: Trained, monkeypatch: pytest.MonkeyPatch) -> Any:
    """S3 with a bucket for photos and one for predictions; the function has a local registry."""
    bucket.create_bucket(Bucket=OUTPUT)
    monkeypatch.setenv("TRANSFERLITE_REGISTRY", str(trained.registry))
    monkeypatch.setenv("TRANSFERLITE_OUTPUT_BUCKET", OUTPUT)
    return bucket


@pytest.fixture
def predictor(trained: Trained) -> Predictor:
    return Predictor.load(trained.bundle)


def upload(s3: Any, **photos: bytes) -> list[str]:
    for name, data in photos.items():
        s3.put_object(Bucket=BUCKET, Key=f"in/{name}.jpg", Body=data)
    return [f"in/{name}.jpg" for name in photos]


def record_key_of(key: str, bucket: str = BUCKET) -> str:
    return f"predictions/{bucket}/{key}.json"


def objects(s3: Any, name: str) -> set[str]:
    return {item["Key"] for item in s3.list_objects_v2(Bucket=name).get("Contents", ())}


def record_of(s3: Any, key: str) -> Any:
    return json.loads(s3.get_object(Bucket=OUTPUT, Key=record_key_of(key))["Body"].read())


def photo_fields(s3: Any, key: str) -> dict[str, str]:
    """Return the fields of a record that describe an existing photo."""
    found = s3.head_object(Bucket=BUCKET, Key=key)
    written = found["LastModified"].strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"image": f"s3://{BUCKET}/{key}", "etag": found["ETag"].strip('"'), "modified": written}


def records(s3: Any) -> list[str]:
    return [item["Key"] for item in s3.list_objects_v2(Bucket=OUTPUT).get("Contents", ())]


# -- notifications -----------------------------------------------------------------------------------------------------


def test_a_new_photo_is_labelled_with_the_model_in_s3(
    s3: Any, trained: Trained, predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in (path for path in trained.registry.rglob("*") if path.is_file() and "saved_model" not in path.parts):
        s3.upload_file(str(path), BUCKET, f"registry/{path.relative_to(trained.registry)}")
    monkeypatch.setenv("TRANSFERLITE_REGISTRY", f"s3://{BUCKET}/registry")
    (key,) = upload(s3, cat=jpeg("red", 99))
    expected = {**photo_fields(s3, key), **predictor(jpeg("red", 99)).to_dict()}
    reply = lambda_handler(notification(BUCKET, key), None)
    assert reply == {"labelled": 1, "unusable": 0, "records": [expected]}
    assert record_of(s3, key) == expected


def test_every_photo_of_a_notification_is_labelled(s3: Any) -> None:
    keys = upload(s3, a=jpeg("red"), b=jpeg("blue"), c=jpeg("red", 1))
    reply = lambda_handler(notification(BUCKET, *keys), None)
    assert [record["label"] for record in reply["records"]] == ["red", "blue", "red"]
    assert [record_of(s3, key)["label"] for key in keys] == ["red", "blue", "red"]


@pytest.mark.parametrize("key", ["a b.jpg", "a+b.jpg", "100%.jpg", "%2B.jpg", "猫/é t é.jpg", "no-ending", "x#y?z.jpg"])
def test_a_photo_with_an_awkward_key_gets_its_record(s3: Any, key: str) -> None:
    s3.put_object(Bucket=BUCKET, Key=key, Body=jpeg("blue"))
    lambda_handler(notification(BUCKET, key), None)
    assert records(s3) == [record_key_of(key)]
    assert record_of(s3, key)["image"] == f"s3://{BUCKET}/{key}"
    assert record_of(s3, key)["label"] == "blue"


@pytest.mark.parametrize(
    "key",
    [
        "/cat.jpg",
        "in//cat.jpg",
        "./cat.jpg",
        "in/../cat.jpg",
        f"a/b/../../../{OUTPUT}/cat.jpg",
        "../../models/channels/x",
    ],
)
def test_dots_and_empty_segments_in_a_key_do_not_move_its_record(s3: Any, key: str) -> None:
    s3.put_object(Bucket=BUCKET, Key=key, Body=jpeg("blue"))
    others = {name: objects(s3, name) for name in (BUCKET, OUTPUT)}
    lambda_handler(notification(BUCKET, key), None)
    assert record_of(s3, key)["label"] == "blue"
    assert objects(s3, BUCKET) == others[BUCKET]
    assert objects(s3, OUTPUT) == others[OUTPUT] | {record_key_of(key)}


def test_the_same_event_twice_writes_the_same_bytes(s3: Any) -> None:
    keys = upload(s3, good=jpeg("red"), bad=b"%PDF-1.7")
    written = []
    for _ in range(2):
        handler._service.cache_clear()
        lambda_handler(notification(BUCKET, *keys), None)
        written.append([s3.get_object(Bucket=OUTPUT, Key=key)["Body"].read() for key in records(s3)])
    assert len(written[0]) == 2
    assert written[0] == written[1]


def test_a_rejected_photo_gets_an_error_record_and_the_others_are_labelled(s3: Any, predictor: Predictor) -> None:
    keys = upload(s3, cut=jpeg("red")[:-9], empty=b"", good=jpeg("blue"))
    reply = lambda_handler(notification(BUCKET, *keys), None)
    assert (reply["labelled"], reply["unusable"]) == (1, 2)
    found = [record_of(s3, key) for key in keys]
    assert found == reply["records"]
    assert [record.get("error", {}).get("code") for record in found] == ["truncated", "empty", None]
    assert found[1] == {
        **photo_fields(s3, keys[1]),
        "model_id": predictor.manifest.model_id,
        "error": {"code": "empty", "message": "the file is empty"},
    }
    assert found[2]["label"] == "blue"


def test_a_missing_photo_gets_an_error_record(s3: Any) -> None:
    (key,) = upload(s3, good=jpeg("blue"))
    reply = lambda_handler(notification(BUCKET, "in/gone.jpg", key), None)
    assert (reply["labelled"], reply["unusable"]) == (1, 1)
    assert record_of(s3, "in/gone.jpg")["error"] == {"code": "missing", "message": "does not exist"}


def test_a_folder_that_was_created_does_not_fail_the_event(s3: Any) -> None:
    s3.put_object(Bucket=BUCKET, Key="in/", Body=b"")
    (key,) = upload(s3, good=jpeg("blue"))
    assert lambda_handler(notification(BUCKET, "in/", key), None)["labelled"] == 1


def test_the_functions_own_record_is_skipped(s3: Any) -> None:
    (key,) = upload(s3, good=jpeg("blue"))
    s3.put_object(Bucket=OUTPUT, Key="predictions/x.jpg.json", Body=b"{}")
    both = notification(OUTPUT, "predictions/x.jpg.json")["Records"] + notification(BUCKET, key)["Records"]
    reply = lambda_handler({"Records": both}, None)
    assert [record["image"] for record in reply["records"]] == [f"s3://{BUCKET}/{key}"]
    assert records(s3) == [record_key_of(key), "predictions/x.jpg.json"]


def test_photos_and_predictions_may_share_a_bucket(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRANSFERLITE_OUTPUT_BUCKET", BUCKET)
    (key,) = upload(s3, good=jpeg("blue"))
    assert lambda_handler(notification(BUCKET, key), None)["labelled"] == 1
    assert lambda_handler(notification(BUCKET, record_key_of(key)), None)["records"] == []
    found = [item["Key"] for item in s3.list_objects_v2(Bucket=BUCKET)["Contents"]]
    assert found == [key, record_key_of(key)]


def test_s3_s_test_event_labels_nothing(s3: Any) -> None:
    assert lambda_handler(TEST_EVENT, None) == {"labelled": 0, "unusable": 0, "records": []}
    assert records(s3) == []


def test_if_s3_fails_the_event_fails_after_the_other_photos(s3: Any, caplog: pytest.LogCaptureFixture) -> None:
    keys = upload(s3, a=jpeg("red"), b=jpeg("blue"), c=jpeg("red"))
    refuse("GetObject", "SlowDown", 503, key="in/a.jpg")
    with pytest.raises(UnavailableError, match="S3 answered 503 SlowDown"):
        lambda_handler(notification(BUCKET, *keys), None)
    assert records(s3) == [record_key_of(key) for key in keys[1:]]
    (failed,) = [json.loads(record.message) for record in caplog.records if record.levelno == logging.ERROR]
    assert failed["event"] == "failed"
    assert failed["image"] == f"s3://{BUCKET}/{keys[0]}"


def test_if_the_record_cannot_be_written_the_event_fails(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRANSFERLITE_OUTPUT_BUCKET", "no-such-bucket")
    keys = upload(s3, a=jpeg("red"))
    with pytest.raises(MissingStoreError, match="there is no bucket no-such-bucket"):
        lambda_handler(notification(BUCKET, *keys), None)


# -- SQS messages ------------------------------------------------------------------------------------------------------


def test_the_photos_of_a_queue_are_labelled(s3: Any) -> None:
    a, b, c = upload(s3, a=jpeg("red"), b=jpeg("blue"), c=jpeg("red", 1))
    event = messages(notification(BUCKET, a, b), eventbridge(BUCKET, c), through_sns(notification(BUCKET, a)))
    assert lambda_handler(event, None) == {"batchItemFailures": []}
    assert [record_of(s3, key)["label"] for key in (a, b, c)] == ["red", "blue", "red"]


def test_only_failed_messages_are_listed(s3: Any, caplog: pytest.LogCaptureFixture) -> None:
    keys = upload(s3, a=jpeg("red"), b=b"no photo", c=jpeg("red"))
    refuse("GetObject", "SlowDown", 503, key="in/a.jpg")
    bodies = [notification(BUCKET, keys[0], keys[2]), "poison", notification(BUCKET, keys[1])]
    reply = lambda_handler(messages(*bodies), None)
    assert reply == {"batchItemFailures": [{"itemIdentifier": "m0"}, {"itemIdentifier": "m1"}]}
    assert records(s3) == [record_key_of(key) for key in keys[1:]]
    assert record_of(s3, keys[1])["error"]["code"] == "not-image"
    failed = [json.loads(record.message) for record in caplog.records if record.levelno == logging.ERROR]
    assert [line["message_id"] for line in failed if line["event"] == "message-failed"] == ["m0", "m1"]


def test_without_a_model_every_message_fails(s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRANSFERLITE_REGISTRY", str(tmp_path))
    event = messages(notification(BUCKET, *upload(s3, a=jpeg("red"))), TEST_EVENT)
    assert lambda_handler(event, None) == {"batchItemFailures": [{"itemIdentifier": "m0"}]}


def test_each_record_is_logged_as_one_line_of_json(s3: Any, caplog: pytest.LogCaptureFixture) -> None:
    (key,) = upload(s3, cat=jpeg("red"))
    with caplog.at_level(logging.INFO, "transferlite"):
        reply = lambda_handler(notification(BUCKET, key), None)
    (line,) = [json.loads(record.message) for record in caplog.records if "labelled" in record.message]
    uri = f"s3://{OUTPUT}/{record_key_of(key)}"
    assert line == {"event": "labelled", "record": uri, **reply["records"][0]}


def test_channel_and_variant_come_from_the_settings(
    s3: Any, trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(str(tmp_path / "registry"), trained, "staged", channel="staging")
    monkeypatch.setenv("TRANSFERLITE_REGISTRY", str(tmp_path / "registry"))
    monkeypatch.setenv("TRANSFERLITE_CHANNEL", "staging")
    keys = upload(s3, cat=jpeg("red"))
    assert lambda_handler(notification(BUCKET, *keys), None)["records"][0]["model_id"] == "staged"
    handler._service.cache_clear()
    monkeypatch.setenv("TRANSFERLITE_VARIANT", "int8")
    with pytest.raises(NotFoundError, match="no variant 'int8'"):
        lambda_handler(notification(BUCKET, *keys), None)


# -- direct invocations ------------------------------------------------------------------------------------------------


def test_a_direct_invocation_with_an_image_returns_its_prediction(s3: Any, predictor: Predictor) -> None:
    data = jpeg("red", 99)
    assert lambda_handler({"image": base64.b64encode(data).decode()}, None) == predictor(data).to_dict()
    assert records(s3) == []


def test_a_direct_invocation_with_an_object_returns_its_prediction(s3: Any, predictor: Predictor) -> None:
    (key,) = upload(s3, **{"a cat+": jpeg("blue", 99)})
    assert lambda_handler({"s3": f"s3://{BUCKET}/{key}"}, None) == predictor(jpeg("blue", 99)).to_dict()
    assert records(s3) == []


@pytest.mark.parametrize(
    ("event", "code"),
    [
        ({"image": ""}, "empty"),
        ({"image": base64.b64encode(jpeg("red")[:-9]).decode()}, "truncated"),
        ({"s3": f"s3://{BUCKET}/gone.jpg"}, "missing"),
    ],
)
def test_a_rejected_photo_returns_its_error(s3: Any, event: dict[str, str], code: str) -> None:
    reply = lambda_handler(event, None)
    assert set(reply) == {"error"}
    assert reply["error"]["code"] == code
    assert reply["error"]["message"]


def test_a_throttled_object_fails_the_invocation(s3: Any) -> None:
    upload(s3, cat=jpeg("red"))
    refuse("GetObject", "SlowDown", 503)
    with pytest.raises(UnavailableError):
        lambda_handler({"s3": f"s3://{BUCKET}/in/cat.jpg"}, None)


def test_a_missing_model_fails_the_invocation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRANSFERLITE_REGISTRY", str(tmp_path))
    with pytest.raises(NotFoundError, match="there is no channel 'production'"):
        lambda_handler({"image": base64.b64encode(jpeg("red")).decode()}, None)


def test_a_direct_invocation_needs_no_output_bucket(
    trained: Trained, predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRANSFERLITE_REGISTRY", str(trained.registry))
    data = jpeg("red", 99)
    assert lambda_handler({"image": base64.b64encode(data).decode()}, None) == predictor(data).to_dict()


def test_a_direct_invocation_may_request_another_version(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(str(tmp_path / "registry"), trained, "one", "two")
    monkeypatch.setenv("TRANSFERLITE_REGISTRY", str(tmp_path / "registry"))
    event = {"image": base64.b64encode(jpeg("red")).decode()}
    versions = [lambda_handler(event | more, None)["model_id"] for more in ({}, {"model": "one"}, {"model": "two"})]
    assert versions == ["two", "one", "two"]
    with pytest.raises(NotFoundError, match="there is no model three"):
        lambda_handler(event | {"model": "three"}, None)


# -- HTTP --------------------------------------------------------------------------------------------------------------


def test_http_and_direct_invocation_give_the_same_prediction(s3: Any) -> None:
    event = golden("http_function_url") | {"rawQueryString": ""}
    reply = lambda_handler(event, None)
    assert reply["statusCode"] == 200
    assert json.loads(reply["body"]) == lambda_handler({"image": event["body"]}, None)


def test_without_settings_http_gets_503() -> None:
    reply = lambda_handler(golden("http_function_url"), None)
    assert reply["statusCode"] == 503
    assert "TRANSFERLITE" not in reply["body"]


# -- invalid settings and events ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("event", [notification(BUCKET, "cat.jpg"), {"image": "AAAA"}])
def test_without_a_registry_the_error_names_the_variable(event: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="TRANSFERLITE_REGISTRY is not set"):
        lambda_handler(event, None)


def test_without_an_output_bucket_a_notification_names_the_variable(
    trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRANSFERLITE_REGISTRY", str(trained.registry))
    with pytest.raises(InputError, match="TRANSFERLITE_OUTPUT_BUCKET is not set"):
        lambda_handler(notification(BUCKET, "cat.jpg"), None)


def test_corrected_settings_are_read_again(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    event = {"image": base64.b64encode(jpeg("red")).decode()}
    with pytest.raises(InputError):
        lambda_handler(event, None)
    monkeypatch.setenv("TRANSFERLITE_REGISTRY", str(trained.registry))
    assert lambda_handler(event, None)["label"] == "red"


def test_an_unknown_event_is_refused() -> None:
    with pytest.raises(InputError, match="unknown event"):
        lambda_handler({"path": "/"}, None)


# -- versions, and objects that are overwritten ------------------------------------------------------------------------


def version_event(key: str, version: str) -> dict[str, Any]:
    event = notification(BUCKET, key)
    event["Records"][0]["s3"]["object"]["versionId"] = version
    return event


def upload_versions(s3: Any, *colours: str) -> list[str]:
    s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    return [s3.put_object(Bucket=BUCKET, Key="cat.jpg", Body=jpeg(colour))["VersionId"] for colour in colours]


def test_each_version_has_its_own_record_whatever_the_order_of_events(s3: Any) -> None:
    first, second = upload_versions(s3, "red", "blue")
    for version in (second, first, second):
        lambda_handler(version_event("cat.jpg", version), None)
    assert records(s3) == sorted(record_key_of(f"cat.jpg@{version}") for version in (first, second))
    stored = [record_of(s3, f"cat.jpg@{version}") for version in (first, second)]
    assert [(record["version"], record["label"]) for record in stored] == [(first, "red"), (second, "blue")]


def test_a_deleted_version_and_a_delete_marker_are_missing(s3: Any) -> None:
    first, second = upload_versions(s3, "red", "blue")
    s3.delete_object(Bucket=BUCKET, Key="cat.jpg", VersionId=first)
    reply = lambda_handler(version_event("cat.jpg", first), None)
    assert reply["records"][0]["error"] == {"code": "missing", "message": "does not exist"}
    refuse("GetObject", "MethodNotAllowed", 405, "cat.jpg")  # S3 answers 405 for a delete marker, moto does not
    reply = lambda_handler(version_event("cat.jpg", second), None)
    assert reply["records"][0]["error"] == {"code": "missing", "message": "is a delete marker"}


@pytest.mark.parametrize("version", ["null", "", None])
def test_the_null_version_is_the_current_object(s3: Any, version: Any) -> None:
    (key,) = upload(s3, cat=jpeg("red"))
    lambda_handler(version_event(key, version), None)
    assert records(s3) == [record_key_of(key)]


def test_a_late_event_of_an_overwritten_photo_labels_the_current_content(s3: Any) -> None:
    (key,) = upload(s3, cat=jpeg("red"))
    late = notification(BUCKET, key)
    upload(s3, cat=jpeg("blue"))
    for event in (notification(BUCKET, key), late):
        lambda_handler(event, None)
        assert record_of(s3, key)["label"] == "blue"


def test_the_record_of_an_object_that_is_overwritten_later_is_replaced(s3: Any) -> None:
    for colour in ("red", "blue", "red"):
        (key,) = upload(s3, cat=jpeg(colour))
        assert lambda_handler(notification(BUCKET, key), None)["records"][0]["label"] == colour
        assert record_of(s3, key)["label"] == colour


def test_a_photo_overwritten_while_being_labelled_is_labelled_again(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (key,) = upload(s3, cat=jpeg("red"))
    fetched, fetch = [], photo_source.fetch_photo

    def slow(photo: Any) -> Any:
        found = fetch(photo)
        fetched.append(found.etag)
        if len(fetched) == 1:  # another function labels the new content
            upload(s3, cat=jpeg("blue"))
            lambda_handler(notification(BUCKET, key), None)
        return found

    monkeypatch.setattr(service, "fetch_photo", slow)
    assert lambda_handler(notification(BUCKET, key), None)["records"][0]["label"] == "blue"
    assert record_of(s3, key)["label"] == "blue"
    assert len(fetched) == 3


def test_the_two_events_of_a_multipart_upload_write_one_record_once(s3: Any) -> None:
    (key,) = upload(s3, cat=jpeg("red"))
    both = notification(BUCKET, key, key)
    both["Records"][1]["eventName"] = "ObjectCreated:CompleteMultipartUpload"
    written: list[int] = []
    s3.meta.events.register(
        "after-call.s3.PutObject", lambda http_response, **_: written.append(http_response.status_code)
    )
    lambda_handler(both, None)
    assert written == [200, 412]
    assert records(s3) == [record_key_of(key)]


def test_a_photo_that_was_deleted_after_it_was_labelled_keeps_its_label(s3: Any) -> None:
    (key,) = upload(s3, cat=jpeg("red"))
    lambda_handler(notification(BUCKET, key), None)
    s3.delete_object(Bucket=BUCKET, Key=key)
    assert lambda_handler(notification(BUCKET, key), None)["records"][0]["label"] == "red"
    assert record_of(s3, key)["label"] == "red"


def test_a_record_whose_photo_has_the_longest_key_is_written(s3: Any) -> None:
    key = "猫" * 341
    s3.put_object(Bucket=BUCKET, Key=key, Body=jpeg("red"))
    assert lambda_handler(notification(BUCKET, key), None)["labelled"] == 1
    (name,) = records(s3)
    assert len(name.encode()) <= 1024
