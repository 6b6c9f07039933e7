"""Read-only store over HTTPS for a shared channel, with the standard library alone.

A device without AWS credentials reads a share: a JSON document of ``transferlite models share`` with a presigned URL
for each object. The URLs expire after at most 7 days.
"""

import datetime
import http.client
import ipaddress
import json
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from transferlite.errors import (
    AccessDeniedError,
    InputError,
    MissingStoreError,
    NotFoundError,
    TransferLiteError,
    UnavailableError,
)
from transferlite.storage.store import BLOCK, Blob, Entry, OnSkip, join_uri

SCHEMA = 1
_MAX_DOCUMENT_BYTES = 2**24
"""Largest response read into memory: a share, channel pointer or manifest is far smaller."""
_TIMEOUT_SECONDS = 60
_CERTIFICATE_TIME_CODES = {9, 10}
"""OpenSSL's codes of a certificate that is not valid yet, or no longer: X509_V_ERR_CERT_NOT_YET_VALID, _HAS_EXPIRED."""
_REDIRECT_HINT = "share the channel from a server that sends its own https:// content"
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class SharedStore:
    """Objects listed in a share; the share is fetched once, on first use."""

    def __init__(self, url: str) -> None:
        check_url(url)
        self._share_url = url

    @property
    def uri(self) -> str:
        return without_query(self._share_url)

    def get(self, key: str, max_bytes: int | None = None) -> Blob:
        with self._translate_errors(key), _open(self._url_of(key)) as response:
            content = _read_document(response, join_uri(self.uri, key))
            return Blob(content[:max_bytes], response.headers.get("ETag") or "")

    def get_changed(self, key: str, etag: str) -> Blob | None:
        blob = self.get(key)
        return None if etag and blob.etag == etag else blob

    def stream(self, key: str, start: int = 0) -> Iterator[bytes]:
        with self._translate_errors(key), _open(self._url_of(key), start) as response:
            if start and response.status != 206:  # the server does not support ranges
                _skip_bytes(response, start)
            while block := response.read(BLOCK):
                yield block
            _check_complete(response)

    def download(self, key: str, path: Path) -> None:
        raise self._read_only_error(key)

    def put(self, key: str, data: bytes, *, if_absent: bool = False, if_match: str | None = None) -> str:
        raise self._read_only_error(key)

    def delete(self, key: str) -> None:
        raise self._read_only_error(key)

    def upload(self, key: str, path: Path) -> None:
        raise self._read_only_error(key)

    def check_writable(self) -> None:
        raise self._read_only_error("")

    def head(self, key: str) -> Entry:
        blob = self.get(key)  # a presigned URL allows GET only
        return Entry(key, len(blob.data), blob.etag)

    def entries(self, prefix: str = "", on_skip: OnSkip | None = None) -> Iterator[Entry]:
        yield from (Entry(key, 0, "") for key in sorted(self._urls) if key.startswith(prefix))

    def children(self, prefix: str = "") -> Iterator[str]:
        remainders = (key[len(prefix) :] for key in self._urls if key.startswith(prefix))
        yield from sorted({remainder.split("/")[0] for remainder in remainders if "/" in remainder})

    @cached_property
    def _urls(self) -> dict[str, str]:
        """The URL of each object by its key, read from the share."""
        try:
            with self._translate_errors(""), _open(self._share_url) as response:
                data = _read_document(response, self.uri)
        except NotFoundError:
            raise MissingStoreError("there is no share at this URL", where=self.uri) from None
        try:
            raw = json.loads(data)
            schema, urls = raw["schema"], {str(key): str(url) for key, url in raw["objects"].items()}
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            hint = "create a share with: transferlite models share"
            raise InputError("is not the share of a channel", where=self.uri, hint=hint) from None
        if schema != SCHEMA:
            raise InputError(f"share schema {schema} is not supported; this release reads {SCHEMA}", where=self.uri)
        return urls

    def _url_of(self, key: str) -> str:
        try:
            url = self._urls[key]
        except KeyError:
            hint = "the channel may have changed since: share it again"
            raise NotFoundError("is not in the share", where=join_uri(self.uri, key), hint=hint) from None
        if _is_loopback(urlsplit(self._share_url).hostname or ""):
            return check_url(url)
        return check_remote_url(url, "the share names an object")

    def _read_only_error(self, key: str) -> InputError:
        return InputError("a share is read-only", where=join_uri(self.uri, key), hint="give the registry itself")

    @contextmanager
    def _translate_errors(self, key: str) -> Iterator[None]:
        """Turn HTTP and network errors about ``key`` into store errors."""
        where = join_uri(self.uri, key).rstrip("/")
        try:
            yield
        except urllib.error.HTTPError as error:
            error.close()
            raise _error_of_status(error.code, where) from None
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", None) or error
            text = " ".join(str(reason).split()) or type(error).__name__
            raise UnavailableError(text, where=where, hint=_network_hint(reason)) from None


