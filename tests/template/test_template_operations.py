"""Checks of the template's options, alarms, dashboard, tags and outputs; each detects a broken template."""

import json
import re
from typing import Any

from tests.template.checking import Break, as_list, make_tests, of_type, properties
from tests.template.stack import PARAMETERS, ROOT, Template, is_true, resolved

OPTIONS = {
    "TracingEnabled": {"Tracing": "Active"},
    "HasEmail": {"AlarmEmail": "you@example.com"},
    "HasUrl": {"FunctionUrl": "iam"},
    "HasOpenUrl": {"FunctionUrl": "key"},
    "HasApiKey": {"ApiKeySha256": "0" * 64},
    "HasCors": {"CorsOrigins": "https://example.com"},
    "SigningEnabled": {"Signing": "on"},
    "TrainsOnNewLabels": {"TrainAfterLabels": "100"},
    "ReservesConcurrency": {"ReserveConcurrency": "on"},
    "TagsPhotos": {"PhotoTags": "on"},
    "SendsEvents": {"EventBus": "default"},
    "WritesLines": {"Lines": "on"},
    "HasMetrics": {"Metrics": "on"},
    "HasGpu": {"Compute": "gpu"},
    "HasPlanImage": {"PlanImage": PARAMETERS["TrainImage"]},
    "HasZoneC": {"Zones": "3"},
    "HasZoneD": {"Zones": "4"},
    "HasZoneE": {"Zones": "5"},
    "HasZoneF": {"Zones": "6"},
    "IsZip": {"FunctionPackage": "Zip"},
    "ChecksDrift": {"DriftState": "ENABLED"},
    "HasDataKey": {"DataKeyArn": "arn:aws:kms:eu-central-1:123456789012:key/1"},
}
"""Each condition, and the parameter that turns it on."""
ON_BY_DEFAULT = {"IsImage", "NewDataBucket", "NewModelBucket", "NewPredictionBucket"}
SIGV4_HEADERS = {"authorization", "content-type", "x-amz-content-sha256", "x-amz-date", "x-amz-security-token"}
"""Headers of a signed call: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html"""
VISIBLE, AGE = "ApproximateNumberOfMessagesVisible", "ApproximateAgeOfOldestMessage"
FUNCTION = {"Fn::If": ["IsZip", {"Ref": "ZipFunction"}, {"Ref": "InferenceFunction"}]}
ALARMS = {
    "DeadLetterAlarm": ("AWS/SQS", VISIBLE, "QueueName", {"Fn::GetAtt": ["IncomingDeadLetterQueue", "QueueName"]}, 0),
    "QueueAgeAlarm": ("AWS/SQS", AGE, "QueueName", {"Fn::GetAtt": ["IncomingQueue", "QueueName"]}, 900),
    "FunctionErrorsAlarm": ("AWS/Lambda", "Errors", "FunctionName", FUNCTION, 0),
    "TrainingFailedAlarm": ("AWS/States", "ExecutionsFailed", "StateMachineArn", {"Ref": "TrainingStateMachine"}, 0),
    "TrainingTooLongAlarm": (
        "AWS/States",
        "ExecutionsTimedOut",
        "StateMachineArn",
        {"Ref": "TrainingStateMachine"},
        0,
    ),
    "TrainingNotStartedAlarm": (
        "AWS/SQS",
        VISIBLE,
        "QueueName",
        {"Fn::GetAtt": ["ScheduleDeadLetterQueue", "QueueName"]},
        0,
    ),
    "DriftAlarm": ("TransferLite", "photos-PredictionDrift", None, None, 0),
}
"""Namespace, metric, dimension with value, and threshold of each alarm."""
UNTAGGABLE_TYPES = {
    "AWS::S3::BucketPolicy",
    "AWS::SQS::QueuePolicy",
    "AWS::SNS::TopicPolicy",
    "AWS::SNS::Subscription",
    "AWS::EC2::VPCGatewayAttachment",
    "AWS::EC2::Route",
    "AWS::EC2::SubnetRouteTableAssociation",
    "AWS::IAM::InstanceProfile",
    "AWS::KMS::Alias",
    "AWS::Lambda::Url",
    "AWS::Lambda::Permission",
    "AWS::Logs::MetricFilter",
    "AWS::Scheduler::Schedule",
}
TAGGED_ONLY_BY_THE_STACK = {"GpuLaunchTemplate", "IncomingRule", "NewLabelsRule", "Dashboard"}
"""Resources without own tags: CloudFormation long supported none for rules and dashboards."""


