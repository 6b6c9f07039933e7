"""The template and the state machine rendered for every partition and option, and AWS's own rules on the result."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from cfnlint.api import ManualArgs, lint

from tests.template.stack import DEFINITION, PARAMETERS, ROOT, Template, holds, resolved
from tests.template.test_template_operations import OPTIONS

PARTITIONS = {
    "aws": ("eu-central-1", "amazonaws.com"),
    "aws-us-gov": ("us-gov-west-1", "amazonaws.com"),
    "aws-cn": ("cn-north-1", "amazonaws.com.cn"),
}
"""Region and domain of each partition."""
DEFAULTS = {"InferenceImage": PARAMETERS["InferenceImage"]}
CHOICES: list[dict[str, str]] = [
    {},
    *OPTIONS.values(),
    {"FunctionUrl": "public"},
    {"Zones": "6", "Compute": "gpu", "Signing": "on", "Tracing": "Active"},
]
"""Parameters of each rendering: none, each option by itself, and several."""


def values_for(partition: str, template: Template, given: dict[str, str]) -> dict[str, str]:
    """Return all parameters and pseudo parameters of a stack in a partition; given ARNs are of its region."""
    region, suffix = PARTITIONS[partition]
    defaults = {name: str(parameter.get("Default", "")) for name, parameter in template["Parameters"].items()}
    image = f"111122223333.dkr.ecr.{region}.{suffix}/train:1"
    given = {
        name: text.replace("arn:aws:kms:eu-central-1:", f"arn:{partition}:kms:{region}:")
        for name, text in given.items()
    }
    pseudo = {"AWS::Partition": partition, "AWS::Region": region, "AWS::URLSuffix": suffix}
    return defaults | DEFAULTS | {"TrainImage": image} | given | pseudo


def render(value: Any, values: dict[str, str]) -> Any:
    """Resolve conditions, parameters and texts; references to other resources become their names."""
    if isinstance(value, list):
        return [item for item in (render(child, values) for child in value) if item is not None]
    if not isinstance(value, dict):
        return value
    (name, argument), *others = value.items()
    if others or not (name in {"Ref", "Condition"} or name.startswith("Fn::")):
        rendered = {key: render(child, values) for key, child in value.items()}
        return {key: child for key, child in rendered.items() if child is not None}
    if name == "Fn::If":
        return render(argument[1] if holds(argument[0], values) else argument[2], values)
    if name == "Ref":
        return None if argument == "AWS::NoValue" else resolved(value, {argument: argument} | values)
    if name == "Fn::Sub":
        text, known = argument if isinstance(argument, list) else (argument, {})
        known = {key: render(child, values) for key, child in known.items()}
        return re.sub(r"\$\{([\w:.]+)\}", lambda match: str((values | known).get(match[1], match[1])), text)
    return {name: argument if name == "Fn::GetAtt" else render(argument, values)}


def rendered_resources(template: Template, values: dict[str, str]) -> dict[str, Any]:
    """Return the resources whose condition holds, rendered."""
    kept = {name: one for name, one in template["Resources"].items() if holds(one.get("Condition"), values)}
    return {name: render({key: one[key] for key in one if key != "Condition"}, values) for name, one in kept.items()}


def references(value: Any) -> set[str]:
    """Return the names that ``Fn::GetAtt`` refers to."""
    if isinstance(value, list):
        return set().union(*map(references, value)) if value else set()
    if not isinstance(value, dict):
        return set()
    own = {value["Fn::GetAtt"][0]} if "Fn::GetAtt" in value else set()
    return own | set().union(*map(references, value.values())) if value else own


@pytest.mark.parametrize("given", CHOICES, ids=lambda given: ",".join(given) or "none")
@pytest.mark.parametrize("partition", PARTITIONS)
def test_arns_and_domains_are_those_of_the_partition(template: Template, partition: str, given: dict[str, str]) -> None:
    values = values_for(partition, template, given)
    resources = rendered_resources(template, values)
    text = json.dumps(resources)
    arns = set(re.findall(r"arn:(aws[\w-]*|\$\{\w+\}):", text))
    assert arns <= {partition, "${Partition}"}, arns
    assert resources["TrainingStateMachine"]["Properties"]["DefinitionSubstitutions"]["Partition"] == partition
    machines = resources.get("BatchInstanceRole", {}).get("Properties", {}).get("AssumeRolePolicyDocument", {})
    for statement in machines.get("Statement", ()):
        assert statement["Principal"] == {"Service": f"ec2.{PARTITIONS[partition][1]}"}
    missing = references(resources) - set(resources)
    assert missing == set(), f"{missing} do not exist with these options"


@pytest.mark.parametrize("given", CHOICES, ids=lambda given: ",".join(given) or "none")
def test_no_remaining_resource_is_named_by_an_option_that_is_off(template: Template, given: dict[str, str]) -> None:
    values = values_for("aws", template, given)
    absent = {name for name, one in template["Resources"].items() if not holds(one.get("Condition"), values)}
    words = set(re.findall(r'"(\w+)"', json.dumps(rendered_resources(template, values))))
    assert absent & words == set()


@pytest.mark.parametrize("region", [region for region, _ in PARTITIONS.values()])
def test_the_linter_finds_nothing_in_a_region(region: str) -> None:
    text = (ROOT / "template.yaml").read_text()
    config = ManualArgs(regions=[region])
    found = [problem.message for problem in lint(text, config=config)]
    # The option FunctionUrl creates it, and its description says so.
    assert found == (["Resource type 'AWS::Lambda::Url' does not exist in 'us-gov-west-1'"] if "gov" in region else [])


def definition(partition: str) -> Any:
    """Return the state machine's definition in a partition, with values for its substitutions."""
    known = {"GpuWaitSeconds": "3600", "JobSeconds": "86400", "Partition": partition}
    return json.loads(re.sub(r"\$\{(\w+)\}", lambda match: known.get(match[1], match[1]), DEFINITION.read_text()))


@pytest.mark.parametrize("partition", PARTITIONS)
def test_the_state_machine_calls_services_of_its_partition(partition: str) -> None:
    resources = {state["Resource"] for state in definition(partition)["States"].values() if "Resource" in state}
    assert {resource.rpartition(":::")[0] for resource in resources} == {f"arn:{partition}:states"}


@pytest.mark.parametrize("partition", PARTITIONS)
def test_the_validator_accepts_the_state_machine(partition: str, tmp_path: Path) -> None:
    folders = [str(ROOT / ".venv-asl" / "node_modules" / ".bin"), os.environ["PATH"]]
    validator = shutil.which("asl-validator", path=os.pathsep.join(folders))
    if validator is None:
        pytest.skip("asl-validator is not installed: make lint-template, with npm on PATH")
    path = tmp_path / "definition.json"
    path.write_text(json.dumps(definition(partition)))
    checked = subprocess.run([validator, "--json-path", str(path)], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    wrong = definition(partition)
    wrong["States"]["Train"]["Next"] = "Nowhere"
    path.write_text(json.dumps(wrong))
    assert subprocess.run([validator, "--json-path", str(path)], capture_output=True, check=False).returncode != 0
