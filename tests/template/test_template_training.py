"""Checks of the template's roles, schedules, jobs, machines and lifecycle rules; each detects a broken template."""

import json
import re
from zoneinfo import available_timezones

import pytest

from tests.template.checking import Break, as_list, container, make_tests, of_type, properties
from tests.template.stack import Template

TRUSTED_SERVICES = {
    "InferenceRole": "lambda.amazonaws.com",
    "TrainingJobRole": "ecs-tasks.amazonaws.com",
    "CheckJobRole": "ecs-tasks.amazonaws.com",
    "DriftJobRole": "ecs-tasks.amazonaws.com",
    "BatchExecutionRole": "ecs-tasks.amazonaws.com",
    "BatchInstanceRole": {"Fn::Sub": "ec2.${AWS::URLSuffix}"},  # ec2.amazonaws.com.cn in China
    "StateMachineRole": "states.amazonaws.com",
    "ScheduleRole": "scheduler.amazonaws.com",
    "DriftScheduleRole": "scheduler.amazonaws.com",
    "NewLabelsRole": "events.amazonaws.com",
}
"""Service that may assume each role."""
SAME_ACCOUNT_CONDITION = {"StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}}
DEAD_LETTERS = {"Arn": {"Fn::GetAtt": ["ScheduleDeadLetterQueue", "Arn"]}}
CRON = (("minute", 0, 59), ("hour", 0, 23), ("day", 1, 31), ("month", 1, 12), ("weekday", 1, 7), ("year", 1970, 2199))
"""Fields and their ranges: https://docs.aws.amazon.com/scheduler/latest/UserGuide/schedule-types.html#cron-based"""
NAMES = {"month": "JAN FEB MAR APR MAY JUN JUL AUG SEP OCT NOV DEC", "weekday": "SUN MON TUE WED THU FRI SAT"}
JOBS = {
    "GpuJobDefinition": "TrainingJobRole",
    "CpuJobDefinition": "TrainingJobRole",
    "CheckJobDefinition": "CheckJobRole",
    "DriftJobDefinition": "DriftJobRole",
}
FARGATE_MEMORY = {1: range(2048, 8193, 1024), 4: range(8192, 30721, 1024)}
"""MiB by vCPUs: https://docs.aws.amazon.com/batch/latest/APIReference/API_ResourceRequirement.html"""


# -- the checks --------------------------------------------------------------------------------------------------------


def each_role_trusts_one_service(template: Template) -> None:
    roles = of_type(template, "AWS::IAM::Role")
    assert set(roles) == set(TRUSTED_SERVICES)
    for name, role in roles.items():
        (statement,) = role["AssumeRolePolicyDocument"]["Statement"]
        assert (statement["Effect"], as_list(statement["Action"])) == ("Allow", ["sts:AssumeRole"])
        assert statement["Principal"] == {"Service": TRUSTED_SERVICES[name]}, name
        if TRUSTED_SERVICES[name] in ("scheduler.amazonaws.com", "events.amazonaws.com"):
            assert statement["Condition"] == SAME_ACCOUNT_CONDITION, name  # these services act for other accounts, too


def is_cron(text: str) -> bool:
    """Return whether EventBridge accepts a cron expression of numbers, names, lists, ranges and steps."""
    match = re.fullmatch(r"cron\((.+)\)", text)
    fields = match[1].split() if match else []
    if len(fields) != len(CRON) or (fields[2] == "?") == (fields[4] == "?"):
        return False
    return all(_is_field(*known, field) for known, field in zip(CRON, fields, strict=True))


def _is_field(name: str, minimum: int, maximum: int, field: str) -> bool:
    if field in ({"*", "?"} if name in {"day", "weekday"} else {"*"}):
        return True
    words = NAMES.get(name, "").split()
    numbers = [word for word in re.split(r"[,/-]", field) if word not in words]
    return all(word.isdigit() and minimum <= int(word) <= maximum for word in numbers)


def schedules_are_valid(template: Template) -> None:
    assert template["Parameters"]["ScheduleTimezone"]["Default"] in available_timezones()
    assert is_cron(template["Parameters"]["Schedule"]["Default"])
    assert is_cron(properties(template, "DriftSchedule")["ScheduleExpression"])
    assert properties(template, "TrainingSchedule")["ScheduleExpression"] == {"Ref": "Schedule"}
    for schedule in of_type(template, "AWS::Scheduler::Schedule").values():
        assert schedule["ScheduleExpressionTimezone"] == {"Ref": "ScheduleTimezone"}
        assert schedule["State"] in ({"Ref": "ScheduleState"}, {"Ref": "DriftState"})


def failed_starts_reach_the_dead_letter_queue(template: Template) -> None:
    targets = [schedule["Target"] for schedule in of_type(template, "AWS::Scheduler::Schedule").values()]
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


def photos_are_retried_5_times_and_queues_require_tls(template: Template) -> None:
    assert properties(template, "IncomingQueue")["RedrivePolicy"]["maxReceiveCount"] == 5
    assert 1 <= properties(template, "IncomingQueueTrigger")["BatchSize"] <= 10
    refused = properties(template, "IncomingQueuePolicy")["PolicyDocument"]["Statement"][1]
    assert (refused["Principal"], refused["Action"]) == ("*", "sqs:*")
    assert refused["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


def temporary_objects_expire_and_models_do_not(template: Template) -> None:
    kept = properties(template, "ModelBucket")["LifecycleConfiguration"]["Rules"]
    by_prefix = {rule.get("Prefix"): rule for rule in kept}
    assert set(by_prefix) == {None, "registry/features/", "registry/plans/", "registry/checkpoints/"}
    assert "ExpirationInDays" not in by_prefix["registry/features/"]  # features in use stay
    for prefix in ("registry/plans/", "registry/checkpoints/"):
        assert by_prefix[prefix]["ExpirationInDays"] == 14
    for prefix in set(by_prefix) - {None}:
        assert by_prefix[prefix]["NoncurrentVersionExpiration"] == {"NoncurrentDays": 1}
    for name, bucket in of_type(template, "AWS::S3::Bucket").items():
        rules = bucket["LifecycleConfiguration"]["Rules"]
        assert {rule["Status"] for rule in rules} == {"Enabled"}, name
        (everywhere,) = (rule for rule in rules if "Prefix" not in rule)
        assert set(everywhere) == {"Id", "Status", "AbortIncompleteMultipartUpload"}, name
        assert template["Resources"][name]["UpdateReplacePolicy"] == "Retain"


def each_job_attempt_has_a_timeout(template: Template) -> None:
    assert set(of_type(template, "AWS::Batch::JobDefinition")) == set(JOBS)
    for job in JOBS:
        assert properties(template, job)["Timeout"] == {"AttemptDurationSeconds": {"Ref": "AttemptSeconds"}}, job
        assert 1 < properties(template, job)["RetryStrategy"]["Attempts"] <= 10, job
    limit = template["Parameters"]["AttemptSeconds"]
    assert 60 <= limit["MinValue"] <= limit["Default"] <= 86400  # Batch requires at least a minute


def each_job_has_a_role_an_image_and_a_valid_size(template: Template) -> None:
    for job, role in JOBS.items():
        properties_of_job = container(template, job)
        assert properties_of_job["JobRoleArn"] == {"Fn::GetAtt": [role, "Arn"]}
        assert properties_of_job["ExecutionRoleArn"] == {"Fn::GetAtt": ["BatchExecutionRole", "Arn"]}
        small = {"Fn::If": ["HasPlanImage", {"Ref": "PlanImage"}, {"Ref": "TrainImage"}]}
        assert properties_of_job["Image"] == ({"Ref": "TrainImage"} if role == "TrainingJobRole" else small)
        size = {
            requirement["Type"]: int(requirement["Value"]) for requirement in properties_of_job["ResourceRequirements"]
        }
        if properties(template, job)["PlatformCapabilities"] == ["FARGATE"]:
            assert size["MEMORY"] in FARGATE_MEMORY[size["VCPU"]], job
            assert properties_of_job["NetworkConfiguration"] == {"AssignPublicIp": "ENABLED"}, (
                job
            )  # the subnets have no NAT gateway
        else:
            assert size["GPU"] == 1
            assert size["MEMORY"] < 15 * 1024  # of 16 GiB on a g4dn.xlarge, ECS takes some


def gpu_machines_use_the_launch_template_and_security_group(template: Template) -> None:
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


def schedule_input_matches_the_service_api(template: Template) -> None:
    call = json.loads(properties(template, "DriftSchedule")["Target"]["Input"]["Fn::Sub"])
    words = [*call, *call["ContainerOverrides"]]
    assert all(re.fullmatch(r"([A-Z][a-z]+)+", word) for word in words)
    assert (call["JobQueue"], call["JobDefinition"]) == ("${CpuJobQueue}", "${DriftJobDefinition}")
    assert properties(template, "DriftSchedule")["Target"]["RoleArn"] == {"Fn::GetAtt": ["DriftScheduleRole", "Arn"]}
    assert properties(template, "TrainingSchedule")["Target"]["Arn"] == {"Ref": "TrainingStateMachine"}


def log_groups_belong_to_the_stack(template: Template) -> None:
    for name, kind in (("TrainingLogGroup", "train"), ("InferenceLogGroup", "inference")):
        assert properties(template, name)["LogGroupName"]["Fn::Sub"] == f"/transferlite/${{AWS::StackName}}/{kind}"
        assert properties(template, name)["RetentionInDays"] == {"Ref": "LogDays"}
    for function in of_type(template, "AWS::Lambda::Function").values():
        assert function["LoggingConfig"] == {"LogGroup": {"Ref": "InferenceLogGroup"}, "LogFormat": "JSON"}
    for job in JOBS:
        assert container(template, job)["LogConfiguration"]["LogDriver"] == "awslogs"
    days = template["Parameters"]["LogDays"]
    assert days["Default"] in days["AllowedValues"]


# -- broken templates --------------------------------------------------------------------------------------------------

TRUST = ("AssumeRolePolicyDocument", "Statement", 0)
RULES = ("ModelBucket", "LifecycleConfiguration", "Rules")
BREAKS: list[Break] = [
    *((each_role_trusts_one_service, (role, *TRUST, "Principal"), {"AWS": "*"}) for role in TRUSTED_SERVICES),
    *(
        (each_role_trusts_one_service, (role, *TRUST, "Condition"), {})
        for role in ("ScheduleRole", "DriftScheduleRole", "NewLabelsRole")
    ),
    (each_role_trusts_one_service, ("TrainingJobRole", *TRUST, "Action"), "sts:*"),
    (schedules_are_valid, ("Parameters", "ScheduleTimezone", "Default"), "Mars/Olympus"),
    (schedules_are_valid, ("Parameters", "Schedule", "Default"), "cron(0 24 ? * SUN *)"),
    (schedules_are_valid, ("DriftSchedule", "ScheduleExpression"), "cron(0 6 * * * *)"),
    (schedules_are_valid, ("DriftSchedule", "ScheduleExpressionTimezone"), "UTC"),
    (schedules_are_valid, ("DriftSchedule", "State"), "ENABLED"),
    *(
        (failed_starts_reach_the_dead_letter_queue, (name, "Target", "DeadLetterConfig"), {})
        for name in ("TrainingSchedule", "DriftSchedule")
    ),
    (failed_starts_reach_the_dead_letter_queue, ("NewLabelsRule", "Targets", 0, "RetryPolicy"), {}),
    (
        failed_starts_reach_the_dead_letter_queue,
        ("ScheduleDeadLetterQueuePolicy", "PolicyDocument", "Statement", 0, "Fn::If", 1, "Condition"),
        {},
    ),
    (
        failed_starts_reach_the_dead_letter_queue,
        ("ScheduleDeadLetterQueuePolicy", "PolicyDocument", "Statement", 1, "Condition"),
        {},
    ),
    (
        photos_are_retried_5_times_and_queues_require_tls,
        ("IncomingQueue", "RedrivePolicy", "maxReceiveCount"),
        500,
    ),
    (
        photos_are_retried_5_times_and_queues_require_tls,
        ("IncomingQueuePolicy", "PolicyDocument", "Statement", 1, "Condition"),
        {},
    ),
    (photos_are_retried_5_times_and_queues_require_tls, ("IncomingQueueTrigger", "BatchSize"), 1000),
    (temporary_objects_expire_and_models_do_not, (*RULES, 0, "ExpirationInDays"), 1),
    (temporary_objects_expire_and_models_do_not, (*RULES, 1, "ExpirationInDays"), 1),
    (temporary_objects_expire_and_models_do_not, (*RULES, 1, "NoncurrentVersionExpiration"), {}),
    (temporary_objects_expire_and_models_do_not, (*RULES, 2, "Prefix"), "registry/models/"),
    (temporary_objects_expire_and_models_do_not, (*RULES, 3, "Status"), "Disabled"),
    (
        temporary_objects_expire_and_models_do_not,
        ("PredictionBucket", "LifecycleConfiguration", "Rules", 0, "ExpirationInDays"),
        30,
    ),
    (
        temporary_objects_expire_and_models_do_not,
        ("Resources", "DataBucket", "UpdateReplacePolicy"),
        "Delete",
    ),
    *((each_job_attempt_has_a_timeout, (job, "Timeout"), {}) for job in JOBS),
    (each_job_attempt_has_a_timeout, ("CheckJobDefinition", "RetryStrategy", "Attempts"), 1),
    (each_job_attempt_has_a_timeout, ("Parameters", "AttemptSeconds", "Default"), 864000),
    *(
        (
            each_job_has_a_role_an_image_and_a_valid_size,
            (job, "ContainerProperties", "JobRoleArn"),
            {"Fn::GetAtt": ["StateMachineRole", "Arn"]},
        )
        for job in JOBS
    ),
    (
        each_job_has_a_role_an_image_and_a_valid_size,
        ("CheckJobDefinition", "ContainerProperties", "ResourceRequirements", 1, "Value"),
        "16384",
    ),
    (
        each_job_has_a_role_an_image_and_a_valid_size,
        ("DriftJobDefinition", "ContainerProperties", "Image"),
        {"Ref": "TrainImage"},
    ),
    (
        each_job_has_a_role_an_image_and_a_valid_size,
        ("GpuJobDefinition", "ContainerProperties", "ResourceRequirements", 2, "Value"),
        "16384",
    ),
    (
        each_job_has_a_role_an_image_and_a_valid_size,
        ("DriftJobDefinition", "ContainerProperties", "NetworkConfiguration"),
        {"AssignPublicIp": "DISABLED"},
    ),
    (
        gpu_machines_use_the_launch_template_and_security_group,
        ("GpuSpotEnvironment", "ComputeResources", "LaunchTemplate", "LaunchTemplateId"),
        "other",
    ),
    (
        gpu_machines_use_the_launch_template_and_security_group,
        ("GpuOnDemandEnvironment", "UpdatePolicy", "TerminateJobsOnUpdate"),
        True,
    ),
    (
        gpu_machines_use_the_launch_template_and_security_group,
        ("CpuSpotEnvironment", "ComputeResources", "SecurityGroupIds"),
        [],
    ),
    (
        gpu_machines_use_the_launch_template_and_security_group,
        ("GpuOnDemandEnvironment", "ComputeResources", "InstanceTypes"),
        ["m5.large"],
    ),
    (
        schedule_input_matches_the_service_api,
        ("DriftSchedule", "Target", "Input"),
        {"Fn::Sub": '{"jobName": "a", "JobQueue": "${CpuJobQueue}", "JobDefinition": "${DriftJobDefinition}"}'},
    ),
    (
        schedule_input_matches_the_service_api,
        ("DriftSchedule", "Target", "RoleArn"),
        {"Fn::GetAtt": ["ScheduleRole", "Arn"]},
    ),
    (schedule_input_matches_the_service_api, ("TrainingSchedule", "Target", "Arn"), "other"),
    (log_groups_belong_to_the_stack, ("InferenceLogGroup", "RetentionInDays"), 3653),
    (log_groups_belong_to_the_stack, ("TrainingLogGroup", "LogGroupName"), "train"),
    (log_groups_belong_to_the_stack, ("ZipFunction", "LoggingConfig", "LogGroup"), {"Ref": "TrainingLogGroup"}),
    (log_groups_belong_to_the_stack, ("Parameters", "LogDays", "Default"), 2),
]


test_the_template_passes_the_check, test_the_check_detects_a_broken_template = make_tests(BREAKS)


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
