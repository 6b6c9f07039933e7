"""Fetch and decode photos on threads, in order and in bounded memory."""

import hashlib
import os
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

import obstore
from botocore.exceptions import BotoCoreError, ClientError
from botocore.session import get_session
from obstore.auth.boto3 import Boto3CredentialProvider
from obstore.store import S3Store

from train_job.data.example import Example, RejectedPhoto
from train_job.data.photo_facts import PhotoFacts, decode_with_facts
from transferlite.errors import AccessDeniedError, NotFoundError, PhotoError, TransferLiteError
from transferlite.images.decoder import PHOTO_CODES, RGB
from transferlite.images.input_spec import READ_BYTES, InputSpec
from transferlite.storage.file_stamp import HASH_PREFIX
from transferlite.storage.locations import open_store, split_uri
from transferlite.storage.prefetch import prefetch_map
from transferlite.storage.s3_boto3 import s3_client
from transferlite.storage.store import Blob

_RETRIES: Any = {"max_retries": 4, "retry_timeout": timedelta(seconds=60)}
_TIMEOUTS: Any = {"connect_timeout": "5s", "read_timeout": "60s", "timeout": "1h"}
_CREDENTIALS_TTL = timedelta(minutes=10)  # boto3 renews credentials earlier, so they stay valid that long
_AWS_ENDPOINT = re.compile(r"https://s3\.([a-z0-9-]+\.)?amazonaws\.com")
_client_lock = threading.Lock()


def fetch(uri: str, max_bytes: int) -> Blob:
    """Fetch a photo, or its first ``max_bytes`` bytes if it is larger. Thread-safe.

    obstore reads plain S3 keys; boto3 reads the others and whatever obstore fails on.

    Raises:
        NotFoundError, AccessDeniedError, UnavailableError: as :meth:`transferlite.storage.s3_boto3.S3Store.get`.
    """
    root, key = split_uri(uri)
    if root.startswith("s3://") and _is_plain_key(key):
        blob = _fetch_with_obstore(root.removeprefix("s3://"), key, max_bytes)
        if blob is not None:
            return blob
    return open_store(root).get(key, max_bytes)


def _is_plain_key(key: str) -> bool:
    """Return whether obstore keeps the key unchanged; it drops or refuses empty segments, ``.`` and ``..``."""
    return not {"", ".", ".."} & set(key.split("/"))


def _fetch_with_obstore(bucket: str, key: str, max_bytes: int) -> Blob | None:
    """Fetch an S3 object with obstore; None if that fails for any reason."""
    try:
        with _client_lock:  # one client for all threads
            client = s3_client()
            store = _open_bucket(bucket, client.meta.endpoint_url)
        if store is None:
            return None
        response = obstore.get(store, key)
        if response.meta["size"] > max_bytes:
            response = obstore.get(store, key, options={"range": (0, max_bytes)})
        return Blob(bytes(response.bytes()), response.meta["e_tag"] or "")
    except Exception:  # boto3 tries again and raises the right error
        return None


@lru_cache(maxsize=256)
def _open_bucket(bucket: str, endpoint: str) -> S3Store | None:
    """Open a bucket with boto3's credentials, certificates and endpoint; None without credentials."""
    session = get_session()
    try:
        credentials = Boto3CredentialProvider(session, ttl=_CREDENTIALS_TTL)
    except ValueError:
        return None
    ca_bundle = session.get_config_variable("ca_bundle")
    certificates: dict[str, Any] = {"root_certificate": Path(ca_bundle).read_bytes()} if ca_bundle else {}
    region = _region(bucket)
    return S3Store(
        bucket,
        endpoint=_bucket_url(bucket, endpoint.rstrip("/"), region),
        virtual_hosted_style_request=True,  # the endpoint already contains the bucket
        region=region,
        client_options=_TIMEOUTS | certificates | {"allow_http": endpoint.startswith("http://")},
        retry_config=_RETRIES,
        credential_provider=credentials,
    )


def _bucket_url(bucket: str, endpoint: str, region: str) -> str:
    """Return the URL to which a key is appended."""
    if not _AWS_ENDPOINT.fullmatch(endpoint):  # not AWS, or AWS in China, over IPv6 or through a VPC endpoint
        return f"{endpoint}/{bucket}"
    if "." in bucket:  # the certificate's wildcard covers one label only
        return f"https://s3.{region}.amazonaws.com/{bucket}"
    return f"https://{bucket}.s3.{region}.amazonaws.com"


