"""Read ``template.yaml``, transform it as SAM does, and deploy it into moto."""

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

from tests.template.own_calls import ACCOUNT, CREATED_FIRST, LEFT_OUT, OWN_CALLS, create_signing_key

ROOT = Path(__file__).parents[2]
DEFINITION = ROOT / "train_job" / "training.asl.json"
NAME = "photos"
PARAMETERS = {
    "Prefix": NAME,
    "DataBucketName": f"{NAME}-data",
    "TrainImage": "111122223333.dkr.ecr.eu-central-1.amazonaws.com/train:1",
    "InferenceImage": "111122223333.dkr.ecr.eu-central-1.amazonaws.com/inference:1",
    "Compute": "gpu",
    "GpuInstanceTypes": "g4dn.xlarge,g5.xlarge",  # moto splits a given list, but not a default
}
UNKNOWN = LEFT_OUT | CREATED_FIRST | set(OWN_CALLS)
"""Types that moto cannot deploy from a template."""
NO_ID = {"AWS::CloudWatch::Dashboard", "AWS::KMS::Alias"}
"""Types that moto deploys, but lists without their logical id."""

Template = dict[str, Any]


@dataclass(frozen=True)
class Stack:
    """Deployed stack: its outputs, and the physical ids by logical id."""

    outputs: dict[str, str]
    ids: dict[str, str]


class _NoManagedPolicies:
    def load(self) -> dict[str, str]:
        return {}


def read_template() -> Template:
    """Read the template, with intrinsic functions as ``{"Ref": …}``."""
    template: Template = yaml_parse((ROOT / "template.yaml").read_text())
    return template


def transformed() -> Template:
    """Return the template after SAM's transform, with the state machine's definition inlined."""
    return copy.deepcopy(_transformed())


@cache
def _transformed() -> Template:
    template = read_template()
    machine = template["Resources"]["TrainingStateMachine"]["Properties"]
    assert ROOT / machine.pop("DefinitionUri") == DEFINITION
    machine["Definition"] = json.loads(DEFINITION.read_text())
    with mock.patch.dict(os.environ, {"AWS_DEFAULT_REGION": "eu-central-1"}):
        result: Template = transform(template, {"Architecture": "x86_64"}, _NoManagedPolicies())
    return result


def deployable(template: Template) -> Template:
    """Return the template without types that moto lacks, and with the service role that moto requires for Batch."""
    known = copy.deepcopy(template)
    known["Resources"] = {
        name: resource for name, resource in known["Resources"].items() if resource["Type"] not in UNKNOWN
    }
    for resource in known["Resources"].values():
        if resource["Type"] == "AWS::Batch::ComputeEnvironment":
            resource["Properties"]["ServiceRole"] = {"Fn::GetAtt": ["BatchInstanceRole", "Arn"]}
    left_out = set(template["Resources"]) - set(known["Resources"])
    outputs = known["Outputs"].items()
    known["Outputs"] = {
        name: output for name, output in outputs if not any(left in str(output["Value"]) for left in left_out)
    }
    return known


def deploy(**parameters_given: str) -> Stack:
    """Create the stack with these parameters."""
    cloudformation, template = boto3.client("cloudformation"), transformed()
    defaults = {
        name: str(parameter["Default"]) for name, parameter in template["Parameters"].items() if "Default" in parameter
    }
    values = defaults | PARAMETERS | parameters_given  # moto does not convert a numeric default to text
    parameters = [{"ParameterKey": key, "ParameterValue": value} for key, value in values.items()]
    template, created = _create_signing_key_first(template, values)
    _drop_absent_zones(template, values)
    body = json.dumps(deployable(template))
    cloudformation.create_stack(
        StackName=NAME, TemplateBody=body, Parameters=parameters, Capabilities=["CAPABILITY_IAM"]
    )
    stack = cloudformation.describe_stacks(StackName=NAME)["Stacks"][0]
    assert stack["StackStatus"] == "CREATE_COMPLETE"
    resources = cloudformation.describe_stack_resources(StackName=NAME)["StackResources"]
    assert {resource["ResourceStatus"] for resource in resources} == {"CREATE_COMPLETE"}
    outputs = {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}
    with_id = [resource for resource in resources if "LogicalResourceId" in resource]
    ids = {resource["LogicalResourceId"]: resource["PhysicalResourceId"] for resource in with_id}
    ids |= created
    _create_missing_types(template, ids, values | ids)
    return Stack(outputs, ids)


