"""The S3 store, over boto3. The endpoint, region and credentials come from boto3's own configuration chain.

It takes every key, profile, endpoint and partition. Importing boto3 and the first GET cost 238 ms of CPU, 8.9x those of
``transferlite.storage.s3_obstore`` (``python -m benchmarks.s3_engines``). So a Lambda function takes that
store where it is enough.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from functools import cache
from http import HTTPStatus
from pathlib import Path
from typing import Any

from transferlite.errors import (
    AccessDeniedError,
    ConflictError,
    InputError,
    MissingExtraError,
    MissingStoreError,
    NotFoundError,
    TransferLiteError,
    UnavailableError,
)
from transferlite.storage import s3_settings as settings
from transferlite.storage.store import BLOCK, Blob, Entry, OnSkip

try:
    import boto3
    import botocore.exceptions as aws
    from boto3.exceptions import S3UploadFailedError
    from botocore.config import Config
    from urllib3.exceptions import HTTPError as BrokenError  # botocore lets it through where a refusal breaks off
except ModuleNotFoundError:
    raise MissingExtraError("boto3", "s3") from None

CONNECTIONS = 32
"""Parallel connections one process may hold, and so the most photos it fetches at once."""

MAX_TAGS = 10
"""Of one object. Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-tagging.html"""

_DENIED = {"AccessDenied", "403", "Forbidden", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken"}
_CUT = (
    aws.ResponseStreamingError,
    aws.ReadTimeoutError,
    aws.IncompleteReadError,
    aws.FlexibleChecksumError,
    BrokenError,
)
_LOST = {"PreconditionFailed", "412", "ConditionalRequestConflict", "409"}
_SHOWN = {".html": "text/html; charset=utf-8", ".md": "text/markdown; charset=utf-8"}
"""What a browser shows when it is opened in S3, where it would save a file of no known type."""


class _BrokenOffError(Exception):
    """The content of an answer broke off; the cause says how."""


@cache
def s3_client(requests: int = settings.REQUESTS) -> Any:
    """Return this process's S3 client, which sends a request at most ``requests`` times. Threads can share it."""
    config = Config(
        retries={"mode": "standard", "total_max_attempts": requests},
        max_pool_connections=CONNECTIONS,
        connect_timeout=settings.CONNECT_SECONDS,
        read_timeout=settings.READ_SECONDS,
        signature_version="s3v4",  # or presigned addresses are of version 2, which regions since 2014 refuse
        s3={"addressing_style": "path"} if settings.custom_endpoint() else None,
    )
    return boto3.session.Session().client("s3", config=config)


