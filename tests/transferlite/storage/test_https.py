"""SharedStore against misbehaving servers and networks."""

import datetime
import http.server
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from hashlib import sha256
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from transferlite.errors import (
    AccessDeniedError,
    InputError,
    MissingStoreError,
    NotFoundError,
    TransferLiteError,
    UnavailableError,
)
from transferlite.registry.download import fetch_files
from transferlite.registry.manifest import FileInfo
from transferlite.storage.https import SharedStore, check_remote_url

CONTENT = bytes(range(256)) * 400
INFO = FileInfo(sha256(CONTENT).hexdigest(), len(CONTENT))


REDIRECTS = {
    "http://example.org/x": "redirects to an address that is not an https:// URL",
    "http://127.0.0.1:9/x": "redirects to an address that is not an https:// URL",
    "ftp://example.org/x": "redirects to an address that is not an https:// URL",
    "file:///etc/passwd": r"redirects \(302\) in a circle, or to an address that is not https://",
    "https://127.0.0.1:9/x": r"redirects to an address on this device or its link \(127\.0\.0\.1\)",
    "https://localhost/x": r"redirects to an address on this device or its link \((127\.0\.0\.1|::1)\)",
    "https://0/x": r"on this device or its link \(0\.0\.0\.0\)",
    "https://2130706433/x": r"on this device or its link \(127\.0\.0\.1\)",
    "https://[::1]/x": r"on this device or its link \(::1\)",
    "https://[::ffff:127.0.0.1]/x": r"on this device or its link \(127\.0\.0\.1\)",
    "https://169.254.169.254/latest/meta-data/": r"on this device or its link \(169\.254\.169\.254\)",
    "https://[fe80::1%25lo]/x": r"on this device or its link \(fe80::1\)",
}
"""Targets of redirects that are refused, and the reason."""


class MisbehavingHandler(http.server.BaseHTTPRequestHandler):
    """Behave as the first segment of the path says."""

    protocol_version = "HTTP/1.1"
    requested_ranges: list[str]

    def do_GET(self) -> None:
        kind = self._kind
        self.requested_ranges.append(self.headers.get("Range") or "")
        getattr(self, f"_{kind}", self._status)()

    @property
    def _kind(self) -> str:
        return self.path.split("/")[1].split("?")[0].replace("-", "_")

    def log_message(self, *_: object) -> None:
        pass

    def _send(self, content: bytes, status: int = 200, length: int | None = None, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content) if length is None else length))
        self.end_headers()
        self.wfile.write(content)

    def _share(self) -> None:
        host = self.headers["Host"]
        scheme = "https" if isinstance(self.connection, ssl.SSLSocket) else "http"
        kinds = ("breaks", "ranges", "ignores-ranges", "404", "403", "503", "418", "endless")
        objects = {f"m/{kind}": f"{scheme}://{host}/{kind}" for kind in kinds}
        objects |= {f"m/{target}": f"{scheme}://{host}/redirects?{urlencode({'to': target})}" for target in REDIRECTS}
        self._send(json.dumps({"schema": 1, "objects": {**objects, "m/plain": "http://example.org/x"}}).encode())

    def _ranges(self) -> None:
        start = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").rstrip("-"))
        if start >= len(CONTENT):
            self._send(b"", 416)
        else:
            self._send(CONTENT[start:], 206 if start else 200)

    def _breaks(self) -> None:
        """Send at most 30,000 bytes, then close the connection."""
        start = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").rstrip("-"))
        content = CONTENT[start:]
        self._send(content[:30_000], 206 if start else 200, length=len(content))
        self.close_connection = True

    def _ignores_ranges(self) -> None:
        self._send(CONTENT)

    def _redirects(self) -> None:
        self._send(b"", 302, Location=parse_qs(urlsplit(self.path).query)["to"][0])

    def _endless(self) -> None:
        self._send(b"x" * (2**24 + 2))

    def _none(self) -> None:
        self._send(b'{"hello": "world"}')

    def _status(self) -> None:
        self._send(b"no", int(self._kind))


