"""``transferlite serve``: run the function and its web page on this machine, for development."""

import os
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import click

from transferlite.cli.options import FiniteRange, refuse_options, variant_option
from transferlite.errors import InputError, MissingExtraError
from transferlite.inference.variants import AUTO

_MAX_CONNECTIONS = 64
"""Most simultaneous connections, since each may hold a body in memory; uvicorn answers others with 503."""

_THREADS = 2
"""One thread decodes while the other predicts."""


@click.command()
@click.option("--registry", metavar="LOCATION", help="Registry whose --channel to serve: s3:// URI or folder.")
@click.option(
    "--bundle", type=click.Path(path_type=Path), help="Folder with the model to serve, instead of --registry."
)
@click.option("--channel", default="production", show_default=True, help="Channel to follow.")
@variant_option
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    default=8000,
    show_default=True,
    type=click.IntRange(0, 65535),
    help="Port to listen on; 0 for any free port.",
)
@click.option(
    "--refresh",
    default=2.0,
    show_default=True,
    type=FiniteRange(0),
    metavar="SECONDS",
    help="Seconds to cache the channel pointer.",
)
def serve(
    registry: str | None, bundle: Path | None, channel: str, variant: str | None, host: str, port: int, refresh: float
) -> None:
    """Serve the HTTP API and page of the Lambda function on this machine.

    For development only: it has no TLS and no IAM. The function's own TRANSFERLITE_* variables set API keys, origins
    and buckets.
    """
    if (registry is None) == (bundle is None):
        raise click.UsageError("Give either --registry or --bundle.")
    if bundle is not None:
        refuse_options("needs --registry; a bundle is one version", "channel", "refresh")
    with tempfile.TemporaryDirectory(prefix="transferlite-serve-") as folder, _listening_socket(host, port) as listener:
        location, chosen = str(registry), variant or AUTO
        if bundle is not None:
            location, chosen = _make_registry(bundle, Path(folder) / "registry", channel, variant)
        settings = {
            "TRANSFERLITE_REGISTRY": location,
            "TRANSFERLITE_CHANNEL": channel,
            "TRANSFERLITE_VARIANT": chosen,
            "TRANSFERLITE_REFRESH_SECONDS": str(refresh),
        }
        with _function_environment(folder, settings):
            _serve(listener)


@contextmanager
def _function_environment(folder: str, settings: Mapping[str, str]) -> Iterator[None]:
    """Set the function's variables, and ``folder`` as its /tmp, until the context ends."""
    previous, previous_tmp = dict(os.environ), tempfile.tempdir
    os.environ |= settings
    tempfile.tempdir = folder
    try:
        yield
    finally:
        tempfile.tempdir = previous_tmp
        os.environ.clear()
        os.environ.update(previous)


@contextmanager
def _listening_socket(host: str, port: int) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family)
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(
            f"cannot listen on this address ({reason})", where=f"{host}:{port}", hint="choose another --host or --port"
        ) from None
    with listener:
        yield listener


def _make_registry(bundle: Path, folder: Path, channel: str, variant: str | None) -> tuple[str, str]:
    """Create a registry with the bundle as its only version; return its location and the variant to serve."""
    from transferlite.registry.local_bundle import choose_variant, find_bundle, read_manifest
    from transferlite.registry.open_registry import Registry

    bundle = find_bundle(bundle).resolve()
    manifest = read_manifest(bundle)
    (folder / "models").mkdir(parents=True)
    (folder / "models" / manifest.model_id).symlink_to(bundle)
    Registry.open(str(folder)).promote(manifest.model_id, channel)
    return str(folder), choose_variant(bundle, manifest, variant)


def _serve(listener: socket.socket) -> None:
    """Serve until SIGTERM or SIGINT; finish running requests first."""
    try:
        import uvicorn
    except ModuleNotFoundError:
        raise MissingExtraError("uvicorn", "serve") from None
    from inference_lambda.handler import lambda_handler, load_model
    from inference_lambda.http.asgi import asgi_application
    from inference_lambda.settings import HttpSettings

    model_id = load_model()
    host, port = listener.getsockname()[:2]
    if not host.startswith("127.") and host != "::1" and not HttpSettings.from_environment().key_digests:
        click.echo(
            "warning: anyone who reaches this address can use it; set TRANSFERLITE_API_KEY to require a key", err=True
        )
    click.echo(f"serving {model_id} at http://{f'[{host}]' if ':' in host else host}:{port}")
    sys.stdout.flush()
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="serve") as threads:
        config = uvicorn.Config(
            asgi_application(lambda_handler, threads),
            log_level="warning",
            lifespan="off",
            ws="none",
            server_header=False,
            limit_concurrency=_MAX_CONNECTIONS,
            timeout_graceful_shutdown=5,
        )
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # uvicorn re-raises the signal after shutdown
        with suppress(KeyboardInterrupt):
            uvicorn.Server(config).run([listener])
        click.echo("stopped")
