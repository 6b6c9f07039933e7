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

from tests.template.own_calls import ACCOUNT, LEFT_OUT, MADE_FIRST, OWN_CALLS, signing_key

ROOT = Path(__file__).parents[2]
DEFINITION = ROOT / "train_job" / "training.asl.json"
NAME = "photos"
PARAMETERS = {
    "TrainImage": "111122223333.dkr.ecr.eu-central-1.amazonaws.com/train:1",
    "InferenceImage": "111122223333.dkr.ecr.eu-central-1.amazonaws.com/inference:1",
    "GpuInstanceTypes": "g4dn.xlarge,g5.xlarge",  # moto splits a list that is given, not a default
}
UNKNOWN = LEFT_OUT | MADE_FIRST | set(OWN_CALLS)
"""What moto cannot deploy from a template."""
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
    machine = template["Resources"]["TrainingStateMachine"]["Properties"]
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
            resource["Properties"]["ServiceRole"] = {"Fn::GetAtt": ["BatchInstanceRole", "Arn"]}
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
    template, made = _with_the_signing_key(template, given)
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
    ids |= made
    _create_the_rest(template, ids, given | ids)
    return Stack(outputs, ids)


def _with_the_signing_key(template: Template, values: dict[str, Any]) -> tuple[Template, dict[str, str]]:
    """The template with the names of its key put in, where it is asked for, and the key's id."""
    resource = template["Resources"]["SigningKey"]
    if not holds(resource["Condition"], values):
        return template, {}
    key, arn = signing_key(resource["Properties"])
    text = json.dumps(template).replace("${SigningKey.Arn}", arn)
    text = text.replace('{"Fn::GetAtt": ["SigningKey", "Arn"]}', json.dumps(arn))
    return json.loads(text.replace('{"Ref": "SigningKey"}', json.dumps(key))), {"SigningKey": key}


def _create_the_rest(template: Template, ids: dict[str, str], values: dict[str, Any]) -> None:
    """What moto's CloudFormation does not know, and the data bucket's notifications, which it passes over."""
    for name, resource in template["Resources"].items():
        if resource["Type"] in OWN_CALLS and holds(resource.get("Condition"), values):
            OWN_CALLS[resource["Type"]](name, resolved(resource["Properties"], values), ids)
    told = template["Resources"]["DataBucket"]["Properties"]["NotificationConfiguration"]
    _notify(resolved(told, values), ids)


PSEUDO = {"AWS::StackName": NAME, "AWS::AccountId": ACCOUNT, "AWS::Region": "eu-central-1", "AWS::Partition": "aws"}
NOTHING = {"Ref": "AWS::NoValue"}


def resolved(value: Any, values: dict[str, Any]) -> Any:
    """``Ref``, ``Fn::Sub`` and ``Fn::If`` of resources, parameters and CloudFormation's own names, put in.

    A list of words is split; an attribute of a resource (``Fn::GetAtt``) stays as it is.
    """
    known = PSEUDO | values
    if isinstance(value, list):
        return [resolved(one, values) for one in value if one != NOTHING]
    if not isinstance(value, dict):
        return value
    if "Ref" in value:
        found = known[value["Ref"]]
        return found.split(",") if value["Ref"] in {"GpuInstanceTypes", "CorsOrigins"} else found
    if "Fn::Sub" in value:
        return re.sub(r"\$\{([\w:]+)\}", lambda found: str(known[found[1]]), value["Fn::Sub"])
    if "Fn::If" in value:
        condition, then, otherwise = value["Fn::If"]
        return resolved(then if holds(condition, values) else otherwise, values)
    if "Fn::Join" in value:
        return value["Fn::Join"][0].join(resolved(value["Fn::Join"][1], values))
    chosen = {name: _chosen(one, values) for name, one in value.items()}
    return {name: resolved(one, values) for name, one in chosen.items() if one != NOTHING}


def _chosen(value: Any, values: dict[str, Any]) -> Any:
    """A side of an ``Fn::If``, which may be nothing; anything else as it is."""
    if not (isinstance(value, dict) and "Fn::If" in value):
        return value
    condition, then, otherwise = value["Fn::If"]
    return then if holds(condition, values) else otherwise


def holds(condition: str | None, values: dict[str, Any]) -> bool:
    """Whether a condition of the template is true; none is."""
    return condition is None or is_true(_transformed()["Conditions"][condition], values)


def is_true(said: Any, values: dict[str, Any]) -> bool:
    """Whether ``Fn::Equals``, or ``Fn::Not`` of it, is true of these parameters."""
    if "Fn::Not" in said:
        return not is_true(said["Fn::Not"][0], values)
    left, right = (str(resolved(one, values)) for one in said["Fn::Equals"])
    return left == right


def _notify(configuration: Any, ids: dict[str, str]) -> None:
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
    bridge: dict[str, Any] = {"EventBridgeConfiguration": {}} if "EventBridgeConfiguration" in configuration else {}
    boto3.client("s3").put_bucket_notification_configuration(
        Bucket=ids["DataBucket"], NotificationConfiguration={"QueueConfigurations": wanted, **bridge}
    )
