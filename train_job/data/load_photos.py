"""Photos from their URIs to arrays, fetched and decoded on threads, in order and in bounded memory."""

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

from train_job.data.dataset import Example, RejectedPhoto
from train_job.data.photo_facts import PhotoFacts, examine
from transferlite.errors import AccessDeniedError, NotFoundError, PhotoError, TransferLiteError
from transferlite.images.decoder import PHOTO_CODES, RGB
from transferlite.images.input_spec import READ_BYTES, InputSpec
from transferlite.storage.locations import open_store, split_uri
from transferlite.storage.prefetch import prefetch_map
from transferlite.storage.s3_boto3 import s3_client
from transferlite.storage.store import Blob

_RETRIES: Any = {"max_retries": 4, "retry_timeout": timedelta(seconds=60)}
_TIMES: Any = {"connect_timeout": "5s", "read_timeout": "60s", "timeout": "1h"}
_RENEWAL = timedelta(minutes=10)  # boto3 renews credentials with less than this left, so what it gives is good for it
_AWS = re.compile(r"https://s3\.([a-z0-9-]+\.)?amazonaws\.com")
_setting_up = threading.Lock()


def fetch(uri: str, most: int) -> Blob:
    """A photo's bytes, or its first ``most`` if it has more. Safe to call on many threads.

    Raises:
        NotFoundError, AccessDeniedError, UnavailableError: as :meth:`transferlite.storage.s3_boto3.S3Store.get`.
    """
    root, key = split_uri(uri)
    if root.startswith("s3://") and _is_plain(key):
        blob = _from_s3(root.removeprefix("s3://"), key, most)
        if blob is not None:
            return blob
    return open_store(root).get(key, most)


def _is_plain(key: str) -> bool:
    """Whether obstore takes the key as it is; it drops or refuses empty segments, ``.`` and ``..``."""
    return not {"", ".", ".."} & set(key.split("/"))


def _from_s3(bucket: str, key: str, most: int) -> Blob | None:
    try:
        with _setting_up:  # once, not once a thread
            client = s3_client()
            store = _bucket(bucket, client.meta.endpoint_url)
        if store is None:
            return None
        answer = obstore.get(store, key)
        if answer.meta["size"] > most:
            answer = obstore.get(store, key, options={"range": (0, most)})
        return Blob(bytes(answer.bytes()), answer.meta["e_tag"] or "")
    except Exception:  # of many kinds; boto3 finds out what it is
        return None


@lru_cache(maxsize=256)
def _bucket(bucket: str, endpoint: str) -> S3Store | None:
    """A bucket, reached as boto3 reaches it; None where there are no credentials."""
    session = get_session()
    try:
        credentials = Boto3CredentialProvider(session, ttl=_RENEWAL)
    except ValueError:
        return None
    trusted = session.get_config_variable("ca_bundle")
    roots: dict[str, Any] = {"root_certificate": Path(trusted).read_bytes()} if trusted else {}
    region = _region(bucket)
    return S3Store(
        bucket,
        endpoint=_address(bucket, endpoint.rstrip("/"), region),
        virtual_hosted_style_request=True,  # which means that the endpoint names the bucket already
        region=region,
        client_options=_TIMES | roots | {"allow_http": endpoint.startswith("http://")},
        retry_config=_RETRIES,
        credential_provider=credentials,
    )


def _address(bucket: str, endpoint: str, region: str) -> str:
    """The URL that a bucket's keys follow."""
    if not _AWS.fullmatch(endpoint):  # another S3; or AWS in China, by IPv6, or from a private network
        return f"{endpoint}/{bucket}"
    if "." in bucket:  # the certificate has one label before the service
        return f"https://s3.{region}.amazonaws.com/{bucket}"
    return f"https://{bucket}.s3.{region}.amazonaws.com"