def _region(bucket: str) -> str:
    """Find a bucket's region. boto3 follows redirects to another region; obstore does not."""
    client = s3_client()
    default = str(client.meta.region_name)
    try:
        response = client.head_bucket(Bucket=bucket)
    except ClientError as error:  # an error response has the region header, too
        response = error.response
    except BotoCoreError:
        return default
    return str(response["ResponseMetadata"]["HTTPHeaders"].get("x-amz-bucket-region", default))


_CORES = len(os.sched_getaffinity(0))
WORKERS = min(64, 8 * _CORES)
"""Threads that fetch photos; at most one a core decodes at the same time.

Fetching waits for the network: S3 takes about 30 ms to send a small photo, and decoding it takes 3 ms.
"""

CONTENT_CODES = PHOTO_CODES - {"missing-decoder"} | {"too-small"}
"""Codes of photos whose content is unusable: fetching them again cannot help.

It can after a failed fetch, or once a missing decoder is installed.
"""

MEMORY_BUDGET = 8 * READ_BYTES
"""Bytes that all photos being fetched or decoded may take together; decoded photos may take as much again."""


class _MemoryBudget:
    """Bytes that threads share; a thread that needs more than is free waits."""

    def __init__(self, size: int) -> None:
        self._free = size
        self._released = threading.Condition()

    @contextmanager
    def reserve(self, size: int) -> Iterator[None]:
        with self._released:
            self._released.wait_for(lambda: self._free >= size)
            self._free -= size
        try:
            yield
        finally:
            with self._released:
                self._free += size
                self._released.notify_all()


_memory_budget = _MemoryBudget(MEMORY_BUDGET)
_decode_slots = threading.BoundedSemaphore(_CORES)


@dataclass(frozen=True)
class DecodedPhoto:
    """A photo as uint8 RGB ``[H, W, 3]`` of the model's input size; ``example`` has its sha256."""

    example: Example
    image: RGB
    facts: PhotoFacts


@dataclass(frozen=True)
class SkippedPhoto:
    """A photo that was fetched but not decoded; ``example`` has its sha256."""

    example: Example


def load_photos(
    examples: Iterable[Example], spec: InputSpec, skip: Callable[[Example], bool] = lambda _: False
) -> Iterator[DecodedPhoto | SkippedPhoto | RejectedPhoto]:
    """Yield each example's photo, in order, or the reason why it cannot be used.

    Worker threads call ``skip`` with each fetched example; if it returns True, the photo is not decoded. An example's
    ``stamp`` becomes empty if the photo has changed since it was listed.

    Raises:
        UnavailableError: the store does not respond.
    """
    max_images = MEMORY_BUDGET // (3 * spec.height * spec.width)
    return prefetch_map(lambda example: _load(example, spec, skip), examples, WORKERS, min(2 * WORKERS, max_images))


def _load(
    example: Example, spec: InputSpec, skip: Callable[[Example], bool]
) -> DecodedPhoto | SkippedPhoto | RejectedPhoto:
    try:
        with _memory_budget.reserve(_max_size(example)):
            return _fetch_and_decode(example, spec, skip)
    except PhotoError as error:
        return _rejected(example, error.code, error)
    except NotFoundError as error:
        return _rejected(example, "missing", error)
    except AccessDeniedError as error:
        return _rejected(example, "forbidden", error)
    except TransferLiteError as error:
        if error.retryable:
            raise
        return _rejected(example, "unusable", error)


def _max_size(example: Example) -> int:
    """Return the photo's size in bytes from its stamp, or the read limit if the size is unknown."""
    size = example.stamp.split(" ")[1:2]
    return min(int(size[0]), READ_BYTES) if size and size[0].isdecimal() else READ_BYTES


def _fetch_and_decode(
    example: Example, spec: InputSpec, skip: Callable[[Example], bool]
) -> DecodedPhoto | SkippedPhoto:
    blob = fetch(example.image, READ_BYTES)
    sha256 = hashlib.sha256(blob.data).hexdigest()
    stamp = example.stamp if _is_listed_content(example.stamp, blob.etag, sha256) else ""
    fetched = replace(example, sha256=sha256, stamp=stamp)
    if skip(fetched):
        return SkippedPhoto(fetched)
    with _decode_slots:
        return DecodedPhoto(fetched, *decode_with_facts(blob.data, spec))


def _is_listed_content(stamp: str, etag: str, sha256: str) -> bool:
    """Return whether a photo's ETag and content are those that its stamp describes."""
    fields = stamp.split(" ")
    return fields[0] == etag and (not fields[-1].startswith(HASH_PREFIX) or fields[-1] == HASH_PREFIX + sha256)


def _rejected(example: Example, code: str, error: TransferLiteError) -> RejectedPhoto:
    return RejectedPhoto(example.image, example.row, code, error.message)
