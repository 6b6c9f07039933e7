"""What moto does not create from a template, and creates by the calls of the service itself."""

from collections.abc import Callable
from typing import Any

import boto3

ACCOUNT = "123456789012"


def _alarm(name: str, properties: Any, ids: dict[str, str]) -> None:
    """Without its dimensions, which are attributes of queues and of the function."""
    kept = {key: value for key, value in properties.items() if key not in {"Dimensions", "Tags"}}
    boto3.client("cloudwatch").put_metric_alarm(AlarmName=f"photos-{name}", **kept)


def _schedule(_name: str, properties: Any, _ids: dict[str, str]) -> None:
    target = properties["Target"]
    role = f"arn:aws:iam::{ACCOUNT}:role/schedule"
    wanted = {key: value for key, value in properties.items() if key not in {"Description", "Target"}}
    boto3.client("scheduler").create_schedule(
        **wanted, Target={"Arn": target["Arn"], "RoleArn": role, "Input": target["Input"]}
    )


def _url(_name: str, properties: Any, ids: dict[str, str]) -> None:
    cors = {"Cors": properties["Cors"]} if "Cors" in properties else {}
    boto3.client("lambda").create_function_url_config(
        FunctionName=ids.get("ZipFunction") or ids["InferenceFunction"], AuthType=properties["AuthType"], **cors
    )


def _metric_filter(name: str, properties: Any, _ids: dict[str, str]) -> None:
    metrics = [
        {key[0].lower() + key[1:]: value for key, value in one.items()} for one in properties["MetricTransformations"]
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
"""By type: who creates one, of its logical id, its properties with every reference resolved, and the stack's ids."""


def signing_key(properties: Any) -> tuple[str, str]:
    """A key's id and ARN; moto's CloudFormation makes another kind of key, which cannot sign."""
    wanted = {name: properties[name] for name in ("Description", "KeySpec", "KeyUsage")}
    made = boto3.client("kms").create_key(**wanted)["KeyMetadata"]
    return made["KeyId"], made["Arn"]


MADE_FIRST = {"AWS::KMS::Key"}
"""Made before the stack, as resources of the stack name it."""

LEFT_OUT = {"AWS::S3::BucketPolicy", "AWS::SQS::QueuePolicy", "AWS::SNS::TopicPolicy"}
"""moto would hold its own plain HTTP to policies that ask for TLS; seaweedfs and their checks stand for them."""
