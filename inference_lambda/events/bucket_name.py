"""Bucket names in events and URIs, and what to write in place of an ARN.

Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/access-points-naming.html
"""

import re

from transferlite.errors import InputError

_BUCKET_ARN = re.compile(r"arn:aws[a-z-]*:s3:::([^:/]+)")


def bucket_name(text: str) -> str:
    """Return the bucket that an event names by its name, its ARN or the alias of an access point.

    Raises:
        InputError: the text is another ARN, such as that of an access point; the message says what to write instead.
    """
    bucket_arn = _BUCKET_ARN.fullmatch(text)
    if bucket_arn:
        return bucket_arn[1]
    hint = arn_hint(text)
    if hint:
        raise InputError("the bucket is given as an ARN", where=text, hint=hint)
    return text


def arn_hint(text: str) -> str:
    """Return what to write instead of this ARN, which may follow ``s3://``; empty if the text is no ARN."""
    arn = text.removeprefix("s3://").lower()
    if not arn.startswith("arn:"):
        return ""
    if ".mrap" in arn:
        return "a Multi-Region Access Point is not supported; use the name of one of its buckets"
    if "accesspoint" in arn:
        return "use the access point's alias as the bucket, e.g. s3://NAME-...-s3alias/key"
    return "use the name of the bucket, as in s3://bucket/key"
