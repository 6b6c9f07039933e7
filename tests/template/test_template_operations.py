"""What the template promises of options, alarms, the dashboard, tags and outputs, and that its checks see it broken."""

import json
import re
from typing import Any

from tests.template.checking import Break, as_list, of_type, promises, properties
from tests.template.stack import PARAMETERS, ROOT, Template, is_true, resolved

OPTIONS = {
    "TracingEnabled": {"Tracing": "Active"},
    "HasEmail": {"AlarmEmail": "you@example.com"},
    "HasUrl": {"FunctionUrl": "on"},
    "HasCors": {"CorsOrigins": "https://example.com"},
    "SigningEnabled": {"Signing": "on"},
    "TrainsOnNewLabels": {"TrainAfterLabels": "100"},
    "ReservesConcurrency": {"ReservedConcurrency": "5"},
    "IsZip": {"FunctionPackage": "Zip"},
}
"""Each condition, and the parameter that turns it on."""
ON_BY_DEFAULT = {"IsImage"}
OF_SIGV4 = {"authorization", "content-type", "x-amz-content-sha256", "x-amz-date", "x-amz-security-token"}
"""Headers of a signed call: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html"""
VISIBLE, AGE = "ApproximateNumberOfMessagesVisible", "ApproximateAgeOfOldestMessage"
FUNCTION = {"Fn::If": ["IsZip", {"Ref": "ZipFunction"}, {"Ref": "InferenceFunction"}]}
ALARMS = {
    "DeadLetterAlarm": ("AWS/SQS", VISIBLE, "QueueName", {"Fn::GetAtt": ["IncomingDeadLetterQueue", "QueueName"]}, 0),
    "QueueAgeAlarm": ("AWS/SQS", AGE, "QueueName", {"Fn::GetAtt": ["IncomingQueue", "QueueName"]}, 900),
    "FunctionErrorsAlarm": ("AWS/Lambda", "Errors", "FunctionName", FUNCTION, 0),
    "TrainingFailedAlarm": ("AWS/States", "ExecutionsFailed", "StateMachineArn", {"Ref": "TrainingStateMachine"}, 0),
    "TrainingNotStartedAlarm": (
        "AWS/SQS",
        VISIBLE,
        "QueueName",
        {"Fn::GetAtt": ["ScheduleDeadLetterQueue", "QueueName"]},
        0,
    ),
    "DriftAlarm": ("TransferLite", "photos-PredictionDrift", None, None, 0),
}
"""Each alarm's namespace, metric, dimension with its value, and what it has to be above."""
HAVE_NO_TAGS = {
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
    "AWS::Logs::MetricFilter",
    "AWS::Scheduler::Schedule",
}
TAGGED_BY_THE_STACK_ALONE = {"GpuLaunchTemplate", "NewLabelsRule", "Dashboard"}
"""CloudFormation took no tags of a rule or a dashboard until lately; a launch template tags what it starts."""


# -- the checks -------------------------------------------------------------------------------------------------------


def options_are_off_until_asked_for(template: Template) -> None:
    defaults = {name: str(one.get("Default", "")) for name, one in template["Parameters"].items()} | PARAMETERS
    assert set(template["Conditions"]) == set(OPTIONS) | ON_BY_DEFAULT
    for name, said in template["Conditions"].items():
        assert is_true(said, defaults) == (name in ON_BY_DEFAULT), name
    for name, asked in OPTIONS.items():
        assert is_true(template["Conditions"][name], defaults | asked), name
        (parameter,) = asked
        allowed = template["Parameters"][parameter].get("AllowedValues")
        assert allowed is None or asked[parameter] in allowed


