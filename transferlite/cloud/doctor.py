"""Check before a deployment what fails first on a real account: tools, credentials, rights, quotas, images, buckets."""

import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from transferlite.cloud.buckets import Bucket, account_id, current_region, find_bucket
from transferlite.cloud.image_digests import default_image, pinned
from transferlite.cloud.stack import client, translate_aws_errors
from transferlite.errors import AccessDeniedError, NotFoundError, TransferLiteError

OK, WARNING, FAILURE = "ok", "warning", "failure"
OLDEST_SAM = (1, 100)
"""SAM CLI releases before it were not tried."""

ACTIONS = (
    *("cloudformation:CreateChangeSet", "cloudformation:ExecuteChangeSet", "iam:CreateRole", "iam:PassRole"),
    *("s3:CreateBucket", "sqs:CreateQueue", "sns:CreateTopic", "lambda:CreateFunction", "logs:CreateLogGroup"),
    *("batch:CreateComputeEnvironment", "batch:CreateJobQueue", "batch:RegisterJobDefinition", "ec2:CreateVpc"),
    *("states:CreateStateMachine", "scheduler:CreateSchedule", "events:PutRule", "cloudwatch:PutMetricAlarm"),
)
"""A right per kind of resource in the template, and those without which no stack is created."""

QUOTAS = (
    ("fargate", "L-3032A538", "Fargate vCPUs", 4.0),
    ("fargate", "L-36FBB829", "Fargate Spot vCPUs", 4.0),
    ("ec2", "L-DB2E81BA", "vCPUs of G instances, for Compute=gpu", 4.0),
    ("ec2", "L-3819A6DF", "vCPUs of G Spot instances, for Compute=gpu", 4.0),
)
"""Service, code and name of a quota, and what one job needs. Codes: https://docs.aws.amazon.com/general/latest/gr/."""

FUNCTION_CONCURRENCY = 10
"""Default of the template's parameter FunctionConcurrency."""


@dataclass(frozen=True)
class Check:
    """Result of a check: ``state`` is OK, WARNING (the deployment may succeed) or FAILURE; ``hint`` is what to do."""

    name: str
    state: str
    text: str
    hint: str = ""

    def __str__(self) -> str:
        return f"{self.state:<8} {self.name:<12} {self.text}" + (f"; {self.hint}" if self.hint else "")


def examine(data_bucket: str | None = None) -> Iterator[Check]:
    """Run all checks; those that need an account are left out without credentials. Creates nothing.

    Args:
        data_bucket: an existing bucket that the stack shall use.
    """
    yield check_sam()
    yield check_engine()
    identity = _guarded("credentials", check_credentials)
    yield identity
    if identity.state == FAILURE:
        return
    yield _guarded("rights", check_rights)
    for quota in QUOTAS:
        yield check_quota(*quota)
    yield _guarded("concurrency", check_concurrency)
    yield _guarded("image", check_image)
    if data_bucket:
        yield _guarded("bucket", lambda: check_bucket(data_bucket))


def _guarded(name: str, check: Callable[[], Check]) -> Check:
    """Turn an error of a check into its failure."""
    try:
        return check()
    except TransferLiteError as error:
        return Check(name, FAILURE, f"{error.where}: {error.message}" if error.where else error.message, error.hint)


def check_sam() -> Check:
    """Check that the SAM CLI is installed and not older than tried releases."""
    path = shutil.which("sam")
    if path is None:
        return Check("SAM CLI", FAILURE, "not installed", "pipx install aws-sam-cli")
    printed = subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout
    version = re.search(r"(\d+)\.(\d+)", printed)
    if version is None or (int(version[1]), int(version[2])) < OLDEST_SAM:
        return Check("SAM CLI", WARNING, printed.strip() or "prints no version", "pipx upgrade aws-sam-cli")
    return Check("SAM CLI", OK, printed.strip())


def check_engine() -> Check:
    """Check that docker or podman is installed and answers; only ``cloud build`` needs it."""
    path = shutil.which("docker") or shutil.which("podman")
    if path is None:
        return Check("containers", WARNING, "neither docker nor podman is installed", "cloud build needs one")
    done = subprocess.run([path, "info"], capture_output=True, text=True, check=False)
    if done.returncode:
        return Check("containers", WARNING, f"{path} does not answer", "start it before transferlite cloud build")
    return Check("containers", OK, path)


