"""``template.yaml`` as CloudFormation gets it, and deployed into moto, which knows most of its resource types."""

import copy
import json
import os
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
}
"""What moto cannot deploy from a template."""

Template = dict[str, Any]


class _NoManagedPolicies:
    def load(self) -> dict[str, str]:
        return {}


def written() -> Template:
    """The template as it is written, intrinsic functions as ``{"Ref": …}``."""
    template: Template = yaml_parse((ROOT / "template.yaml").read_text())
    return template


def transformed() -> Template:
    """The template after SAM's transform, the state machine's definition inside, as ``sam deploy`` would upload it."""
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
    return known


def deploy() -> tuple[dict[str, str], dict[str, str]]:
    """Create the stack; returns its outputs, and each resource's physical id."""
    cloudformation, template = boto3.client("cloudformation"), transformed()
    parameters = [{"ParameterKey": key, "ParameterValue": value} for key, value in PARAMETERS.items()]
    body = json.dumps(deployable(template))
    cloudformation.create_stack(
        StackName=NAME, TemplateBody=body, Parameters=parameters, Capabilities=["CAPABILITY_IAM"]
    )
    stack = cloudformation.describe_stacks(StackName=NAME)["Stacks"][0]
    assert stack["StackStatus"] == "CREATE_COMPLETE"
    resources = cloudformation.describe_stack_resources(StackName=NAME)["StackResources"]
    assert {one["ResourceStatus"] for one in resources} == {"CREATE_COMPLETE"}
    outputs = {one["OutputKey"]: one["OutputValue"] for one in stack["Outputs"]}
    ids = {one["LogicalResourceId"]: one["PhysicalResourceId"] for one in resources}
    _notify(template["Resources"]["DataBucket"]["Properties"]["NotificationConfiguration"], ids)
    return outputs, ids


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