def pages_that_are_named_may_sign_calls_and_no_others(template: Template) -> None:
    assert template["Parameters"]["CorsOrigins"]["Default"] == ""
    condition, cors, otherwise = properties(template, "InferenceFunctionUrl")["Cors"]["Fn::If"]
    assert (condition, otherwise) == ("HasCors", {"Ref": "AWS::NoValue"})
    assert cors["AllowOrigins"] == {"Ref": "CorsOrigins"}
    assert set(cors["AllowMethods"]) == {"GET", "POST"}
    assert set(cors["AllowHeaders"]) == OF_SIGV4 | {"x-api-key"}
    assert 0 < cors["MaxAge"] <= 86400
    assert "AllowCredentials" not in cors
    function = properties(template, "InferenceFunction")["Environment"]["Variables"]
    assert "TRANSFERLITE_CORS_ORIGINS" not in function  # the headers would be there twice


def concurrency_has_a_limit_and_is_reserved_only_where_asked_for(template: Template) -> None:
    for function in of_type(template, "AWS::Lambda::Function").values():
        reserved = {"Fn::If": ["ReservesConcurrency", {"Ref": "ReservedConcurrency"}, {"Ref": "AWS::NoValue"}]}
        assert function["ReservedConcurrentExecutions"] == reserved
    assert template["Parameters"]["ReservedConcurrency"]["Default"] == 0
    limit = template["Parameters"]["FunctionConcurrency"]
    assert 2 == limit["MinValue"] <= limit["Default"] <= limit["MaxValue"]  # SQS takes no less than 2


def each_alarm_watches_its_metric_and_rings_once_it_is_above(template: Template) -> None:
    alarms = of_type(template, "AWS::CloudWatch::Alarm")
    assert set(alarms) == set(ALARMS)
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


def alarms_may_tell_and_only_over_tls(template: Template) -> None:
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


def the_dashboard_shows_what_the_alarms_watch(template: Template) -> None:
    text, given = properties(template, "Dashboard")["DashboardBody"]["Fn::Sub"]
    names = set(re.findall(r"\$\{([\w:]+)[\w.]*\}", text))
    assert names <= set(template["Resources"]) | set(given) | {"AWS::Region", "AWS::StackName"}
    widgets = json.loads(text)["widgets"]
    places = {(one["x"], one["y"]) for one in widgets}
    assert len(places) == len(widgets)
    assert all(one["x"] + one["width"] <= 24 for one in widgets)  # a dashboard's columns
    assert all(one["properties"]["region"] == "${AWS::Region}" for one in widgets)
    shown = {tuple(metric[:4]) for one in widgets for metric in one["properties"]["metrics"]}
    for name in set(ALARMS) - {"TrainingNotStartedAlarm"}:
        assert _as_shown(properties(template, name)) in shown, name


def _as_shown(alarm: Any) -> tuple[str, ...]:
    """An alarm's metric as a dashboard of ``Fn::Sub`` writes it."""
    words = [alarm["Namespace"], alarm["MetricName"]]
    for one in alarm.get("Dimensions", ()):
        words += [one["Name"], "${Function}" if one["Value"] == FUNCTION else one["Value"]]
    return tuple(_text(one) for one in words)


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    ((function, said),) = value.items()
    return str(said) if function == "Fn::Sub" else "${" + ".".join(as_list(said)) + "}"


def all_is_tagged(template: Template) -> None:
    for name, resource in template["Resources"].items():
        if resource["Type"] in HAVE_NO_TAGS or name in TAGGED_BY_THE_STACK_ALONE:
            continue
        tags = resource["Properties"]["Tags"]
        pairs = tags if isinstance(tags, dict) else {one["Key"]: one["Value"] for one in tags}
        assert pairs["Project"] == "TransferLite", name
    for machines in of_type(template, "AWS::Batch::ComputeEnvironment").values():
        kind = machines["ComputeResources"]["Type"]
        assert "FARGATE" in kind or machines["ComputeResources"]["Tags"] == {"Project": "TransferLite"}
    for job in of_type(template, "AWS::Batch::JobDefinition").values():
        assert job["PropagateTags"] is True


