"""Run an S3 server on loopback for benchmarks and tests: SeaweedFS if it has a wheel, otherwise moto, which is slower.

Both set this process's ``AWS_*`` variables, so that S3 clients use the server.
"""

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

from benchmarks.helpers.photos import PhotoStyle
from transferlite.packaging.demo import local_s3
from transferlite.storage.prefetch import prefetch_map
from transferlite.storage.s3_boto3 import s3_client

_SERVICES = ("master", "volume", "filer", "s3")
_CLIENTS = 16


@dataclass(frozen=True)
class Server:
    """A running server: its endpoint, and the name of its software."""

    endpoint: str
    name: str

    def bucket(self, name: str) -> S3Store:
        """Open a bucket as obstore's own store; create it if necessary."""
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
    """PEM files of a server's certificate and private key."""

    certificate: Path
    key: Path


@contextmanager
def running_s3(folder: Path) -> Iterator[Server]:
    """Run a server with its data in ``folder`` until the block ends."""
    with local_s3() as moto:  # also sets the AWS variables to loopback, and restores them
        if seaweedfs_command() is None:
            yield Server(moto, "moto")
        else:
            with seaweedfs(folder) as server:
                os.environ["AWS_ENDPOINT_URL"] = server.http
                s3_client.cache_clear()
                yield Server(server.http, "SeaweedFS")


def seaweedfs_command() -> str | None:
    """Path of SeaweedFS's command ``weed``, in this environment or on PATH; None if it is not installed."""
    return shutil.which("weed", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")


@dataclass(frozen=True)
class Addresses:
    """URLs of a server; ``https`` is empty without a certificate."""

    http: str
    https: str = ""


@contextmanager
def seaweedfs(folder: Path, tls: Certificate | None = None) -> Iterator[Addresses]:
    """Run SeaweedFS until the block ends; it accepts only the access key of this process's ``AWS_*`` variables."""
    command = seaweedfs_command()
    assert command is not None
    *ports, secure = _free_ports(2 * len(_SERVICES) + 1)
    options = ["-s3", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-volume.max=0"]
    options += ["-master.volumeSizeLimitMB=1024", "-s3.port.iceberg=0", "-s3.port.lance=0"]
    for service, port, grpc in zip(_SERVICES, ports[::2], ports[1::2], strict=True):
        options += [f"-{service}.port={port}", f"-{service}.port.grpc={grpc}"]
    if tls is not None:
        options += [f"-s3.port.https={secure}", f"-s3.cert.file={tls.certificate}", f"-s3.key.file={tls.key}"]
    log = folder / "server.log"
    with log.open("w") as file:
        server = subprocess.Popen([command, "server", *options], cwd=folder, stdout=file, stderr=subprocess.STDOUT)
    try:
        addresses = Addresses(f"http://127.0.0.1:{ports[-2]}", f"https://127.0.0.1:{secure}" if tls else "")
        _wait(addresses.http, server, log)
        yield addresses
    finally:
        server.kill()  # a regular shutdown takes 30 s to save data that is not needed again
        server.wait()


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [free.getsockname()[1] for free in sockets]
    for free in sockets:
        free.close()
    return ports


def _wait(endpoint: str, server: "subprocess.Popen[bytes]", log: Path, seconds: float = 60) -> None:
    """Wait until the server responds. Raises ClickException if it ends or takes too long."""
    deadline = time.monotonic() + seconds
    while server.poll() is None and time.monotonic() < deadline:
        try:
            urllib.request.urlopen(endpoint, timeout=5).close()
            return
        except urllib.error.HTTPError:
            return  # unsigned requests are refused: the server runs
        except OSError:
            time.sleep(0.1)
    raise click.ClickException(f"the S3 server did not start: {log.read_text()[-2000:]}")


def put_photos(bucket: S3Store, count: int, style: PhotoStyle) -> list[str]:
    """Upload ``count`` generated photos to ``bucket``; returns their keys."""

    def put(number: int) -> str:
        obstore.put(bucket, style.key(number), style.jpeg(number))
        return style.key(number)

    return list(prefetch_map(put, range(count), _CLIENTS))
