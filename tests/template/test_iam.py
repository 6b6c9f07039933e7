"""Each role has exactly the permissions that are used in its name.

Calls of our own code are recorded at a local AWS, by the key that signs them. Calls of AWS services are derived from
their configuration.
"""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from tests.template import service_needs
from tests.template.policies import OUR_BUCKETS, Account, Pair, Spare, differences
from tests.template.recorded_work import record_work
from tests.template.requests_made import Requests, s3_permission
from tests.template.stack import Template, transformed


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Account, Requests]:
    """The account, and the permissions that each of our roles used."""
    return record_work(tmp_path_factory.mktemp("iam"))


# -- expected permissions ----------------------------------------------------------------------------------------------

_LISTING = "https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html"
"""Section Permissions: without s3:ListBucket, S3 answers 403 instead of 404 for a missing object."""
_PARTS = "https://docs.aws.amazon.com/AmazonS3/latest/userguide/mpuoverview.html"


def list_for_404(*buckets: str) -> list[Spare]:
    """Return the grants of ListBucket, which no call uses."""
    why = "S3 answers 404, not 403, for a missing object"
    return [Spare("s3:ListBucket", f"arn:aws:s3:::{OUR_BUCKETS[name]}", why, _LISTING) for name in buckets]


def abort_failed_uploads(*prefixes: str) -> list[Spare]:
    """Return the grants to abort failed uploads; none fails in the recorded work."""
    models, why = OUR_BUCKETS["ModelBucket"], "a failed upload would leave parts, which cost money"
    return [Spare("s3:AbortMultipartUpload", f"arn:aws:s3:::{models}/{prefix}", why, _PARTS) for prefix in prefixes]


SPARE = {
    "TrainingJobRole": abort_failed_uploads("registry/models/*"),
    "InferenceRole": list_for_404("DataBucket", "ModelBucket"),
    "DriftJobRole": list_for_404("ModelBucket"),
}
OUR_ROLES = {"CheckJobRole", "TrainingJobRole", "InferenceRole", "DriftJobRole"}
NEEDS: dict[str, Callable[[Account], set[Pair]]] = {
    "CheckJobRole": service_needs.data_key_needs,
    "TrainingJobRole": service_needs.data_key_needs,
    "DriftJobRole": lambda _: set(),
    "InferenceRole": lambda account: (
        service_needs.lambda_needs(account, "InferenceRole") | service_needs.data_key_needs(account)
    ),
    "StateMachineRole": service_needs.state_machine_needs,
    "ScheduleRole": lambda account: service_needs.schedule_needs(account, "ScheduleRole"),
    "DriftScheduleRole": lambda account: service_needs.schedule_needs(account, "DriftScheduleRole"),
    "NewLabelsRole": lambda account: service_needs.rule_needs(account, "NewLabelsRole"),
    "BatchExecutionRole": lambda account: service_needs.container_needs(account, "BatchExecutionRole"),
    "BatchInstanceRole": service_needs.instance_needs,
}
"""Permissions that AWS services need in each role; those of our own code are recorded."""
USERS = {
    "CheckJobRole": ("ecs-tasks.amazonaws.com", {"CheckJobDefinition"}),
    "TrainingJobRole": ("ecs-tasks.amazonaws.com", {"CpuJobDefinition", "GpuJobDefinition"}),
    "DriftJobRole": ("ecs-tasks.amazonaws.com", {"DriftJobDefinition"}),
    "BatchExecutionRole": (
        "ecs-tasks.amazonaws.com",
        {"CheckJobDefinition", "CpuJobDefinition", "GpuJobDefinition", "DriftJobDefinition"},
    ),
    "InferenceRole": ("lambda.amazonaws.com", {"InferenceFunction", "ZipFunction"}),
    "StateMachineRole": ("states.amazonaws.com", {"TrainingStateMachine"}),
    "ScheduleRole": ("scheduler.amazonaws.com", {"TrainingSchedule"}),
    "DriftScheduleRole": ("scheduler.amazonaws.com", {"DriftSchedule"}),
    "NewLabelsRole": ("events.amazonaws.com", {"NewLabelsRule"}),
    "BatchInstanceRole": ("ec2.amazonaws.com", {"BatchInstanceProfile"}),
}
"""The service that assumes each role, and the resources that refer to it."""


def compare(account: Account, requests: Requests, role: str) -> set[tuple[str, str, str]]:
    """Return the differences between a role's permissions and those it needs."""
    needs = NEEDS[role](account) | (requests.used[role] if role in OUR_ROLES else set())
    return differences(account.granted(role), needs, SPARE.get(role, ()))


def test_every_role_of_the_template_is_compare() -> None:
    account = Account(transformed(), {})
    assert account.roles() == NEEDS.keys() == USERS.keys()
    assert {role: (account.principals(role), set(account.users(role))) for role in USERS} == {
        role: ({principal}, users) for role, (principal, users) in USERS.items()
    }


