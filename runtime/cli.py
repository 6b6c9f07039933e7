"""``transferlite predict``: photos in, labels out, TensorFlow-free."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from runtime.errors import TransferLiteError

if TYPE_CHECKING:
    from runtime.predictor import Predictor

_channel_option = click.option("--channel", default="production", show_default=True)


def model_options(command: Callable[..., None]) -> Callable[..., None]:
    """The options that say which model answers, as :func:`open_predictor` takes them."""
    options = (
        click.option("--registry", metavar="LOCATION", help="Use the model that --channel names in this registry."),
        click.option("--bundle", type=click.Path(path_type=Path), help="Use the model in this folder instead."),
        _channel_option,
        click.option("--model", "model_id", metavar="ID", help="Use this version, whatever the channel names."),
        click.option("--variant", default="float32", show_default=True, help="Which TFLite file: float32, int8."),
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
