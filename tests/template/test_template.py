"""Checks of the template; each is shown to detect a broken template."""

import json
import re
from typing import Any

import click
from cfnlint.api import ManualArgs, lint

from tests.template.checking import Break, as_list, changed, container, make_tests, of_type, properties
from tests.template.stack import DEFINITION, ROOT, UNKNOWN, Template, deployable, read_template, resolved
from transferlite.cli.main import transferlite

GPUS = {"g4dn.xlarge": 1, "g5.xlarge": 1, "g6.xlarge": 1, "g4dn.2xlarge": 1, "g4dn.12xlarge": 4, "p3.2xlarge": 1}
"""Source: https://aws.amazon.com/ec2/instance-types/#Accelerated_Computing"""
EC2_CAUSES = ["Host EC2*", "Task failed to start*", "CannotPull*"]
FARGATE_CAUSES = [
    "Your Spot Task was interrupted*",
    "Timeout waiting for network interface*",
    "ResourceInitializationError*",
    "CannotPull*",
]
"""Causes outside the job. Source: https://docs.aws.amazon.com/batch/latest/userguide/job_retries.html and
https://docs.aws.amazon.com/AmazonECS/latest/developerguide/stopped-task-error-codes.html"""
ACTIONS_WITHOUT_RESOURCE = {
    "batch:DescribeJobs",
    "ecr:GetAuthorizationToken",
    "xray:PutTraceSegments",
    "xray:PutTelemetryRecords",
}
"""Actions that IAM does not restrict to resources; their policy needs ``*``."""


# -- the checks --------------------------------------------------------------------------------------------------------


def buckets_are_private_encrypted_and_kept(template: Template) -> None:
    for name, bucket in of_type(template, "AWS::S3::Bucket").items():
        assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}
        assert len(bucket["PublicAccessBlockConfiguration"]) == 4
        assert bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
        assert bucket["OwnershipControls"]["Rules"] == [{"ObjectOwnership": "BucketOwnerEnforced"}]
        assert template["Resources"][name]["DeletionPolicy"] == "Retain"


def buckets_require_tls(template: Template) -> None:
    refused = set()
    for policy in of_type(template, "AWS::S3::BucketPolicy").values():
        (statement,) = policy["PolicyDocument"]["Statement"]
        assert (statement["Effect"], statement["Principal"], statement["Action"]) == ("Deny", "*", "s3:*")
        assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
        bucket = policy["Bucket"]["Ref"]
        assert statement["Resource"] == [{"Fn::GetAtt": [bucket, "Arn"]}, {"Fn::Sub": f"${{{bucket}.Arn}}/*"}]
        refused.add(bucket)
    assert refused == set(of_type(template, "AWS::S3::Bucket"))


def model_bucket_is_versioned(template: Template) -> None:
    assert properties(template, "ModelBucket")["VersioningConfiguration"] == {"Status": "Enabled"}


def only_incoming_photos_are_queued_and_predictions_go_elsewhere(template: Template) -> None:
    for name, bucket in of_type(template, "AWS::S3::Bucket").items():
        sends = {"EventBridgeConfiguration": {"EventBridgeEnabled": True}} if name == "DataBucket" else None
        assert bucket.get("NotificationConfiguration") == sends
    rule = properties(template, "IncomingRule")
    assert rule["EventPattern"] == {
        "source": ["aws.s3"],
        "detail-type": ["Object Created"],
        "detail": {
            "bucket": {"name": [{"Ref": "DataBucketName"}]},
            "object": {"key": [{"prefix": {"Fn::Sub": "${DataPrefix}incoming/"}}]},
        },
    }
    (target,) = rule["Targets"]
    assert target["Arn"] == {"Fn::GetAtt": ["IncomingQueue", "Arn"]}
    assert target["DeadLetterConfig"] == {"Arn": {"Fn::GetAtt": ["IncomingDeadLetterQueue", "Arn"]}}
    for function in of_type(template, "AWS::Lambda::Function").values():
        variables = function["Environment"]["Variables"]
        assert variables["TRANSFERLITE_OUTPUT_BUCKET"] == {"Fn::Sub": "${Prefix}-predictions"}
        assert variables["TRANSFERLITE_INPUTS"] == {"Fn::Sub": "s3://${DataBucketName}/${DataPrefix}incoming/"}


