"""A photo of an event, as S3 has it now or in the version that the event is about."""

from typing import TYPE_CHECKING, cast

from inference_lambda.events.s3 import S3Photo
from transferlite.errors import NotFoundError
from transferlite.images.input_spec import READ_BYTES
from transferlite.storage.locations import open_store
from transferlite.storage.store import Blob

if TYPE_CHECKING:
    from transferlite.storage.s3_boto3 import S3Store


def fetch(photo: S3Photo) -> Blob:
    """The photo's bytes, no more than a decoder would take, and its ETag. Raises the store errors."""
    if photo.version:
        return _bucket(photo).get(photo.key, READ_BYTES, version=photo.version)
    return _bucket(photo).get(photo.key, READ_BYTES)


def is_current(photo: S3Photo, etag: str) -> bool:
    """Whether the photo's content is still this one: a version's is, an object may have been overwritten or deleted."""
    if photo.version:
        return True
    try:
        return _bucket(photo).head(photo.key).etag == etag
    except NotFoundError:
        return False


def tag(photo: S3Photo, tags: dict[str, str]) -> None:
    """Add tags to the photo, which keeps those that it has. Raises the store errors."""
    _bucket(photo).add_tags(photo.key, tags, photo.version)


def _bucket(photo: S3Photo) -> "S3Store":
    return cast("S3Store", open_store(f"s3://{photo.bucket}"))
