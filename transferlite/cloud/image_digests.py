"""Replace the tag of an image in ECR by its digest, so that a deployment names one image for good."""

import re

from transferlite.cloud.buckets import account_id, current_region
from transferlite.cloud.stack import client, translate_aws_errors
from transferlite.errors import NotFoundError

REPOSITORY = "transferlite"
"""Default name of the repository in ECR."""

ECR_IMAGE = re.compile(
    r"(\d{12})\.dkr\.ecr\.([a-z0-9-]+)\.amazonaws\.com(?:\.cn)?/([^:@]+)(?::([^:@/]+))?(@sha256:.+)?"
)
"""Image in ECR: account, region, repository, tag and digest."""


def default_image(tag: str) -> str:
    """URI of the image that ``transferlite cloud build --push`` pushes."""
    region = current_region()
    suffix = ".cn" if region.startswith("cn-") else ""
    return f"{account_id()}.dkr.ecr.{region}.amazonaws.com{suffix}/{REPOSITORY}:{tag}"


def pinned(uri: str) -> str:
    """Return the image's URI with its digest: a tag that is pushed again would change AWS Batch, but not Lambda.

    A URI with a digest is returned as it is, and so is one that is not in ECR, which the template refuses.

    Raises:
        NotFoundError: there is no such repository or tag.
    """
    match = ECR_IMAGE.fullmatch(uri)
    if match is None or match[5]:
        return uri
    account, region, repository, tag = match[1], match[2], match[3], match[4] or "latest"
    missing = NotFoundError("there is no such image", where=uri, hint="push it first: transferlite cloud build --push")
    ecr = client("ecr", region)
    try:
        with translate_aws_errors(uri):
            found = ecr.describe_images(registryId=account, repositoryName=repository, imageIds=[{"imageTag": tag}])
    except NotFoundError:
        raise missing from None
    digest = found["imageDetails"][0]["imageDigest"]
    return f"{uri.rpartition(':')[0] if match[4] else uri}@{digest}"
