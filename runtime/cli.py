"""``transferlite predict`` and ``transferlite models``: what a device or a laptop needs, TensorFlow-free."""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from runtime.errors import InputError, TransferLiteError
from runtime.variants import WHICH_FILE

if TYPE_CHECKING:
    from runtime.predictor import Predictor
    from runtime.registry import Registry

_registry_option = click.option("--registry", required=True, metavar="LOCATION", help="Where the models are.")
_channel_option = click.option("--channel", default="production", show_default=True)
_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def model_options(command: Callable[..., None]) -> Callable[..., None]:
    """The options that say which model answers, as :func:`open_predictor` takes them."""
    options = (
        click.option("--registry", metavar="LOCATION", help="Use the model that --channel names in this registry."),
        click.option("--bundle", type=click.Path(path_type=Path), help="Use the model in this folder instead."),
        _channel_option,
        click.option("--model", "model_id", metavar="ID", help="Use this version, whatever the channel names."),
        click.option("--variant", default="float32", show_default=True, help=WHICH_FILE),
        click.option("--threads", type=click.IntRange(1), help="For the interpreter.  [default: all cores]"),
    )
    for option in reversed(options):
        command = option(command)
    return command


def open_predictor(
    registry: str | None, bundle: Path | None, channel: str, model_id: str | None, variant: str, threads: int | None
) -> "Predictor":
    """The model that :func:`model_options` name."""
    from runtime.predictor import Predictor

    if (registry is None) == (bundle is None):
        raise click.UsageError("Give either --registry or --bundle.")
    if bundle is not None:
        return Predictor.load(bundle, variant, threads)
    return Predictor.from_registry(str(registry), channel, model_id, variant, threads)


