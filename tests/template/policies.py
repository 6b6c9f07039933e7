"""What each role of the template may do, in ARNs, and how that differs from what is needed."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from tests.template.stack import PARAMETERS, PSEUDO, Template

Pair = tuple[str, str]
"""An action of IAM's, and the ARN of what it is done to; in a grant, with ``*`` and ``?`` as IAM has them."""
OUR_BUCKETS = {"DataBucket": "photos-data", "ModelBucket": "photos-models", "PredictionBucket": "photos-predictions"}


@dataclass(frozen=True)
class Spare:
    """A grant that no call uses, why it is there all the same, and who says so."""

    action: str
    target: str
    why: str
    source: str


@dataclass(frozen=True)
class Account:
    """The template with every optional part switched on, its names as ARNs of an account."""

    template: Template
    named: Mapping[str, str]

    def arn(self, name: str) -> str:
        """The ARN of a resource: a bucket's and a log group's as S3 and CloudWatch Logs make them."""
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
        """``value`` with CloudFormation's functions worked out. Raises KeyError for one that is not known."""
        if isinstance(value, list):
            return [one for one in map(self.read, value) if one is not None]
        if not isinstance(value, dict):
            return value
        (name, given), *others = value.items()
        if not others and (name == "Ref" or name.startswith("Fn::")):
            return self._called(name, given)
        read = {key: self.read(one) for key, one in value.items()}
        return {key: one for key, one in read.items() if one is not None}

    def _called(self, name: str, given: Any) -> Any:
        if name == "Ref":
            return self._ref(given)
        if name == "Fn::If":
            return self.read(given[1])  # every condition holds
        if name == "Fn::Sub":
            text, values = given if isinstance(given, list) else (given, {})
            known = {key: self.read(one) for key, one in values.items()}
            return re.sub(r"\$\{([\w:.]+)\}", lambda found: str(known.get(found[1]) or self._in_text(found[1])), text)
        read = self.read(given)
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
        known = PSEUDO | OUR_BUCKETS | PARAMETERS | dict(self.named)
        if name == "AWS::NoValue":
            return None
        if name in known:
            return known[name]
        parameter = self.template["Parameters"].get(name)
        return self.arn(name) if parameter is None else parameter["Default"]

    def properties(self, name: str) -> Any:
        """A resource's properties, worked out."""
        return self.read(self.template["Resources"][name]["Properties"])

    def of_type(self, kind: str) -> dict[str, Any]:
        """The worked out properties of every resource of a type, by name."""
        return {name: self.properties(name) for name, one in self.template["Resources"].items() if one["Type"] == kind}

    def roles(self) -> set[str]:
        """The names of all roles."""
        return {name for name, one in self.template["Resources"].items() if one["Type"] == "AWS::IAM::Role"}

    def users(self, role: str) -> dict[str, str]:
        """The resources that name a role, and the type of each."""
        others = self.template["Resources"].items()
        wanted = (json.dumps({"Fn::GetAtt": [role, "Arn"]}), json.dumps({"Ref": role}))
        return {name: one["Type"] for name, one in others if any(word in json.dumps(one) for word in wanted)}

    def principals(self, role: str) -> set[str]:
        """The services that may take a role on."""
        trust = self.properties(role)["AssumeRolePolicyDocument"]["Statement"]
        return {statement["Principal"]["Service"] for statement in trust}

    def granted(self, role: str) -> list[Pair]:
        """Each action of a role's policies with what it may be done to; of AWS's own, ``policy`` and its ARN."""
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
    """One or several, as policies have them."""
    return value if isinstance(value, list) else [value]


def covers(grant: Pair, need: Pair) -> bool:
    """Whether a grant allows what is needed; ``*`` stands for slashes too.

    Source: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_resource.html
    """
    return grant[0] == need[0] and fnmatchcase(need[1], grant[1].replace("[", "[[]"))


def differences(granted: Iterable[Pair], needs: Iterable[Pair], spares: Iterable[Spare]) -> set[tuple[str, str, str]]:
    """``refused`` is needed and not granted; ``unused`` is granted and not needed; ``idle`` is a spare of nothing.

    A need that two grants cover is a use of neither's if one alone would do: each has to cover some need by itself.
    """
    pairs, wanted, excused = list(granted), set(needs), {(one.action, one.target) for one in spares}
    by_need = {need: [grant for grant in pairs if covers(grant, need)] for need in wanted}
    used = {found[0] for found in by_need.values() if len(found) == 1}
    return (
        {("refused", *need) for need, found in by_need.items() if not found}
        | {("unused", *pair) for pair in pairs if pair not in used | excused}
        | {("idle", *pair) for pair in excused if pair not in pairs or pair in used}
    )