# -- the checks --------------------------------------------------------------------------------------------------------


def options_are_off_by_default(template: Template) -> None:
    defaults = {name: str(parameter.get("Default", "")) for name, parameter in template["Parameters"].items()} | {
        "InferenceImage": PARAMETERS["InferenceImage"]
    }
    assert set(template["Conditions"]) == set(OPTIONS) | ON_BY_DEFAULT
    for name, expression in template["Conditions"].items():
        assert is_true(expression, defaults) == (name in ON_BY_DEFAULT), name
    for name, option in OPTIONS.items():
        assert is_true(template["Conditions"][name], defaults | option), name
        (parameter,) = option
        allowed = template["Parameters"][parameter].get("AllowedValues")
        assert allowed is None or option[parameter] in map(str, allowed)


def only_configured_origins_may_send_signed_calls(template: Template) -> None:
    assert template["Parameters"]["CorsOrigins"]["Default"] == ""
    condition, cors, otherwise = properties(template, "InferenceFunctionUrl")["Cors"]["Fn::If"]
    assert (condition, otherwise) == ("HasCors", {"Ref": "AWS::NoValue"})
    assert cors["AllowOrigins"] == {"Ref": "CorsOrigins"}
    assert set(cors["AllowMethods"]) == {"GET", "POST"}
    assert set(cors["AllowHeaders"]) == SIGV4_HEADERS | {"x-api-key"}
    assert 0 < cors["MaxAge"] <= 86400
    assert "AllowCredentials" not in cors
    function = properties(template, "InferenceFunction")["Environment"]["Variables"]
    assert "TRANSFERLITE_CORS_ORIGINS" not in function  # otherwise responses would have the headers twice


def concurrency_is_limited_and_reserved_only_if_configured(template: Template) -> None:
    for function in of_type(template, "AWS::Lambda::Function").values():
        # as many as the queue may use: fewer would throttle it
        reserved = {"Fn::If": ["ReservesConcurrency", {"Ref": "FunctionConcurrency"}, {"Ref": "AWS::NoValue"}]}
        assert function["ReservedConcurrentExecutions"] == reserved
    assert template["Parameters"]["ReserveConcurrency"]["Default"] == "off"
    limit = template["Parameters"]["FunctionConcurrency"]
    assert 2 == limit["MinValue"] <= limit["Default"] <= limit["MaxValue"]  # SQS requires at least 2


def each_alarm_watches_its_metric_and_threshold(template: Template) -> None:
    alarms = of_type(template, "AWS::CloudWatch::Alarm")
    assert set(alarms) == {*ALARMS, "DriftCheckAlarm"}
    for name, (namespace, metric, dimension, value, above) in ALARMS.items():
        alarm = alarms[name]
        dimensions = [{"Name": dimension, "Value": value}] if dimension else []
        assert (alarm["Namespace"], resolved(alarm["MetricName"], {})) == (namespace, metric)
        assert alarm.get("Dimensions", []) == dimensions, name
        assert (alarm["ComparisonOperator"], alarm["Threshold"]) == ("GreaterThanThreshold", above), name
        assert alarm["Statistic"] == ("Sum" if namespace in {"AWS/Lambda", "AWS/States"} else "Maximum"), name
        assert alarm["TreatMissingData"] == "notBreaching", name
        assert alarm["EvaluationPeriods"] * alarm["Period"] <= 3600, name
        assert alarm["AlarmDescription"]


