"""Each role may do what is done in its name, and nothing else.

What our own code does is recorded at the local AWS, by the key that signs it; what AWS's services do is told from what
they are set up with.
"""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from tests.template import service_needs
from tests.template.policies import OUR_BUCKETS, Account, Pair, Spare, differences
from tests.template.recorded_work import work_recorded
from tests.template.requests_made import Requests, asked_of_s3
from tests.template.stack import Template, transformed


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Account, Requests]:
    """The account, and what was asked for in it by each role of ours."""
    return work_recorded(tmp_path_factory.mktemp("iam"))


# -- what is allowed --------------------------------------------------------------------------------------------------

_LISTING = "https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html"
"""Under Permissions: without s3:ListBucket an object that is not there is 403, which no one can tell from a refusal."""
_PARTS = "https://docs.aws.amazon.com/AmazonS3/latest/userguide/mpuoverview.html"


def missing_is_404(*buckets: str) -> list[Spare]:
    """The right to list, for the answers that it changes."""
    why = "an object that is not there is told from one that may not be read"
    return [Spare("s3:ListBucket", f"arn:aws:s3:::{OUR_BUCKETS[name]}", why, _LISTING) for name in buckets]


def uploads_are_given_up(*prefixes: str) -> list[Spare]:
    """The right to drop what was sent, of an upload that breaks off; here none does."""
    models, why = OUR_BUCKETS["ModelBucket"], "an upload that breaks off leaves no parts, which would cost"
    return [Spare("s3:AbortMultipartUpload", f"arn:aws:s3:::{models}/{one}", why, _PARTS) for one in prefixes]


SPARE = {
    "TrainingJobRole": uploads_are_given_up("registry/models/*"),
    "InferenceRole": missing_is_404("DataBucket", "ModelBucket"),
    "DriftJobRole": missing_is_404("ModelBucket"),
}
BY_US = {"CheckJobRole", "TrainingJobRole", "InferenceRole", "DriftJobRole"}
NEEDS: dict[str, Callable[[Account], set[Pair]]] = {
    "CheckJobRole": lambda _: set(),
    "TrainingJobRole": lambda _: set(),
    "DriftJobRole": lambda _: set(),
    "InferenceRole": lambda account: service_needs.of_lambda(account, "InferenceRole"),
    "StateMachineRole": service_needs.of_the_machine,
    "ScheduleRole": lambda account: service_needs.of_schedules(account, "ScheduleRole"),
    "DriftScheduleRole": lambda account: service_needs.of_schedules(account, "DriftScheduleRole"),
    "NewLabelsRole": lambda account: service_needs.of_rules(account, "NewLabelsRole"),
    "BatchExecutionRole": lambda account: service_needs.of_containers(account, "BatchExecutionRole"),
    "BatchInstanceRole": service_needs.of_instances,
}
"""What services do in a role's name; what our own code does is recorded."""
USERS = {
    "CheckJobRole": ("ecs-tasks.amazonaws.com", {"CheckJobDefinition"}),
    "TrainingJobRole": ("ecs-tasks.amazonaws.com", {"CpuJobDefinition", "GpuJobDefinition"}),
    "DriftJobRole": ("ecs-tasks.amazonaws.com", {"DriftJobDefinition"}),
    "BatchExecutionRole": ("ecs-tasks.amazonaws.com", {"CheckJobDefinition", "CpuJobDefinition", "GpuJobDefinition", "DriftJobDefinition"}),
    "InferenceRole": ("lambda.amazonaws.com", {"InferenceFunction", "ZipFunction"}),
    "StateMachineRole": ("states.amazonaws.com", {"TrainingStateMachine"}),
    "ScheduleRole": ("scheduler.amazonaws.com", {"TrainingSchedule"}),
    "DriftScheduleRole": ("scheduler.amazonaws.com", {"DriftSchedule"}),
    "NewLabelsRole": ("events.amazonaws.com", {"NewLabelsRule"}),
    "BatchInstanceRole": ("ec2.amazonaws.com", {"BatchInstanceProfile"}),
}
"""Who takes each role on, and for what: the same image trains on either machine, and ECS starts every container."""


def compared(account: Account, requests: Requests, role: str) -> set[tuple[str, str, str]]:
    """How what a role may do differs from what is done with it."""
    needs = NEEDS[role](account) | (requests.made[role] if role in BY_US else set())
    return differences(account.granted(role), needs, SPARE.get(role, ()))


