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