def a_drift_check_that_does_not_finish_raises_an_alarm(template: Template) -> None:
    """Missing data are breaching: a check that fails prints no line, and so counts nothing."""
    alarm, metric_filter = properties(template, "DriftCheckAlarm"), properties(template, "DriftCheckFilter")
    assert template["Resources"]["DriftCheckAlarm"]["Condition"] == "ChecksDrift"
    assert (metric_filter["LogGroupName"], metric_filter["FilterPattern"]) == (
        {"Ref": "TrainingLogGroup"},
        "{ $.files_read >= 0 }",
    )
    (metric,) = metric_filter["MetricTransformations"]
    assert (metric["MetricNamespace"], metric["MetricName"]) == (alarm["Namespace"], alarm["MetricName"])
    assert (metric["MetricValue"], metric.get("DefaultValue")) == ("1", None)
    assert (alarm["TreatMissingData"], alarm["ComparisonOperator"]) == ("breaching", "LessThanThreshold")
    assert (alarm["Statistic"], alarm["Threshold"], alarm["AlarmActions"]) == (
        "Maximum",
        1,
        [{"Ref": "NotificationTopic"}],
    )
    window = properties(template, "DriftSchedule")["FlexibleTimeWindow"]["MaximumWindowInMinutes"] * 60
    assert 86400 + window < alarm["EvaluationPeriods"] * alarm["Period"] < 2 * 86400
    assert properties(template, "DriftSchedule")["ScheduleExpression"] == "cron(0 6 * * ? *)"


