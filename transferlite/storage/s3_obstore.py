"""The S3 store of a Lambda function that has just started, over obstore.

A function holds its first object after 27 ms of CPU with this store, and after 238 ms with
``transferlite.storage.s3_boto3``: 8.9x.
A GET of a 50 KB photo takes 0.18 ms of CPU instead of 1.16 ms: 6.5x. ``python -m benchmarks.s3_engines`` shows both.

obstore alone is no S3 store for every user, so ``transferlite.storage.s3_boto3`` stays, and has every method:

- obstore refuses or rewrites keys with empty, ``.`` or ``..`` segments and with control characters.
- It reads no profile, SSO session, AWS_CA_BUNDLE, FIPS or dual-stack setting. It knows AWS's ordinary partition only.
- It cannot tag objects, and does not check the CRC of what it reads.

boto3 repeats whatever fails here, within the same number of requests. It succeeds, or raises the error of the other
store. So both stores behave alike (``tests/transferlite/storage/test_s3_*.py``), and only a failure imports boto3.
"""

import os
import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from functools import cache, cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from transferlite.errors import MissingExtraError
from transferlite.storage import s3_settings as settings
from transferlite.storage.store import BLOCK, Blob, Entry

try:
    import obstore
    from obstore import exceptions
    from obstore.store import S3Store as Bucket
except ModuleNotFoundError:
    raise MissingExtraError("obstore", "lambda") from None

if TYPE_CHECKING:
    from transferlite.storage.s3_boto3 import S3Store