def outputs_are_what_the_commands_read(template: Template) -> None:
    outputs = {name: one["Value"] for name, one in template["Outputs"].items()}
    sources = [
        path.read_text()
        for path in (*(ROOT / "transferlite" / "cloud").glob("*.py"), ROOT / "transferlite" / "cli" / "cloud.py")
    ]
    named = r'"([A-Z]\w+(?:Uri|Arn|Url|Group))"'
    read = {name for text in sources for name in re.findall(named, text)}
    assert len(read) >= 6
    assert read <= set(outputs)
    assert outputs["RegistryUri"] == {"Fn::Sub": "s3://${ModelBucket}/registry"}
    assert outputs["TrainingArn"] == {"Ref": "TrainingStateMachine"}
    assert outputs["IncomingQueueUrl"] == {"Ref": "IncomingQueue"}
    assert outputs["DeadLettersUrl"] == {"Ref": "IncomingDeadLetterQueue"}
    assert outputs["TrainLogGroup"] == {"Ref": "TrainingLogGroup"}
    assert outputs["InferenceLogGroup"] == {"Ref": "InferenceLogGroup"}
    assert all(one["Description"] for one in template["Outputs"].values())
    of_options = {name: one["Condition"] for name, one in template["Outputs"].items() if "Condition" in one}
    assert of_options == {"FunctionUrl": "HasUrl", "SigningKeyArn": "SigningEnabled"}


def the_signing_key_is_the_accounts_alone(template: Template) -> None:
    (statement,) = properties(template, "SigningKey")["KeyPolicy"]["Statement"]
    assert statement["Principal"] == {"AWS": {"Fn::Sub": "arn:${AWS::Partition}:iam::${AWS::AccountId}:root"}}
    assert template["Resources"]["SigningKeyAlias"]["Condition"] == "SigningEnabled"
    assert properties(template, "SigningKeyAlias")["TargetKeyId"] == {"Ref": "SigningKey"}
    for function in of_type(template, "AWS::Lambda::Function").values():
        asked = function["Environment"]["Variables"]["TRANSFERLITE_PUBLIC_KEY"]
        assert asked["Fn::If"] == [
            "SigningEnabled",
            {"Fn::Sub": "awskms:///${SigningKey.Arn}"},
            {"Ref": "AWS::NoValue"},
        ]


# -- and what breaks them ----------------------------------------------------------------------------------------------

