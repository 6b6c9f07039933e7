"""Each property that the template promises, and that its check sees when it is broken."""

import json
import re
from typing import Any

import click
from cfnlint.api import ManualArgs, lint

from tests.template.checking import Break, as_list, changed, container, of_type, promises, properties
from tests.template.stack import DEFINITION, ROOT, UNKNOWN, Template, deployable, resolved, written
from transferlite.cli.main import transferlite

GPUS = {"g4dn.xlarge": 1, "g5.xlarge": 1, "g6.xlarge": 1, "g4dn.2xlarge": 1, "g4dn.12xlarge": 4, "p3.2xlarge": 1}
"""Source: https://aws.amazon.com/ec2/instance-types/#Accelerated_Computing"""
NO_RESOURCES = {
    "batch:DescribeJobs",
    "ecr:GetAuthorizationToken",
    "xray:PutTraceSegments",
    "xray:PutTelemetryRecords",
}
"""Actions that know no resources: their policy has to say ``*``."""


# -- the checks -------------------------------------------------------------------------------------------------------


def buckets_are_private_encrypted_and_kept(template: Template) -> None:
    for name, bucket in of_type(template, "AWS::S3::Bucket").items():
        assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}
        assert len(bucket["PublicAccessBlockConfiguration"]) == 4
        assert bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
        assert bucket["OwnershipControls"]["Rules"] == [{"ObjectOwnership": "BucketOwnerEnforced"}]
        assert template["Resources"][name]["DeletionPolicy"] == "Retain"


def buckets_refuse_what_is_not_tls(template: Template) -> None:
    refused = set()
    for policy in of_type(template, "AWS::S3::BucketPolicy").values():
        (statement,) = policy["PolicyDocument"]["Statement"]
        assert (statement["Effect"], statement["Principal"], statement["Action"]) == ("Deny", "*", "s3:*")
        assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
        bucket = policy["Bucket"]["Ref"]
        assert statement["Resource"] == [{"Fn::GetAtt": [bucket, "Arn"]}, {"Fn::Sub": f"${{{bucket}.Arn}}/*"}]
        refused.add(bucket)
    assert refused == set(of_type(template, "AWS::S3::Bucket"))


def models_have_versions(template: Template) -> None:
    assert properties(template, "ModelBucket")["VersioningConfiguration"] == {"Status": "Enabled"}


def only_incoming_photos_are_told_and_predictions_go_elsewhere(template: Template) -> None:
    for name, bucket in of_type(template, "AWS::S3::Bucket").items():
        told = bucket.get("NotificationConfiguration", {}).get("QueueConfigurations", [])
        assert [one["Filter"]["S3Key"]["Rules"] for one in told] == [[{"Name": "prefix", "Value": "incoming/"}]] * len(
            told
        )
        assert bool(told) == (name == "DataBucket")
    for function in of_type(template, "AWS::Lambda::Function").values():
        assert function["Environment"]["Variables"]["TRANSFERLITE_OUTPUT_BUCKET"] == {"Ref": "PredictionBucket"}


