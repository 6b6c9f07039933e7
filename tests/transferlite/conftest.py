"""SeaweedFS, a real S3 server, for the tests that moto is too lenient for."""

import datetime
import ipaddress
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import boto3
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from benchmarks.s3_server import Addresses, Certificate, seaweedfs
from transferlite.storage import s3_obstore as s3_quick
from transferlite.storage.s3_boto3 import S3Store, s3_client
from transferlite.storage.s3_obstore import QuickS3Store
from transferlite.storage.store import Store

REAL_BUCKET = "real"
OWNER = {"AWS_ACCESS_KEY_ID": "owner", "AWS_SECRET_ACCESS_KEY": "right", "AWS_DEFAULT_REGION": "us-east-1"}


@dataclass(frozen=True)
class Running:
    addresses: Addresses
    authority: Path


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    """One server for the module: the same buckets at a plain port and at one with TLS."""
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
    """A certificate for 127.0.0.1 that no authority vouches for."""
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
    """An empty folder in the server's bucket, to which this process's settings point."""

    addresses: Addresses
    authority: Path
    folder: str
    patch: pytest.MonkeyPatch

    @property
    def uri(self) -> str:
        return f"s3://{REAL_BUCKET}/{self.folder}"

    def open(self, kind: str = "s3") -> Store:
        """A new store there, that knows of no earlier settings."""
        _forget_clients()
        return cast(Store, QuickS3Store(self.uri)) if kind == "quick s3" else S3Store.from_uri(self.uri)

    def at(self, endpoint: str) -> "Place":
        """The same at another address."""
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