def alarms_may_publish_only_over_tls(template: Template) -> None:
    policy = properties(template, "NotificationTopicPolicy")
    allowed, denied = policy["PolicyDocument"]["Statement"]
    assert policy["Topics"] == [{"Ref": "NotificationTopic"}]
    assert (allowed["Principal"], allowed["Action"]) == ({"Service": "cloudwatch.amazonaws.com"}, "sns:Publish")
    assert allowed["Condition"] == {"StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}}
    assert (denied["Effect"], denied["Principal"]) == ("Deny", "*")
    assert denied["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
    assert template["Resources"]["EmailSubscription"]["Condition"] == "HasEmail"
    assert properties(template, "EmailSubscription") == {
        "TopicArn": {"Ref": "NotificationTopic"},
        "Protocol": "email",
        "Endpoint": {"Ref": "AlarmEmail"},
    }


def dashboard_shows_the_alarm_metrics(template: Template) -> None:
    text, substitutions = properties(template, "Dashboard")["DashboardBody"]["Fn::Sub"]
    names = set(re.findall(r"\$\{([\w:]+)[\w.]*\}", text))
    assert names <= set(template["Resources"]) | set(substitutions) | {"AWS::Region", "AWS::StackName"}
    widgets = json.loads(text)["widgets"]
    positions = {(widget["x"], widget["y"]) for widget in widgets}
    assert len(positions) == len(widgets)
    assert all(widget["x"] + widget["width"] <= 24 for widget in widgets)  # a dashboard's columns
    assert all(widget["properties"]["region"] == "${AWS::Region}" for widget in widgets)
    shown = {tuple(metric[:4]) for widget in widgets for metric in widget["properties"]["metrics"]}
    for name in {*ALARMS, "DriftCheckAlarm"} - {"TrainingNotStartedAlarm"}:
        assert _as_shown(properties(template, name)) in shown, name


def _as_shown(alarm: Any) -> tuple[str, ...]:
    """Return an alarm's metric as the dashboard's ``Fn::Sub`` text contains it."""
    words = [alarm["Namespace"], alarm["MetricName"]]
    for dimension in alarm.get("Dimensions", ()):
        words += [dimension["Name"], "${Function}" if dimension["Value"] == FUNCTION else dimension["Value"]]
    return tuple(_text(word) for word in words)


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    ((function, argument),) = value.items()
    return str(argument) if function == "Fn::Sub" else "${" + ".".join(as_list(argument)) + "}"


def every_resource_is_tagged(template: Template) -> None:
    for name, resource in template["Resources"].items():
        if resource["Type"] in UNTAGGABLE_TYPES or name in TAGGED_ONLY_BY_THE_STACK:
            continue
        tags = resource["Properties"]["Tags"]
        pairs = tags if isinstance(tags, dict) else {tag["Key"]: tag["Value"] for tag in tags}
        assert pairs["Project"] == "TransferLite", name
    for machines in of_type(template, "AWS::Batch::ComputeEnvironment").values():
        kind = machines["ComputeResources"]["Type"]
        assert "FARGATE" in kind or machines["ComputeResources"]["Tags"] == {"Project": "TransferLite"}
    for job in of_type(template, "AWS::Batch::JobDefinition").values():
        assert job["PropagateTags"] is True


def outputs_include_those_the_commands_read(template: Template) -> None:
    outputs = {name: output["Value"] for name, output in template["Outputs"].items()}
    sources = [
        path.read_text()
        for path in (*(ROOT / "transferlite" / "cloud").glob("*.py"), ROOT / "transferlite" / "cli" / "cloud.py")
    ]
    named = r'"([A-Z]\w+(?:Uri|Arn|Url|Group))"'
    of_requests = {"DataKeyArn", "KmsKeyArn"}  # a parameter of the stack, and one of EventBridge Scheduler
    read = {name for text in sources for name in re.findall(named, text)} - of_requests
    assert len(read) >= 6
    assert read <= set(outputs)
    assert outputs["RegistryUri"] == {"Fn::Sub": "s3://${Prefix}-models/registry"}
    assert outputs["TrainingArn"] == {"Ref": "TrainingStateMachine"}
    assert outputs["IncomingQueueUrl"] == {"Ref": "IncomingQueue"}
    assert outputs["DeadLettersUrl"] == {"Ref": "IncomingDeadLetterQueue"}
    assert outputs["TrainLogGroup"] == {"Ref": "TrainingLogGroup"}
    assert outputs["InferenceLogGroup"] == {"Ref": "InferenceLogGroup"}
    assert all(output["Description"] for output in template["Outputs"].values())
    of_options = {name: output["Condition"] for name, output in template["Outputs"].items() if "Condition" in output}
    assert of_options == {"FunctionUrl": "HasUrl", "SigningKeyArn": "SigningEnabled"}


def only_the_account_may_use_the_signing_key(template: Template) -> None:
    (statement,) = properties(template, "SigningKey")["KeyPolicy"]["Statement"]
    assert statement["Principal"] == {"AWS": {"Fn::Sub": "arn:${AWS::Partition}:iam::${AWS::AccountId}:root"}}
    assert template["Resources"]["SigningKeyAlias"]["Condition"] == "SigningEnabled"
    assert properties(template, "SigningKeyAlias")["TargetKeyId"] == {"Ref": "SigningKey"}
    for function in of_type(template, "AWS::Lambda::Function").values():
        public_key = function["Environment"]["Variables"]["TRANSFERLITE_PUBLIC_KEY"]
        assert public_key["Fn::If"] == [
            "SigningEnabled",
            {"Fn::Sub": "awskms:///${SigningKey.Arn}"},
            {"Ref": "AWS::NoValue"},
        ]


# -- broken templates --------------------------------------------------------------------------------------------------

NEVER = {"Fn::Equals": ["a", "b"]}
BREAKS: list[Break] = [
    *((options_are_off_by_default, ("Conditions", name), NEVER) for name in OPTIONS),
    *(
        (options_are_off_by_default, ("Parameters", name, "Default"), value)
        for option in OPTIONS.values()
        for name, value in option.items()
    ),
    (options_are_off_by_default, ("Parameters", "Signing", "AllowedValues"), ["off", "yes"]),
    (
        only_configured_origins_may_send_signed_calls,
        ("InferenceFunctionUrl", "Cors", "Fn::If", 1, "AllowOrigins"),
        ["*"],
    ),
    (
        only_configured_origins_may_send_signed_calls,
        ("InferenceFunctionUrl", "Cors", "Fn::If", 1, "AllowMethods"),
        ["*"],
    ),
    (
        only_configured_origins_may_send_signed_calls,
        ("InferenceFunctionUrl", "Cors", "Fn::If", 1, "AllowHeaders", 0),
        "x",
    ),
    (
        only_configured_origins_may_send_signed_calls,
        ("InferenceFunctionUrl", "Cors", "Fn::If", 1, "AllowCredentials"),
        True,
    ),
    (only_configured_origins_may_send_signed_calls, ("InferenceFunctionUrl", "Cors", "Fn::If", 1, "MaxAge"), 90000),
    (only_configured_origins_may_send_signed_calls, ("InferenceFunctionUrl", "Cors", "Fn::If", 0), "HasUrl"),
    (
        concurrency_is_limited_and_reserved_only_if_configured,
        ("InferenceFunction", "ReservedConcurrentExecutions"),
        {"Ref": "FunctionConcurrency"},
    ),
    (
        concurrency_is_limited_and_reserved_only_if_configured,
        ("ZipFunction", "ReservedConcurrentExecutions", "Fn::If", 1),
        {"Ref": "Zones"},
    ),
    (
        concurrency_is_limited_and_reserved_only_if_configured,
        ("Parameters", "FunctionConcurrency", "MinValue"),
        1,
    ),
    *((each_alarm_watches_its_metric_and_threshold, (name, "Threshold"), 1) for name in ALARMS),
    *((each_alarm_watches_its_metric_and_threshold, (name, "MetricName"), "Other") for name in ALARMS),
    *(
        (each_alarm_watches_its_metric_and_threshold, (name, "Dimensions"), [])
        for name in ALARMS
        if name != "DriftAlarm"
    ),
    (
        each_alarm_watches_its_metric_and_threshold,
        ("QueueAgeAlarm", "ComparisonOperator"),
        "LessThanThreshold",
    ),
    (
        each_alarm_watches_its_metric_and_threshold,
        ("DriftAlarm", "TreatMissingData"),
        "breaching",
    ),
    (each_alarm_watches_its_metric_and_threshold, ("FunctionErrorsAlarm", "Statistic"), "Average"),
    (a_drift_check_that_does_not_finish_raises_an_alarm, ("DriftCheckAlarm", "TreatMissingData"), "notBreaching"),
    (a_drift_check_that_does_not_finish_raises_an_alarm, ("DriftCheckAlarm", "EvaluationPeriods"), 24),
    (a_drift_check_that_does_not_finish_raises_an_alarm, ("DriftCheckAlarm", "MetricName"), "Other"),
    (a_drift_check_that_does_not_finish_raises_an_alarm, ("DriftCheckFilter", "FilterPattern"), ""),
    (each_alarm_watches_its_metric_and_threshold, ("DeadLetterAlarm", "EvaluationPeriods"), 99),
    (
        alarms_may_publish_only_over_tls,
        ("NotificationTopicPolicy", "PolicyDocument", "Statement", 0, "Principal"),
        "*",
    ),
    (alarms_may_publish_only_over_tls, ("NotificationTopicPolicy", "PolicyDocument", "Statement", 0, "Condition"), {}),
    (alarms_may_publish_only_over_tls, ("NotificationTopicPolicy", "PolicyDocument", "Statement", 1, "Condition"), {}),
    (alarms_may_publish_only_over_tls, ("EmailSubscription", "Endpoint"), "someone@example.com"),
    (dashboard_shows_the_alarm_metrics, ("Dashboard", "DashboardBody", "Fn::Sub", 0), '{"widgets": []}'),
    (dashboard_shows_the_alarm_metrics, ("Dashboard", "DashboardBody", "Fn::Sub", 0), "{"),
    (dashboard_shows_the_alarm_metrics, ("Dashboard", "DashboardBody", "Fn::Sub", 1), {}),
    (dashboard_shows_the_alarm_metrics, ("DriftAlarm", "MetricName"), {"Fn::Sub": "${AWS::StackName}-Other"}),
    (dashboard_shows_the_alarm_metrics, ("QueueAgeAlarm", "MetricName"), "Other"),
    (every_resource_is_tagged, ("ModelBucket", "Tags"), []),
    (every_resource_is_tagged, ("ZipFunction", "Tags"), [{"Key": "Project", "Value": "Other"}]),
    (every_resource_is_tagged, ("GpuSpotEnvironment", "ComputeResources", "Tags"), {}),
    (every_resource_is_tagged, ("CheckJobDefinition", "PropagateTags"), False),
    *(
        (outputs_include_those_the_commands_read, ("Outputs", name, "Value"), {"Ref": "NotificationTopic"})
        for name in (
            "RegistryUri",
            "TrainingArn",
            "IncomingQueueUrl",
            "DeadLettersUrl",
            "TrainLogGroup",
            "InferenceLogGroup",
        )
    ),
    (outputs_include_those_the_commands_read, ("Outputs",), {}),
    (outputs_include_those_the_commands_read, ("Outputs", "FunctionUrl", "Condition"), "SigningEnabled"),
    (only_the_account_may_use_the_signing_key, ("SigningKey", "KeyPolicy", "Statement", 0, "Principal"), "*"),
    (only_the_account_may_use_the_signing_key, ("SigningKeyAlias", "TargetKeyId"), "other"),
    (
        only_the_account_may_use_the_signing_key,
        ("InferenceFunction", "Environment", "Variables", "TRANSFERLITE_PUBLIC_KEY"),
        {"Ref": "AWS::NoValue"},
    ),
]


test_the_template_passes_the_check, test_the_check_detects_a_broken_template = make_tests(BREAKS)
