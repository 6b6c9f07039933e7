"""Delete a stack, and list what outlives it."""

import time

from transferlite.cloud.stack import client, find_stack, translate_aws_errors
from transferlite.errors import NotFoundError, TransferLiteError

_POLL_SECONDS = 5.0


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


def created_buckets(stack: str) -> list[str]:
    """List the buckets that the stack created."""
    with translate_aws_errors(f"stack {stack}"):
        pages = client("cloudformation").get_paginator("list_stack_resources").paginate(StackName=stack)
        return [
            resource["PhysicalResourceId"]
            for page in pages
            for resource in page["StackResourceSummaries"]
            if resource["ResourceType"] == "AWS::S3::Bucket"
        ]


def delete_bucket(name: str) -> None:
    """Delete a bucket with all its objects and their versions."""
    with translate_aws_errors(f"bucket {name}"):
        s3 = client("s3")
        for page in s3.get_paginator("list_object_versions").paginate(Bucket=name):
            found = [*page.get("Versions", ()), *page.get("DeleteMarkers", ())]
            keys = [{"Key": item["Key"], "VersionId": item["VersionId"]} for item in found]
            if keys:
                s3.delete_objects(Bucket=name, Delete={"Objects": keys, "Quiet": True})
        s3.delete_bucket(Bucket=name)


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
