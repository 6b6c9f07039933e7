"""Names of a stack's buckets, state machine and schedules."""

import hashlib
import re

LONGEST = 51
"""S3 allows 63 characters, and ``-predictions`` takes 12 of them."""

_RESERVED = ("xn--", "sthree-", "amzn-s3-demo-")
"""Starts that S3 refuses: https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html"""


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