def test_every_role_of_the_template_is_compared() -> None:
    account = Account(transformed(), {})
    assert account.roles() == NEEDS.keys() == USERS.keys()
    assert {role: (account.principals(role), set(account.users(role))) for role in USERS} == {
        role: ({principal}, users) for role, (principal, users) in USERS.items()
    }


@pytest.mark.parametrize("role", sorted(NEEDS))
def test_a_role_may_do_what_is_done_with_it_and_nothing_else(recorded: tuple[Account, Requests], role: str) -> None:
    assert compared(*recorded, role) == set()


def test_every_request_is_one_of_a_role_or_of_this_test(recorded: tuple[Account, Requests]) -> None:
    assert recorded[1].made.keys() == BY_US | {"demo"}


# -- and the comparison sees what is changed --------------------------------------------------------------------------


def statements(template: Template, role: str) -> list[Any]:
    """Those of a role's own policies, conditions taken as they hold."""
    policies = template["Resources"][role]["Properties"].get("Policies", ())
    told = [one for policy in policies for one in policy["PolicyDocument"]["Statement"]]
    return [one["Fn::If"][1] if "Fn::If" in one else one for one in told]


def each_grant() -> list[tuple[str, int, str, int]]:
    """Every role's every statement, and in it each of its actions and each of its resources."""
    return [
        (role, number, part, index)
        for role in sorted(NEEDS)
        for number, one in enumerate(statements(transformed(), role))
        for part in ("Action", "Resource")
        for index in range(len(one[part]) if isinstance(one[part], list) else 1)
    ]


@pytest.mark.parametrize(("role", "number", "part", "index"), each_grant())
def test_an_action_or_a_resource_that_is_taken_away_is_missed(
    recorded: tuple[Account, Requests], role: str, number: int, part: str, index: int
) -> None:
    account, requests = recorded
    changed = Account(transformed(), account.named)
    statement = statements(changed.template, role)[number]
    values = statement[part] if isinstance(statement[part], list) else [statement[part]]
    statement[part] = values[:index] + values[index + 1 :]
    assert compared(changed, requests, role) != set()


@pytest.mark.parametrize("role", sorted(NEEDS))
def test_a_policy_that_is_taken_away_or_an_action_too_many_is_seen(
    recorded: tuple[Account, Requests], role: str
) -> None:
    account, requests = recorded
    without, more = Account(transformed(), account.named), Account(transformed(), account.named)
    properties = without.template["Resources"][role]["Properties"]
    properties.pop("Policies", None)
    properties.pop("ManagedPolicyArns", None)
    assert {kind for kind, _, _ in compared(without, requests, role)} >= {"refused"}
    unused = {"Effect": "Allow", "Action": "s3:DeleteBucket", "Resource": "arn:aws:s3:::photos-data"}
    policies = more.template["Resources"][role]["Properties"].setdefault("Policies", [])
    policies.append({"PolicyName": "more", "PolicyDocument": {"Statement": [unused]}})
    assert compared(more, requests, role) == {("unused", "s3:DeleteBucket", "arn:aws:s3:::photos-data")}


@pytest.mark.parametrize(
    "image",
    [
        "111122223333.dkr.ecr.eu-central-1.amazonaws.com/train:1",
        "111122223333.dkr.ecr.us-gov-west-1.amazonaws.com/team/photos/train@sha256:0a1b",
        "111122223333.dkr.ecr.cn-north-1.amazonaws.com.cn/train:1@sha256:0a1b",
        "111122223333.dkr.ecr.eu-central-1.amazonaws.com/train",
    ],
)
def test_the_image_may_be_pulled_from_its_own_repository_alone(image: str) -> None:
    template = transformed()
    template["Parameters"] = copy.deepcopy(template["Parameters"]) | {"TrainImage": {"Default": image}}
    account = Account(template, {"TrainImage": image})
    assert (
        differences(account.granted("BatchExecutionRole"), service_needs.of_containers(account, "BatchExecutionRole"), ())
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
        ("GET", "/b", "list-type=2&prefix=k", "s3:ListBucket", "b"),
        ("PUT", "/b", "", "s3:PUT, of no known action", "b"),
    ],
)
def test_a_request_asks_for_the_action_that_its_method_and_query_say(
    method: str, path: str, query: str, action: str, target: str
) -> None:
    assert asked_of_s3(method, path, query) == (action, f"arn:aws:s3:::{target}")