def _network_hint(reason: object) -> str:
    if getattr(reason, "verify_code", 0) in _CERTIFICATE_TIME_CODES:
        now = datetime.datetime.now(datetime.UTC)
        return f"this device's clock says {now:%Y-%m-%d}: if that is wrong, set it (timedatectl set-ntp true)"
    return "check the network and try again"


def check_url(url: str) -> str:
    """Return ``url``. Raises InputError unless it is https://, or http:// on this machine."""
    parts = urlsplit(url)
    if parts.scheme == "https" and parts.hostname:
        return url
    if parts.scheme == "http" and _is_loopback(parts.hostname or ""):
        return url
    raise InputError(
        "is not an https:// URL", where=without_query(url), hint="http:// is allowed for this machine only"
    )


def check_remote_url(url: str, subject: str) -> str:
    """Return ``url``. Raises InputError unless it is https:// on another machine, as far as its address shows.

    So a share from the network cannot make a device send requests to itself, or to the metadata service of its cloud.
    """
    parts = urlsplit(url)
    if parts.scheme != "https" or not parts.hostname:
        raise InputError(f"{subject} that is not an https:// URL", where=without_query(url), hint=_REDIRECT_HINT)
    for address in _addresses(unquote(parts.hostname)):  # urllib unquotes, too
        if address.is_loopback or address.is_link_local or address.is_unspecified:
            message = f"{subject} on this device or its link ({address})"
            raise InputError(message, where=without_query(url), hint=_REDIRECT_HINT)
    return url


def _addresses(host: str) -> list[_Address]:
    """Resolve a host; empty if that fails, for example because only a proxy knows the name."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    addresses = [ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in found]
    return [getattr(address, "ipv4_mapped", None) or address for address in addresses]


def without_query(url: str) -> str:
    """Strip the query from a URL: it may hold a signature that grants access."""
    return urlsplit(url)._replace(query="", fragment="").geturl()


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class _CheckedRedirects(urllib.request.HTTPRedirectHandler):
    """Follow redirects only to URLs that :func:`check_remote_url` accepts."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        check_remote_url(newurl, "the server redirects to an address")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _open(url: str, start: int = 0) -> Any:
    """Send a GET request, for the bytes from ``start`` on, and return the response."""
    headers = {"User-Agent": "transferlite"} | ({"Range": f"bytes={start}-"} if start else {})
    request = urllib.request.Request(url, headers=headers)
    try:
        return urllib.request.build_opener(_CheckedRedirects).open(request, timeout=_TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # the object ends before ``start``
            error.close()
            return _EmptyResponse()
        raise


class _EmptyResponse:
    """Response to a range that starts at or after the object's end."""

    status, length = 206, 0

    def read(self, _max_bytes: int) -> bytes:
        """Return no bytes."""
        return b""

    def __enter__(self) -> "_EmptyResponse":
        return self

    def __exit__(self, *_: object) -> None:
        return None


def _read_document(response: Any, where: str) -> bytes:
    data: bytes = response.read(_MAX_DOCUMENT_BYTES + 1)
    if len(data) > _MAX_DOCUMENT_BYTES:
        raise TransferLiteError(f"is larger than {_MAX_DOCUMENT_BYTES >> 20} MB", where=where)
    _check_complete(response)
    return data


def _check_complete(response: Any) -> None:
    """Raise IncompleteRead if the connection broke: ``http.client`` reports a truncated body as its end."""
    if response.length:
        raise http.client.IncompleteRead(b"", response.length)


def _skip_bytes(response: Any, count: int) -> None:
    while count > 0 and (block := response.read(min(count, BLOCK))):
        count -= len(block)


def _error_of_status(status: int, where: str) -> TransferLiteError:
    if status in {401, 403}:
        hint = "the URL may have expired: share the channel again"
        return AccessDeniedError(f"access denied ({status})", where=where, hint=hint)
    if status in {404, 410}:
        return NotFoundError("does not exist", where=where)
    if 300 <= status < 400:
        message = f"the server redirects ({status}) in a circle, or to an address that is not https://"
        return TransferLiteError(message, where=where, hint=_REDIRECT_HINT)
    if status >= 500 or status in {408, 429}:
        return UnavailableError(f"the server returned {status}", where=where, hint="try again later")
    return TransferLiteError(f"the server returned {status}", where=where)
