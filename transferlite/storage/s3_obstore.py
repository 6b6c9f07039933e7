"""The S3 store of a function that has just started: obstore, which is ready in 10 ms where boto3 takes 250.

Whatever obstore cannot do or does not get, boto3 is asked for instead: it either succeeds, or says what is wrong in the
words of ``transferlite.storage.s3_boto3``. So the store answers as ``S3Store`` does, and imports boto3 only once
there is need."""

import os
import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any, cast

from transferlite.errors import ConflictError, MissingExtraError, UnavailableError
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
_SPECIAL = ("AWS_CA_BUNDLE", "AWS_USE_FIPS_ENDPOINT", "AWS_USE_DUALSTACK_ENDPOINT", "AWS_PROFILE")
_TIMES: Any = {"connect_timeout": "5s", "read_timeout": "60s", "timeout": "1h"}
_RETRIES: Any = {"max_retries": 2, "retry_timeout": timedelta(seconds=10)}  # then boto3's own begin
_REFUSED = (exceptions.BaseError, FileNotFoundError, NotImplementedError, ValueError)
_ORDINARY_REGION = re.compile(r"(?!cn-|us-iso|us-gov)[a-z]+(-[a-z]+)+-\d+")


def is_enough(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether obstore finds S3 and its credentials as boto3 would: they are in the environment, as in a function.

    A snapshot's are not (SnapStart), nor are a profile's; and some partitions and endpoints only boto3 knows.
    """
    return (
        all(environment.get(name) for name in _NEEDED)
        and not any(environment.get(name) for name in _SPECIAL)
        and bool(_ORDINARY_REGION.fullmatch(environment["AWS_REGION"]))
    )


class QuickS3Store:
    """The objects of a bucket whose keys begin with a prefix, for who reads a few and writes a few.

    The methods are those of ``transferlite.storage.s3_boto3.S3Store``; what is not here is that store's own.
    """

    def __init__(self, uri: str) -> None:
        """The store for ``s3://bucket/prefix``, which has to name a bucket."""
        bucket, _, prefix = uri.removeprefix("s3://").partition("/")
        self.uri = uri.rstrip("/")
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self._bucket = _bucket(bucket)

    @cached_property
    def _whole(self) -> "S3Store":
        from transferlite.storage.s3_boto3 import S3Store

        return S3Store.from_uri(self.uri)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._whole, name)

    def get(self, key: str, max_bytes: int | None = None, version: str = "") -> Blob:
        """As ``S3Store.get``."""
        options: dict[str, Any] = {"version": version} if version else {}
        if self._is_plain(key):
            try:
                return self._get(key, max_bytes, **options)
            except _REFUSED:  # of many kinds; boto3 finds out what it is
                pass
        return self._whole.get(key, max_bytes, version)

    def stream(self, key: str, start: int = 0) -> Iterator[bytes]:
        """As ``S3Store.stream``. What breaks off is asked for again by who reads, from there on."""
        if self._is_plain(key):
            try:
                options: Any = {"range": {"offset": start}} if start else {}
                answer = obstore.get(self._bucket, self._prefix + key, options=options)
            except _REFUSED:
                pass
            else:
                try:
                    yield from map(bytes, answer.stream(min_chunk_size=BLOCK))
                except _REFUSED as error:
                    raise UnavailableError(" ".join(str(error).split()), where=f"{self.uri}/{key}") from None
                return
        yield from self._whole.stream(key, start)

    def get_changed(self, key: str, etag: str) -> Blob | None:
        """As ``S3Store.get_changed``."""
        if self._is_plain(key):
            try:
                return self._get(key, None, if_none_match=etag)
            except exceptions.NotModifiedError:
                return None
            except _REFUSED:
                pass
        return self._whole.get_changed(key, etag)

    def head(self, key: str) -> Entry:
        """As ``S3Store.head``."""
        if self._is_plain(key):
            try:
                meta = obstore.head(self._bucket, self._prefix + key)
                return Entry(key, meta["size"], meta["e_tag"] or "", modified=meta["last_modified"].timestamp())
            except _REFUSED:
                pass
        return self._whole.head(key)

    def put(self, key: str, data: bytes, *, if_absent: bool = False, if_match: str | None = None) -> str:
        """As ``S3Store.put``."""
        mode: Any = "create" if if_absent else {"e_tag": if_match} if if_match else "overwrite"
        if self._is_plain(key):
            try:
                return str(obstore.put(self._bucket, self._prefix + key, data, mode=mode, use_multipart=False)["e_tag"])
            except (exceptions.AlreadyExistsError, exceptions.PreconditionError):
                raise ConflictError("was changed by another writer", where=f"{self.uri}/{key}") from None
            except _REFUSED:
                pass
        return self._whole.put(key, data, if_absent=if_absent, if_match=if_match)

    def _get(self, key: str, max_bytes: int | None, **options: Any) -> Blob:
        path, wanted = self._prefix + key, cast(Any, options)
        answer = obstore.get(self._bucket, path, options=wanted)
        if max_bytes is not None and answer.meta["size"] > max_bytes:
            wanted["range"] = (0, max_bytes)
            answer = obstore.get(self._bucket, path, options=wanted)
        meta = answer.meta
        return Blob(bytes(answer.bytes()), meta["e_tag"] or "", meta["last_modified"].timestamp())

    def _is_plain(self, key: str) -> bool:
        """Whether obstore takes the key as it is; it drops or refuses empty segments, ``.`` and ``..``."""
        return not {"", ".", ".."} & set((self._prefix + key).split("/"))


@cache
def _bucket(name: str) -> Bucket:
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    optional = {"endpoint": endpoint, "session_token": os.environ.get("AWS_SESSION_TOKEN")}
    given: dict[str, Any] = {name: value for name, value in optional.items() if value}
    return Bucket(
        name,
        region=os.environ["AWS_REGION"],
        access_key_id=os.environ["AWS_ACCESS_KEY_ID"],
        secret_access_key=os.environ["AWS_SECRET_ACCESS_KEY"],
        virtual_hosted_style_request=not endpoint and "." not in name,  # a certificate has one label before S3's
        client_options=_TIMES | {"allow_http": (endpoint or "").startswith("http://")},
        retry_config=_RETRIES,
        **given,
    )