_NEEDED = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION")
_SPECIAL = (
    *("AWS_PROFILE", "AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "AWS_USE_FIPS_ENDPOINT", "AWS_USE_DUALSTACK_ENDPOINT"),
    "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
)
_REFUSED = (exceptions.BaseError, FileNotFoundError, NotImplementedError, ValueError)
_LOST = (exceptions.AlreadyExistsError, exceptions.PreconditionError)
_ORDINARY_REGION = re.compile(r"(?!cn-)[a-z]{2}-[a-z]+-\d+")  # us-gov-west-1, eu-isoe-west-1 and eusc-de-east-1 are not


def is_enough(environment: Mapping[str, str] = os.environ) -> bool:
    """Return whether obstore finds S3 and its credentials as boto3 would: in the environment, as in a function.

    SnapStart and profiles keep credentials elsewhere. Only boto3 reads a configuration file, and knows every partition.
    """
    return (
        all(environment.get(name) for name in _NEEDED)
        and not any(environment.get(name) for name in _SPECIAL)
        and bool(_ORDINARY_REGION.fullmatch(environment["AWS_REGION"]))
        and not _exists(environment.get("AWS_CONFIG_FILE") or "~/.aws/config")
    )


def _exists(path: str) -> bool:
    try:
        return Path(path).expanduser().exists()
    except (OSError, RuntimeError):  # a folder that this user may not enter, a user without a home
        return False


class ObstoreS3Store:
    """The objects of a bucket whose keys begin with a prefix; for processes that read and write a few objects.

    The methods are those of ``transferlite.storage.s3_boto3.S3Store``; what is not here is that store's own.
    """

    def __init__(self, uri: str) -> None:
        """The store for ``s3://bucket/prefix``. Raises InputError when no bucket is named."""
        bucket, self._prefix = settings.split_root(uri)
        self.uri = f"s3://{bucket}/{self._prefix}".rstrip("/")
        self._bucket = _bucket(bucket)

    @cached_property
    def _whole(self) -> "S3Store":
        """The boto3 store, for what obstore cannot do."""
        from transferlite.storage.s3_boto3 import S3Store

        return S3Store.from_uri(self.uri)

    @cached_property
    def _after(self) -> "S3Store":
        """The store that retries what obstore failed to do, with the requests that are left."""
        from transferlite.storage.s3_boto3 import S3Store, s3_client

        return S3Store.from_uri(self.uri, partial(s3_client, settings.REQUESTS - settings.QUICK_REQUESTS))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._whole, name)

    def get(self, key: str, max_bytes: int | None = None, version: str = "") -> Blob:
        """As ``S3Store.get``."""
        if not self._is_plain(key):
            return self._whole.get(key, max_bytes, version)
        try:
            answer = self._open(key, max_bytes, **({"version": version} if version else {}))
        except _REFUSED:  # many kinds of errors: boto3 retries, and raises the right one
            return self._after.get(key, max_bytes, version)
        return self._content(key, answer)

    def stream(self, key: str, start: int = 0) -> Iterator[bytes]:
        """As ``S3Store.stream``. The reader requests the rest of what breaks off."""
        if not self._is_plain(key):
            yield from self._whole.stream(key, start)
            return
        try:
            answer = self._open(key, None, **({"range": {"offset": start}} if start else {}))
        except _REFUSED:
            yield from self._after.stream(key, start)
            return
        try:
            yield from map(bytes, answer.stream(min_chunk_size=BLOCK))
        except _REFUSED as error:
            raise settings.incomplete(self._where(key)) from error

    def get_changed(self, key: str, etag: str) -> Blob | None:
        """As ``S3Store.get_changed``."""
        if not self._is_plain(key):
            return self._whole.get_changed(key, etag)
        try:
            answer = self._open(key, None, **({"if_none_match": etag} if settings.is_etag(etag) else {}))
        except exceptions.NotModifiedError:
            return None
        except _REFUSED:
            return self._after.get_changed(key, etag)
        return self._content(key, answer)

    def head(self, key: str) -> Entry:
        """As ``S3Store.head``."""
        if not self._is_plain(key):
            return self._whole.head(key)
        try:
            meta = obstore.head(self._bucket, self._prefix + key)
        except _REFUSED:
            return self._after.head(key)
        return Entry(key, meta["size"], meta["e_tag"] or "", modified=meta["last_modified"].timestamp())

    def put(self, key: str, data: bytes, *, if_absent: bool = False, if_match: str | None = None) -> str:
        """As ``S3Store.put``."""
        if if_match is not None and not settings.is_etag(if_match):
            raise settings.conflict(self._where(key))
        if not self._is_plain(key):
            return self._whole.put(key, data, if_absent=if_absent, if_match=if_match)
        mode: Any = "create" if if_absent else {"e_tag": if_match} if if_match is not None else "overwrite"
        try:
            return str(obstore.put(self._bucket, self._prefix + key, data, mode=mode, use_multipart=False)["e_tag"])
        except _REFUSED as error:
            if isinstance(error, _LOST) and mode != "overwrite" and "NoSuchBucket" not in str(error):
                raise settings.conflict(self._where(key)) from None
            return self._after.put(key, data, if_absent=if_absent, if_match=if_match)

    def _open(self, key: str, max_bytes: int | None, **options: Any) -> "obstore.GetResult":
        path, wanted = self._prefix + key, cast(Any, options)
        answer = obstore.get(self._bucket, path, options=wanted)
        if max_bytes is not None and answer.meta["size"] > max_bytes:
            wanted["range"] = (0, max_bytes)
            answer = obstore.get(self._bucket, path, options=wanted)
        return answer

    def _content(self, key: str, answer: "obstore.GetResult") -> Blob:
        """Read the object; obstore itself has requested the rest of what broke off."""
        try:
            data = bytes(answer.bytes())
        except _REFUSED as error:
            raise settings.incomplete(self._where(key)) from error
        return Blob(data, answer.meta["e_tag"] or "", answer.meta["last_modified"].timestamp())

    def _where(self, key: str) -> str:
        return f"{self.uri}/{key}"

    def _is_plain(self, key: str) -> bool:
        """Whether obstore takes the key as it is; it drops or refuses empty segments, ``.`` and ``..``."""
        return not {"", ".", ".."} & set((self._prefix + key).split("/"))


@cache
def _bucket(name: str) -> Bucket:
    endpoint = settings.custom_endpoint()
    optional = {"endpoint": endpoint, "session_token": os.environ.get("AWS_SESSION_TOKEN")}
    given: dict[str, Any] = {name: value for name, value in optional.items() if value}
    limits: Any = {
        "connect_timeout": timedelta(seconds=settings.CONNECT_SECONDS),
        "read_timeout": timedelta(seconds=settings.READ_SECONDS),
        "timeout": timedelta(hours=1),
        "allow_http": (endpoint or "").startswith("http://"),
    }
    patience = timedelta(seconds=settings.QUICK_REQUESTS * (settings.CONNECT_SECONDS + settings.READ_SECONDS))
    return Bucket(
        name,
        region=os.environ["AWS_REGION"],
        access_key_id=os.environ["AWS_ACCESS_KEY_ID"],
        secret_access_key=os.environ["AWS_SECRET_ACCESS_KEY"],
        virtual_hosted_style_request=not endpoint and "." not in name,  # a certificate has one label before S3's
        client_options=limits,
        retry_config={"max_retries": settings.QUICK_REQUESTS - 1, "retry_timeout": patience},
        **given,
    )
