"""A stack created, changed and deleted: ``sam deploy`` does the first, CloudFormation the others."""

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
_SECONDS_BETWEEN = 5.0
_NO_BUCKET = "none"
"""What the template's CodeBucket is where the function is an image."""


def as_image(uri: str) -> dict[str, str]:
    """The parameters that have the function be an image in ECR."""
    return {"FunctionPackage": "Image", "InferenceImage": uri}


def as_zip(stack: str, location: str, bucket: str | None) -> dict[str, str]:
    """The parameters that have the function be a zip: one at ``s3://bucket/key``, or a file that is uploaded first.

    Its key says its content, as CloudFormation takes up new code only under a new key. Without ``bucket`` it goes to
    the one that the stack's zip is in.

    Raises:
        InputError: no bucket is known, or the location names no object.
        NotFoundError: there is no such file.
    """
    if location.startswith("s3://"):
        bucket, _, key = location.removeprefix("s3://").partition("/")
        if not (bucket and key):
            raise InputError("names no object", where=location, hint="write s3://BUCKET/lambda.zip")
        return _zip_at(bucket, key)
    path = Path(location)
    if not path.is_file():
        raise NotFoundError("there is no such file", where=location, hint="transferlite package function")
    bucket = bucket or _bucket_of(stack)
    if not bucket:
        raise InputError("no bucket is known for it", where=location, hint="name one with --code-bucket")
    key = f"transferlite/function-{hashlib.sha256(path.read_bytes()).hexdigest()[:16]}.zip"
    open_store(f"s3://{bucket}").upload(key, path)
    return _zip_at(bucket, key)


def _zip_at(bucket: str, key: str) -> dict[str, str]:
    return {"FunctionPackage": "Zip", "CodeBucket": bucket, "CodeKey": key}


def _bucket_of(stack: str) -> str | None:
    """The bucket that the stack's function was deployed from."""
    try:
        found = find_stack(stack).parameters.get("CodeBucket", _NO_BUCKET)
    except NotFoundError:
        return None
    return found if found != _NO_BUCKET else None


def deploy_stack(stack: str, template: Path, parameters: Mapping[str, str], more: Sequence[str] = ()) -> None:
    """Run ``sam deploy``; parameters that are not named keep the stack's values, or their defaults.

    Raises:
        InputError: the SAM CLI or the template is not there, or a new stack's image or zip.
        TransferLiteError: it failed, and has printed why.
    """
    sam = shutil.which("sam")
    if sam is None:
        raise InputError("the SAM CLI is not installed", hint="pipx install aws-sam-cli")
    if not template.is_file():
        raise NotFoundError("there is no such template", where=str(template), hint="leave out --template")
    words = [sam, "deploy", "--template-file", str(template), "--stack-name", stack, "--resolve-s3"]
    words += ["--capabilities", *_CAPABILITIES, "--no-confirm-changeset", "--no-fail-on-empty-changeset"]
    words += ["--tags", "Project=TransferLite", "--image-repository", _repository(stack, parameters)]
    if parameters:
        words += ["--parameter-overrides", *(f"{name}={value}" for name, value in parameters.items())]
    status = subprocess.run([*words, *more], check=False).returncode
    if status:
        raise TransferLiteError(f"sam deploy ended with status {status}", where=f"stack {stack}")


def _repository(stack: str, parameters: Mapping[str, str]) -> str:
    """The training image's. sam pushes nothing there, and does not start without being told one, even for a zip."""
    try:
        known = {**find_stack(stack).parameters, **parameters}
    except NotFoundError:
        known = dict(parameters)
    missing = "TrainImage" if "TrainImage" not in known else "the function"
    if missing == "TrainImage" or not known.keys() & {"InferenceImage", "CodeKey"}:
        hint = "give --train-image, and --inference-image or --function-zip"
        raise InputError(f"is not there yet, and {missing} is not named", where=f"stack {stack}", hint=hint)
    return re.sub(r"(:[^:/@]+)?(@[^@]+)?$", "", known["TrainImage"])


def change_parameters(stack: str, changes: Mapping[str, str]) -> None:
    """Update a stack in place with its own template, and wait; a later deployment keeps what was changed."""
    before = find_stack(stack)
    unknown = sorted(set(changes) - set(before.parameters))
    if unknown:
        raise InputError(f"has no parameter {unknown[0]}", where=f"stack {stack}", hint="deploy the newest template")
    parameters = [
        {"ParameterKey": name, "ParameterValue": changes[name]}
        if name in changes
        else {"ParameterKey": name, "UsePreviousValue": True}
        for name in before.parameters
    ]
    with translate_aws_errors(f"stack {stack}"):
        client("cloudformation").update_stack(
            StackName=stack, UsePreviousTemplate=True, Parameters=parameters, Capabilities=_CAPABILITIES
        )
    while (status := find_stack(stack).status).endswith("_IN_PROGRESS"):
        time.sleep(_SECONDS_BETWEEN)
    if status != "UPDATE_COMPLETE":
        raise TransferLiteError(f"the update ended as {status}", where=f"stack {stack}", hint="see its events")


def retained(stack: str) -> list[str]:
    """What stays when the stack is deleted: buckets with all that is in them, and the signing key."""
    with translate_aws_errors(f"stack {stack}"):
        pages = client("cloudformation").get_paginator("list_stack_resources").paginate(StackName=stack)
        kept = {"AWS::S3::Bucket": "bucket", "AWS::KMS::Key": "signing key"}
        return [
            f"{kept[one['ResourceType']]} {one['PhysicalResourceId']}"
            for page in pages
            for one in page["StackResourceSummaries"]
            if one["ResourceType"] in kept
        ]


def delete_stack(stack: str) -> None:
    """Delete it and wait. Raises TransferLiteError where something could not be deleted."""
    with translate_aws_errors(f"stack {stack}"):
        client("cloudformation").delete_stack(StackName=stack)
    while True:
        try:
            status = find_stack(stack).status
        except NotFoundError:
            return
        if not status.endswith("_IN_PROGRESS"):
            break
        time.sleep(_SECONDS_BETWEEN)
    if status != "DELETE_COMPLETE":
        raise TransferLiteError(f"the deletion ended as {status}", where=f"stack {stack}", hint="see its events")