def _region(bucket: str) -> str:
    """The region of a bucket. boto3 finds its way to another region by itself, obstore has to be told."""
    client = s3_client()
    own = str(client.meta.region_name)
    try:
        answer = client.head_bucket(Bucket=bucket)
    except ClientError as error:  # a refusal names the region too
        answer = error.response
    except BotoCoreError:
        return own
    return str(answer["ResponseMetadata"]["HTTPHeaders"].get("x-amz-bucket-region", own))


_CORES = len(os.sched_getaffinity(0))
WORKERS = min(64, 8 * _CORES)
"""Threads that fetch, which is waiting for the network; of them as many decode at once as there are cores.

A small photo takes 3 ms to decode and S3 ten times that to send it.
"""

CONTENT_CODES = PHOTO_CODES | {"too-small"}
"""Why a photo itself cannot be used, as against what went wrong in fetching it: it need not be fetched again."""

MEMORY = 8 * READ_BYTES
"""Bytes that photos may take together from before they are fetched until they are decoded, and again after that."""


class _Room:
    """A number of bytes that threads share; who wants more than is free waits."""

    def __init__(self, size: int) -> None:
        self._free = size
        self._given_back = threading.Condition()

    @contextmanager
    def taken(self, size: int) -> Iterator[None]:
        with self._given_back:
            self._given_back.wait_for(lambda: self._free >= size)
            self._free -= size
        try:
            yield
        finally:
            with self._given_back:
                self._free += size
                self._given_back.notify_all()


_room = _Room(MEMORY)
_decoding = threading.BoundedSemaphore(_CORES)


@dataclass(frozen=True)
class Photo:
    """A decoded photo: uint8 RGB ``[H, W, 3]`` of the model's input size; ``example`` now has its sha256."""

    example: Example
    image: RGB
    facts: PhotoFacts


@dataclass(frozen=True)
class Seen:
    """A photo that was fetched and, now that its sha256 is known, need not be decoded."""

    example: Example


def load_photos(
    examples: Iterable[Example], spec: InputSpec, skip: Callable[[Example], bool] = lambda _: False
) -> Iterator[Photo | Seen | RejectedPhoto]:
    """Each example's photo, in order, or why it cannot be used.

    ``skip`` is asked, on a thread, about each fetched example. A photo that is no longer what was listed has lost its
    ``stamp``.

    Raises:
        UnavailableError: the store stopped answering; the photo is not to blame.
    """
    pictures = MEMORY // (3 * spec.height * spec.width)
    return prefetch_map(lambda example: _load(example, spec, skip), examples, WORKERS, min(2 * WORKERS, pictures))


def _load(example: Example, spec: InputSpec, skip: Callable[[Example], bool]) -> Photo | Seen | RejectedPhoto:
    try:
        with _room.taken(_size(example)):
            return _fetched(example, spec, skip)
    except PhotoError as error:
        return _reject(example, error.code, error)
    except NotFoundError as error:
        return _reject(example, "missing", error)
    except AccessDeniedError as error:
        return _reject(example, "forbidden", error)
    except TransferLiteError as error:
        if error.retryable:
            raise
        return _reject(example, "unusable", error)


def _size(example: Example) -> int:
    """How many bytes the photo will take: as many as were listed, or else the most that are read."""
    size = example.stamp.split(" ")[1:2]
    return min(int(size[0]), READ_BYTES) if size and size[0].isdecimal() else READ_BYTES


def _fetched(example: Example, spec: InputSpec, skip: Callable[[Example], bool]) -> Photo | Seen:
    blob = fetch(example.image, READ_BYTES)
    stamp = example.stamp if example.stamp.split(" ")[0] == blob.etag else ""
    known = replace(example, sha256=hashlib.sha256(blob.data).hexdigest(), stamp=stamp)
    if skip(known):
        return Seen(known)
    with _decoding:
        return Photo(known, *examine(blob.data, spec))


def _reject(example: Example, code: str, error: TransferLiteError) -> RejectedPhoto:
    return RejectedPhoto(example.image, example.row, code, error.message)
