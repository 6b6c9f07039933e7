"""Resource types that moto's CloudFormation does not create; the tests create them by calling each service."""

from collections.abc import Callable
from typing import Any

import boto3

ACCOUNT = "123456789012"


def _alarm(name: str, properties: Any, ids: dict[str, str]) -> None:
    """Create an alarm without its dimensions, which are attributes of other resources."""
    kept = {key: value for key, value in properties.items() if key not in {"Dimensions", "Tags"}}
    boto3.client("cloudwatch").put_metric_alarm(AlarmName=f"photos-{name}", **kept)


def _schedule(_name: str, properties: Any, _ids: dict[str, str]) -> None:
    target = properties["Target"]
    role = f"arn:aws:iam::{ACCOUNT}:role/schedule"
    arguments = {key: value for key, value in properties.items() if key not in {"Description", "Target"}}
    boto3.client("scheduler").create_schedule(
        **arguments, Target={"Arn": target["Arn"], "RoleArn": role, "Input": target["Input"]}
    )


def _url(_name: str, properties: Any, ids: dict[str, str]) -> None:
    cors = {"Cors": properties["Cors"]} if "Cors" in properties else {}
    boto3.client("lambda").create_function_url_config(
        FunctionName=ids.get("ZipFunction") or ids["InferenceFunction"], AuthType=properties["AuthType"], **cors
    )


def _metric_filter(name: str, properties: Any, _ids: dict[str, str]) -> None:
    metrics = [
        {key[0].lower() + key[1:]: value for key, value in transformation.items()}
        for transformation in properties["MetricTransformations"]
    ]
    boto3.client("logs").put_metric_filter(
        logGroupName=properties["LogGroupName"],
        filterName=name,
        filterPattern=properties["FilterPattern"],
        metricTransformations=metrics,
    )


def _subscription(_name: str, properties: Any, _ids: dict[str, str]) -> None:
    boto3.client("sns").subscribe(**properties)


OWN_CALLS: dict[str, Callable[[str, Any, dict[str, str]], None]] = {
    "AWS::CloudWatch::Alarm": _alarm,
    "AWS::Scheduler::Schedule": _schedule,
    "AWS::Lambda::Url": _url,
    "AWS::Logs::MetricFilter": _metric_filter,
    "AWS::SNS::Subscription": _subscription,
}
"""Creator by resource type; it gets the logical id, the resolved properties and the stack's physical ids."""


def create_signing_key(properties: Any) -> tuple[str, str]:
    """Create the signing key and return its id and ARN; moto's CloudFormation creates keys that cannot sign."""
    arguments = {name: properties[name] for name in ("Description", "KeySpec", "KeyUsage")}
    key = boto3.client("kms").create_key(**arguments)["KeyMetadata"]
    return key["KeyId"], key["Arn"]


CREATED_FIRST = {"AWS::KMS::Key"}
"""Types created before the stack, as its resources refer to them."""

LEFT_OUT = {"AWS::S3::BucketPolicy", "AWS::SQS::QueuePolicy", "AWS::SNS::TopicPolicy"}
"""Types not created: these policies require TLS, and moto serves plain HTTP. Their checks are in test_template*.py."""