def failed_photos_reach_the_dead_letter_queue(template: Template) -> None:
    queue, functions = properties(template, "IncomingQueue"), of_type(template, "AWS::Lambda::Function")
    assert queue["RedrivePolicy"]["deadLetterTargetArn"] == {"Fn::GetAtt": ["IncomingDeadLetterQueue", "Arn"]}
    assert queue["VisibilityTimeout"] >= 6 * max(function["Timeout"] for function in functions.values())
    (source,) = of_type(template, "AWS::Lambda::EventSourceMapping").values()
    assert source["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    assert source["EventSourceArn"] == {"Fn::GetAtt": ["IncomingQueue", "Arn"]}
    assert source["ScalingConfig"] == {"MaximumConcurrency": {"Ref": "FunctionConcurrency"}}
    for name, queue_properties in of_type(template, "AWS::SQS::Queue").items():
        assert queue_properties["SqsManagedSseEnabled"] is True
        assert queue_properties["MessageRetentionPeriod"] == 14 * 24 * 3600, name


def only_the_rule_may_fill_the_queues(template: Template) -> None:
    for name in ("IncomingQueuePolicy", "IncomingDeadLetterQueuePolicy"):
        allowed, denied = properties(template, name)["PolicyDocument"]["Statement"]
        assert allowed["Principal"] == {"Service": "events.amazonaws.com"}
        assert allowed["Condition"] == {"ArnEquals": {"aws:SourceArn": {"Fn::GetAtt": ["IncomingRule", "Arn"]}}}
        assert denied["Effect"] == "Deny"


def existing_buckets_are_not_resources_of_the_stack(template: Template) -> None:
    for name in of_type(template, "AWS::S3::Bucket"):
        condition = {"Fn::Equals": [{"Ref": f"{name}State"}, "new"]}
        assert template["Conditions"][f"New{name}"] == condition
        for resource in (name, f"{name}Policy"):
            assert template["Resources"][resource]["Condition"] == f"New{name}"
        kept = {key: value for key, value in template["Resources"].items() if key not in {name, f"{name}Policy"}}
        text = json.dumps([kept, template["Outputs"]])
        assert not re.search(rf'{{"Ref": "{name}"}}|"Fn::GetAtt": \["{name}"|\${{{name}\.', text)


def machines_stop_between_jobs_and_are_updated_in_place(template: Template) -> None:
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
        order = sorted(queue["ComputeEnvironmentOrder"], key=lambda environment: int(environment["Order"]))
        kinds = [
            properties(template, environment["ComputeEnvironment"]["Ref"])["ComputeResources"]["Type"]
            for environment in order
        ]
        assert kinds in (["SPOT", "EC2"], ["FARGATE_SPOT", "FARGATE"])


def gpu_machines_have_gpus_and_disk(template: Template) -> None:
    default = template["Parameters"]["GpuInstanceTypes"]["Default"].split(",")
    assert all(GPUS[name] >= 1 for name in default)
    resources = {
        requirement["Type"]: requirement["Value"]
        for requirement in container(template, "GpuJobDefinition")["ResourceRequirements"]
    }
    assert resources["GPU"] == "1"
    (disk,) = properties(template, "GpuLaunchTemplate")["LaunchTemplateData"]["BlockDeviceMappings"]
    assert disk["Ebs"]["VolumeSize"] >= 100
    assert disk["Ebs"]["Encrypted"] is True


def jobs_run_unprivileged_on_a_read_only_root(template: Template) -> None:
    for job in of_type(template, "AWS::Batch::JobDefinition"):
        properties_of_job = container(template, job)
        assert properties_of_job["ReadonlyRootFilesystem"] is True
        assert int(properties_of_job["User"].split(":")[0]) > 0
        assert properties_of_job["MountPoints"] == [{"SourceVolume": "tmp", "ContainerPath": "/tmp", "ReadOnly": False}]
        assert properties_of_job["LinuxParameters"]["InitProcessEnabled"] is True
        assert {requirement["Type"] for requirement in properties_of_job["ResourceRequirements"]} >= {"VCPU", "MEMORY"}
        assert properties_of_job["LogConfiguration"]["Options"]["awslogs-group"] == {"Ref": "TrainingLogGroup"}


def only_causes_outside_the_job_are_retried(template: Template) -> None:
    for job in of_type(template, "AWS::Batch::JobDefinition").values():
        *retried, otherwise = job["RetryStrategy"]["EvaluateOnExit"]
        assert {condition["Action"] for condition in retried} == {"RETRY"}
        expected = FARGATE_CAUSES if job["PlatformCapabilities"] == ["FARGATE"] else EC2_CAUSES
        assert [condition.get("OnStatusReason") or condition["OnReason"] for condition in retried] == expected
        assert otherwise == {"OnReason": "*", "Action": "EXIT"}
        assert len(retried) <= 4  # Batch takes five conditions
        assert job["RetryStrategy"]["Attempts"] > 1
        assert job["Timeout"]["AttemptDurationSeconds"] == {"Ref": "AttemptSeconds"}


def training_schedule_is_valid_and_off_by_default(template: Template) -> None:
    parameters, schedule = template["Parameters"], properties(template, "TrainingSchedule")
    assert parameters["ScheduleState"]["Default"] == "DISABLED"
    assert schedule["State"] == {"Ref": "ScheduleState"}
    fields = re.fullmatch(r"cron\((.+)\)", parameters["Schedule"]["Default"])
    assert fields
    _minute, _hour, day, _month, weekday, _year = fields[1].split()
    assert (day == "?") != (weekday == "?")  # EventBridge requires ? in exactly one of them
    text = schedule["Target"]["Input"]["Fn::Sub"]
    execution_input = json.loads(re.sub(r"\$\{(\w+)\}", lambda match: str(parameters[match[1]]["Default"]), text))
    assert execution_input == {"compute": "cpu"}
    assert schedule["Target"]["DeadLetterConfig"] == {"Arn": {"Fn::GetAtt": ["ScheduleDeadLetterQueue", "Arn"]}}


def roles_name_their_actions_and_resources(template: Template) -> None:
    for role in of_type(template, "AWS::IAM::Role").values():
        for policy in role.get("Policies", ()):
            for raw_statement in policy["PolicyDocument"]["Statement"]:
                statement = raw_statement.get("Fn::If", [None, raw_statement])[1]
                actions = as_list(statement["Action"])
                assert not any("*" in action for action in actions)
                if "*" in as_list(statement["Resource"]):
                    assert set(actions) <= ACTIONS_WITHOUT_RESOURCE


def each_service_has_a_role_of_its_own(template: Template) -> None:
    function = properties(template, "InferenceFunction")["Role"]
    machine, schedule = (
        properties(template, "TrainingStateMachine")["RoleArn"],
        properties(template, "TrainingSchedule")["Target"],
    )
    jobs = [container(template, job)["JobRoleArn"] for job in of_type(template, "AWS::Batch::JobDefinition")]
    roles = [json.dumps(role) for role in (function, machine, schedule["RoleArn"], jobs[0])]
    assert len(set(roles)) == 4
    assert jobs[0] == jobs[1]


def alarms_notify_the_topic(template: Template) -> None:
    alarms = of_type(template, "AWS::CloudWatch::Alarm")
    assert all(alarm["AlarmActions"] == [{"Ref": "NotificationTopic"}] for alarm in alarms.values())
    watched = {(alarm["Namespace"], resolved(alarm["MetricName"], {})) for alarm in alarms.values()}
    assert watched == {
        ("AWS/SQS", "ApproximateNumberOfMessagesVisible"),
        ("AWS/SQS", "ApproximateAgeOfOldestMessage"),
        ("AWS/Lambda", "Errors"),
        ("AWS/States", "ExecutionsFailed"),
        ("AWS/States", "ExecutionsTimedOut"),
        ("TransferLite", "photos-PredictionDrift"),
        ("TransferLite", "photos-DriftChecks"),
    }


def drift_job_feeds_the_drift_alarm(template: Template) -> None:
    schedule, metric_filter = properties(template, "DriftSchedule"), properties(template, "DriftMetricFilter")
    assert template["Parameters"]["DriftState"]["Default"] == "DISABLED"
    assert schedule["Target"]["Arn"]["Fn::Sub"].endswith(":scheduler:::aws-sdk:batch:submitJob")
    call = json.loads(schedule["Target"]["Input"]["Fn::Sub"])
    assert set(call) == {"JobName", "JobQueue", "JobDefinition", "ContainerOverrides"}  # in PascalCase
    assert_parses(call["ContainerOverrides"]["Command"])
    assert (
        metric_filter["LogGroupName"]
        == container(template, "DriftJobDefinition")["LogConfiguration"]["Options"]["awslogs-group"]
    )
    assert metric_filter["FilterPattern"] == '{ $.over[0] = "*" }'
    (metric,) = metric_filter["MetricTransformations"]
    assert metric["MetricName"] == properties(template, "DriftAlarm")["MetricName"]


def new_labels_start_a_training_only_if_configured(template: Template) -> None:
    rule, role = template["Resources"]["NewLabelsRule"], template["Resources"]["NewLabelsRole"]
    assert (rule["Condition"], role["Condition"]) == ("TrainsOnNewLabels", "TrainsOnNewLabels")
    assert template["Parameters"]["TrainAfterLabels"]["Default"] == 0
    detail = rule["Properties"]["EventPattern"]["detail"]
    assert detail == {
        "bucket": {"name": [{"Ref": "DataBucketName"}]},
        "object": {"key": [{"Fn::Sub": "${DataPrefix}${LabelsKey}"}]},
    }
    (target,) = rule["Properties"]["Targets"]
    assert target["Arn"] == {"Ref": "TrainingStateMachine"}
    assert '"new_labels": ${TrainAfterLabels}' in target["Input"]["Fn::Sub"]
    assert target["DeadLetterConfig"] == {"Arn": {"Fn::GetAtt": ["ScheduleDeadLetterQueue", "Arn"]}}


def function_url_is_off_by_default_and_open_only_if_configured(template: Template) -> None:
    url, parameter = template["Resources"]["InferenceFunctionUrl"], template["Parameters"]["FunctionUrl"]
    assert url["Condition"] == "HasUrl"
    assert (parameter["Default"], parameter["AllowedValues"]) == ("off", ["off", "iam", "key", "public"])
    assert "WARNING" in parameter["Description"]
    assert url["Properties"]["AuthType"] == {"Fn::If": ["HasOpenUrl", "NONE", "AWS_IAM"]}
    granted = {name: template["Resources"][name] for name in ("OpenUrlPermission", "OpenUrlInvokePermission")}
    assert {permission["Condition"] for permission in granted.values()} == {"HasOpenUrl"}
    assert granted["OpenUrlPermission"]["Properties"]["FunctionUrlAuthType"] == "NONE"
    assert granted["OpenUrlInvokePermission"]["Properties"]["InvokedViaFunctionUrl"] is True
    assert len(of_type(template, "AWS::Lambda::Permission")) == 2


def function_is_traced_only_if_configured(template: Template) -> None:
    assert template["Parameters"]["Tracing"]["Default"] == "PassThrough"
    for function in of_type(template, "AWS::Lambda::Function").values():
        assert function["TracingConfig"] == {"Mode": {"Ref": "Tracing"}}
    policies = json.dumps(properties(template, "InferenceRole")["Policies"])
    assert re.search(
        r'"Fn::If": \["TracingEnabled", \{[^}]*"xray:PutTraceSegments", "xray:PutTelemetryRecords"', policies
    )


def signing_key_is_for_signing_and_is_retained(template: Template) -> None:
    key = template["Resources"]["SigningKey"]
    assert (key["Condition"], key["DeletionPolicy"]) == ("SigningEnabled", "Retain")
    assert (key["Properties"]["KeySpec"], key["Properties"]["KeyUsage"]) == ("ECC_NIST_P256", "SIGN_VERIFY")
    granted = json.dumps(properties(template, "TrainingJobRole")["Policies"])
    assert "kms:Sign" in granted
    assert "kms:Sign" not in json.dumps(properties(template, "InferenceRole")["Policies"])
    for job in ("GpuJobDefinition", "CpuJobDefinition"):
        assert "TRANSFERLITE_SIGNING_KEY" in json.dumps(container(template, job)["Environment"])


def assert_parses(command: list[str]) -> None:
    """Check that a job's command and options exist in the command line."""
    group: Any = transferlite
    words = list(command)
    while isinstance(group, click.Group):
        context = click.Context(group)
        command_or_group = group.get_command(context, words.pop(0))
        assert command_or_group is not None, command
        group = command_or_group
    known = {name for parameter in group.params for name in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= known, command


def logs_expire(template: Template) -> None:
    assert all(
        group["RetentionInDays"] == {"Ref": "LogDays"} for group in of_type(template, "AWS::Logs::LogGroup").values()
    )


def training_machines_accept_no_connections(template: Template) -> None:
    group = properties(template, "TrainingSecurityGroup")
    assert "SecurityGroupIngress" not in group
    assert [(rule["FromPort"], rule["ToPort"]) for rule in group["SecurityGroupEgress"]] == [(443, 443)]
    metadata = properties(template, "GpuLaunchTemplate")["LaunchTemplateData"]["MetadataOptions"]
    assert metadata == {"HttpTokens": "required", "HttpPutResponseHopLimit": 1}  # jobs do not reach it


# -- broken templates --------------------------------------------------------------------------------------------------

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
    (buckets_require_tls, ("DataBucketPolicy", "Bucket"), {"Ref": "ModelBucket"}),
    (buckets_require_tls, ("ModelBucketPolicy", "PolicyDocument", "Statement", 0, "Condition"), {}),
    (existing_buckets_are_not_resources_of_the_stack, ("Resources", "ModelBucketPolicy", "Condition"), "IsZip"),
    (existing_buckets_are_not_resources_of_the_stack, ("Outputs", "PredictionBucketName"), {"Ref": "PredictionBucket"}),
    (model_bucket_is_versioned, ("ModelBucket", "VersioningConfiguration"), {"Status": "Suspended"}),
    (
        only_incoming_photos_are_queued_and_predictions_go_elsewhere,
        ("IncomingRule", "EventPattern", "detail", "object"),
        {},
    ),
    (
        only_incoming_photos_are_queued_and_predictions_go_elsewhere,
        ("InferenceFunction", "Environment", "Variables", "TRANSFERLITE_OUTPUT_BUCKET"),
        {"Ref": "DataBucket"},
    ),
    (failed_photos_reach_the_dead_letter_queue, ("IncomingQueue", "VisibilityTimeout"), 60),
    (failed_photos_reach_the_dead_letter_queue, ("IncomingQueueTrigger", "FunctionResponseTypes"), []),
    (failed_photos_reach_the_dead_letter_queue, ("IncomingQueueTrigger", "ScalingConfig"), {}),
    (failed_photos_reach_the_dead_letter_queue, ("IncomingDeadLetterQueue", "MessageRetentionPeriod"), 345600),
    (
        only_the_rule_may_fill_the_queues,
        ("IncomingQueuePolicy", "PolicyDocument", "Statement", 0, "Principal"),
        "*",
    ),
    (machines_stop_between_jobs_and_are_updated_in_place, ("GpuSpotEnvironment", "ComputeResources", "MinvCpus"), 4),
    (
        machines_stop_between_jobs_and_are_updated_in_place,
        ("GpuOnDemandEnvironment", "ComputeResources", "Ec2Configuration"),
        [{"ImageType": "ECS_AL2_NVIDIA"}],
    ),
    (machines_stop_between_jobs_and_are_updated_in_place, ("CpuSpotEnvironment", "ReplaceComputeEnvironment"), True),
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
        training_machines_accept_no_connections,
        ("GpuLaunchTemplate", "LaunchTemplateData", "MetadataOptions", "HttpTokens"),
        "optional",
    ),
    (
        training_machines_accept_no_connections,
        ("GpuLaunchTemplate", "LaunchTemplateData", "MetadataOptions", "HttpPutResponseHopLimit"),
        2,
    ),
    (
        gpu_machines_have_gpus_and_disk,
        ("GpuJobDefinition", "ContainerProperties", "ResourceRequirements", 0, "Value"),
        "0",
    ),
    (
        jobs_run_unprivileged_on_a_read_only_root,
        ("CpuJobDefinition", "ContainerProperties", "ReadonlyRootFilesystem"),
        False,
    ),
    (jobs_run_unprivileged_on_a_read_only_root, ("GpuJobDefinition", "ContainerProperties", "User"), "0:0"),
    (
        only_causes_outside_the_job_are_retried,
        ("CpuJobDefinition", "RetryStrategy", "EvaluateOnExit", 0, "OnStatusReason"),
        "*",
    ),
    (
        only_causes_outside_the_job_are_retried,
        ("GpuJobDefinition", "RetryStrategy", "EvaluateOnExit", 3, "Action"),
        "RETRY",
    ),
    (training_schedule_is_valid_and_off_by_default, ("TrainingSchedule", "State"), "ENABLED"),
    (
        training_schedule_is_valid_and_off_by_default,
        ("TrainingSchedule", "Target", "Input"),
        {"Fn::Sub": '{"Compute": "${Compute}"}'},
    ),
    (
        roles_name_their_actions_and_resources,
        ("TrainingJobRole", "Policies", 0, "PolicyDocument", "Statement", 0, "Resource"),
        "*",
    ),
    (
        roles_name_their_actions_and_resources,
        ("InferenceRole", "Policies", 0, "PolicyDocument", "Statement", 0, "Action"),
        "s3:*",
    ),
    (each_service_has_a_role_of_its_own, ("InferenceFunction", "Role"), {"Fn::GetAtt": ["TrainingJobRole", "Arn"]}),
    (alarms_notify_the_topic, ("QueueAgeAlarm", "AlarmActions"), []),
    (drift_job_feeds_the_drift_alarm, ("DriftSchedule", "Target", "Input"), {"Fn::Sub": '{"jobName": "drift"}'}),
    (drift_job_feeds_the_drift_alarm, ("DriftAlarm", "MetricName"), "Other"),
    (drift_job_feeds_the_drift_alarm, ("DriftMetricFilter", "FilterPattern"), ""),
    (new_labels_start_a_training_only_if_configured, ("NewLabelsRule", "EventPattern", "detail", "object"), {}),
    (new_labels_start_a_training_only_if_configured, ("NewLabelsRule", "Targets", 0, "DeadLetterConfig"), None),
    (function_url_is_off_by_default_and_open_only_if_configured, ("InferenceFunctionUrl", "AuthType"), "NONE"),
    (
        function_url_is_off_by_default_and_open_only_if_configured,
        ("Resources", "OpenUrlPermission", "Condition"),
        "HasUrl",
    ),
    (
        function_url_is_off_by_default_and_open_only_if_configured,
        ("OpenUrlInvokePermission", "InvokedViaFunctionUrl"),
        False,
    ),
    (
        function_is_traced_only_if_configured,
        ("InferenceFunction", "TracingConfig"),
        {"Mode": "Active"},
    ),
    (function_is_traced_only_if_configured, ("ZipFunction", "TracingConfig"), None),
    (function_is_traced_only_if_configured, ("InferenceRole", "Policies"), []),
    (signing_key_is_for_signing_and_is_retained, ("SigningKey", "KeySpec"), "RSA_2048"),
    (signing_key_is_for_signing_and_is_retained, ("CpuJobDefinition", "ContainerProperties", "Environment"), []),
    (
        roles_name_their_actions_and_resources,
        ("BatchExecutionRole", "Policies", 0, "PolicyDocument", "Statement", 1, "Resource"),
        "*",
    ),
    (logs_expire, ("TrainingLogGroup", "RetentionInDays"), None),
    (
        training_machines_accept_no_connections,
        ("TrainingSecurityGroup", "SecurityGroupIngress"),
        [{"IpProtocol": "-1"}],
    ),
]


