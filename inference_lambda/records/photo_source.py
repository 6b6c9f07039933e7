"""Photo in S3: fetch it, check that it is still current, add tags to it."""

from typing import TYPE_CHECKING, cast

from inference_lambda.events.s3 import S3Photo
from transferlite.errors import NotFoundError
from transferlite.images.input_spec import READ_BYTES
from transferlite.storage.locations import open_store
from transferlite.storage.store import Blob

if TYPE_CHECKING:
    from transferlite.storage.s3_boto3 import S3Store


def fetch_photo(photo: S3Photo) -> Blob:
    """Fetch the photo's bytes, up to the decoder's limit, and its ETag. Raises the store errors."""
    if photo.version_id:
        return _bucket(photo).get(photo.key, READ_BYTES, version=photo.version_id)
    return _bucket(photo).get(photo.key, READ_BYTES)


def is_current(photo: S3Photo, etag: str) -> bool:
    """Return whether the object still has this ETag; an S3 version never changes. Raises the store errors."""
    if photo.version_id:
        return True
    try:
        return _bucket(photo).head(photo.key).etag == etag
    except NotFoundError:
        return False


def add_tags(photo: S3Photo, tags: dict[str, str]) -> None:
    """Add tags to the photo and keep its other tags. Raises the store errors."""
    _bucket(photo).add_tags(photo.key, tags, photo.version_id)


def _bucket(photo: S3Photo) -> "S3Store":
    return cast("S3Store", open_store(f"s3://{photo.bucket}"))
