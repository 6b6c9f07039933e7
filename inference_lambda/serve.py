"""``transferlite serve``: the function and its page on this machine, for development."""

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

from transferlite.errors import InputError, MissingExtraError
from transferlite.inference.variants import VARIANT_HELP

_CONNECTIONS = 64
"""At once; others are answered 503. Each may hold a body in memory."""

_THREADS = 2
"""One photo is decoded while another is looked at; a large one takes half a gigabyte to decode."""


@click.command()
@click.option("--registry", metavar="LOCATION", help="Serve the model that --channel names in this registry.")
@click.option("--bundle", type=click.Path(path_type=Path), help="Serve the model in this folder instead.")
@click.option("--channel", default="production", show_default=True)
@click.option("--variant", default="float32", show_default=True, help=VARIANT_HELP)
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65535), help="0 takes a free one.")
@click.option(
    "--refresh",
    default=2.0,
    show_default=True,
    type=click.FloatRange(0),
    metavar="SECONDS",
    help="How old its knowledge of the channel may get.",
)
def serve(
    registry: str | None, bundle: Path | None, channel: str, variant: str, host: str, port: int, refresh: float
) -> None:
    """Answer HTTP on this machine as the Lambda function does, page included.

    It is for development: without TLS, and without IAM. Keys, origins and buckets are set by the function's own
    TRANSFERLITE_* variables.
    """
    if (registry is None) == (bundle is None):
        raise click.UsageError("Give either --registry or --bundle.")
    with tempfile.TemporaryDirectory(prefix="transferlite-serve-") as folder, _listening(host, port) as listener:
        location = str(registry) if bundle is None else _registry_of(bundle, Path(folder) / "registry", channel)
        settings = {
            "TRANSFERLITE_REGISTRY": location,
            "TRANSFERLITE_CHANNEL": channel,
            "TRANSFERLITE_VARIANT": variant,
            "TRANSFERLITE_REFRESH_SECONDS": str(refresh),
        }
        with _function_environment(folder, settings):
            _serve(listener)


@contextmanager
def _function_environment(folder: str, settings: Mapping[str, str]) -> Iterator[None]:
    """This process as the function's: its variables, and a /tmp of its own for copies of models."""
    before, temporary = dict(os.environ), tempfile.tempdir
    os.environ |= settings
    tempfile.tempdir = folder
    try:
        yield
    finally:
        tempfile.tempdir = temporary
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family)
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(
            f"cannot listen there ({reason})", where=f"{host}:{port}", hint="give --host, --port"
        ) from None
    with listener:
        yield listener


def _registry_of(bundle: Path, folder: Path, channel: str) -> str:
    """A registry whose one version is the bundle itself."""
    from transferlite.registry.local_bundle import find_bundle, read_manifest
    from transferlite.registry.open_registry import Registry

    found = find_bundle(bundle).resolve()
    model_id = read_manifest(found).model_id
    (folder / "models").mkdir(parents=True)
    (folder / "models" / model_id).symlink_to(found)
    Registry.open(str(folder)).promote(model_id, channel)
    return str(folder)


def _serve(listener: socket.socket) -> None:
    """Serve until SIGTERM or SIGINT; requests under way are answered first."""
    try:
        import uvicorn
    except ModuleNotFoundError:
        raise MissingExtraError("uvicorn", "serve") from None
    from inference_lambda.handler import lambda_handler, model_in_service
    from inference_lambda.http.asgi import application
    from inference_lambda.settings import HttpSettings

    model_id = model_in_service()
    host, port = listener.getsockname()[:2]
    if not host.startswith("127.") and host != "::1" and not HttpSettings.from_environment().key_digests:
        click.echo("warning: whoever reaches this address may ask; TRANSFERLITE_API_KEY has it ask for a key", err=True)
    click.echo(f"{model_id} is in service at http://{f'[{host}]' if ':' in host else host}:{port}")
    sys.stdout.flush()
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="serve") as threads:
        config = uvicorn.Config(
            application(lambda_handler, threads),
            log_level="warning",
            lifespan="off",
            ws="none",
            server_header=False,
            limit_concurrency=_CONNECTIONS,
            timeout_graceful_shutdown=5,
        )
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # which uvicorn raises again once it has ended
        with suppress(KeyboardInterrupt):
            uvicorn.Server(config).run([listener])
        click.echo("stopped")
