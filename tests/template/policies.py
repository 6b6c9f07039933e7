"""Permissions of the template's roles as actions and ARNs, compared with the permissions needed."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from tests.template.stack import PARAMETERS, PSEUDO, Template

Pair = tuple[str, str]
"""IAM action and resource ARN; a grant may have IAM's wildcards ``*`` and ``?``."""
ALL_OPTIONS = {"PhotoTags": "on", "EventBus": "default", "PlanImage": PARAMETERS["TrainImage"].replace("train", "plan")}
"""Parameters whose values a role's policy or the function's environment contains."""
OUR_BUCKETS = {"DataBucket": "photos-data", "ModelBucket": "photos-models", "PredictionBucket": "photos-predictions"}


@dataclass(frozen=True)
class Spare:
    """Grant that no recorded call uses, with the reason for it and its source."""

    action: str
    target: str
    why: str
    source: str


@dataclass(frozen=True)
class Account:
    """Template with every optional part on, and the ARNs of its resources in an account."""

    template: Template
    named: Mapping[str, str]

    def arn(self, name: str) -> str:
        """Return the ARN of a resource."""
        if name in self.named:
            return self.named[name]
        if name in OUR_BUCKETS:
            return f"arn:aws:s3:::{OUR_BUCKETS[name]}"
        resource = self.template["Resources"][name]
        kind = resource["Type"].split("::")
        if kind[1] == "Logs":
            group = self.read(resource["Properties"]["LogGroupName"])
            return f"arn:aws:logs:{PSEUDO['AWS::Region']}:{PSEUDO['AWS::AccountId']}:log-group:{group}:*"
        if kind[-1] == "StateMachine":
            machine = self.read(resource["Properties"]["StateMachineName"])
            return f"arn:aws:states:{PSEUDO['AWS::Region']}:{PSEUDO['AWS::AccountId']}:stateMachine:{machine}"
        return f"arn:aws:{kind[1].lower()}:{PSEUDO['AWS::Region']}:{PSEUDO['AWS::AccountId']}:{name}"

    def read(self, value: Any) -> Any:
        """Evaluate CloudFormation's functions in a value. Raises KeyError for an unknown function."""
        if isinstance(value, list):
            return [item for item in map(self.read, value) if item is not None]
        if not isinstance(value, dict):
            return value
        (name, argument), *others = value.items()
        if not others and (name == "Ref" or name.startswith("Fn::")):
            return self._call(name, argument)
        read = {key: self.read(child) for key, child in value.items()}
        return {key: child for key, child in read.items() if child is not None}

    def _call(self, name: str, argument: Any) -> Any:
        if name == "Ref":
            return self._ref(argument)
        if name == "Fn::If":
            return self.read(argument[1])  # every condition is taken to hold
        if name == "Fn::Sub":
            text, values = argument if isinstance(argument, list) else (argument, {})
            known = {key: self.read(child) for key, child in values.items()}
            return re.sub(r"\$\{([\w:.]+)\}", lambda match: str(known.get(match[1]) or self._in_text(match[1])), text)
        read = self.read(argument)
        if name == "Fn::GetAtt":
            return self.arn(read[0]) if read[1] == "Arn" else f"{read[0]}.{read[1]}"
        functions = {
            "Fn::Select": lambda: read[1][int(read[0])],
            "Fn::Split": lambda: read[1].split(read[0]),
            "Fn::Join": lambda: read[0].join(read[1]),
        }
        return functions[name]()

    def _in_text(self, name: str) -> Any:
        resource, _, attribute = name.partition(".")
        return self.arn(resource) if attribute == "Arn" else self._ref(name)

    def _ref(self, name: str) -> Any:
        known = PSEUDO | OUR_BUCKETS | PARAMETERS | ALL_OPTIONS | dict(self.named)
        if name == "AWS::NoValue":
            return None
        if name in known:
            return known[name]
        parameter = self.template["Parameters"].get(name)
        return self.arn(name) if parameter is None else parameter["Default"]

    def properties(self, name: str) -> Any:
        """Return a resource's evaluated properties."""
        return self.read(self.template["Resources"][name]["Properties"])

    def of_type(self, kind: str) -> dict[str, Any]:
        """Return the evaluated properties of every resource of a type, by name."""
        resources = self.template["Resources"].items()
        return {name: self.properties(name) for name, resource in resources if resource["Type"] == kind}

    def roles(self) -> set[str]:
        """Return the names of all roles."""
        resources = self.template["Resources"].items()
        return {name for name, resource in resources if resource["Type"] == "AWS::IAM::Role"}

    def users(self, role: str) -> dict[str, str]:
        """Return the resources that refer to a role, with their types."""
        resources = self.template["Resources"].items()
        references = (json.dumps({"Fn::GetAtt": [role, "Arn"]}), json.dumps({"Ref": role}))
        return {
            name: resource["Type"]
            for name, resource in resources
            if any(reference in json.dumps(resource) for reference in references)
        }

    def principals(self, role: str) -> set[str]:
        """Return the services that may assume a role."""
        trust = self.properties(role)["AssumeRolePolicyDocument"]["Statement"]
        return {statement["Principal"]["Service"] for statement in trust}

    def granted(self, role: str) -> list[Pair]:
        """Return the grants of a role's policies; a managed policy is ``policy`` with its ARN."""
        properties = self.properties(role)
        pairs = [("policy", arn) for arn in properties.get("ManagedPolicyArns", ())]
        for policy in properties.get("Policies", ()):
            for statement in policy["PolicyDocument"]["Statement"]:
                assert statement.keys() - {"Sid"} == {"Effect", "Action", "Resource"}, statement
                assert statement["Effect"] == "Allow"
                actions, targets = as_list(statement["Action"]), as_list(statement["Resource"])
                pairs += [(action, target) for action in actions for target in targets]
        return pairs


def as_list(value: Any) -> list[Any]:
    """Return a value of a policy as a list."""
    return value if isinstance(value, list) else [value]


def covers(grant: Pair, need: Pair) -> bool:
    """Return whether a grant covers a need; ``*`` matches slashes, too.

    Source: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_resource.html
    """
    return grant[0] == need[0] and fnmatchcase(need[1], grant[1].replace("[", "[[]"))


def differences(granted: Iterable[Pair], needs: Iterable[Pair], spares: Iterable[Spare]) -> set[tuple[str, str, str]]:
    """Compare grants with needs.

    Returns ``refused`` for a need without grant, ``unused`` for a grant without need, and ``idle`` for a spare that is
    not granted or is used after all. A grant counts as used only if it alone covers some need.
    """
    pairs, wanted, excused = list(granted), set(needs), {(spare.action, spare.target) for spare in spares}
    by_need = {need: [grant for grant in pairs if covers(grant, need)] for need in wanted}
    used = {covering[0] for covering in by_need.values() if len(covering) == 1}
    return (
        {("refused", *need) for need, covering in by_need.items() if not covering}
        | {("unused", *pair) for pair in pairs if pair not in used | excused}
        | {("idle", *pair) for pair in excused if pair not in pairs or pair in used}
    )
