"""A real S3 server on loopback for benchmarks and tests: SeaweedFS where it has a wheel, else moto, slower."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import click
import obstore
from obstore.store import S3Store

from benchmarks.photos import Kind
from transferlite.packaging.demo import local_s3
from transferlite.storage.prefetch import prefetch_map
from transferlite.storage.s3_boto3 import s3_client

_SERVICES = ("master", "volume", "filer", "s3")
_CLIENTS = 16


@dataclass(frozen=True)
class Server:
    """A running server, and what it is, for people to read. This process's ``AWS_*`` settings name it."""

    endpoint: str
    name: str

    def bucket(self, name: str) -> S3Store:
        """obstore's own view of a bucket, which is made if it is not there."""
        existing = {bucket["Name"] for bucket in s3_client().list_buckets()["Buckets"]}
        if name not in existing:
            s3_client().create_bucket(Bucket=name)
        return S3Store(
            name,
            endpoint=self.endpoint,
            access_key_id=os.environ["AWS_ACCESS_KEY_ID"],
            secret_access_key=os.environ["AWS_SECRET_ACCESS_KEY"],
            region=os.environ["AWS_DEFAULT_REGION"],
            client_options={"allow_http": True},
        )


@dataclass(frozen=True)
class Certificate:
    """PEM files of a server's certificate and its key."""

    certificate: Path
    key: Path


@contextmanager
def running_s3(folder: Path) -> Iterator[Server]:
    """A server that keeps its data in ``folder``; it ends with the block."""
    with local_s3() as moto:  # it also points this process's AWS settings to loopback, and puts them back
        if weed() is None:
            yield Server(moto, "moto")
        else:
            with seaweedfs(folder) as server:
                os.environ["AWS_ENDPOINT_URL"] = server.http
                s3_client.cache_clear()
                yield Server(server.http, "SeaweedFS")


def weed() -> str | None:
    """SeaweedFS's command, of this environment or else of the machine; None where there is none."""
    return shutil.which("weed", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")


@dataclass(frozen=True)
class Addresses:
    """Where one server listens; ``https`` is empty where it has no certificate."""

    http: str
    https: str = ""


@contextmanager
def seaweedfs(folder: Path, tls: Certificate | None = None) -> Iterator[Addresses]:
    """SeaweedFS until the block ends; it takes this process's ``AWS_*`` key and no other."""
    command = weed()
    assert command is not None
    *ports, secure = _free_ports(2 * len(_SERVICES) + 1)
    words = ["-s3", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-volume.max=0"]
    words += ["-master.volumeSizeLimitMB=1024", "-s3.port.iceberg=0", "-s3.port.lance=0"]
    for service, port, grpc in zip(_SERVICES, ports[::2], ports[1::2], strict=True):
        words += [f"-{service}.port={port}", f"-{service}.port.grpc={grpc}"]
    if tls is not None:
        words += [f"-s3.port.https={secure}", f"-s3.cert.file={tls.certificate}", f"-s3.key.file={tls.key}"]
    log = folder / "server.log"
    with log.open("w") as file:
        server = subprocess.Popen([command, "server", *words], cwd=folder, stdout=file, stderr=subprocess.STDOUT)
    try:
        addresses = Addresses(f"http://127.0.0.1:{ports[-2]}", f"https://127.0.0.1:{secure}" if tls else "")
        _wait(addresses.http, server, log)
        yield addresses
    finally:
        server.kill()  # it would take half a minute to put away what no one reads again
        server.wait()


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _wait(endpoint: str, server: "subprocess.Popen[bytes]", log: Path, seconds: float = 60) -> None:
    """Until the server answers anything at all. Raises ClickException when it ends or takes too long."""
    deadline = time.monotonic() + seconds
    while server.poll() is None and time.monotonic() < deadline:
        try:
            urllib.request.urlopen(endpoint, timeout=5).close()
            return
        except urllib.error.HTTPError:
            return  # it refuses who does not sign
        except OSError:
            time.sleep(0.1)
    raise click.ClickException(f"the S3 server did not start: {log.read_text()[-2000:]}")


def put_photos(bucket: S3Store, count: int, kind: Kind) -> list[str]:
    """Put ``count`` generated photos into ``bucket``; returns their keys."""

    def put(number: int) -> str:
        obstore.put(bucket, kind.key(number), kind.jpeg(number))
        return kind.key(number)

    return list(prefetch_map(put, range(count), _CLIENTS))