@pytest.fixture
def requested_ranges(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Ranges that the server received."""
    ranges: list[str] = []
    monkeypatch.setattr(MisbehavingHandler, "requested_ranges", ranges, raising=False)
    monkeypatch.setattr("transferlite.registry.download.time.sleep", lambda seconds: None)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")
    return ranges


def run_server(context: ssl.SSLContext | None = None) -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), MisbehavingHandler)
    if context:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
    yield f"{'https' if context else 'http'}://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def server(requested_ranges: list[str]) -> Iterator[str]:
    yield from run_server()


def test_a_broken_connection_resumes_by_range(server: str, requested_ranges: list[str], tmp_path: Path) -> None:
    fetch_files(SharedStore(f"{server}/share"), "m", {"breaks": INFO}, tmp_path)
    assert (tmp_path / "breaks").read_bytes() == CONTENT
    assert requested_ranges == ["", "", "bytes=30000-", "bytes=60000-", "bytes=90000-"]


def test_a_server_without_ranges_is_read_from_the_start(server: str) -> None:
    store = SharedStore(f"{server}/share")
    for start in (0, 1, 50_000, len(CONTENT)):
        assert b"".join(store.stream("m/ignores-ranges", start)) == CONTENT[start:]
        assert b"".join(store.stream("m/ranges", start)) == CONTENT[start:]


@pytest.mark.parametrize(
    ("kind", "error", "message"),
    [
        ("404", NotFoundError, "does not exist"),
        ("403", AccessDeniedError, "the URL may have expired: share the channel again"),
        ("503", UnavailableError, "the server returned 503"),
        ("418", TransferLiteError, "the server returned 418"),
        ("breaks", UnavailableError, "IncompleteRead"),
        ("endless", TransferLiteError, "is larger than 16 MB"),
        ("plain", InputError, r"http://example\.org/x: is not an https:// URL"),
        ("unknown", NotFoundError, "is not in the share"),
    ],
)
def test_an_http_error_becomes_a_store_error(server: str, kind: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        SharedStore(f"{server}/share").get(f"m/{kind}")


@pytest.mark.parametrize("target", REDIRECTS)
def test_a_redirect_to_this_device_its_link_or_another_scheme_is_refused(server: str, target: str) -> None:
    with pytest.raises(TransferLiteError, match=REDIRECTS[target]):
        SharedStore(f"{server}/share").get(f"m/{target}")


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Resolve ``inside.example`` to the metadata service, and any other name to a public address."""

    def resolve(host: str, *_: object, **__: object) -> list[tuple[object, ...]]:
        address = "169.254.169.254" if host == "inside.example" else "192.0.2.7"
        return [(2, 1, 6, "", (address, 0))]

    monkeypatch.setattr("socket.getaddrinfo", resolve)


def test_a_name_of_a_link_local_address_is_refused(names: None) -> None:
    with pytest.raises(InputError, match=r"a redirect on this device or its link \(169\.254\.169\.254\)"):
        check_remote_url("https://inside.example/x", "a redirect")
    assert check_remote_url("https://outside.example/x", "a redirect")


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/x", "https://inside.example/x"])
def test_a_share_from_the_network_must_not_name_objects_on_this_device(
    names: None, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    store = SharedStore("https://outside.example/share.json")
    monkeypatch.setitem(store.__dict__, "_urls", {"m/x": url})
    with pytest.raises(InputError, match="the share names an object"):
        store.get("m/x")


@pytest.mark.parametrize(
    ("path", "error", "message"),
    [
        ("/none", InputError, "is not the share of a channel"),
        ("/404?Signature=secret", MissingStoreError, "/404: there is no share"),
    ],
)
def test_a_document_that_is_not_a_share_is_refused_without_leaking_the_signature(
    server: str, path: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message) as raised:
        SharedStore(f"{server}{path}").get("m/x")
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("url", ["http://example.org/share.json", "http://10.0.0.1/x", "https://", "ftp://x/y"])
def test_http_is_refused_for_other_machines(url: str) -> None:
    with pytest.raises(InputError, match="is not an https:// URL"):
        SharedStore(url)


def test_an_unreachable_server_is_retryable(requested_ranges: list[str]) -> None:
    with pytest.raises(UnavailableError, match="check the network") as raised:
        SharedStore("http://127.0.0.1:9/share").get("m/x")
    assert raised.value.retryable


@pytest.fixture(params=[0])
def certificate(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """Create a self-signed certificate for 127.0.0.1, with its key; the parameter shifts its time by that many days."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=request.param)
    built = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path = tmp_path / "certificate.pem"
    path.write_bytes(built.public_bytes(serialization.Encoding.PEM) + key.private_bytes(*form))
    return path


def test_https_checks_the_server_s_certificate(
    requested_ranges: list[str], certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    read: Callable[[str], bytes] = lambda url: SharedStore(f"{url}/share").get("m/ranges").data  # noqa: E731
    for url in run_server(context):
        with pytest.raises(UnavailableError, match="CERTIFICATE_VERIFY_FAILED"):
            read(url)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert read(url) == CONTENT


@pytest.mark.parametrize("certificate", [20_000, -20_000], indirect=True, ids=["not yet valid", "expired"])
def test_a_clock_that_does_not_fit_the_certificate_is_named(
    requested_ranges: list[str], certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    for url in run_server(context):
        with pytest.raises(
            UnavailableError, match=r"this device's clock says 20\d\d-\d\d-\d\d: if that is wrong, set it"
        ):
            SharedStore(f"{url}/share").get("m/ranges")