NEVER = {"Fn::Equals": ["a", "b"]}
BREAKS: list[Break] = [
    *((options_are_off_until_asked_for, ("Conditions", name), NEVER) for name in OPTIONS),
    *(
        (options_are_off_until_asked_for, ("Parameters", name, "Default"), value)
        for one in OPTIONS.values()
        for name, value in one.items()
    ),
    (options_are_off_until_asked_for, ("Parameters", "Signing", "AllowedValues"), ["off", "yes"]),
    (
        pages_that_are_named_may_sign_calls_and_no_others,
        ("InferenceFunctionUrl", "Cors", "Fn::If", 1, "AllowOrigins"),
        ["*"],
    ),
    (
        pages_that_are_named_may_sign_calls_and_no_others,
        ("InferenceFunctionUrl", "Cors", "Fn::If", 1, "AllowMethods"),
        ["*"],
    ),
    (
        pages_that_are_named_may_sign_calls_and_no_others,
        ("InferenceFunctionUrl", "Cors", "Fn::If", 1, "AllowHeaders", 0),
        "x",
    ),
    (
        pages_that_are_named_may_sign_calls_and_no_others,
        ("InferenceFunctionUrl", "Cors", "Fn::If", 1, "AllowCredentials"),
        True,
    ),
    (pages_that_are_named_may_sign_calls_and_no_others, ("InferenceFunctionUrl", "Cors", "Fn::If", 1, "MaxAge"), 90000),
    (pages_that_are_named_may_sign_calls_and_no_others, ("InferenceFunctionUrl", "Cors", "Fn::If", 0), "HasUrl"),
    (
        concurrency_has_a_limit_and_is_reserved_only_where_asked_for,
        ("InferenceFunction", "ReservedConcurrentExecutions"),
        {"Ref": "ReservedConcurrency"},
    ),
    (
        concurrency_has_a_limit_and_is_reserved_only_where_asked_for,
        ("Parameters", "FunctionConcurrency", "MinValue"),
        1,
    ),
    *((each_alarm_watches_its_metric_and_rings_once_it_is_above, (name, "Threshold"), 1) for name in ALARMS),
    *((each_alarm_watches_its_metric_and_rings_once_it_is_above, (name, "MetricName"), "Other") for name in ALARMS),
    *(
        (each_alarm_watches_its_metric_and_rings_once_it_is_above, (name, "Dimensions"), [])
        for name in ALARMS
        if name != "DriftAlarm"
    ),
    (
        each_alarm_watches_its_metric_and_rings_once_it_is_above,
        ("QueueAgeAlarm", "ComparisonOperator"),
        "LessThanThreshold",
    ),
    (
        each_alarm_watches_its_metric_and_rings_once_it_is_above,
        ("DriftAlarm", "TreatMissingData"),
        "breaching",
    ),
    (each_alarm_watches_its_metric_and_rings_once_it_is_above, ("FunctionErrorsAlarm", "Statistic"), "Average"),
    (each_alarm_watches_its_metric_and_rings_once_it_is_above, ("DeadLetterAlarm", "EvaluationPeriods"), 99),
    (
        alarms_may_tell_and_only_over_tls,
        ("NotificationTopicPolicy", "PolicyDocument", "Statement", 0, "Principal"),
        "*",
    ),
    (alarms_may_tell_and_only_over_tls, ("NotificationTopicPolicy", "PolicyDocument", "Statement", 0, "Condition"), {}),
    (alarms_may_tell_and_only_over_tls, ("NotificationTopicPolicy", "PolicyDocument", "Statement", 1, "Condition"), {}),
    (alarms_may_tell_and_only_over_tls, ("EmailSubscription", "Endpoint"), "someone@example.com"),
    (the_dashboard_shows_what_the_alarms_watch, ("Dashboard", "DashboardBody", "Fn::Sub", 0), '{"widgets": []}'),
    (the_dashboard_shows_what_the_alarms_watch, ("Dashboard", "DashboardBody", "Fn::Sub", 0), "{"),
    (the_dashboard_shows_what_the_alarms_watch, ("Dashboard", "DashboardBody", "Fn::Sub", 1), {}),
    (the_dashboard_shows_what_the_alarms_watch, ("DriftAlarm", "MetricName"), {"Fn::Sub": "${AWS::StackName}-Other"}),
    (the_dashboard_shows_what_the_alarms_watch, ("QueueAgeAlarm", "MetricName"), "Other"),
    (all_is_tagged, ("ModelBucket", "Tags"), []),
    (all_is_tagged, ("ZipFunction", "Tags"), [{"Key": "Project", "Value": "Other"}]),
    (all_is_tagged, ("GpuSpotEnvironment", "ComputeResources", "Tags"), {}),
    (all_is_tagged, ("CheckJobDefinition", "PropagateTags"), False),
    *(
        (outputs_are_what_the_commands_read, ("Outputs", name, "Value"), {"Ref": "NotificationTopic"})
        for name in (
            "RegistryUri",
            "TrainingArn",
            "IncomingQueueUrl",
            "DeadLettersUrl",
            "TrainLogGroup",
            "InferenceLogGroup",
        )
    ),
    (outputs_are_what_the_commands_read, ("Outputs",), {}),
    (outputs_are_what_the_commands_read, ("Outputs", "FunctionUrl", "Condition"), "SigningEnabled"),
    (the_signing_key_is_the_accounts_alone, ("SigningKey", "KeyPolicy", "Statement", 0, "Principal"), "*"),
    (the_signing_key_is_the_accounts_alone, ("SigningKeyAlias", "TargetKeyId"), "other"),
    (
        the_signing_key_is_the_accounts_alone,
        ("InferenceFunction", "Environment", "Variables", "TRANSFERLITE_PUBLIC_KEY"),
        {"Ref": "AWS::NoValue"},
    ),
]


test_the_template_keeps_its_promise, test_a_broken_promise_is_seen = promises(BREAKS)