@click.command()
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@model_options
@click.option("--top", default=3, show_default=True, type=click.IntRange(1), help="How many labels to show.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
def predict(
    images: tuple[str, ...],
    registry: str | None,
    bundle: Path | None,
    channel: str,
    model_id: str | None,
    variant: str,
    top: int,
    threads: int | None,
    as_json: bool,
) -> None:
    """Label photos: local files, folders, s3:// objects and prefixes.

    A photo that cannot be used is reported and the others are labelled; the exit status is then 2.
    """
    predictor = open_predictor(registry, bundle, channel, model_id, variant, threads)
    failures = [error for image in images for error in _predict_all(image, predictor, top, as_json)]
    if failures:
        raise click.exceptions.Exit(min(error.exit_code for error in failures))


def _predict_all(location: str, predictor: "Predictor", top: int, as_json: bool) -> Iterator[TransferLiteError]:
    """As ``_predict_location``; a location that holds nothing is itself a failure."""
    try:
        yield from _predict_location(location, predictor, top, as_json)
    except TransferLiteError as error:
        _print_failure(location, error, as_json)
        yield error


def _predict_location(location: str, predictor: "Predictor", top: int, as_json: bool) -> Iterator[TransferLiteError]:
    """Print an answer for each photo at ``location``; yields what failed."""
    from runtime.ahead import map_ahead
    from runtime.imaging import READ_BYTES
    from runtime.locations import read_uri
    from runtime.photos import find_photos
    from runtime.predictor import UNKNOWN

    def fetch(image: str) -> tuple[str, bytes | TransferLiteError]:
        try:
            return image, read_uri(image, READ_BYTES)
        except TransferLiteError as error:
            return image, error

    for image, data in map_ahead(fetch, find_photos(location)):
        try:
            if isinstance(data, TransferLiteError):
                raise data
            answer = predictor(data, top)
        except TransferLiteError as error:
            _print_failure(image, error, as_json)
            yield error
            continue
        if as_json:
            click.echo(json.dumps({"image": image, **answer.to_dict()}, ensure_ascii=False))
        else:
            best = ", ".join(f"{label} {score:.3f}" for label, score in answer.top)
            click.echo(f"{image}: " + (f"unknown ({best})" if answer.label == UNKNOWN else best))


def _print_failure(image: str, error: TransferLiteError, as_json: bool) -> None:
    if as_json:
        code = getattr(error, "code", type(error).__name__)
        click.echo(json.dumps({"image": image, "error": {"code": code, "message": error.message}}, ensure_ascii=False))
    else:
        place = "" if error.where else f"{image}: "
        click.echo(f"error: {place}{error}", err=True)


@click.group()
def models() -> None:
    """List, show, promote, roll back and pull published models."""


@models.command("list")
@_registry_option
@_json_option
def list_models(registry: str, as_json: bool) -> None:
    """Every version, oldest first, and the channels that name it."""
    opened = _open(registry)
    pointers = opened.channels()
    rows = []
    for manifest in opened.versions(damaged=lambda error: click.echo(f"warning: {error}", err=True)):
        named = [name for name, pointer in pointers.items() if pointer.model_id == manifest.model_id]
        rows.append({
            "model_id": manifest.model_id,
            "created_at": manifest.created_at,
            "backbone": manifest.backbone["name"],
            "labels": list(manifest.labels),
            "accuracy": manifest.metrics["test"]["accuracy"],
            "channels": named,
        })  # fmt: skip
    if as_json:
        click.echo(json.dumps(rows, ensure_ascii=False))
        return
    for row in rows:
        labels = ", ".join(row["labels"][:4]) + (f", … {len(row['labels'])} in all" if len(row["labels"]) > 4 else "")
        channels = f"  <- {', '.join(row['channels'])}" if row["channels"] else ""
        click.echo(f"{row['model_id']}  accuracy {row['accuracy']:.3f}  {row['backbone']}  {labels}{channels}")
    if not rows:
        click.echo(f"{registry} holds no models yet.")


@models.command()
@click.argument("model_id", required=False)
@_registry_option
@_channel_option
@_json_option
def show(model_id: str | None, registry: str, channel: str, as_json: bool) -> None:
    """One version (or the one that --channel names): its labels, its variants and how they were proven."""
    opened = _open(registry)
    manifest = opened.manifest(opened.resolve(channel, model_id))
    if as_json:
        click.echo(json.dumps(asdict(manifest), ensure_ascii=False))
        return
    test = manifest.metrics["test"]
    click.echo(f"{manifest.model_id}, made {manifest.created_at} from {manifest.backbone['name']}")
    click.echo(f"labels: {', '.join(manifest.labels)}")
    click.echo(f"input: uint8 RGB {manifest.input.height}x{manifest.input.width}")
    click.echo(f"test: accuracy {test['accuracy']:.3f}, log loss {test['log_loss']:.3f} on {test['photos']} photos")
    if manifest.threshold:
        click.echo(f"below {manifest.threshold:.3f} the answer is unknown")
    for name, value in manifest.variants.items():
        mixed = f"; {len(value.in_float)} operations in float32" if value.in_float else ""
        click.echo(
            f"{name:<12} {value.size / 2**20:6.1f} MiB  accuracy {value.accuracy:.3f}  agreement {value.agreement:.3f}"
            f"  largest difference {value.max_difference:.1e}  ({value.runtime}, {value.photos} photos{mixed})"
        )
    for name, reason in manifest.left_out.items():
        click.echo(f"{name:<12} left out: {reason}")


@models.command()
@click.argument("model_id")
@_registry_option
@_channel_option
def promote(model_id: str, registry: str, channel: str) -> None:
    """Let a channel name this version from now on."""
    pointer = _open(registry).promote(model_id, channel)
    click.echo(f"{channel} -> {pointer.model_id}" + (f" (was {pointer.previous[0]})" if pointer.previous else ""))


@models.command()
@_registry_option
@_channel_option
def rollback(registry: str, channel: str) -> None:
    """Let a channel name the version before."""
    click.echo(f"{channel} -> {_open(registry).rollback(channel).model_id}")


@models.command()
@_registry_option
@_channel_option
@click.option("--model", "model_id", metavar="ID", help="Pull this version, whatever the channel names.")
@click.option("--variants", help="Comma-separated TFLite files to take.  [default: all of them]")
@click.option("--dest", required=True, type=click.Path(path_type=Path, file_okay=False), help="The folder to fill.")
def pull(registry: str, channel: str, model_id: str | None, variants: str | None, dest: Path) -> None:
    """Copy a verified model to a folder, for `predict --bundle` and for devices; only what is missing is fetched."""
    names = [name.strip() for name in variants.split(",")] if variants else None
    opened = _open(registry)
    bundle = opened.pull(model_id, dest, names) if model_id else opened.pull_current(channel, dest, names)
    click.echo(str(bundle))


def _open(location: str) -> "Registry":
    from runtime.folder import FolderStore
    from runtime.registry import Registry

    registry = Registry.open(location)
    if isinstance(registry.store, FolderStore) and not registry.store.root.is_dir():
        raise InputError("there is no such registry", where=location, hint="mend the path or train a first model")
    return registry
