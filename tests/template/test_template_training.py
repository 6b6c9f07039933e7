"""What the template promises of roles, schedules, jobs, machines and what is kept, and checks that see it broken."""

import json
import re
from zoneinfo import available_timezones

import pytest

from tests.template.checking import Break, as_list, container, of_type, promises, properties
from tests.template.stack import Template

TRUSTED = {
    "InferenceRole": "lambda.amazonaws.com",
    "TrainingJobRole": "ecs-tasks.amazonaws.com",
    "CheckJobRole": "ecs-tasks.amazonaws.com",
    "DriftJobRole": "ecs-tasks.amazonaws.com",
    "BatchExecutionRole": "ecs-tasks.amazonaws.com",
    "BatchInstanceRole": "ec2.amazonaws.com",
    "StateMachineRole": "states.amazonaws.com",
    "ScheduleRole": "scheduler.amazonaws.com",
    "DriftScheduleRole": "scheduler.amazonaws.com",
    "NewLabelsRole": "events.amazonaws.com",
}
"""Each role, and the one service that takes it."""
OF_THIS_ACCOUNT = {"StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}}
DEAD_LETTERS = {"Arn": {"Fn::GetAtt": ["ScheduleDeadLetterQueue", "Arn"]}}
CRON = (("minute", 0, 59), ("hour", 0, 23), ("day", 1, 31), ("month", 1, 12), ("weekday", 1, 7), ("year", 1970, 2199))
"""Fields and what they hold: https://docs.aws.amazon.com/scheduler/latest/UserGuide/schedule-types.html#cron-based"""
NAMES = {"month": "JAN FEB MAR APR MAY JUN JUL AUG SEP OCT NOV DEC", "weekday": "SUN MON TUE WED THU FRI SAT"}
JOBS = {"GpuJobDefinition": "TrainingJobRole", "CpuJobDefinition": "TrainingJobRole", "CheckJobDefinition": "CheckJobRole", "DriftJobDefinition": "DriftJobRole"}
FARGATE_MEMORY = {1: range(2048, 8193, 1024), 4: range(8192, 30721, 1024)}
"""MiB by vCPUs: https://docs.aws.amazon.com/batch/latest/APIReference/API_ResourceRequirement.html"""


# -- the checks -------------------------------------------------------------------------------------------------------


def each_role_is_taken_by_one_service(template: Template) -> None:
    roles = of_type(template, "AWS::IAM::Role")
    assert set(roles) == set(TRUSTED)
    for name, role in roles.items():
        (statement,) = role["AssumeRolePolicyDocument"]["Statement"]
        assert (statement["Effect"], as_list(statement["Action"])) == ("Allow", ["sts:AssumeRole"])
        assert statement["Principal"] == {"Service": TRUSTED[name]}, name
        if TRUSTED[name] in {"scheduler.amazonaws.com", "events.amazonaws.com"}:
            assert statement["Condition"] == OF_THIS_ACCOUNT, name  # they act for other accounts too


def is_cron(text: str) -> bool:
    """Whether EventBridge takes it, of numbers, names, lists, ranges and steps."""
    found = re.fullmatch(r"cron\((.+)\)", text)
    fields = found[1].split() if found else []
    if len(fields) != len(CRON) or (fields[2] == "?") == (fields[4] == "?"):
        return False
    return all(_is_field(*known, field) for known, field in zip(CRON, fields, strict=True))


def _is_field(name: str, least: int, most: int, field: str) -> bool:
    if field in ({"*", "?"} if name in {"day", "weekday"} else {"*"}):
        return True
    words = NAMES.get(name, "").split()
    numbers = [word for word in re.split(r"[,/-]", field) if word not in words]
    return all(word.isdigit() and least <= int(word) <= most for word in numbers)


def schedules_are_at_a_time_that_there_is(template: Template) -> None:
    assert template["Parameters"]["ScheduleTimezone"]["Default"] in available_timezones()
    assert is_cron(template["Parameters"]["Schedule"]["Default"])
    assert is_cron(properties(template, "DriftSchedule")["ScheduleExpression"])
    assert properties(template, "TrainingSchedule")["ScheduleExpression"] == {"Ref": "Schedule"}
    for schedule in of_type(template, "AWS::Scheduler::Schedule").values():
        assert schedule["ScheduleExpressionTimezone"] == {"Ref": "ScheduleTimezone"}
        assert schedule["State"] in ({"Ref": "ScheduleState"}, {"Ref": "DriftState"})


def what_could_not_be_started_is_kept_and_may_be(template: Template) -> None:
    targets = [one["Target"] for one in of_type(template, "AWS::Scheduler::Schedule").values()]
    targets += properties(template, "NewLabelsRule")["Targets"]
    assert len(targets) == 3
    for target in targets:
        assert target["DeadLetterConfig"] == DEAD_LETTERS
        assert 0 < target["RetryPolicy"]["MaximumRetryAttempts"] <= 185
        assert 60 <= target["RetryPolicy"]["MaximumEventAgeInSeconds"] <= 86400
    rule, refused = properties(template, "ScheduleDeadLetterQueuePolicy")["PolicyDocument"]["Statement"]
    condition, allowed, _ = rule["Fn::If"]
    assert (condition, allowed["Principal"]) == ("TrainsOnNewLabels", {"Service": "events.amazonaws.com"})
    assert allowed["Condition"] == {"ArnEquals": {"aws:SourceArn": {"Fn::GetAtt": ["NewLabelsRule", "Arn"]}}}
    assert (refused["Effect"], refused["Condition"]) == ("Deny", {"Bool": {"aws:SecureTransport": "false"}})


def photos_are_given_up_after_five_attempts_and_queues_want_tls(template: Template) -> None:
    assert properties(template, "IncomingQueue")["RedrivePolicy"]["maxReceiveCount"] == 5
    assert 1 <= properties(template, "IncomingQueueTrigger")["BatchSize"] <= 10
    refused = properties(template, "IncomingQueuePolicy")["PolicyDocument"]["Statement"][1]
    assert (refused["Principal"], refused["Action"]) == ("*", "sqs:*")
    assert refused["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


def new_labels_are_told_only_where_they_start_a_training(template: Template) -> None:
    told = properties(template, "DataBucket")["NotificationConfiguration"]["EventBridgeConfiguration"]
    assert told == {"Fn::If": ["TrainsOnNewLabels", {"EventBridgeEnabled": True}, {"Ref": "AWS::NoValue"}]}


def what_can_be_made_again_expires_and_models_do_not(template: Template) -> None:
    kept = properties(template, "ModelBucket")["LifecycleConfiguration"]["Rules"]
    by_prefix = {one.get("Prefix"): one for one in kept}
    assert set(by_prefix) == {None, "registry/features/", "registry/plans/", "registry/checkpoints/"}
    assert "ExpirationInDays" not in by_prefix["registry/features/"]  # the rows in use stay
    for prefix in ("registry/plans/", "registry/checkpoints/"):
        assert by_prefix[prefix]["ExpirationInDays"] == 14
    for prefix in set(by_prefix) - {None}:
        assert by_prefix[prefix]["NoncurrentVersionExpiration"] == {"NoncurrentDays": 1}
    for name, bucket in of_type(template, "AWS::S3::Bucket").items():
        rules = bucket["LifecycleConfiguration"]["Rules"]
        assert {one["Status"] for one in rules} == {"Enabled"}, name
        (everywhere,) = (one for one in rules if "Prefix" not in one)
        assert set(everywhere) == {"Id", "Status", "AbortIncompleteMultipartUpload"}, name
        assert template["Resources"][name]["UpdateReplacePolicy"] == "Retain"


def each_attempt_of_each_job_ends(template: Template) -> None:
    assert set(of_type(template, "AWS::Batch::JobDefinition")) == set(JOBS)
    for job in JOBS:
        assert properties(template, job)["Timeout"] == {"AttemptDurationSeconds": {"Ref": "AttemptSeconds"}}, job
        assert 1 < properties(template, job)["RetryStrategy"]["Attempts"] <= 10, job
    limit = template["Parameters"]["AttemptSeconds"]
    assert 60 <= limit["MinValue"] <= limit["Default"] <= 86400  # Batch takes no less than a minute


def each_job_has_a_role_an_image_and_a_size_that_there_is(template: Template) -> None:
    for job, role in JOBS.items():
        it = container(template, job)
        assert it["JobRoleArn"] == {"Fn::GetAtt": [role, "Arn"]}
        assert it["ExecutionRoleArn"] == {"Fn::GetAtt": ["BatchExecutionRole", "Arn"]}
        assert it["Image"] == {"Ref": "TrainImage"}
        size = {one["Type"]: int(one["Value"]) for one in it["ResourceRequirements"]}
        if properties(template, job)["PlatformCapabilities"] == ["FARGATE"]:
            assert size["MEMORY"] in FARGATE_MEMORY[size["VCPU"]], job
            assert it["NetworkConfiguration"] == {"AssignPublicIp": "ENABLED"}, job  # there is no NAT to pull through
        else:
            assert size["GPU"] == 1
            assert size["MEMORY"] < 15 * 1024  # ECS leaves less than 16 GiB of a g4dn.xlarge


def gpu_machines_are_those_of_the_launch_template_without_a_way_in(template: Template) -> None:
    for machines in of_type(template, "AWS::Batch::ComputeEnvironment").values():
        resources = machines["ComputeResources"]
        assert resources["SecurityGroupIds"] == [{"Ref": "TrainingSecurityGroup"}]
        assert resources["MaxvCpus"] == {"Ref": "MaxVcpus"}
        if "FARGATE" in resources["Type"]:
            continue
        assert resources["LaunchTemplate"]["LaunchTemplateId"] == {"Ref": "GpuLaunchTemplate"}
        assert resources["LaunchTemplate"]["Version"] == {"Fn::GetAtt": ["GpuLaunchTemplate", "LatestVersionNumber"]}
        assert resources["InstanceTypes"] == {"Ref": "GpuInstanceTypes"}
        assert resources["UpdateToLatestImageVersion"] is True
        assert machines["UpdatePolicy"]["TerminateJobsOnUpdate"] is False


def what_scheduler_is_given_is_worded_as_the_service_wants_it(template: Template) -> None:
    call = json.loads(properties(template, "DriftSchedule")["Target"]["Input"]["Fn::Sub"])
    words = [*call, *call["ContainerOverrides"]]
    assert all(re.fullmatch(r"([A-Z][a-z]+)+", word) for word in words)
    assert (call["JobQueue"], call["JobDefinition"]) == ("${CpuJobQueue}", "${DriftJobDefinition}")
    assert properties(template, "DriftSchedule")["Target"]["RoleArn"] == {"Fn::GetAtt": ["DriftScheduleRole", "Arn"]}
    assert properties(template, "TrainingSchedule")["Target"]["Arn"] == {"Ref": "TrainingStateMachine"}


def logs_have_a_place_of_the_stacks_own(template: Template) -> None:
    for name, kind in (("TrainingLogGroup", "train"), ("InferenceLogGroup", "inference")):
        assert properties(template, name)["LogGroupName"]["Fn::Sub"] == f"/transferlite/${{AWS::StackName}}/{kind}"
        assert properties(template, name)["RetentionInDays"] == {"Ref": "LogDays"}
    for function in of_type(template, "AWS::Lambda::Function").values():
        assert function["LoggingConfig"] == {"LogGroup": {"Ref": "InferenceLogGroup"}, "LogFormat": "JSON"}
    for job in JOBS:
        assert container(template, job)["LogConfiguration"]["LogDriver"] == "awslogs"
    days = template["Parameters"]["LogDays"]
    assert days["Default"] in days["AllowedValues"]


# -- and what breaks them ----------------------------------------------------------------------------------------------

TRUST = ("AssumeRolePolicyDocument", "Statement", 0)
RULES = ("ModelBucket", "LifecycleConfiguration", "Rules")
BREAKS: list[Break] = [
    *((each_role_is_taken_by_one_service, (role, *TRUST, "Principal"), {"AWS": "*"}) for role in TRUSTED),
    *(
        (each_role_is_taken_by_one_service, (role, *TRUST, "Condition"), {})
        for role in ("ScheduleRole", "DriftScheduleRole", "NewLabelsRole")
    ),
    (each_role_is_taken_by_one_service, ("TrainingJobRole", *TRUST, "Action"), "sts:*"),
    (schedules_are_at_a_time_that_there_is, ("Parameters", "ScheduleTimezone", "Default"), "Mars/Olympus"),
    (schedules_are_at_a_time_that_there_is, ("Parameters", "Schedule", "Default"), "cron(0 24 ? * SUN *)"),
    (schedules_are_at_a_time_that_there_is, ("DriftSchedule", "ScheduleExpression"), "cron(0 6 * * * *)"),
    (schedules_are_at_a_time_that_there_is, ("DriftSchedule", "ScheduleExpressionTimezone"), "UTC"),
    (schedules_are_at_a_time_that_there_is, ("DriftSchedule", "State"), "ENABLED"),
    *(
        (what_could_not_be_started_is_kept_and_may_be, (name, "Target", "DeadLetterConfig"), {})
        for name in ("TrainingSchedule", "DriftSchedule")
    ),
    (what_could_not_be_started_is_kept_and_may_be, ("NewLabelsRule", "Targets", 0, "RetryPolicy"), {}),
    (
        what_could_not_be_started_is_kept_and_may_be,
        ("ScheduleDeadLetterQueuePolicy", "PolicyDocument", "Statement", 0, "Fn::If", 1, "Condition"),
        {},
    ),
    (
        what_could_not_be_started_is_kept_and_may_be,
        ("ScheduleDeadLetterQueuePolicy", "PolicyDocument", "Statement", 1, "Condition"),
        {},
    ),
    (
        photos_are_given_up_after_five_attempts_and_queues_want_tls,
        ("IncomingQueue", "RedrivePolicy", "maxReceiveCount"),
        500,
    ),
    (
        photos_are_given_up_after_five_attempts_and_queues_want_tls,
        ("IncomingQueuePolicy", "PolicyDocument", "Statement", 1, "Condition"),
        {},
    ),
    (photos_are_given_up_after_five_attempts_and_queues_want_tls, ("IncomingQueueTrigger", "BatchSize"), 1000),
    (
        new_labels_are_told_only_where_they_start_a_training,
        ("DataBucket", "NotificationConfiguration", "EventBridgeConfiguration"),
        {"EventBridgeEnabled": True},
    ),
    (what_can_be_made_again_expires_and_models_do_not, (*RULES, 0, "ExpirationInDays"), 1),
    (what_can_be_made_again_expires_and_models_do_not, (*RULES, 1, "ExpirationInDays"), 1),
    (what_can_be_made_again_expires_and_models_do_not, (*RULES, 1, "NoncurrentVersionExpiration"), {}),
    (what_can_be_made_again_expires_and_models_do_not, (*RULES, 2, "Prefix"), "registry/models/"),
    (what_can_be_made_again_expires_and_models_do_not, (*RULES, 3, "Status"), "Disabled"),
    (
        what_can_be_made_again_expires_and_models_do_not,
        ("PredictionBucket", "LifecycleConfiguration", "Rules", 0, "ExpirationInDays"),
        30,
    ),
    (
        what_can_be_made_again_expires_and_models_do_not,
        ("Resources", "DataBucket", "UpdateReplacePolicy"),
        "Delete",
    ),
    *((each_attempt_of_each_job_ends, (job, "Timeout"), {}) for job in JOBS),
    (each_attempt_of_each_job_ends, ("CheckJobDefinition", "RetryStrategy", "Attempts"), 1),
    (each_attempt_of_each_job_ends, ("Parameters", "AttemptSeconds", "Default"), 864000),
    *(
        (
            each_job_has_a_role_an_image_and_a_size_that_there_is,
            (job, "ContainerProperties", "JobRoleArn"),
            {"Fn::GetAtt": ["StateMachineRole", "Arn"]},
        )
        for job in JOBS
    ),
    (
        each_job_has_a_role_an_image_and_a_size_that_there_is,
        ("CheckJobDefinition", "ContainerProperties", "ResourceRequirements", 1, "Value"),
        "16384",
    ),
    (
        each_job_has_a_role_an_image_and_a_size_that_there_is,
        ("GpuJobDefinition", "ContainerProperties", "ResourceRequirements", 2, "Value"),
        "16384",
    ),
    (
        each_job_has_a_role_an_image_and_a_size_that_there_is,
        ("DriftJobDefinition", "ContainerProperties", "NetworkConfiguration"),
        {"AssignPublicIp": "DISABLED"},
    ),
    (
        gpu_machines_are_those_of_the_launch_template_without_a_way_in,
        ("GpuSpotEnvironment", "ComputeResources", "LaunchTemplate", "LaunchTemplateId"),
        "other",
    ),
    (
        gpu_machines_are_those_of_the_launch_template_without_a_way_in,
        ("GpuOnDemandEnvironment", "UpdatePolicy", "TerminateJobsOnUpdate"),
        True,
    ),
    (
        gpu_machines_are_those_of_the_launch_template_without_a_way_in,
        ("CpuSpotEnvironment", "ComputeResources", "SecurityGroupIds"),
        [],
    ),
    (
        gpu_machines_are_those_of_the_launch_template_without_a_way_in,
        ("GpuOnDemandEnvironment", "ComputeResources", "InstanceTypes"),
        ["m5.large"],
    ),
    (
        what_scheduler_is_given_is_worded_as_the_service_wants_it,
        ("DriftSchedule", "Target", "Input"),
        {"Fn::Sub": '{"jobName": "a", "JobQueue": "${CpuJobQueue}", "JobDefinition": "${DriftJobDefinition}"}'},
    ),
    (
        what_scheduler_is_given_is_worded_as_the_service_wants_it,
        ("DriftSchedule", "Target", "RoleArn"),
        {"Fn::GetAtt": ["ScheduleRole", "Arn"]},
    ),
    (what_scheduler_is_given_is_worded_as_the_service_wants_it, ("TrainingSchedule", "Target", "Arn"), "other"),
    (logs_have_a_place_of_the_stacks_own, ("InferenceLogGroup", "RetentionInDays"), 3653),
    (logs_have_a_place_of_the_stacks_own, ("TrainingLogGroup", "LogGroupName"), "train"),
    (logs_have_a_place_of_the_stacks_own, ("ZipFunction", "LoggingConfig", "LogGroup"), {"Ref": "TrainingLogGroup"}),
    (logs_have_a_place_of_the_stacks_own, ("Parameters", "LogDays", "Default"), 2),
]


test_the_template_keeps_its_promise, test_a_broken_promise_is_seen = promises(BREAKS)


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        ("cron(0/15 8-18 ? * MON-FRI *)", True),
        ("cron(0 3 1,15 * ? 2030)", True),
        ("cron(0 3 * * SUN *)", False),
        ("cron(60 3 ? * SUN *)", False),
        ("cron(0 3 ? * SON *)", False),
        ("cron(0 3 ? * SUN)", False),
        ("0 3 * * 0", False),
    ],
)
def test_a_cron_is_told_from_what_eventbridge_refuses(text: str, valid: bool) -> None:
    assert is_cron(text) is valid