def check_credentials() -> Check:
    """Check that the credentials are valid, and name account and region."""
    return Check("credentials", OK, f"{_identity()}, region {current_region()}")


def _identity() -> str:
    with translate_aws_errors("credentials"):
        return str(client("sts").get_caller_identity()["Arn"])


def check_rights() -> Check:
    """Simulate the policies of the caller for the actions that a deployment needs."""
    caller = _identity()
    if caller.endswith(":root"):
        return Check("rights", OK, "the account's root user may do everything", "use a role or user instead")
    source = re.sub(r":sts::(\d+):assumed-role/([^/]+)/.*", r":iam::\1:role/\2", caller)
    try:
        with translate_aws_errors("rights"):
            pages = client("iam").get_paginator("simulate_principal_policy")
            results = [
                result
                for page in pages.paginate(PolicySourceArn=source, ActionNames=list(ACTIONS))
                for result in page["EvaluationResults"]
            ]
    except (AccessDeniedError, NotFoundError) as error:
        return Check("rights", WARNING, f"not checked: {error.message}", "allow iam:SimulatePrincipalPolicy to check")
    denied = [result["EvalActionName"] for result in results if result["EvalDecision"] != "allowed"]
    if denied:
        return Check(
            "rights", FAILURE, f"{source} may not {', '.join(denied)}", "ask for them, or use another AWS_PROFILE"
        )
    return Check("rights", OK, f"{len(results)} of {len(ACTIONS)} actions are allowed")


def check_quota(service: str, code: str, name: str, needed: float) -> Check:
    """Compare a quota with what one job needs; a quota that cannot be read is a warning."""
    hint = f"raise quota {code} of {service} in Service Quotas"
    try:
        with translate_aws_errors(name):
            value = float(
                client("service-quotas").get_service_quota(ServiceCode=service, QuotaCode=code)["Quota"]["Value"]
            )
    except TransferLiteError as error:
        return Check("quota", WARNING, f"{name}: not checked ({error.message})")
    if value >= needed:
        return Check("quota", OK, f"{name}: {value:g}")
    return Check("quota", WARNING if "gpu" in name or "Spot" in name else FAILURE, f"{name}: {value:g}", hint)


def check_concurrency() -> Check:
    """Compare the account's Lambda concurrency with what the function may use."""
    with translate_aws_errors("Lambda"):
        limit = int(client("lambda").get_account_settings()["AccountLimit"]["ConcurrentExecutions"])
    if limit <= FUNCTION_CONCURRENCY:
        hint = "raise it in Service Quotas, or deploy with --set FunctionConcurrency=5"
        return Check("concurrency", WARNING, f"{limit} for all functions of the account", hint)
    return Check("concurrency", OK, f"{limit} for all functions of the account")


def check_image() -> Check:
    """Check that the training image is where ``cloud build --push`` puts it."""
    image = default_image("train")
    try:
        return Check("image", OK, pinned(image))
    except NotFoundError:
        return Check("image", WARNING, f"{image} is missing", "transferlite cloud build train --push")


def check_bucket(name: str) -> Check:
    """Check an existing data bucket: region, owner, and the state of its KMS key."""
    bucket = find_bucket(name)
    if bucket is None:
        return Check("bucket", OK, f"{name} is free; the stack will create it")
    if bucket.key_arn:
        with translate_aws_errors(bucket.key_arn):
            state = client("kms").describe_key(KeyId=bucket.key_arn)["KeyMetadata"]["KeyState"]
        if state != "Enabled":
            return Check("bucket", FAILURE, f"KMS key {bucket.key_arn} is {state}", "enable the key")
    return Check("bucket", OK, f"{_described(bucket)}")


def _described(bucket: Bucket) -> str:
    key = f"KMS key {bucket.key_arn}, whose policy must let IAM decide" if bucket.key_arn else "no KMS key of its own"
    lock = ", Object Lock: photos of cloud test stay as versions" if _is_locked(bucket.name) else ""
    return f"{bucket.name} of account {account_id()} in {bucket.region}, {key}{lock}"


def _is_locked(bucket: str) -> bool:
    try:
        with translate_aws_errors(bucket):
            found = client("s3").get_object_lock_configuration(Bucket=bucket)
    except TransferLiteError:
        return False
    return bool(found["ObjectLockConfiguration"].get("ObjectLockEnabled") == "Enabled")
