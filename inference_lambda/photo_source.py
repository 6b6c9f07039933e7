"""A photo of an event, as S3 has it now or in the version that the event is about."""

from inference_lambda.s3_events import S3Photo
from runtime.errors import NotFoundError
from runtime.imaging import READ_BYTES
from runtime.store import Blob


def fetch(photo: S3Photo) -> Blob:
    """The photo's bytes, no more than a decoder would take, and its ETag. Raises the store errors."""
    from runtime.s3 import S3Store  # boto3, which HTTP requests can do without

    return S3Store(photo.bucket).get(photo.key, READ_BYTES, photo.version)


def is_current(photo: S3Photo, etag: str) -> bool:
    """Whether the photo's content is still this one: a version's is, an object may have been overwritten or deleted."""
    from runtime.s3 import S3Store

    if photo.version:
        return True
    try:
        return S3Store(photo.bucket).head(photo.key).etag == etag
    except NotFoundError:
        return False


def tag(photo: S3Photo, tags: dict[str, str]) -> None:
    """Add tags to the photo, which keeps those that it has. Raises the store errors."""
    from runtime.s3 import S3Store

    S3Store(photo.bucket).add_tags(photo.key, tags, photo.version)
