"""Create, change and delete a stack: with ``sam deploy``, and with CloudFormation's API."""

import hashlib
import re
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from transferlite.cloud.stack import client, find_stack, translate_aws_errors
from transferlite.errors import InputError, NotFoundError, TransferLiteError
from transferlite.storage.locations import open_store

_CAPABILITIES = ["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"]
_POLL_SECONDS = 5.0
_NO_BUCKET = "none"
"""Value of the parameter CodeBucket when the function is an image."""


def as_image(uri: str) -> dict[str, str]:
    """Stack parameters that deploy the function as an image in ECR."""
    return {"FunctionPackage": "Image", "InferenceImage": uri}


def as_zip(stack: str, location: str, bucket: str | None) -> dict[str, str]:
    """Stack parameters that deploy the function as a zip, at ``s3://bucket/key`` or uploaded from a local file first.

    The key of an uploaded zip contains its sha256, because CloudFormation updates code only under a new key. ``bucket``
    defaults to the bucket of the stack's current zip.

    Raises:
        InputError: no bucket is known, or the location is not an object.
        NotFoundError: the file does not exist.
    """
    if location.startswith("s3://"):
        bucket, _, key = location.removeprefix("s3://").partition("/")
        if not (bucket and key):
            raise InputError("is not an S3 object", where=location, hint="write s3://BUCKET/lambda.zip")
        return _zip_at(bucket, key)
    path = Path(location)
    if not path.is_file():
        raise NotFoundError("file does not exist", where=location, hint="create it with: transferlite package function")
    bucket = bucket or _bucket_of(stack)
    if not bucket:
        raise InputError("no bucket to upload the zip to", where=location, hint="pass --code-bucket")
    key = f"transferlite/function-{hashlib.sha256(path.read_bytes()).hexdigest()[:16]}.zip"
    open_store(f"s3://{bucket}").upload(key, path)
    return _zip_at(bucket, key)


def _zip_at(bucket: str, key: str) -> dict[str, str]:
    return {"FunctionPackage": "Zip", "CodeBucket": bucket, "CodeKey": key}


def _bucket_of(stack: str) -> str | None:
    """Return the bucket of the stack's current zip; None for an image or a new stack."""
    try:
        bucket = find_stack(stack).parameters.get("CodeBucket", _NO_BUCKET)
    except NotFoundError:
        return None
    return bucket if bucket != _NO_BUCKET else None


def deploy_stack(stack: str, template: Path, parameters: Mapping[str, str], more: Sequence[str] = ()) -> None:
    """Run ``sam deploy``. Parameters that are not passed keep the stack's values, or their defaults.

    Raises:
        InputError: the SAM CLI is not installed, or a new stack has no image or zip.
        NotFoundError: the template does not exist.
        TransferLiteError: ``sam deploy`` failed; it has printed the reason.
    """
    sam = shutil.which("sam")
    if sam is None:
        raise InputError("the SAM CLI is not installed", hint="pipx install aws-sam-cli")
    if not template.is_file():
        raise NotFoundError(
            "template does not exist", where=str(template), hint="omit --template to use the packaged one"
        )
    words = [sam, "deploy", "--template-file", str(template), "--stack-name", stack, "--resolve-s3"]
    words += ["--capabilities", *_CAPABILITIES, "--no-confirm-changeset", "--no-fail-on-empty-changeset"]
    words += ["--tags", "Project=TransferLite", "--image-repository", _repository(stack, parameters)]
    if parameters:
        words += ["--parameter-overrides", *(f"{name}={value}" for name, value in parameters.items())]
    status = subprocess.run([*words, *more], check=False).returncode
    if status:
        raise TransferLiteError(f"sam deploy failed with exit status {status}", where=f"stack {stack}")


def _repository(stack: str, parameters: Mapping[str, str]) -> str:
    """Return the repository of the training image. sam requires one even for a zip, and pushes nothing to it."""
    try:
        known = {**find_stack(stack).parameters, **parameters}
    except NotFoundError:
        known = dict(parameters)
    missing = "TrainImage" if "TrainImage" not in known else "the function"
    if missing == "TrainImage" or not known.keys() & {"InferenceImage", "CodeKey"}:
        hint = "pass --train-image, and --inference-image or --function-zip"
        raise InputError(f"stack does not exist yet, and {missing} is not set", where=f"stack {stack}", hint=hint)
    return re.sub(r"(:[^:/@]+)?(@[^@]+)?$", "", known["TrainImage"])


def change_parameters(stack: str, changes: Mapping[str, str]) -> None:
    """Change parameters of a stack, keep its template, and wait. A later ``cloud deploy`` keeps the changes."""
    current = find_stack(stack)
    unknown = sorted(set(changes) - set(current.parameters))
    if unknown:
        raise InputError(f"has no parameter {unknown[0]}", where=f"stack {stack}", hint="deploy the newest template")
    parameters = [
        {"ParameterKey": name, "ParameterValue": changes[name]}
        if name in changes
        else {"ParameterKey": name, "UsePreviousValue": True}
        for name in current.parameters
    ]
    with translate_aws_errors(f"stack {stack}"):
        client("cloudformation").update_stack(
            StackName=stack, UsePreviousTemplate=True, Parameters=parameters, Capabilities=_CAPABILITIES
        )
    while (status := find_stack(stack).status).endswith("_IN_PROGRESS"):
        time.sleep(_POLL_SECONDS)
    if status != "UPDATE_COMPLETE":
        raise TransferLiteError(
            f"stack update failed: {status}", where=f"stack {stack}", hint="see its CloudFormation events"
        )


def retained(stack: str) -> list[str]:
    """List the resources that outlive the stack: buckets with their content, and the signing key."""
    with translate_aws_errors(f"stack {stack}"):
        pages = client("cloudformation").get_paginator("list_stack_resources").paginate(StackName=stack)
        kept = {"AWS::S3::Bucket": "bucket", "AWS::KMS::Key": "signing key"}
        return [
            f"{kept[resource['ResourceType']]} {resource['PhysicalResourceId']}"
            for page in pages
            for resource in page["StackResourceSummaries"]
            if resource["ResourceType"] in kept
        ]


def delete_stack(stack: str) -> None:
    """Delete a stack and wait. Raises TransferLiteError when a resource could not be deleted."""
    with translate_aws_errors(f"stack {stack}"):
        client("cloudformation").delete_stack(StackName=stack)
    while True:
        try:
            status = find_stack(stack).status
        except NotFoundError:
            return
        if not status.endswith("_IN_PROGRESS"):
            break
        time.sleep(_POLL_SECONDS)
    if status != "DELETE_COMPLETE":
        raise TransferLiteError(
            f"stack deletion failed: {status}", where=f"stack {stack}", hint="see its CloudFormation events"
        )
