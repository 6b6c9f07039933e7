import base64
from typing import Any

import pytest

from inference_lambda.events.parse import DirectInvocation, parse_event
from inference_lambda.events.s3 import S3Notification, S3Photo
from inference_lambda.events.sqs import SqsBatch, SqsMessage
from tests.inference_lambda.notifications import TEST_EVENT, eventbridge, messages, notification, through_sns
from transferlite.errors import InputError


def bare(key: str) -> dict[str, Any]:
    return {"Records": [{"s3": {"bucket": {"name": "b"}, "object": {"key": key}}}]}


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (TEST_EVENT, S3Notification(())),
        ({"Records": []}, S3Notification(())),
        (notification("b", "cat.jpg"), S3Notification((S3Photo("b", "cat.jpg"),))),
        (notification("b", "a/1.jpg", "a/2.jpg"), S3Notification((S3Photo("b", "a/1.jpg"), S3Photo("b", "a/2.jpg")))),
        ({"image": base64.b64encode(b"bytes").decode()}, DirectInvocation(image=b"bytes")),
        ({"image": ""}, DirectInvocation(image=b"")),
        ({"s3": "s3://b/a/cat 1+.jpg"}, DirectInvocation(uri="s3://b/a/cat 1+.jpg")),
        ({"image": "", "model": "one"}, DirectInvocation(image=b"", model_id="one")),
        ({"s3": "s3://b/cat.jpg", "model": "one"}, DirectInvocation(uri="s3://b/cat.jpg", model_id="one")),
    ],
)
def test_an_event_is_recognised_by_its_content(
    event: dict[str, Any], expected: S3Notification | DirectInvocation
) -> None:
    assert parse_event(event) == expected


@pytest.mark.parametrize(
    ("encoded", "key"),
    [
        ("happy+face.jpg", "happy face.jpg"),
        ("happy%20face.jpg", "happy face.jpg"),
        ("a%2Bb.jpg", "a+b.jpg"),
        ("100%25.jpg", "100%.jpg"),
        ("%2520.jpg", "%20.jpg"),
        ("%E7%8C%AB/%C3%A9t%C3%A9.jpg", "猫/été.jpg"),
        ("it%27s+%22so%22%26%3D%3F%23.jpg", 'it\'s "so"&=?#.jpg'),
        ("a/b/c.jpg", "a/b/c.jpg"),
    ],
)
def test_the_key_of_a_notification_is_decoded(encoded: str, key: str) -> None:
    assert parse_event(bare(encoded)) == S3Notification((S3Photo("b", key),))


@pytest.mark.parametrize("key", ["a b.jpg", "a+b.jpg", "100%.jpg", "%2B.jpg", "猫.jpg", 'q"uote.jpg'])
def test_a_key_survives_s3s_encoding(key: str) -> None:
    assert parse_event(notification("b", key)) == S3Notification((S3Photo("b", key),))


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("ObjectCreated:Put", 1),
        ("ObjectCreated:CompleteMultipartUpload", 1),
        ("ObjectRemoved:Delete", 0),
        ("ObjectTagging:Put", 0),
    ],
)
def test_only_created_objects_are_photos(name: str, count: int) -> None:
    event = notification("b", "cat.jpg")
    event["Records"][0]["eventName"] = name
    assert parse_event(event) == S3Notification((S3Photo("b", "cat.jpg"),) * count)


def test_a_photo_has_a_uri() -> None:
    assert S3Photo("b", "a b/c.jpg").uri == "s3://b/a b/c.jpg"


@pytest.mark.parametrize(
    "event",
    [
        {},
        {"Records": None},
        {"Records": "text"},
        {"Records": [{"Sns": {}}]},
        {"Records": [{"s3": {}}, {"dynamodb": {}}]},
        {"Records": ["text"]},
        {"Event": "s3:OtherEvent"},
        {"image": 5},
        {"s3": "https://example.org/cat.jpg"},
        {"s3": {"bucket": "b"}},
        {"httpMethod": "GET"},
    ],
)
def test_the_error_for_an_unknown_event_lists_known_ones(event: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"unknown event with the keys .*send an S3 notification"):
        parse_event(event)


def test_the_error_for_an_unknown_event_has_its_keys_and_no_values() -> None:
    with pytest.raises(InputError, match=r"\['body', 'path'\]"):
        parse_event({"path": "/", "body": "secret"})


@pytest.mark.parametrize(
    "record", [{}, {"bucket": {"name": "b"}}, {"bucket": {}, "object": {"key": "k"}}, {"bucket": 1}]
)
def test_a_malformed_s3_record_is_refused(record: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="malformed S3 record"):
        parse_event({"Records": [{"s3": record}]})


def test_a_model_id_that_is_not_a_string_is_refused() -> None:
    with pytest.raises(InputError, match="the event's model is not a string"):
        parse_event({"image": "", "model": 5})


@pytest.mark.parametrize("text", ["not base64!", "abcde", "data:image/svg+xml,%3Csvg%3E", "é", "AAAA AAAA"])
def test_an_image_that_is_not_base64_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="the image is not base64"):
        parse_event({"image": text})


AWKWARD = ["in/a b.jpg", "in/a+b.jpg", "in/100%.jpg", "in/%2B.jpg", "in/猫.jpg", 'in/q"uote.jpg']


@pytest.mark.parametrize("key", AWKWARD)
@pytest.mark.parametrize("form", [notification, eventbridge])
def test_a_photo_parses_the_same_from_every_source(form: Any, key: str) -> None:
    event = form("photos", key)
    photo = S3Notification((S3Photo("photos", key),))
    assert parse_event(event) == photo
    assert parse_event(messages(event, through_sns(event))) == SqsBatch(
        (SqsMessage("m0", photo), SqsMessage("m1", photo))
    )


def test_other_eventbridge_events_name_no_photo() -> None:
    assert parse_event(eventbridge("photos", "a.jpg", "Object Deleted")) == S3Notification(())


def test_an_s3_test_event_in_sqs_names_no_photo() -> None:
    assert parse_event(messages(TEST_EVENT)) == SqsBatch((SqsMessage("m0", S3Notification(())),))


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("not JSON", "not the JSON of an S3 notification"),
        pytest.param("[" * 100_000, "not the JSON of an S3 notification", id="too deep"),
        ("[]", "is not an S3 notification"),
        ("{}", "is not an S3 notification"),
        ('{"Type": "Notification"}', "not the JSON of an S3 notification"),
        ('{"Type": "Notification", "Message": "hello"}', "not the JSON of an S3 notification"),
        ({"Records": [{"s3": {}}]}, "malformed S3 record"),
        ({"image": "AAAA"}, "is not an S3 notification"),
    ],
)
def test_a_malformed_message_does_not_affect_the_others(body: Any, reason: str) -> None:
    batch = parse_event(messages(body, notification("photos", "a.jpg")))
    assert isinstance(batch, SqsBatch)
    wrong, right = (message.content for message in batch.messages)
    assert isinstance(wrong, InputError)
    assert reason in wrong.message
    assert right == S3Notification((S3Photo("photos", "a.jpg"),))
