"""``template.yaml`` as CloudFormation gets it, and deployed into moto, which knows most of its resource types."""

import copy
import json
import os
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import boto3
from samtranslator.translator.transform import transform
from samtranslator.yaml_helper import yaml_parse

ROOT = Path(__file__).parents[2]
DEFINITION = ROOT / "train_job" / "training.asl.json"
NAME = "photos"
PARAMETERS = {
    "TrainImage": "111122223333.dkr.ecr.eu-central-1.amazonaws.com/train:1",
    "InferenceImage": "111122223333.dkr.ecr.eu-central-1.amazonaws.com/inference:1",
    "GpuInstanceTypes": "g4dn.xlarge,g5.xlarge",  # moto splits a list that is given, not a default
}
UNKNOWN = {
    "AWS::S3::BucketPolicy",
    "AWS::SQS::QueuePolicy",
    "AWS::SNS::TopicPolicy",
    "AWS::SNS::Subscription",
    "AWS::Scheduler::Schedule",
    "AWS::CloudWatch::Alarm",
    "AWS::Lambda::Url",
    "AWS::Logs::MetricFilter",
}
"""What moto cannot deploy from a template. Alarms and schedules are created by their own calls instead."""
NO_ID = {"AWS::CloudWatch::Dashboard", "AWS::KMS::Alias"}
"""What moto deploys, and lists without its logical id."""

Template = dict[str, Any]


@dataclass(frozen=True)
class Stack:
    """A deployed stack: its outputs, and each resource's physical id."""

    outputs: dict[str, str]
    ids: dict[str, str]


class _NoManagedPolicies:
    def load(self) -> dict[str, str]:
        return {}


def written() -> Template:
    """The template as it is written, intrinsic functions as ``{"Ref": …}``."""
    template: Template = yaml_parse((ROOT / "template.yaml").read_text())
    return template


def transformed() -> Template:
    """The template after SAM's transform, the state machine's definition inside, as ``sam deploy`` would upload it."""
    return copy.deepcopy(_transformed())


@cache
def _transformed() -> Template:
    template = written()
    machine = template["Resources"]["Training"]["Properties"]
    assert ROOT / machine.pop("DefinitionUri") == DEFINITION
    machine["Definition"] = json.loads(DEFINITION.read_text())
    with mock.patch.dict(os.environ, {"AWS_DEFAULT_REGION": "eu-central-1"}):
        result: Template = transform(template, {"Architecture": "x86_64"}, _NoManagedPolicies())
    return result


def deployable(template: Template) -> Template:
    """The template without what moto does not know, and with the service role that it asks of Batch."""
    known = copy.deepcopy(template)
    known["Resources"] = {name: one for name, one in known["Resources"].items() if one["Type"] not in UNKNOWN}
    for resource in known["Resources"].values():
        if resource["Type"] == "AWS::Batch::ComputeEnvironment":
            resource["Properties"]["ServiceRole"] = {"Fn::GetAtt": ["InstanceRole", "Arn"]}
    left_out = set(template["Resources"]) - set(known["Resources"])
    outputs = known["Outputs"].items()
    known["Outputs"] = {name: one for name, one in outputs if not any(left in str(one["Value"]) for left in left_out)}
    return known


def deploy(**parameters_given: str) -> Stack:
    """Create the stack."""
    cloudformation, template = boto3.client("cloudformation"), transformed()
    defaults = {name: str(one["Default"]) for name, one in template["Parameters"].items() if "Default" in one}
    given = defaults | PARAMETERS | parameters_given  # moto compares a default as it is written, which may be a number
    parameters = [{"ParameterKey": key, "ParameterValue": value} for key, value in given.items()]
    body = json.dumps(deployable(template))
    cloudformation.create_stack(
        StackName=NAME, TemplateBody=body, Parameters=parameters, Capabilities=["CAPABILITY_IAM"]
    )
    stack = cloudformation.describe_stacks(StackName=NAME)["Stacks"][0]
    assert stack["StackStatus"] == "CREATE_COMPLETE"
    resources = cloudformation.describe_stack_resources(StackName=NAME)["StackResources"]
    assert {one["ResourceStatus"] for one in resources} == {"CREATE_COMPLETE"}
    outputs = {one["OutputKey"]: one["OutputValue"] for one in stack["Outputs"]}
    ids = {one["LogicalResourceId"]: one["PhysicalResourceId"] for one in resources if "LogicalResourceId" in one}
    _notify(template["Resources"]["DataBucket"]["Properties"]["NotificationConfiguration"], ids)
    for resource in template["Resources"].values():
        if resource["Type"] == "AWS::CloudWatch::Alarm":
            boto3.client("cloudwatch").put_metric_alarm(**_alarm(resource["Properties"], ids))
        if resource["Type"] == "AWS::Scheduler::Schedule":
            boto3.client("scheduler").create_schedule(**_schedule(resource["Properties"], ids | given))
    return Stack(outputs, ids)


def _alarm(properties: Any, ids: dict[str, str]) -> dict[str, Any]:
    """An alarm as ``PutMetricAlarm`` takes it, without what only its dimensions would need resolved."""
    name = properties["AlarmDescription"].split(",")[0].split(";")[0].rstrip(".")
    kept = {key: value for key, value in properties.items() if key not in {"Dimensions", "Tags", "MetricName"}}
    return kept | {
        "AlarmName": f"{NAME}-{name}",
        "MetricName": resolved(properties["MetricName"], ids),
        "AlarmActions": [ids["Topic"]],
        "OKActions": [],
    }


def _schedule(properties: Any, values: dict[str, Any]) -> dict[str, Any]:
    """A schedule as ``CreateSchedule`` takes it."""
    target = properties["Target"]
    return {
        "Name": resolved(properties["Name"], values),
        "ScheduleExpression": resolved(properties["ScheduleExpression"], values),
        "ScheduleExpressionTimezone": resolved(properties["ScheduleExpressionTimezone"], values),
        "State": resolved(properties["State"], values),
        "FlexibleTimeWindow": properties["FlexibleTimeWindow"],
        "Target": {
            "Arn": resolved(target["Arn"], values),
            "RoleArn": f"arn:aws:iam::{ACCOUNT}:role/schedule",
            "Input": resolved(target["Input"], values),
        },
    }


ACCOUNT = "123456789012"
PSEUDO = {"AWS::StackName": NAME, "AWS::AccountId": ACCOUNT, "AWS::Region": "eu-central-1", "AWS::Partition": "aws"}


def resolved(value: Any, values: dict[str, Any]) -> Any:
    """``Ref`` and ``Fn::Sub`` of names that are resources, parameters or CloudFormation's own, put in."""
    known = PSEUDO | values
    if isinstance(value, dict) and "Ref" in value:
        return known[value["Ref"]]
    if isinstance(value, dict) and "Fn::Sub" in value:
        return re.sub(r"\$\{([\w:]+)\}", lambda found: str(known[found[1]]), value["Fn::Sub"])
    return value


def _notify(configuration: Any, ids: dict[str, str]) -> None:
    """Set up the data bucket's notifications, which moto's CloudFormation passes over."""
    sqs = boto3.client("sqs")
    url = ids["IncomingQueue"]
    queue = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    wanted = [
        {
            "QueueArn": queue,
            "Events": [one["Event"]],
            "Filter": {"Key": {"FilterRules": one["Filter"]["S3Key"]["Rules"]}},
        }
        for one in configuration["QueueConfigurations"]
    ]
    boto3.client("s3").put_bucket_notification_configuration(
        Bucket=ids["DataBucket"], NotificationConfiguration={"QueueConfigurations": wanted}
    )
