"""What AWS's own services do in a role's name, told from what they are set up with."""

import json
import re
from collections.abc import Iterator
from typing import Any

from tests.template.policies import Account, Pair
from tests.template.stack import PSEUDO

REGION, ACCOUNT = PSEUDO["AWS::Region"], PSEUDO["AWS::AccountId"]
OF_INSTANCES = "arn:aws:iam::aws:policy/service-role/AmazonEC2ContainerServiceforEC2Role"
"""Source: https://docs.aws.amazon.com/batch/latest/userguide/instance_IAM_role.html"""


# -- the state machine ------------------------------------------------------------------------------------------------


def definition(account: Account) -> Any:
    """The state machine's definition, with what is put into it."""
    properties = account.properties("TrainingStateMachine")
    values, text = properties["DefinitionSubstitutions"], properties["DefinitionString"]
    return json.loads(re.sub(r"\$\{(\w+)\}", lambda found: str(values[found[1]]), text))


def of_the_machine(account: Account) -> set[Pair]:
    """What the states do, by their resources."""
    states = list(definition(account)["States"].values())
    return {pair for state in states if state["Type"] == "Task" for pair in _of_task(account, state, states)}


def _of_task(account: Account, state: Any, states: list[Any]) -> Iterator[Pair]:
    given, resource = state["Parameters"], state["Resource"].removeprefix("arn:aws:states:::")
    if resource == "batch:submitJob.sync":
        yield from _of_job(given, states)
    elif resource == "aws-sdk:sfn:listExecutions":
        assert given["StateMachineArn.$"] == "$$.StateMachine.Id"
        yield "states:ListExecutions", account.arn("TrainingStateMachine")
    elif resource == "aws-sdk:s3:getObject":
        key = re.fullmatch(r"States\.Format\('(.+)', \$\$\.Execution\.Name\)", given["Key.$"])
        assert key
        yield "s3:GetObject", f"arn:aws:s3:::{given['Bucket']}/{key[1].replace('{}', 'one-run')}"
    else:
        assert resource == "sns:publish"
        yield "sns:Publish", given["TopicArn"]


def _of_job(given: Any, states: list[Any]) -> Iterator[Pair]:
    """Source: https://docs.aws.amazon.com/step-functions/latest/dg/batch-iam.html"""
    # without tags, which would need batch:TagResource
    assert "Tags" not in given
    chosen = [state["Result"] for state in states if state["Type"] == "Pass" and "Result" in state]
    for key, name in (("JobQueue", "queue"), ("JobDefinition", "definition")):
        for target in [given[key]] if key in given else [one[name] for one in chosen]:
            yield "batch:SubmitJob", target
    yield "batch:DescribeJobs", "*"
    yield "batch:TerminateJob", f"arn:aws:batch:{REGION}:{ACCOUNT}:job/0f1e2d3c-one-job"
    rule = f"arn:aws:events:{REGION}:{ACCOUNT}:rule/StepFunctionsGetEventsForBatchJobsRule"
    for action in ("PutTargets", "PutRule", "DescribeRule"):
        yield f"events:{action}", rule


# -- what starts it --------------------------------------------------------------------------------------------------


def of_schedules(account: Account, role: str) -> set[Pair]:
    """What EventBridge Scheduler does for the schedules that have this role, and where it puts what it could not do.

    Source: https://docs.aws.amazon.com/scheduler/latest/UserGuide/setting-up.html, configuring-schedule-dlq.html
    """
    targets = [one["Target"] for one in account.of_type("AWS::Scheduler::Schedule").values()]
    ours = [one for one in targets if one["RoleArn"] == account.arn(role)]
    dead = {("sqs:SendMessage", one["DeadLetterConfig"]["Arn"]) for one in ours}
    return dead | {pair for one in ours for pair in _of_target(account, one)}


def of_rules(account: Account, role: str) -> set[Pair]:
    """What an EventBridge rule does; its dead letters are let in by the queue's own policy.

    Source: https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-use-identity-based.html, eb-rule-dlq.html
    """
    targets = [one for rule in account.of_type("AWS::Events::Rule").values() for one in rule["Targets"]]
    return {pair for one in targets if one["RoleArn"] == account.arn(role) for pair in _of_target(account, one)}


def _of_target(account: Account, target: Any) -> Iterator[Pair]:
    if target["Arn"].endswith("aws-sdk:batch:submitJob"):
        given = json.loads(target["Input"])
        yield from (("batch:SubmitJob", given[name]) for name in ("JobQueue", "JobDefinition"))
    else:
        assert target["Arn"] == account.arn("TrainingStateMachine")
        yield "states:StartExecution", target["Arn"]


# -- machines and containers -----------------------------------------------------------------------------------------


def of_containers(account: Account, role: str) -> set[Pair]:
    """What ECS does to start a job's container: pulls its image, and sends on what it writes.

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
    """The ARN of the repository that holds an image. Raises TypeError for an image that is not in ECR."""
    found = re.fullmatch(r"(\d+)\.dkr\.ecr\.([\w-]+)\.amazonaws\.com(?:\.cn)?/([^:@]+)(?::[^@]+)?(?:@.+)?", image)
    assert found, image
    return f"arn:aws:ecr:{found[2]}:{found[1]}:repository/{found[3]}"


def of_instances(account: Account) -> set[Pair]:
    """The policy of AWS's that ECS's agent has on the machines of an environment, where there are any."""
    kinds = [one["ComputeResources"]["Type"] for one in account.of_type("AWS::Batch::ComputeEnvironment").values()]
    return {("policy", OF_INSTANCES)} if {"SPOT", "EC2"} & set(kinds) else set()


def of_lambda(account: Account, role: str) -> set[Pair]:
    """What Lambda does in a function's name: drains its queue, writes its log, sends its traces.

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