class S3Store:
    """The objects of a bucket whose keys begin with a prefix."""

    def __init__(self, bucket: str, prefix: str = "", client: Callable[[], Any] = s3_client) -> None:
        self.bucket, self.prefix = settings.split_root(f"s3://{bucket}/{prefix}")
        with self._explained(""):
            self._client = client()

    @classmethod
    def from_uri(cls, uri: str, client: Callable[[], Any] = s3_client) -> "S3Store":
        """The store for ``s3://bucket/prefix``. Raises InputError when no bucket is named."""
        return cls(*settings.split_root(uri), client)

    @property
    def uri(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")

    def get(self, key: str, max_bytes: int | None = None, version: str = "") -> Blob:
        """As in the protocol; of an object with versions the one of that id, or the current one."""
        with self._explained(key):
            return self._read(key, max_bytes, **_of_version(version))

    def stream(self, key: str, start: int = 0) -> Iterator[bytes]:
        with self._explained(key):
            try:
                answer = self._open(key, Range=f"bytes={start}-")
            except aws.ClientError as error:
                if error.response.get("Error", {}).get("Code") == "InvalidRange":  # nothing from there on
                    return
                raise
            with closing(answer["Body"]) as body, _breaking_off():
                yield from body.iter_chunks(BLOCK)

    def presigned(self, key: str, seconds: int) -> str:
        """An ``https://`` address at which anyone can read the object for so long. Nothing is asked of S3."""
        with self._explained(key):
            request = {"Bucket": self.bucket, "Key": self.prefix + key}
            return str(self._client.generate_presigned_url("get_object", Params=request, ExpiresIn=seconds))

    def get_changed(self, key: str, etag: str) -> Blob | None:
        condition = {"IfNoneMatch": etag} if settings.is_etag(etag) else {}
        with self._explained(key):
            try:
                return self._read(key, None, **condition)
            except aws.ClientError as error:
                if _status_of(error) == HTTPStatus.NOT_MODIFIED:
                    return None
                raise

    def _read(self, key: str, max_bytes: int | None, **condition: str) -> Blob:
        for _ in range(settings.READS - 1):
            with suppress(_BrokenOffError):  # botocore repeats a request, but not the reading of its answer
                return self._read_once(key, max_bytes, **condition)
        return self._read_once(key, max_bytes, **condition)

    def _read_once(self, key: str, max_bytes: int | None, **condition: str) -> Blob:
        answer = self._open(key, **condition)
        length, written = int(answer["ContentLength"]), _modified(answer)
        # the body itself as a context would be the raw stream, unchecked
        with closing(answer["Body"]) as body, _breaking_off():
            if max_bytes is None or length <= max_bytes:
                return Blob(body.read(), answer["ETag"], written)
            data = body.read(max_bytes)
            if len(data) < max_bytes:
                raise aws.IncompleteReadError(actual_bytes=len(data), expected_bytes=max_bytes)
            return Blob(data, answer["ETag"], written)

    def _open(self, key: str, **condition: str) -> Any:
        try:
            return self._client.get_object(Bucket=self.bucket, Key=self.prefix + key, **condition)
        except aws.BotoCoreError:  # some of them are urllib3's too; botocore has repeated the request
            raise
        except BrokenError as error:
            raise _BrokenOffError from error

    def put(self, key: str, data: bytes, *, if_absent: bool = False, if_match: str | None = None) -> str:
        if if_match is not None and not settings.is_etag(if_match):
            raise settings.conflict(f"{self.uri}/{key}")
        condition = {"IfNoneMatch": "*"} if if_absent else {"IfMatch": if_match} if if_match is not None else {}
        with self._explained(key, conditional=bool(condition)):
            return str(
                self._client.put_object(Bucket=self.bucket, Key=self.prefix + key, Body=data, **condition)["ETag"]
            )

    def add_tags(self, key: str, tags: Mapping[str, str], version: str = "") -> None:
        """Add tags to an object and keep those that it has. Raises InputError above S3's limit of tags."""
        target = {"Bucket": self.bucket, "Key": self.prefix + key, **_of_version(version)}
        with self._explained(key):
            present = {tag["Key"]: tag["Value"] for tag in self._client.get_object_tagging(**target)["TagSet"]}
            wanted = {**present, **tags}
            if len(wanted) > MAX_TAGS:
                raise InputError(f"has {len(present)} tags, and may have {MAX_TAGS}", where=f"{self.uri}/{key}")
            if wanted != present:
                pairs = [{"Key": name, "Value": value} for name, value in wanted.items()]
                self._client.put_object_tagging(**target, Tagging={"TagSet": pairs})

    def delete(self, key: str) -> None:
        with self._explained(key):
            self._client.delete_object(Bucket=self.bucket, Key=self.prefix + key)

    def head(self, key: str) -> Entry:
        with self._explained(key):
            answer = self._client.head_object(Bucket=self.bucket, Key=self.prefix + key)
        return Entry(key, answer["ContentLength"], answer["ETag"], modified=_modified(answer))

    def entries(self, prefix: str = "", on_skip: OnSkip | None = None) -> Iterator[Entry]:
        for page in self._pages(prefix):
            for item in page.get("Contents", ()):
                if item["Size"] or not item["Key"].endswith("/"):  # an empty object with a slash marks a folder
                    yield Entry(item["Key"][len(self.prefix) :], item["Size"], item["ETag"], modified=_modified(item))

    def children(self, prefix: str = "") -> Iterator[str]:
        for page in self._pages(prefix, Delimiter="/"):
            for item in page.get("CommonPrefixes", ()):
                yield item["Prefix"][len(self.prefix) + len(prefix) :].rstrip("/")

    def upload(self, key: str, path: Path) -> None:
        with self._explained(key):
            shown = {"ContentType": _SHOWN[path.suffix]} if path.suffix in _SHOWN else None
            self._client.upload_file(str(path), self.bucket, self.prefix + key, ExtraArgs=shown)

    def download(self, key: str, path: Path) -> None:
        with self._explained(key):
            self._client.download_file(self.bucket, self.prefix + key, str(path))

    def check_writable(self) -> None:
        """Ask for a write whose condition cannot hold: S3 checks the bucket and the permission before the condition."""
        try:
            self.put("channels/.write-check", b"", if_match='"00000000000000000000000000000000"')
        except ConflictError:
            return
        self._client.delete_object(Bucket=self.bucket, Key=f"{self.prefix}channels/.write-check")
        raise TransferLiteError("the store does not honour conditional writes", where=self.uri, hint="use another")

    def _pages(self, prefix: str, **options: str) -> Iterator[dict[str, Any]]:
        with self._explained(prefix):
            paginator = self._client.get_paginator("list_objects_v2")
            yield from paginator.paginate(Bucket=self.bucket, Prefix=self.prefix + prefix, **options)

    @contextmanager
    def _explained(self, key: str, conditional: bool = False) -> Iterator[None]:
        where = f"s3://{self.bucket}/{self.prefix}{key}"
        try:
            yield
        except S3UploadFailedError as error:
            raise self._error(where, error.__context__ or error, conditional) from error
        except _BrokenOffError as error:
            raise settings.incomplete(where) from error.__cause__
        except (aws.BotoCoreError, aws.ClientError) as error:  # some of them are urllib3's too
            raise self._error(where, error, conditional) from error
        except BrokenError as error:
            raise settings.incomplete(where) from error

    def _error(self, where: str, error: BaseException, conditional: bool) -> TransferLiteError:
        if isinstance(error, aws.ClientError):
            return self._refusal(where, error, conditional)
        if isinstance(error, aws.NoCredentialsError | aws.PartialCredentialsError | aws.CredentialRetrievalError):
            return AccessDeniedError("no AWS credentials found", where=where, hint="set AWS_PROFILE or run: aws login")
        if isinstance(error, aws.NoRegionError | aws.ParamValidationError | aws.ProfileNotFound):
            return InputError(" ".join(str(error).split()), where=where)
        if isinstance(error, aws.SSLError):
            hint = "name the PEM file of its authority in AWS_CA_BUNDLE, or check the network and this machine's clock"
            return UnavailableError(" ".join(str(error).split()), where=where, hint=hint)
        return UnavailableError(" ".join(str(error).split()), where=where, hint="check the network and try again")

    def _refusal(self, where: str, error: aws.ClientError, conditional: bool) -> TransferLiteError:
        code = str(error.response.get("Error", {}).get("Code", ""))
        text = error.response.get("Error", {}).get("Message") or code
        status = _status_of(error)
        if code == "NoSuchBucket":
            return MissingStoreError(
                f"there is no bucket {self.bucket}", where=where, hint="create it or correct the URI"
            )
        gone = code in {"NoSuchKey", "NoSuchVersion", "404", "NotFound"}
        if gone and not conditional:
            return NotFoundError("does not exist", where=where)
        if conditional and (gone or code in _LOST or status in {409, 412}):
            return settings.conflict(where)
        if code == "MethodNotAllowed":
            return NotFoundError("is a delete marker", where=where)
        if code == "InvalidObjectState":
            return NotFoundError("is archived", where=where, hint="restore it first")
        if code == "RequestTimeTooSkewed":
            hint = "set the clock of this machine (timedatectl set-ntp true)"
            return AccessDeniedError(f"access denied ({text})", where=where, hint=hint)
        if code in _DENIED or status == 403:
            return AccessDeniedError(f"access denied ({text})", where=where, hint="check the role's policy")
        if status >= 500 or status == 429 or code in {"SlowDown", "RequestTimeout", "Throttling"}:
            return UnavailableError(f"S3 answered {status} {code}", where=where, hint="try again later")
        return TransferLiteError(f"S3 answered {status} {code}: {text}", where=where)


@contextmanager
def _breaking_off() -> Iterator[None]:
    """Raise _BrokenOffError where reading the content of an answer fails."""
    try:
        yield
    except _CUT as error:
        raise _BrokenOffError from error


def _status_of(error: aws.ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _of_version(version: str) -> dict[str, str]:
    return {"VersionId": version} if version else {}


def _modified(answer: Mapping[str, Any]) -> float:
    return float(answer["LastModified"].timestamp()) if "LastModified" in answer else 0.0
