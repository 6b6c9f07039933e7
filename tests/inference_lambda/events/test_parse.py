import base64
from typing import Any

import pytest

from inference_lambda.events.parse import Direct, parse
from inference_lambda.events.s3 import Batch, Message, Notification, S3Photo
from tests.inference_lambda.notifications import TEST_EVENT, eventbridge, messages, notification, through_sns
from transferlite.errors import InputError


def bare(key: str) -> dict[str, Any]:
    return {"Records": [{"s3": {"bucket": {"name": "b"}, "object": {"key": key}}}]}


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (TEST_EVENT, Notification(())),
        ({"Records": []}, Notification(())),
        (notification("b", "cat.jpg"), Notification((S3Photo("b", "cat.jpg"),))),
        (notification("b", "a/1.jpg", "a/2.jpg"), Notification((S3Photo("b", "a/1.jpg"), S3Photo("b", "a/2.jpg")))),
        ({"image": base64.b64encode(b"bytes").decode()}, Direct(image=b"bytes")),
        ({"image": ""}, Direct(image=b"")),
        ({"s3": "s3://b/a/cat 1+.jpg"}, Direct(uri="s3://b/a/cat 1+.jpg")),
        ({"image": "", "model": "one"}, Direct(image=b"", model_id="one")),
        ({"s3": "s3://b/cat.jpg", "model": "one"}, Direct(uri="s3://b/cat.jpg", model_id="one")),
    ],
)
def test_an_event_is_told_by_its_content(event: dict[str, Any], expected: Notification | Direct) -> None:
    assert parse(event) == expected


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
    assert parse(bare(encoded)) == Notification((S3Photo("b", key),))


@pytest.mark.parametrize("key", ["a b.jpg", "a+b.jpg", "100%.jpg", "%2B.jpg", "猫.jpg", 'q"uote.jpg'])
def test_the_key_that_s3_encoded_comes_back(key: str) -> None:
    assert parse(notification("b", key)) == Notification((S3Photo("b", key),))


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("ObjectCreated:Put", 1),
        ("ObjectCreated:CompleteMultipartUpload", 1),
        ("ObjectRemoved:Delete", 0),
        ("ObjectTagging:Put", 0),
    ],
)
def test_only_what_was_created_is_a_photo(name: str, count: int) -> None:
    event = notification("b", "cat.jpg")
    event["Records"][0]["eventName"] = name
    assert parse(event) == Notification((S3Photo("b", "cat.jpg"),) * count)


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
def test_an_unknown_event_is_answered_with_the_known_ones(event: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"unknown event with the keys .*send an S3 notification"):
        parse(event)


def test_an_unknown_event_is_told_by_its_keys() -> None:
    with pytest.raises(InputError, match=r"\['body', 'path'\]"):
        parse({"path": "/", "body": "secret"})


@pytest.mark.parametrize(
    "record", [{}, {"bucket": {"name": "b"}}, {"bucket": {}, "object": {"key": "k"}}, {"bucket": 1}]
)
def test_an_s3_record_without_its_parts_is_refused(record: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="an S3 record lacks its"):
        parse({"Records": [{"s3": record}]})


def test_a_version_that_is_no_text_is_refused() -> None:
    with pytest.raises(InputError, match="the model is no text"):
        parse({"image": "", "model": 5})


@pytest.mark.parametrize("text", ["not base64!", "abc", "data:image/jpeg;base64,AAAA", "é", "AAAA\n AA"])
def test_an_image_that_is_not_base64_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="the image is not base64"):
        parse({"image": text})


AWKWARD = ["in/a b.jpg", "in/a+b.jpg", "in/100%.jpg", "in/%2B.jpg", "in/猫.jpg", 'in/q"uote.jpg']


@pytest.mark.parametrize("key", AWKWARD)
@pytest.mark.parametrize("form", [notification, eventbridge])
def test_a_photo_is_the_same_however_it_comes(form: Any, key: str) -> None:
    event = form("photos", key)
    photo = Notification((S3Photo("photos", key),))
    assert parse(event) == photo
    assert parse(messages(event, through_sns(event))) == Batch((Message("m0", photo), Message("m1", photo)))


def test_eventbridge_tells_of_more_than_what_was_created() -> None:
    assert parse(eventbridge("photos", "a.jpg", "Object Deleted")) == Notification(())


def test_the_test_event_of_s3_in_a_queue_is_a_message_of_nothing() -> None:
    assert parse(messages(TEST_EVENT)) == Batch((Message("m0", Notification(())),))


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("not JSON", "is not JSON of S3"),
        pytest.param("[" * 100_000, "is not JSON of S3", id="too deep"),
        ("[]", "is no notification of S3"),
        ("{}", "is no notification of S3"),
        ('{"Type": "Notification"}', "is not JSON of S3"),
        ('{"Type": "Notification", "Message": "hello"}', "is not JSON of S3"),
        ({"Records": [{"s3": {}}]}, "lacks its"),
        ({"image": "AAAA"}, "is no notification of S3"),
    ],
)
def test_a_message_that_names_no_photo_is_wrong_by_itself(body: Any, reason: str) -> None:
    batch = parse(messages(body, notification("photos", "a.jpg")))
    assert isinstance(batch, Batch)
    wrong, right = (message.content for message in batch.messages)
    assert isinstance(wrong, InputError)
    assert reason in wrong.message
    assert right == Notification((S3Photo("photos", "a.jpg"),))
