"""Buckets of a stack: which are new, which exist, and the events of an existing bucket."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from transferlite.cloud.deploy import deployed_parameters
from transferlite.cloud.destroy import delete_bucket
from transferlite.cloud.stack import client, translate_aws_errors
from transferlite.errors import AccessDeniedError, InputError

LONGEST = 51
"""S3 allows 63 characters, and ``-predictions`` takes 12 of them."""

_RESERVED = ("xn--", "sthree-", "amzn-s3-demo-")
"""Starts that S3 refuses: https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html"""


@dataclass(frozen=True)
class Bucket:
    """An existing bucket: its region, and the KMS key that encrypts it if it is not AWS's own."""

    name: str
    region: str
    key_arn: str = ""


def stack_prefix(stack: str, account: str, region: str) -> str:
    """Start of a stack's names: the stack's name as far as it fits, account, region and a hash of all three.

    The hash keeps stacks apart whose names differ only in case or beyond the part that fits.
    """
    digest = hashlib.sha256(f"{stack} {account} {region}".encode()).hexdigest()[:8]
    end = f"-{account}-{region}-{digest}"
    start = re.sub("-+", "-", stack.lower())
    if start.startswith(_RESERVED):
        start = f"tl-{start}"
    return start[: LONGEST - len(end)].strip("-") + end


def account_id() -> str:
    """Account of the current credentials."""
    with translate_aws_errors("AWS credentials"):
        return str(client("sts").get_caller_identity()["Account"])


def current_region() -> str:
    """Region of the current settings."""
    return str(client("s3").meta.region_name)


def bucket_parameters(stack: str, given: Mapping[str, str]) -> dict[str, str]:
    """Stack parameters that name the buckets and say for each whether it exists.

    A new stack takes over the buckets that a deleted stack of the same name left. A deployed stack keeps its buckets,
    unless ``given`` has another ``DataBucketName``.

    Raises:
        InputError: an existing bucket is in another region.
        AccessDeniedError: a bucket belongs to another account.
    """
    known = deployed_parameters(stack)
    prefix = given.get("Prefix") or prefix_of(stack)
    data = given.get("DataBucketName") or known.get("DataBucketName") or f"{prefix}-data"
    names = {"Data": data, "Model": f"{prefix}-models", "Prediction": f"{prefix}-predictions"}
    parameters = {"Prefix": prefix, "DataBucketName": data}
    changed = {name for name, value in parameters.items() if known.get(name) != value}
    for kind, name in names.items():
        if "Prefix" in changed or (kind == "Data" and changed):
            bucket = find_bucket(name)
            parameters[f"{kind}BucketState"] = "existing" if bucket else "new"
            if kind == "Data":
                parameters["DataKeyArn"] = bucket.key_arn if bucket else ""
    return {name: value for name, value in parameters.items() if known.get(name) != value} | dict(given)


def prefix_of(stack: str) -> str:
    """Start of the names of a stack, deployed or not."""
    known = deployed_parameters(stack)
    return known.get("Prefix") or stack_prefix(stack, account_id(), current_region())


def create_code_bucket(prefix: str) -> str:
    """Create the bucket of a stack's function zips, unless it is there; return its name."""
    name, region = f"{prefix}-code", current_region()
    place = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
    if find_bucket(name) is None:
        with translate_aws_errors(f"bucket {name}"):
            client("s3").create_bucket(Bucket=name, **place)
    return name


def delete_code_bucket(prefix: str) -> None:
    """Delete the bucket of :func:`create_code_bucket` with the zips in it, if it is there."""
    if find_bucket(f"{prefix}-code"):
        delete_bucket(f"{prefix}-code")


def find_bucket(name: str) -> Bucket | None:
    """Return the facts of a bucket in this region; None if there is no such bucket.

    Raises:
        InputError: the bucket is in another region, where its events do not reach the stack.
        AccessDeniedError: the bucket belongs to another account, or the credentials may not list it.
    """
    import botocore.exceptions as aws

    s3 = client("s3")
    try:
        region = s3.head_bucket(Bucket=name).get("BucketRegion") or current_region()
    except aws.ClientError as error:
        headers = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        region = headers.get("x-amz-bucket-region", "")
        if status == 404:
            return None
        if status == 403:
            hint = "name another bucket, or allow s3:ListBucket"
            raise AccessDeniedError("belongs to another account, or may not be listed", where=name, hint=hint) from None
        if status not in {301, 400} or not region:
            with translate_aws_errors(name):
                raise
    if region != current_region():
        hint = f"deploy the stack in {region}: AWS_DEFAULT_REGION={region}"
        raise InputError(f"is in {region}, not in {current_region()}", where=f"bucket {name}", hint=hint)
    return Bucket(name, region, _key_of(name))


def _key_of(bucket: str) -> str:
    """ARN of the bucket's KMS key; empty without a key, and for AWS's own key, which needs no permission."""
    import botocore.exceptions as aws

    try:
        rules = client("s3").get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"]["Rules"]
    except aws.ClientError as error:
        if error.response.get("Error", {}).get("Code") == "ServerSideEncryptionConfigurationNotFoundError":
            return ""
        with translate_aws_errors(f"encryption of bucket {bucket}"):
            raise
    keys = [rule.get("ApplyServerSideEncryptionByDefault", {}).get("KMSMasterKeyID") for rule in rules]
    key = next((key for key in keys if key), None)
    if key is None or key.endswith("alias/aws/s3"):
        return ""
    with translate_aws_errors(f"KMS key {key} of bucket {bucket}"):
        return str(client("kms").describe_key(KeyId=key)["KeyMetadata"]["Arn"])


def sends_events(bucket: str) -> bool:
    """Whether the bucket sends its events to EventBridge."""
    return "EventBridgeConfiguration" in _notifications(bucket)


def send_events(bucket: str) -> bool:
    """Send the bucket's events to EventBridge and keep its other notifications. Returns whether that is a change."""
    configuration = _notifications(bucket)
    if "EventBridgeConfiguration" in configuration:
        return False
    with translate_aws_errors(f"notifications of bucket {bucket}"):
        client("s3").put_bucket_notification_configuration(
            Bucket=bucket,
            NotificationConfiguration=configuration | {"EventBridgeConfiguration": {}},
            SkipDestinationValidation=True,  # a target of another notification may be gone; it stays as it is
        )
    return True


def _notifications(bucket: str) -> dict[str, Any]:
    with translate_aws_errors(f"notifications of bucket {bucket}"):
        configuration = client("s3").get_bucket_notification_configuration(Bucket=bucket)
    return {name: value for name, value in configuration.items() if name != "ResponseMetadata"}