def no_photo_is_lost_on_its_way(template: Template) -> None:
    queue, functions = properties(template, "IncomingQueue"), of_type(template, "AWS::Lambda::Function")
    assert queue["RedrivePolicy"]["deadLetterTargetArn"] == {"Fn::GetAtt": ["IncomingDeadLetterQueue", "Arn"]}
    assert queue["VisibilityTimeout"] >= 6 * max(one["Timeout"] for one in functions.values())
    (source,) = of_type(template, "AWS::Lambda::EventSourceMapping").values()
    assert source["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    assert source["EventSourceArn"] == {"Fn::GetAtt": ["IncomingQueue", "Arn"]}
    assert source["ScalingConfig"] == {"MaximumConcurrency": {"Ref": "FunctionConcurrency"}}
    for name, one in of_type(template, "AWS::SQS::Queue").items():
        assert one["SqsManagedSseEnabled"] is True
        assert one["MessageRetentionPeriod"] == 14 * 24 * 3600, name


def only_the_data_bucket_may_fill_the_queue(template: Template) -> None:
    allowed, denied = properties(template, "IncomingQueuePolicy")["PolicyDocument"]["Statement"]
    assert allowed["Principal"] == {"Service": "s3.amazonaws.com"}
    assert "-data-" in allowed["Condition"]["ArnEquals"]["aws:SourceArn"]["Fn::Sub"]
    assert allowed["Condition"]["StringEquals"] == {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}
    assert denied["Effect"] == "Deny"


def machines_are_none_between_runs_and_updated_in_place(template: Template) -> None:
    for machines in of_type(template, "AWS::Batch::ComputeEnvironment").values():
        resources = machines["ComputeResources"]
        assert machines["ReplaceComputeEnvironment"] is False
        assert "ServiceRole" not in machines
        assert resources.get("MinvCpus", 0) == 0
        if resources["Type"] in {"SPOT", "EC2"}:
            assert resources["Ec2Configuration"] == [{"ImageType": "ECS_AL2023_NVIDIA"}]
            assert resources["MinvCpus"] == 0
            assert resources["AllocationStrategy"] in {"SPOT_PRICE_CAPACITY_OPTIMIZED", "BEST_FIT_PROGRESSIVE"}


def spot_comes_before_on_demand(template: Template) -> None:
    for queue in of_type(template, "AWS::Batch::JobQueue").values():
        order = sorted(queue["ComputeEnvironmentOrder"], key=lambda one: int(one["Order"]))
        kinds = [properties(template, one["ComputeEnvironment"]["Ref"])["ComputeResources"]["Type"] for one in order]
        assert kinds in (["SPOT", "EC2"], ["FARGATE_SPOT", "FARGATE"])


def gpu_machines_have_gpus_and_disk(template: Template) -> None:
    default = template["Parameters"]["GpuInstanceTypes"]["Default"].split(",")
    assert all(GPUS[name] >= 1 for name in default)
    wanted = {one["Type"]: one["Value"] for one in container(template, "GpuJobDefinition")["ResourceRequirements"]}
    assert wanted["GPU"] == "1"
    (disk,) = properties(template, "GpuLaunchTemplate")["LaunchTemplateData"]["BlockDeviceMappings"]
    assert disk["Ebs"]["VolumeSize"] >= 100
    assert disk["Ebs"]["Encrypted"] is True


def jobs_run_as_no_one_on_a_root_that_cannot_be_written(template: Template) -> None:
    for job in of_type(template, "AWS::Batch::JobDefinition"):
        it = container(template, job)
        assert it["ReadonlyRootFilesystem"] is True
        assert int(it["User"].split(":")[0]) > 0
        assert it["MountPoints"] == [{"SourceVolume": "tmp", "ContainerPath": "/tmp", "ReadOnly": False}]
        assert it["LinuxParameters"]["InitProcessEnabled"] is True
        assert {one["Type"] for one in it["ResourceRequirements"]} >= {"VCPU", "MEMORY"}
        assert it["LogConfiguration"]["Options"]["awslogs-group"] == {"Ref": "TrainingLogGroup"}


def only_a_reclaimed_machine_is_tried_again(template: Template) -> None:
    for job in of_type(template, "AWS::Batch::JobDefinition").values():
        *reclaimed, otherwise = job["RetryStrategy"]["EvaluateOnExit"]
        assert {one["Action"] for one in reclaimed} == {"RETRY"}
        assert {one["OnStatusReason"] for one in reclaimed} == {"Host EC2*", "Your Spot Task was interrupted*"}
        assert otherwise == {"OnReason": "*", "Action": "EXIT"}
        assert job["RetryStrategy"]["Attempts"] > 1
        assert job["Timeout"]["AttemptDurationSeconds"] == {"Ref": "AttemptSeconds"}


def the_schedule_is_valid_and_off(template: Template) -> None:
    parameters, schedule = template["Parameters"], properties(template, "TrainingSchedule")
    assert parameters["ScheduleState"]["Default"] == "DISABLED"
    assert schedule["State"] == {"Ref": "ScheduleState"}
    fields = re.fullmatch(r"cron\((.+)\)", parameters["Schedule"]["Default"])
    assert fields
    _minute, _hour, day, _month, weekday, _year = fields[1].split()
    assert (day == "?") != (weekday == "?")  # EventBridge wants just one of them
    text = schedule["Target"]["Input"]["Fn::Sub"]
    given = json.loads(re.sub(r"\$\{(\w+)\}", lambda found: str(parameters[found[1]]["Default"]), text))
    assert given == {"compute": "cpu"}
    assert schedule["Target"]["DeadLetterConfig"] == {"Arn": {"Fn::GetAtt": ["ScheduleDeadLetterQueue", "Arn"]}}


def roles_may_do_what_is_named_to_what_is_named(template: Template) -> None:
    for role in of_type(template, "AWS::IAM::Role").values():
        for policy in role.get("Policies", ()):
            for told in policy["PolicyDocument"]["Statement"]:
                statement = told.get("Fn::If", [None, told])[1]
                actions = as_list(statement["Action"])
                assert not any("*" in action for action in actions)
                if "*" in as_list(statement["Resource"]):
                    assert set(actions) <= NO_RESOURCES


def each_service_has_a_role_of_its_own(template: Template) -> None:
    function = properties(template, "InferenceFunction")["Role"]
    machine, schedule = properties(template, "TrainingStateMachine")["RoleArn"], properties(template, "TrainingSchedule")["Target"]
    jobs = [container(template, job)["JobRoleArn"] for job in of_type(template, "AWS::Batch::JobDefinition")]
    roles = [json.dumps(one) for one in (function, machine, schedule["RoleArn"], jobs[0])]
    assert len(set(roles)) == 4
    assert jobs[0] == jobs[1]


def alarms_are_told(template: Template) -> None:
    alarms = of_type(template, "AWS::CloudWatch::Alarm")
    assert all(alarm["AlarmActions"] == [{"Ref": "NotificationTopic"}] for alarm in alarms.values())
    watched = {(alarm["Namespace"], resolved(alarm["MetricName"], {})) for alarm in alarms.values()}
    assert watched == {
        ("AWS/SQS", "ApproximateNumberOfMessagesVisible"),
        ("AWS/SQS", "ApproximateAgeOfOldestMessage"),
        ("AWS/Lambda", "Errors"),
        ("AWS/States", "ExecutionsFailed"),
        ("TransferLite", "photos-PredictionDrift"),
    }


def drift_is_looked_for_and_told(template: Template) -> None:
    schedule, found = properties(template, "DriftSchedule"), properties(template, "DriftMetricFilter")
    assert template["Parameters"]["DriftState"]["Default"] == "DISABLED"
    assert schedule["Target"]["Arn"]["Fn::Sub"].endswith(":scheduler:::aws-sdk:batch:submitJob")
    call = json.loads(schedule["Target"]["Input"]["Fn::Sub"])
    assert set(call) == {"JobName", "JobQueue", "JobDefinition", "ContainerOverrides"}  # in PascalCase
    assert_parses(call["ContainerOverrides"]["Command"])
    assert found["LogGroupName"] == container(template, "DriftJobDefinition")["LogConfiguration"]["Options"]["awslogs-group"]
    assert found["FilterPattern"] == '{ $.over[0] = "*" }'
    (metric,) = found["MetricTransformations"]
    assert metric["MetricName"] == properties(template, "DriftAlarm")["MetricName"]


def new_labels_start_a_training_only_where_asked_for(template: Template) -> None:
    rule, role = template["Resources"]["NewLabelsRule"], template["Resources"]["NewLabelsRole"]
    assert (rule["Condition"], role["Condition"]) == ("TrainsOnNewLabels", "TrainsOnNewLabels")
    assert template["Parameters"]["TrainAfterLabels"]["Default"] == 0
    detail = rule["Properties"]["EventPattern"]["detail"]
    assert detail == {"bucket": {"name": [{"Ref": "DataBucket"}]}, "object": {"key": [{"Ref": "LabelsKey"}]}}
    (target,) = rule["Properties"]["Targets"]
    assert target["Arn"] == {"Ref": "TrainingStateMachine"}
    assert '"new_labels": ${TrainAfterLabels}' in target["Input"]["Fn::Sub"]
    assert target["DeadLetterConfig"] == {"Arn": {"Fn::GetAtt": ["ScheduleDeadLetterQueue", "Arn"]}}


def the_address_asks_for_iam_and_is_off(template: Template) -> None:
    url = template["Resources"]["InferenceFunctionUrl"]
    assert url["Condition"] == "HasUrl"
    assert template["Parameters"]["FunctionUrl"]["Default"] == "off"
    assert url["Properties"]["AuthType"] == "AWS_IAM"


def the_function_is_traced_only_where_asked_for_and_may_be(template: Template) -> None:
    assert template["Parameters"]["Tracing"]["Default"] == "PassThrough"
    for function in of_type(template, "AWS::Lambda::Function").values():
        assert function["TracingConfig"] == {"Mode": {"Ref": "Tracing"}}
    policies = json.dumps(properties(template, "InferenceRole")["Policies"])
    assert re.search(r'"Fn::If": \["TracingEnabled", \{[^}]*"xray:PutTraceSegments", "xray:PutTelemetryRecords"', policies)


def the_signing_key_signs_and_is_kept(template: Template) -> None:
    key = template["Resources"]["SigningKey"]
    assert (key["Condition"], key["DeletionPolicy"]) == ("SigningEnabled", "Retain")
    assert (key["Properties"]["KeySpec"], key["Properties"]["KeyUsage"]) == ("ECC_NIST_P256", "SIGN_VERIFY")
    granted = json.dumps(properties(template, "TrainingJobRole")["Policies"])
    assert "kms:Sign" in granted
    assert "kms:Sign" not in json.dumps(properties(template, "InferenceRole")["Policies"])
    for job in ("GpuJobDefinition", "CpuJobDefinition"):
        assert "TRANSFERLITE_SIGNING_KEY" in json.dumps(container(template, job)["Environment"])


def assert_parses(command: list[str]) -> None:
    """A job's command is one that the console script takes."""
    group: Any = transferlite
    words = list(command)
    while isinstance(group, click.Group):
        context = click.Context(group)
        found = group.get_command(context, words.pop(0))
        assert found is not None, command
        group = found
    known = {name for one in group.params for name in one.opts}
    assert {word for word in words if word.startswith("--")} <= known, command


def logs_end(template: Template) -> None:
    assert all(
        one["RetentionInDays"] == {"Ref": "LogDays"} for one in of_type(template, "AWS::Logs::LogGroup").values()
    )


def training_machines_answer_no_one(template: Template) -> None:
    group = properties(template, "TrainingSecurityGroup")
    assert "SecurityGroupIngress" not in group
    assert [(one["FromPort"], one["ToPort"]) for one in group["SecurityGroupEgress"]] == [(443, 443)]
    assert properties(template, "GpuLaunchTemplate")["LaunchTemplateData"]["MetadataOptions"]["HttpTokens"] == "required"


# -- and what breaks them ----------------------------------------------------------------------------------------------

BREAKS: list[Break] = [
    (
        buckets_are_private_encrypted_and_kept,
        ("DataBucket", "PublicAccessBlockConfiguration", "BlockPublicPolicy"),
        False,
    ),
    (
        buckets_are_private_encrypted_and_kept,
        ("ModelBucket", "BucketEncryption", "ServerSideEncryptionConfiguration"),
        [],
    ),
    (buckets_are_private_encrypted_and_kept, ("PredictionBucket", "OwnershipControls", "Rules"), []),
    (buckets_refuse_what_is_not_tls, ("DataBucketPolicy", "Bucket"), {"Ref": "ModelBucket"}),
    (buckets_refuse_what_is_not_tls, ("ModelBucketPolicy", "PolicyDocument", "Statement", 0, "Condition"), {}),
    (models_have_versions, ("ModelBucket", "VersioningConfiguration"), {"Status": "Suspended"}),
    (
        only_incoming_photos_are_told_and_predictions_go_elsewhere,
        ("DataBucket", "NotificationConfiguration", "QueueConfigurations", 0, "Filter", "S3Key", "Rules"),
        [],
    ),
    (
        only_incoming_photos_are_told_and_predictions_go_elsewhere,
        ("InferenceFunction", "Environment", "Variables", "TRANSFERLITE_OUTPUT_BUCKET"),
        {"Ref": "DataBucket"},
    ),
    (no_photo_is_lost_on_its_way, ("IncomingQueue", "VisibilityTimeout"), 60),
    (no_photo_is_lost_on_its_way, ("IncomingQueueTrigger", "FunctionResponseTypes"), []),
    (no_photo_is_lost_on_its_way, ("IncomingQueueTrigger", "ScalingConfig"), {}),
    (no_photo_is_lost_on_its_way, ("IncomingDeadLetterQueue", "MessageRetentionPeriod"), 345600),
    (
        only_the_data_bucket_may_fill_the_queue,
        ("IncomingQueuePolicy", "PolicyDocument", "Statement", 0, "Principal"),
        "*",
    ),
    (machines_are_none_between_runs_and_updated_in_place, ("GpuSpotEnvironment", "ComputeResources", "MinvCpus"), 4),
    (
        machines_are_none_between_runs_and_updated_in_place,
        ("GpuOnDemandEnvironment", "ComputeResources", "Ec2Configuration"),
        [{"ImageType": "ECS_AL2_NVIDIA"}],
    ),
    (machines_are_none_between_runs_and_updated_in_place, ("CpuSpotEnvironment", "ReplaceComputeEnvironment"), True),
    (spot_comes_before_on_demand, ("GpuJobQueue", "ComputeEnvironmentOrder", 0, "Order"), 3),
    (gpu_machines_have_gpus_and_disk, ("Parameters", "GpuInstanceTypes", "Default"), "g4dn.xlarge,m5.large"),
    (
        gpu_machines_have_gpus_and_disk,
        ("GpuLaunchTemplate", "LaunchTemplateData", "BlockDeviceMappings", 0, "Ebs", "VolumeSize"),
        30,
    ),
    (
        gpu_machines_have_gpus_and_disk,
        ("GpuLaunchTemplate", "LaunchTemplateData", "BlockDeviceMappings", 0, "Ebs", "Encrypted"),
        False,
    ),
    (
        training_machines_answer_no_one,
        ("GpuLaunchTemplate", "LaunchTemplateData", "MetadataOptions", "HttpTokens"),
        "optional",
    ),
    (gpu_machines_have_gpus_and_disk, ("GpuJobDefinition", "ContainerProperties", "ResourceRequirements", 0, "Value"), "0"),
    (
        jobs_run_as_no_one_on_a_root_that_cannot_be_written,
        ("CpuJobDefinition", "ContainerProperties", "ReadonlyRootFilesystem"),
        False,
    ),
    (jobs_run_as_no_one_on_a_root_that_cannot_be_written, ("GpuJobDefinition", "ContainerProperties", "User"), "0:0"),
    (
        only_a_reclaimed_machine_is_tried_again,
        ("CpuJobDefinition", "RetryStrategy", "EvaluateOnExit", 0, "OnStatusReason"),
        "*",
    ),
    (only_a_reclaimed_machine_is_tried_again, ("GpuJobDefinition", "RetryStrategy", "EvaluateOnExit", 2, "Action"), "RETRY"),
    (the_schedule_is_valid_and_off, ("TrainingSchedule", "State"), "ENABLED"),
    (the_schedule_is_valid_and_off, ("TrainingSchedule", "Target", "Input"), {"Fn::Sub": '{"Compute": "${Compute}"}'}),
    (
        roles_may_do_what_is_named_to_what_is_named,
        ("TrainingJobRole", "Policies", 0, "PolicyDocument", "Statement", 0, "Resource"),
        "*",
    ),
    (
        roles_may_do_what_is_named_to_what_is_named,
        ("InferenceRole", "Policies", 0, "PolicyDocument", "Statement", 0, "Action"),
        "s3:*",
    ),
    (each_service_has_a_role_of_its_own, ("InferenceFunction", "Role"), {"Fn::GetAtt": ["TrainingJobRole", "Arn"]}),
    (alarms_are_told, ("QueueAgeAlarm", "AlarmActions"), []),
    (drift_is_looked_for_and_told, ("DriftSchedule", "Target", "Input"), {"Fn::Sub": '{"jobName": "drift"}'}),
    (drift_is_looked_for_and_told, ("DriftAlarm", "MetricName"), "Other"),
    (drift_is_looked_for_and_told, ("DriftMetricFilter", "FilterPattern"), ""),
    (new_labels_start_a_training_only_where_asked_for, ("NewLabelsRule", "EventPattern", "detail", "object"), {}),
    (new_labels_start_a_training_only_where_asked_for, ("NewLabelsRule", "Targets", 0, "DeadLetterConfig"), None),
    (the_address_asks_for_iam_and_is_off, ("InferenceFunctionUrl", "AuthType"), "NONE"),
    (
        the_function_is_traced_only_where_asked_for_and_may_be,
        ("InferenceFunction", "TracingConfig"),
        {"Mode": "Active"},
    ),
    (the_function_is_traced_only_where_asked_for_and_may_be, ("ZipFunction", "TracingConfig"), None),
    (the_function_is_traced_only_where_asked_for_and_may_be, ("InferenceRole", "Policies"), []),
    (the_signing_key_signs_and_is_kept, ("SigningKey", "KeySpec"), "RSA_2048"),
    (the_signing_key_signs_and_is_kept, ("CpuJobDefinition", "ContainerProperties", "Environment"), []),
    (
        roles_may_do_what_is_named_to_what_is_named,
        ("BatchExecutionRole", "Policies", 0, "PolicyDocument", "Statement", 1, "Resource"),
        "*",
    ),
    (logs_end, ("TrainingLogGroup", "RetentionInDays"), None),
    (training_machines_answer_no_one, ("TrainingSecurityGroup", "SecurityGroupIngress"), [{"IpProtocol": "-1"}]),
]


test_the_template_keeps_its_promise, test_a_broken_promise_is_seen = promises(BREAKS)


def test_the_linter_finds_nothing(template: Template) -> None:
    config = ManualArgs(regions=["eu-central-1", "us-east-1"])
    assert [str(one) for one in lint((ROOT / "template.yaml").read_text(), config=config)] == []
    assert [str(one) for one in lint(json.dumps(template), config=config)] == []
    wrong = changed(template, ("GpuSpotEnvironment", "ComputeResources", "AllocationStrategy"), "CHEAPEST")
    assert lint(json.dumps(wrong), config=config)


def test_the_commands_of_the_state_machine_are_ones_that_there_are() -> None:
    states = json.loads(DEFINITION.read_text())["States"]
    for name in ("ExtractFeatures", "Train"):
        assert_parses(states[name]["Parameters"]["ContainerOverrides"]["Command"])
    text = states["CheckData"]["Parameters"]["ContainerOverrides"]["Command.$"]
    assert_parses(re.findall(r"'((?:--)?[a-z-]+)'", text))


def test_the_runbook_has_a_row_for_every_alarm(template: Template) -> None:
    rows = re.findall(r"^\| `(\w+Alarm)` \|", (ROOT / "docs" / "operations.md").read_text(), re.MULTILINE)
    assert sorted(rows) == sorted(of_type(template, "AWS::CloudWatch::Alarm"))


def test_every_parameter_says_what_it_is_for_and_all_but_the_training_image_have_a_default() -> None:
    parameters = written()["Parameters"]
    assert all(one["Description"] for one in parameters.values())
    assert {name for name, one in parameters.items() if "Default" not in one} == {"TrainImage"}
    grouped = written()["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
    assert {name for group in grouped for name in group["Parameters"]} == set(parameters)


def test_what_the_simulation_cannot_deploy_is_known(template: Template) -> None:
    left = {one["Type"] for one in template["Resources"].values()} - {
        one["Type"] for one in deployable(template)["Resources"].values()
    }
    assert left == UNKNOWN
