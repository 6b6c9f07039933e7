"""Permissions that AWS services need in each role, derived from the template's configuration of them."""

import json
import re
from collections.abc import Iterator
from typing import Any

from tests.template.policies import Account, Pair
from tests.template.stack import PSEUDO

REGION, ACCOUNT = PSEUDO["AWS::Region"], PSEUDO["AWS::AccountId"]
INSTANCE_POLICY = "arn:aws:iam::aws:policy/service-role/AmazonEC2ContainerServiceforEC2Role"
"""Source: https://docs.aws.amazon.com/batch/latest/userguide/instance_IAM_role.html"""


# -- the state machine -------------------------------------------------------------------------------------------------


def definition(account: Account) -> Any:
    """Return the state machine's definition with its substitutions."""
    properties = account.properties("TrainingStateMachine")
    values, text = properties["DefinitionSubstitutions"], properties["DefinitionString"]
    return json.loads(re.sub(r"\$\{(\w+)\}", lambda match: str(values[match[1]]), text))


def state_machine_needs(account: Account) -> set[Pair]:
    """Return the permissions that the states need."""
    states = list(definition(account)["States"].values())
    return {pair for state in states if state["Type"] == "Task" for pair in _task_needs(account, state, states)}


def _task_needs(account: Account, state: Any, states: list[Any]) -> Iterator[Pair]:
    parameters, resource = state["Parameters"], state["Resource"].removeprefix("arn:aws:states:::")
    if resource == "batch:submitJob.sync":
        yield from _job_needs(parameters, states)
    elif resource == "aws-sdk:sfn:listExecutions":
        assert parameters["StateMachineArn.$"] == "$$.StateMachine.Id"
        yield "states:ListExecutions", account.arn("TrainingStateMachine")
    elif resource == "aws-sdk:s3:getObject":
        key = re.fullmatch(r"States\.Format\('(.+)', \$\$\.Execution\.Name\)", parameters["Key.$"])
        assert key
        yield "s3:GetObject", f"arn:aws:s3:::{parameters['Bucket']}/{key[1].replace('{}', 'one-run')}"
    else:
        assert resource == "sns:publish"
        yield "sns:Publish", parameters["TopicArn"]


def _job_needs(parameters: Any, states: list[Any]) -> Iterator[Pair]:
    """Yield the permissions for a Batch job: https://docs.aws.amazon.com/step-functions/latest/dg/batch-iam.html."""
    assert "Tags" not in parameters  # tags would need batch:TagResource
    chosen = [state["Result"] for state in states if state["Type"] == "Pass" and "queue" in state.get("Result", {})]
    for key, name in (("JobQueue", "queue"), ("JobDefinition", "definition")):
        for target in [parameters[key]] if key in parameters else [result[name] for result in chosen]:
            yield "batch:SubmitJob", target
    yield "batch:DescribeJobs", "*"
    yield "batch:TerminateJob", f"arn:aws:batch:{REGION}:{ACCOUNT}:job/0f1e2d3c-one-job"
    rule = f"arn:aws:events:{REGION}:{ACCOUNT}:rule/StepFunctionsGetEventsForBatchJobsRule"
    for action in ("PutTargets", "PutRule", "DescribeRule"):
        yield f"events:{action}", rule


# -- an existing data bucket with a key --------------------------------------------------------------------------------


def data_key_needs(account: Account) -> set[Pair]:
    """Return what S3 needs in the name of a reader of the data bucket, if a KMS key encrypts it.

    Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingKMSEncryption.html
    """
    return {("kms:Decrypt", account.read({"Ref": "DataKeyArn"}))}


# -- triggers ----------------------------------------------------------------------------------------------------------


def schedule_needs(account: Account, role: str) -> set[Pair]:
    """Return what EventBridge Scheduler needs for the schedules with this role, dead-letter queue included.

    Source: https://docs.aws.amazon.com/scheduler/latest/UserGuide/setting-up.html, configuring-schedule-dlq.html
    """
    targets = [schedule["Target"] for schedule in account.of_type("AWS::Scheduler::Schedule").values()]
    targets = [target for target in targets if target["RoleArn"] == account.arn(role)]
    dead_letters = {("sqs:SendMessage", target["DeadLetterConfig"]["Arn"]) for target in targets}
    return dead_letters | {pair for target in targets for pair in _target_needs(account, target)}


