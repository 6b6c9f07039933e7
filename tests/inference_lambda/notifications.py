"""S3 event notifications in the formats of S3, EventBridge, SNS and SQS."""

import json
from typing import Any
from urllib.parse import quote_plus


def notification(bucket: str, *keys: str) -> dict[str, Any]:
    """Return an S3 notification with ``ObjectCreated`` for each key, URL-encoded as by S3."""
    return {"Records": [_record(bucket, quote_plus(key, safe="/")) for key in keys]}


def _record(bucket: str, encoded_key: str) -> dict[str, Any]:
    return {
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "awsRegion": "eu-central-1",
        "eventTime": "2026-01-31T23:59:59.000Z",
        "eventName": "ObjectCreated:Put",
        "userIdentity": {"principalId": "EXAMPLE"},
        "requestParameters": {"sourceIPAddress": "127.0.0.1"},
        "responseElements": {"x-amz-request-id": "EXAMPLE123456789", "x-amz-id-2": "EXAMPLE"},
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": "photos",
            "bucket": {"name": bucket, "ownerIdentity": {"principalId": "EXAMPLE"}, "arn": f"arn:aws:s3:::{bucket}"},
            "object": {
                "key": encoded_key,
                "size": 1024,
                "eTag": "0123456789abcdef0123456789abcdef",
                "sequencer": "0A1B2C3D4E5F678901",
            },
        },
    }


def eventbridge(bucket: str, key: str, detail_type: str = "Object Created") -> dict[str, Any]:
    """Return EventBridge's event for an object; its key is not encoded."""
    return {
        "version": "0",
        "id": "17793124-05d4-b198-2fde-7ededc63b103",
        "detail-type": detail_type,
        "source": "aws.s3",
        "account": "111122223333",
        "time": "2026-01-31T23:59:59Z",
        "region": "eu-central-1",
        "resources": [f"arn:aws:s3:::{bucket}"],
        "detail": {
            "version": "0",
            "bucket": {"name": bucket},
            "object": {"key": key, "size": 1024, "etag": "0123456789abcdef0123456789abcdef", "sequencer": "0A1B"},
            "request-id": "N4N7GDK58NMKJ12R",
            "requester": "123456789012",
            "source-ip-address": "127.0.0.1",
            "reason": "PutObject",
        },
    }


def through_sns(body: dict[str, Any]) -> dict[str, Any]:
    """What SNS puts into a queue for a message of its own."""
    return {
        "Type": "Notification",
        "MessageId": "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324",
        "TopicArn": "arn:aws:sns:eu-central-1:111122223333:photos",
        "Subject": "Amazon S3 Notification",
        "Message": json.dumps(body),
        "Timestamp": "2026-01-31T23:59:59.000Z",
    }


def messages(*bodies: Any) -> dict[str, Any]:
    """An event of SQS; a body that is text is sent as it is. The messages' ids are ``m0``, ``m1``…"""
    return {"Records": [_message(f"m{number}", body) for number, body in enumerate(bodies)]}


def _message(name: str, body: Any) -> dict[str, Any]:
    return {
        "messageId": name,
        "receiptHandle": "MessageReceiptHandle",
        "body": body if isinstance(body, str) else json.dumps(body),
        "attributes": {"ApproximateReceiveCount": "1", "SentTimestamp": "1523232000000"},
        "messageAttributes": {},
        "md5OfBody": "7b270e59b47ff90a553787216d55d91d",
        "eventSource": "aws:sqs",
        "eventSourceARN": "arn:aws:sqs:eu-central-1:111122223333:photos",
        "awsRegion": "eu-central-1",
    }


TEST_EVENT = {
    "Service": "Amazon S3",
    "Event": "s3:TestEvent",
    "Time": "2026-01-31T23:59:59.000Z",
    "Bucket": "photos",
    "RequestId": "5582815E1AEA5ADF",
    "HostId": "8cLeGAmw098X5cv4Zkwcmo8vvZa3eH3eKxsPzbB9wrR+YstdA6Knx4Ip8EXAMPLE",
}
