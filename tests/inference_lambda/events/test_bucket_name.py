from typing import Any

import pytest

from inference_lambda.events.batch_operations import BatchOperationsJob
from inference_lambda.events.distributed_map import MapItems
from inference_lambda.events.parse import DirectInvocation, parse_event
from inference_lambda.events.s3 import S3Notification, S3Photo
from inference_lambda.events.sqs import SqsBatch
from tests.inference_lambda.golden import golden
from tests.inference_lambda.notifications import eventbridge, messages, notification
from transferlite.errors import InputError

ALIASES = [
    "my-ap-hrzrlukc5m36ft7okagglf3gmwluquse1b-s3alias",
    "my-olap-hrzrlukc5m36ft7okagglf3gmwluquse1a--ol-s3",
    "my-ap-o01ac5d28a6a232904e8xz5w8ijx1qzlbp3i3kuse10--op-s3",
]
ARNS = {
    "arn:aws:s3:eu-central-1:111122223333:accesspoint/photos": "alias",
    "arn:aws:s3:eu-central-1:111122223333:accesspoint:photos": "alias",
    "arn:aws-us-gov:s3:us-gov-west-1:111122223333:accesspoint/photos": "alias",
    "arn:aws:s3-object-lambda:eu-central-1:111122223333:accesspoint/photos": "alias",
    "arn:aws:s3-outposts:eu-central-1:111122223333:outpost/op-01ac5d28a6a232904/accesspoint/photos": "alias",
    "arn:aws:s3-outposts:eu-central-1:111122223333:outpost/op-01ac5d28a6a232904/bucket/photos": "name of the bucket",
    "arn:aws:s3::111122223333:accesspoint/mfzwi23gnjvgw.mrap": "Multi-Region",
    "arn:aws:dynamodb:eu-central-1:111122223333:table/photos": "name of the bucket",
}


def map_item(bucket: str) -> dict[str, Any]:
    return {"Bucket": bucket, "Key": "a.jpg"}


def job(bucket: str, field: str = "s3BucketArn") -> dict[str, Any]:
    event: dict[str, Any] = golden("batch_operations_2")
    return event | {"tasks": [{"taskId": "t", field: bucket, "s3Key": "a.jpg"}]}


@pytest.mark.parametrize("alias", ALIASES)
def test_the_alias_of_an_access_point_is_a_bucket(alias: str) -> None:
    photo = S3Photo(alias, "a.jpg")
    for form in (notification, eventbridge):
        assert parse_event(form(alias, "a.jpg")) == S3Notification((photo,))
    assert parse_event(map_item(alias)) == MapItems((photo,))
    assert parse_event({"s3": photo.uri}) == DirectInvocation(uri=photo.uri)


@pytest.mark.parametrize("partition", ["aws", "aws-cn", "aws-us-gov"])
def test_a_buckets_arn_names_the_bucket(partition: str) -> None:
    arn, photo = f"arn:{partition}:s3:::photos", S3Photo("photos", "a.jpg")
    assert parse_event(map_item(arn)) == MapItems((photo,))
    assert parse_event(notification(arn, "a.jpg")) == S3Notification((photo,))
    for field in ("s3BucketArn", "s3Bucket"):
        parsed = parse_event(job(arn, field))
        assert isinstance(parsed, BatchOperationsJob)
        assert parsed.photos == [photo]


@pytest.mark.parametrize(("arn", "hint"), ARNS.items())
def test_an_event_with_another_arn_is_refused_with_what_to_write(arn: str, hint: str) -> None:
    for event in (
        notification(arn, "a.jpg"),
        eventbridge(arn, "a.jpg"),
        map_item(arn),
        {"s3": f"s3://{arn}/a.jpg"},
        {"s3": arn},
    ):
        with pytest.raises(InputError, match="ARN") as caught:
            parse_event(event)
        assert hint in str(caught.value)


@pytest.mark.parametrize("arn", ARNS)
def test_a_message_or_task_with_an_arn_fails_alone(arn: str) -> None:
    batch = parse_event(messages(notification(arn, "a.jpg"), notification("photos", "b.jpg")))
    assert isinstance(batch, SqsBatch)
    assert isinstance(batch.messages[0].content, InputError)
    assert batch.photos == [S3Photo("photos", "b.jpg")]
    for field in ("s3BucketArn", "s3Bucket"):
        parsed = parse_event(job(arn, field))
        assert isinstance(parsed, BatchOperationsJob)
        assert isinstance(parsed.tasks[0].photo, InputError)


def test_the_last_part_of_an_access_points_arn_is_not_taken_for_a_bucket() -> None:
    parsed = parse_event(job("arn:aws:s3:eu-central-1:111122223333:accesspoint:photos"))
    assert isinstance(parsed, BatchOperationsJob)
    assert parsed.photos == []