def rule_needs(account: Account, role: str) -> set[Pair]:
    """Return what an EventBridge rule needs; the queue's own policy admits its dead letters.

    Source: https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-use-identity-based.html, eb-rule-dlq.html
    """
    targets = [target for rule in account.of_type("AWS::Events::Rule").values() for target in rule["Targets"]]
    targets = [target for target in targets if target.get("RoleArn") == account.arn(role)]
    return {pair for target in targets for pair in _target_needs(account, target)}


def _target_needs(account: Account, target: Any) -> Iterator[Pair]:
    if target["Arn"].endswith("aws-sdk:batch:submitJob"):
        job = json.loads(target["Input"])
        yield from (("batch:SubmitJob", job[name]) for name in ("JobQueue", "JobDefinition"))
    else:
        assert target["Arn"] == account.arn("TrainingStateMachine")
        yield "states:StartExecution", target["Arn"]


# -- machines and containers -------------------------------------------------------------------------------------------


def container_needs(account: Account, role: str) -> set[Pair]:
    """Return what ECS needs to start a job's container: pull its image and forward its log.

    Source: https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task_execution_IAM_role.html
    """
    needs = {("ecr:GetAuthorizationToken", "*")}
    for job in account.of_type("AWS::Batch::JobDefinition").values():
        container = job["ContainerProperties"]
        if container["ExecutionRoleArn"] != account.arn(role):
            continue
        repository = repository_of(container["Image"])
        needs |= {
            (f"ecr:{action}", repository)
            for action in ("BatchCheckLayerAvailability", "GetDownloadUrlForLayer", "BatchGetImage")
        }
        assert container["LogConfiguration"]["LogDriver"] == "awslogs"
        options = container["LogConfiguration"]["Options"]
        group = options["awslogs-group"].removesuffix(":*")
        needs |= {
            ("logs:CreateLogStream", f"{group}:log-stream:"),
            ("logs:PutLogEvents", f"{group}:log-stream:{options['awslogs-stream-prefix']}/default/1"),
        }
    return needs


def repository_of(image: str) -> str:
    """Return the ARN of an image's ECR repository."""
    match = re.fullmatch(r"(\d+)\.dkr\.ecr\.([\w-]+)\.amazonaws\.com(?:\.cn)?/([^:@]+)(?::[^@]+)?(?:@.+)?", image)
    assert match, f"{image} is not in ECR"
    return f"arn:aws:ecr:{match[2]}:{match[1]}:repository/{match[3]}"


def instance_needs(account: Account) -> set[Pair]:
    """Return AWS's managed policy for the ECS agent, needed if a compute environment has EC2 instances."""
    kinds = [
        environment["ComputeResources"]["Type"]
        for environment in account.of_type("AWS::Batch::ComputeEnvironment").values()
    ]
    return {("policy", INSTANCE_POLICY)} if {"SPOT", "EC2"} & set(kinds) else set()


def lambda_needs(account: Account, role: str) -> set[Pair]:
    """Return what Lambda needs for a function: read its queue, write its log, send its traces.

    Source: https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-configure.html, monitoring-cloudwatchlogs.html,
    services-xray.html
    """
    needs: set[Pair] = set()
    for name, function in account.of_type("AWS::Lambda::Function").items():
        if function["Role"] != account.arn(role):
            continue
        for source in account.of_type("AWS::Lambda::EventSourceMapping").values():
            if source["FunctionName"] == account.arn(name):
                actions = ("ReceiveMessage", "DeleteMessage", "GetQueueAttributes")
                needs |= {(f"sqs:{action}", source["EventSourceArn"]) for action in actions}
        group = function["LoggingConfig"]["LogGroup"].removesuffix(":*")
        needs |= {("logs:CreateLogStream", f"{group}:log-stream:"), ("logs:PutLogEvents", f"{group}:log-stream:1")}
        if "TracingConfig" in function:
            needs |= {("xray:PutTraceSegments", "*"), ("xray:PutTelemetryRecords", "*")}
    return needs
