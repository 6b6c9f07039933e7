"""Fixtures for SeaweedFS, an S3 server that is stricter than moto."""

import datetime
import ipaddress
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import boto3
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from benchmarks.helpers.s3_server import Addresses, Certificate, seaweedfs
from tests.transferlite.storage.scripted_s3 import Answer, Request, ScriptedS3
from transferlite.storage import s3_obstore as s3_quick
from transferlite.storage.s3_boto3 import S3Store, s3_client
from transferlite.storage.s3_obstore import ObstoreS3Store
from transferlite.storage.store import Store

S3_STORES = ("s3", "quick s3")
"""Both stores that one test suite holds to the same behaviour."""

REAL_BUCKET = "real"
OWNER = {"AWS_ACCESS_KEY_ID": "owner", "AWS_SECRET_ACCESS_KEY": "right", "AWS_DEFAULT_REGION": "us-east-1"}


def open_s3(kind: str, uri: str) -> Store:
    """A new store of one of ``S3_STORES``."""
    return cast(Store, ObstoreS3Store(uri)) if kind == "quick s3" else S3Store.from_uri(uri)


@pytest.fixture(params=S3_STORES)
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Each S3 store in turn."""
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    yield str(request.param)
    _forget_clients()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A small file to upload, or to download over."""
    (tmp_path / "file").write_bytes(b"content")
    return tmp_path / "file"


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Callable[[Request], Answer]], ScriptedS3]]:
    """A function that starts a server with a test's answers. botocore does not sleep between its requests."""
    started: list[ScriptedS3] = []
    monkeypatch.setattr("botocore.endpoint.time", SimpleNamespace(sleep=lambda _: None))
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")

    def start(script: Callable[[Request], Answer]) -> ScriptedS3:
        started.append(ScriptedS3(script))
        monkeypatch.setenv("AWS_ENDPOINT_URL", started[-1].endpoint)
        _forget_clients()
        return started[-1]

    yield start
    _forget_clients()
    for one in started:
        one.close()


@dataclass(frozen=True)
class Running:
    addresses: Addresses
    authority: Path


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    """Run one server per test module; HTTP and HTTPS ports share the buckets."""
    folder = Path(tempfile.mkdtemp(prefix="seaweedfs-"))
    tls = self_signed(folder)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (OWNER | {"NO_PROXY": "127.0.0.1"}).items():
            patch.setenv(name, value)
        with seaweedfs(folder, tls) as addresses:
            boto3.Session().client("s3", endpoint_url=addresses.http).create_bucket(Bucket=REAL_BUCKET)
            yield Running(addresses, tls.certificate)
    shutil.rmtree(folder, ignore_errors=True)


def self_signed(folder: Path) -> Certificate:
    """Create a self-signed certificate for 127.0.0.1."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a server of tests")])
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    built = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(address, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem, unencrypted = serialization.Encoding.PEM, serialization.NoEncryption()
    files = Certificate(folder / "certificate.pem", folder / "key.pem")
    files.certificate.write_bytes(built.public_bytes(pem))
    files.key.write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, unencrypted))
    return files


@dataclass(frozen=True)
class Place:
    """An empty folder in the server's bucket; this process's AWS settings point to the server."""

    addresses: Addresses
    authority: Path
    folder: str
    patch: pytest.MonkeyPatch

    @property
    def uri(self) -> str:
        return f"s3://{REAL_BUCKET}/{self.folder}"

    def open(self, kind: str = "s3") -> Store:
        """Open a store of the folder with the current AWS settings."""
        _forget_clients()
        return open_s3(kind, self.uri)

    def at(self, endpoint: str) -> "Place":
        """Switch to another endpoint of the server."""
        self.patch.setenv("AWS_ENDPOINT_URL", endpoint)
        _forget_clients()
        return self


def _forget_clients() -> None:
    s3_client.cache_clear()
    s3_quick._bucket.cache_clear()


@pytest.fixture
def place(running: Running, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    for name, value in (OWNER | {"AWS_REGION": "us-east-1", "NO_PROXY": "127.0.0.1"}).items():
        monkeypatch.setenv(name, value)
    found = Place(running.addresses, running.authority, uuid.uuid4().hex, monkeypatch)
    found.at(running.addresses.http)
    yield found
    _forget_clients()
