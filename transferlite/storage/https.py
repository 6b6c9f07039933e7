"""A channel shared by addresses that need no credentials: a read-only store over HTTPS, by the standard library.

``transferlite models share`` writes the JSON that is read here: an address for each object, good for some days.
"""

import http.client
import ipaddress
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from transferlite.errors import (
    AccessDeniedError,
    InputError,
    MissingStoreError,
    NotFoundError,
    TransferLiteError,
    UnavailableError,
)
from transferlite.storage.store import BLOCK, Blob, Entry, join_uri

SCHEMA = 1
_MOST = 2**24
"""Bytes of a document (the share itself, a pointer, a manifest): what sends more is not one."""
_TIMEOUT = 60


class SharedStore:
    """The objects that a share's JSON names. It is fetched once, at the first use."""

    def __init__(self, url: str) -> None:
        check_address(url)
        self._url = url

    @property
    def uri(self) -> str:
        return without_query(self._url)

    def get(self, key: str, max_bytes: int | None = None) -> Blob:
        with self._explained(key), _open(self._address(key)) as answer:
            return Blob(_document(answer, join_uri(self.uri, key))[:max_bytes], answer.headers.get("ETag") or "")

    def get_changed(self, key: str, etag: str) -> Blob | None:
        blob = self.get(key)
        return None if etag and blob.etag == etag else blob

    def stream(self, key: str, start: int = 0) -> Iterator[bytes]:
        with self._explained(key), _open(self._address(key), start) as answer:
            if start and answer.status != 206:  # the server does not know ranges
                _skip(answer, start)
            while block := answer.read(BLOCK):
                yield block
            _check_whole(answer)

    def download(self, key: str, path: Path) -> None:
        raise self._read_only(key)

    def put(self, key: str, data: bytes, *, if_absent: bool = False, if_match: str | None = None) -> str:
        raise self._read_only(key)

    def delete(self, key: str) -> None:
        raise self._read_only(key)

    def upload(self, key: str, path: Path) -> None:
        raise self._read_only(key)

    def check_writable(self) -> None:
        raise self._read_only("")

    def head(self, key: str) -> Entry:
        blob = self.get(key)  # an address is good for GET alone
        return Entry(key, len(blob.data), blob.etag)

    def entries(self, prefix: str = "") -> Iterator[Entry]:
        yield from (Entry(key, 0, "") for key in sorted(self._addresses) if key.startswith(prefix))

    def children(self, prefix: str = "") -> Iterator[str]:
        rests = (key[len(prefix) :] for key in self._addresses if key.startswith(prefix))
        yield from sorted({rest.split("/")[0] for rest in rests if "/" in rest})

    @cached_property
    def _addresses(self) -> dict[str, str]:
        try:
            with self._explained(""), _open(self._url) as answer:
                data = _document(answer, self.uri)
        except NotFoundError:
            raise MissingStoreError("there is no share at this address", where=self.uri) from None
        try:
            raw = json.loads(data)
            schema, objects = raw["schema"], {str(key): str(address) for key, address in raw["objects"].items()}
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            raise InputError("is no share of a channel", where=self.uri, hint="models share makes one") from None
        if schema != SCHEMA:
            raise InputError(f"share schema {schema} is unknown; this release reads {SCHEMA}", where=self.uri)
        return objects

    def _address(self, key: str) -> str:
        try:
            return check_address(self._addresses[key])
        except KeyError:
            hint = "the channel may have moved on: share it again"
            raise NotFoundError("is not among what is shared", where=join_uri(self.uri, key), hint=hint) from None

    def _read_only(self, key: str) -> InputError:
        return InputError("a share can only be read", where=join_uri(self.uri, key), hint="name the registry itself")

    @contextmanager
    def _explained(self, key: str) -> Iterator[None]:
        where = join_uri(self.uri, key).rstrip("/")
        try:
            yield
        except urllib.error.HTTPError as error:
            error.close()
            raise _refusal(error.code, where) from None
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", None) or error
            text = " ".join(str(reason).split()) or type(error).__name__
            raise UnavailableError(text, where=where, hint="check the network and try again") from None


def check_address(url: str) -> str:
    """The address itself. Raises InputError unless it is of HTTPS, or of this machine alone."""
    parts = urlsplit(url)
    if parts.scheme == "https" and parts.hostname:
        return url
    if parts.scheme == "http" and _is_loopback(parts.hostname or ""):
        return url
    raise InputError(
        "is not an https:// address", where=without_query(url), hint="http:// is taken from this machine alone"
    )


def without_query(url: str) -> str:
    """The address without its query, which may hold a signature that lets others in."""
    return urlsplit(url)._replace(query="", fragment="").geturl()


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to what may be asked for in the first place."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        check_address(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _open(url: str, start: int = 0) -> Any:
    headers = {"User-Agent": "transferlite"} | ({"Range": f"bytes={start}-"} if start else {})
    request = urllib.request.Request(url, headers=headers)
    try:
        return urllib.request.build_opener(_Redirects).open(request, timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # nothing from there on
            error.close()
            return _Nothing()
        raise


class _Nothing:
    """The answer to a range that begins where the object has ended."""

    status, length = 206, 0

    def read(self, _most: int) -> bytes:
        """No bytes."""
        return b""

    def __enter__(self) -> "_Nothing":
        return self

    def __exit__(self, *_: object) -> None:
        return None


def _document(answer: Any, where: str) -> bytes:
    data: bytes = answer.read(_MOST + 1)
    if len(data) > _MOST:
        raise TransferLiteError("is far too long for a document", where=where)
    _check_whole(answer)
    return data


def _check_whole(answer: Any) -> None:
    """http.client ends an answer that was cut as if it were whole."""
    if answer.length:
        raise http.client.IncompleteRead(b"", answer.length)


def _skip(answer: Any, count: int) -> None:
    while count > 0 and (block := answer.read(min(count, BLOCK))):
        count -= len(block)


def _refusal(status: int, where: str) -> TransferLiteError:
    if status in {401, 403}:
        hint = "the address may have expired: share the channel again"
        return AccessDeniedError(f"access denied ({status})", where=where, hint=hint)
    if status in {404, 410}:
        return NotFoundError("does not exist", where=where)
    if status >= 500 or status in {408, 429}:
        return UnavailableError(f"the server answered {status}", where=where, hint="try again later")
    return TransferLiteError(f"the server answered {status}", where=where)