test_the_template_passes_the_check, test_the_check_detects_a_broken_template = make_tests(BREAKS)


def test_the_linter_finds_nothing(template: Template) -> None:
    config = ManualArgs(regions=["eu-central-1", "us-east-1"])
    assert [str(problem) for problem in lint((ROOT / "template.yaml").read_text(), config=config)] == []
    assert [str(problem) for problem in lint(json.dumps(template), config=config)] == []
    wrong = changed(template, ("GpuSpotEnvironment", "ComputeResources", "AllocationStrategy"), "CHEAPEST")
    assert lint(json.dumps(wrong), config=config)


def test_the_commands_of_the_state_machine_exist() -> None:
    states = json.loads(DEFINITION.read_text())["States"]
    for name in ("ExtractFeatures", "Train"):
        assert_parses(states[name]["Parameters"]["ContainerOverrides"]["Command"])
    text = states["CheckData"]["Parameters"]["ContainerOverrides"]["Command.$"]
    assert_parses(re.findall(r"'((?:--)?[a-z-]+)'", text))


def test_the_runbook_has_a_row_for_every_alarm(template: Template) -> None:
    rows = re.findall(r"^\| `(\w+Alarm)` \|", (ROOT / "docs" / "operations.md").read_text(), re.MULTILINE)
    assert sorted(rows) == sorted(of_type(template, "AWS::CloudWatch::Alarm"))


def test_every_parameter_has_a_description_and_all_but_names_and_the_training_image_a_default() -> None:
    parameters = read_template()["Parameters"]
    assert all(parameter["Description"] for parameter in parameters.values())
    assert {name for name, parameter in parameters.items() if "Default" not in parameter} == {
        "TrainImage",
        "Prefix",
        "DataBucketName",
    }
    grouped = read_template()["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
    assert {name for group in grouped for name in group["Parameters"]} == set(parameters)


def test_types_that_moto_cannot_deploy_are_listed(template: Template) -> None:
    left = {resource["Type"] for resource in template["Resources"].values()} - {
        resource["Type"] for resource in deployable(template)["Resources"].values()
    }
    assert left == UNKNOWN