@pytest.mark.parametrize("role", sorted(NEEDS))
def test_a_role_has_exactly_the_permissions_it_uses(recorded: tuple[Account, Requests], role: str) -> None:
    assert compare(*recorded, role) == set()


def test_every_request_is_signed_by_a_role_or_this_test(recorded: tuple[Account, Requests]) -> None:
    assert recorded[1].used.keys() == OUR_ROLES | {"demo"}


# -- the comparison detects changes ------------------------------------------------------------------------------------


def statements(template: Template, role: str) -> list[Any]:
    """Return the statements of a role's own policies, with all conditions on."""
    policies = template["Resources"][role]["Properties"].get("Policies", ())
    found = [statement for policy in policies for statement in policy["PolicyDocument"]["Statement"]]
    return [statement["Fn::If"][1] if "Fn::If" in statement else statement for statement in found]


def each_grant() -> list[tuple[str, int, str, int]]:
    """Return role, statement number, ``Action`` or ``Resource``, and index of every granted action and resource."""
    return [
        (role, number, part, index)
        for role in sorted(NEEDS)
        for number, statement in enumerate(statements(transformed(), role))
        for part in ("Action", "Resource")
        for index in range(len(statement[part]) if isinstance(statement[part], list) else 1)
    ]


@pytest.mark.parametrize(("role", "number", "part", "index"), each_grant())
def test_a_removed_action_or_resource_is_detected(
    recorded: tuple[Account, Requests], role: str, number: int, part: str, index: int
) -> None:
    account, requests = recorded
    changed = Account(transformed(), account.named)
    statement = statements(changed.template, role)[number]
    values = statement[part] if isinstance(statement[part], list) else [statement[part]]
    statement[part] = values[:index] + values[index + 1 :]
    assert compare(changed, requests, role) != set()


@pytest.mark.parametrize("role", sorted(NEEDS))
def test_a_missing_policy_or_an_extra_action_is_detected(recorded: tuple[Account, Requests], role: str) -> None:
    account, requests = recorded
    without, more = Account(transformed(), account.named), Account(transformed(), account.named)
    properties = without.template["Resources"][role]["Properties"]
    properties.pop("Policies", None)
    properties.pop("ManagedPolicyArns", None)
    assert {kind for kind, _, _ in compare(without, requests, role)} >= {"refused"}
    unused = {"Effect": "Allow", "Action": "s3:DeleteBucket", "Resource": "arn:aws:s3:::photos-data"}
    policies = more.template["Resources"][role]["Properties"].setdefault("Policies", [])
    policies.append({"PolicyName": "more", "PolicyDocument": {"Statement": [unused]}})
    assert compare(more, requests, role) == {("unused", "s3:DeleteBucket", "arn:aws:s3:::photos-data")}


@pytest.mark.parametrize(
    "image",
    [
        "111122223333.dkr.ecr.eu-central-1.amazonaws.com/train:1",
        "111122223333.dkr.ecr.us-gov-west-1.amazonaws.com/team/photos/train@sha256:0a1b",
        "111122223333.dkr.ecr.cn-north-1.amazonaws.com.cn/train:1@sha256:0a1b",
        "111122223333.dkr.ecr.eu-central-1.amazonaws.com/train",
    ],
)
def test_images_may_be_pulled_only_from_their_repository(image: str) -> None:
    template = transformed()
    template["Parameters"] = copy.deepcopy(template["Parameters"]) | {"TrainImage": {"Default": image}}
    account = Account(template, {"TrainImage": image})
    assert (
        differences(
            account.granted("BatchExecutionRole"), service_needs.container_needs(account, "BatchExecutionRole"), ()
        )
        == set()
    )


@pytest.mark.parametrize(
    ("method", "path", "query", "action", "target"),
    [
        ("GET", "/b/k/猫.jpg", "", "s3:GetObject", "b/k/猫.jpg"),
        ("GET", "/b/k", "versionId=1", "s3:GetObjectVersion", "b/k"),
        ("POST", "/b/k", "uploads", "s3:PutObject", "b/k"),
        ("DELETE", "/b/k", "uploadId=1", "s3:AbortMultipartUpload", "b/k"),
        ("PUT", "/b/k", "tagging", "s3:PutObjectTagging", "b/k"),
        ("GET", "/b/k", "tagging&versionId=1", "s3:GetObjectVersionTagging", "b/k"),
        ("GET", "/b", "list-type=2&prefix=k", "s3:ListBucket", "b"),
        ("PUT", "/b", "", "s3:PUT, of no known action", "b"),
    ],
)
def test_a_requests_method_and_query_give_its_action(
    method: str, path: str, query: str, action: str, target: str
) -> None:
    assert s3_permission(method, path, query) == (action, f"arn:aws:s3:::{target}")