def _drop_absent_zones(template: Template, values: dict[str, Any]) -> None:
    """Keep the subnets that exist, because moto passes ``AWS::NoValue`` in a list on as None."""
    for resource in template["Resources"].values():
        if resource["Type"] == "AWS::Batch::ComputeEnvironment":
            machines = resource["Properties"]["ComputeResources"]
            chosen = [_chosen(subnet, values) for subnet in machines["Subnets"]]
            machines["Subnets"] = [subnet for subnet in chosen if subnet != NOTHING]


def _create_signing_key_first(template: Template, values: dict[str, Any]) -> tuple[Template, dict[str, str]]:
    """Create the signing key if signing is on; return the template with its id and ARN, and the key's physical id."""
    resource = template["Resources"]["SigningKey"]
    if not holds(resource["Condition"], values):
        return template, {}
    key, arn = create_signing_key(resource["Properties"])
    text = json.dumps(template).replace("${SigningKey.Arn}", arn)
    text = text.replace('{"Fn::GetAtt": ["SigningKey", "Arn"]}', json.dumps(arn))
    return json.loads(text.replace('{"Ref": "SigningKey"}', json.dumps(key))), {"SigningKey": key}


def _create_missing_types(template: Template, ids: dict[str, str], values: dict[str, Any]) -> None:
    """Create the types that moto's CloudFormation lacks, and the data bucket's notifications, which it ignores."""
    for name, resource in template["Resources"].items():
        if resource["Type"] in OWN_CALLS and holds(resource.get("Condition"), values):
            OWN_CALLS[resource["Type"]](name, resolved(resource["Properties"], values), ids)
    if "DataBucket" in ids:
        _send_events(template["Resources"]["DataBucket"]["Properties"]["NotificationConfiguration"], ids["DataBucket"])


PSEUDO = {
    "AWS::StackName": NAME,
    "AWS::AccountId": ACCOUNT,
    "AWS::Region": "eu-central-1",
    "AWS::Partition": "aws",
    "AWS::URLSuffix": "amazonaws.com",
}
NOTHING = {"Ref": "AWS::NoValue"}


def resolved(value: Any, values: dict[str, Any]) -> Any:
    """Resolve ``Ref``, ``Fn::Sub``, ``Fn::If`` and ``Fn::Join`` with these values and the pseudo parameters.

    Comma-separated parameters become lists; ``Fn::GetAtt`` stays unresolved.
    """
    known = PSEUDO | values
    if isinstance(value, list):
        return [resolved(item, values) for item in value if item != NOTHING]
    if not isinstance(value, dict):
        return value
    if "Ref" in value:
        target = known[value["Ref"]]
        return target.split(",") if value["Ref"] in {"GpuInstanceTypes", "CorsOrigins"} else target
    if "Fn::Sub" in value:
        return re.sub(r"\$\{([\w:]+)\}", lambda match: str(known[match[1]]), value["Fn::Sub"])
    if "Fn::If" in value:
        condition, then, otherwise = value["Fn::If"]
        return resolved(then if holds(condition, values) else otherwise, values)
    if "Fn::Join" in value:
        return value["Fn::Join"][0].join(resolved(value["Fn::Join"][1], values))
    chosen = {name: _chosen(child, values) for name, child in value.items()}
    return {name: resolved(child, values) for name, child in chosen.items() if child != NOTHING}


def _chosen(value: Any, values: dict[str, Any]) -> Any:
    """Return the chosen side of an ``Fn::If``, and any other value unchanged."""
    if not (isinstance(value, dict) and "Fn::If" in value):
        return value
    condition, then, otherwise = value["Fn::If"]
    return then if holds(condition, values) else otherwise


def holds(condition: str | None, values: dict[str, Any]) -> bool:
    """Return whether a condition of the template holds; None always holds."""
    return condition is None or is_true(_transformed()["Conditions"][condition], values)


def is_true(expression: Any, values: dict[str, Any]) -> bool:
    """Evaluate ``Fn::Equals``, ``Fn::Not``, ``Fn::And``, ``Fn::Or`` and references to conditions."""
    if "Condition" in expression:
        return holds(expression["Condition"], values)
    if "Fn::Not" in expression:
        return not is_true(expression["Fn::Not"][0], values)
    for function, join in (("Fn::And", all), ("Fn::Or", any)):
        if function in expression:
            return join(is_true(part, values) for part in expression[function])
    left, right = (str(resolved(side, values)) for side in expression["Fn::Equals"])
    return left == right


def _send_events(configuration: Any, bucket: str) -> None:
    """Send the bucket's events to EventBridge, which moto does not do from a template."""
    assert configuration == {"EventBridgeConfiguration": {"EventBridgeEnabled": True}}
    boto3.client("s3").put_bucket_notification_configuration(
        Bucket=bucket, NotificationConfiguration={"EventBridgeConfiguration": {}}
    )
