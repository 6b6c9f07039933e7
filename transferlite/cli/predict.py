"""``transferlite predict``: predict the labels of photos, folders, cameras and videos."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from transferlite.cli.options import (
    FiniteRange,
    channel_option,
    comma_separated,
    refuse_channel_beside,
    refuse_options,
    variant_option,
)
from transferlite.errors import TransferLiteError
from transferlite.images.input_spec import RESIZE_MODES
from transferlite.inference.variants import AUTO

if TYPE_CHECKING:
    from transferlite.cli.print_predictions import PredictionPrinter
    from transferlite.predict.predictor import Predictor

_SCAN_SECONDS = 1.0


def model_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that select a model, as :func:`open_predictor` takes them."""
    options = (
        click.option("--registry", metavar="LOCATION", help="Registry with the model that --channel points to."),
        click.option("--bundle", type=click.Path(path_type=Path), help="Folder of the model, instead of a registry."),
        channel_option,
        click.option(
            "--model",
            metavar="ID|FILE.tflite",
            help="Version to use instead of the channel's; or a .tflite classifier, without a registry.",
        ),
        variant_option,
        click.option("--threads", type=click.IntRange(1), help="Interpreter threads.  [default: all cores]"),
        click.option(
            "--labels",
            type=click.Path(path_type=Path),
            help="Text file with one label per line (plain .tflite files only).",
        ),
        click.option(
            "--mean",
            callback=comma_separated(float, "123.7,116.3,103.5"),
            metavar="NUMBERS",
            help="Mean to subtract from each pixel (plain .tflite files only).",
        ),
        click.option(
            "--std",
            callback=comma_separated(float, "123.7,116.3,103.5"),
            metavar="NUMBERS",
            help="Standard deviation to divide each pixel by (plain .tflite files only).",
        ),
        click.option(
            "--resize",
            type=click.Choice(RESIZE_MODES),
            help="How photos become the input's shape (plain .tflite files only).  [default: the file's, or squash]",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def open_predictor(
    registry: str | None,
    bundle: Path | None,
    channel: str,
    model: str | None,
    variant: str | None,
    threads: int | None,
    **file_options: Any,
) -> "Predictor":
    """Load the model that :func:`model_options` select; ``file_options`` are for plain .tflite files.

    Raises UsageError for an option that does not apply to the kind of model.
    """
    from transferlite.predict.predictor import Predictor

    file = model if model and model.lower().endswith(".tflite") else None
    if sum(source is not None for source in (registry, bundle, file)) != 1:
        raise click.UsageError("Give one of --registry, --bundle or --model FILE.tflite.")
    if file is not None:
        refuse_options("does not apply to --model FILE.tflite", "channel", "variant")
        return Predictor.from_file(file, threads=threads, **file_options)
    refuse_options("needs --model FILE.tflite", *file_options)
    if bundle is not None:
        refuse_options("needs --registry; a bundle is one version", "channel", "model")
        predictor = Predictor.load(bundle, variant, threads)
    else:
        refuse_channel_beside(model, "--model")
        predictor = Predictor.from_registry(str(registry), channel, model, variant, threads)
    chosen = predictor.manifest.default_variant
    if variant in {None, AUTO} and predictor.variant != chosen:
        click.echo(f"variant {predictor.variant}: {chosen} is not in the bundle", err=True)
    return predictor


@click.command()
@click.argument("photos", nargs=-1, metavar="[PHOTO]...")
@model_options
@click.option("--watch", is_flag=True, help="Keep running, and label each new photo in the folders PHOTO.")
@click.option("--camera", metavar="0|FILE|URL", help="Label the frames of a camera, video file or stream instead.")
@click.option(
    "--every",
    type=FiniteRange(0),
    metavar="SECONDS",
    help="Seconds between folder scans (default 1) or camera frames (default 0: no limit).",
)
@click.option("--top", default=3, show_default=True, type=click.IntRange(1), help="Number of labels to print.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File to append JSON lines to; --watch skips the photos already in it.",
)
def predict(
    photos: tuple[str, ...],
    watch: bool,
    camera: str | None,
    every: float | None,
    top: int,
    as_json: bool,
    out: Path | None,
    **model: Any,
) -> None:
    """Predict the labels of photos.

    PHOTO is a local file, a folder, a quoted pattern such as 'photos/**/*.jpg', or an s3:// object or prefix.

    A photo that cannot be used is reported, and the others are labelled; the exit status is then 2. With --watch or
    --camera, Ctrl-C or SIGTERM ends the command after the current photo, with exit status 0.
    """
    from transferlite.cli.print_predictions import PredictionPrinter, open_output
    from transferlite.cli.watch_folders import watch_folders

    if bool(photos) == (camera is not None):
        raise click.UsageError("Give either PHOTO... or --camera.")
    if camera is not None:
        refuse_options("does not apply to --camera", "watch")
    elif not watch:
        refuse_options("needs --watch or --camera", "every")
    predictor = open_predictor(**model)
    with open_output(out) as output:
        printer = PredictionPrinter(predictor, top, as_json, output)
        if camera is not None:
            _predict_frames(camera, 0.0 if every is None else every, printer)
        elif watch:
            watch_folders(photos, _SCAN_SECONDS if every is None else every, printer, out)
        elif errors := [error for location in photos for error in _predict_all(location, printer)]:
            raise click.exceptions.Exit(min(error.exit_code for error in errors))


def _predict_all(location: str, printer: "PredictionPrinter") -> Iterator[TransferLiteError]:
    """Predict the photos at ``location``; yield the errors. A location without photos is an error too."""
    listing_errors: list[TransferLiteError] = []

    def on_error(error: TransferLiteError) -> None:
        printer.print_error(error.where, error)
        listing_errors.append(error)

    try:
        yield from _predict_location(location, printer, on_error)
    except TransferLiteError as error:
        printer.print_error(location, error)
        yield error
    yield from listing_errors


def _predict_location(
    location: str, printer: "PredictionPrinter", on_error: Callable[[TransferLiteError], None]
) -> Iterator[TransferLiteError]:
    from transferlite.images.find_photos import find_photos
    from transferlite.images.input_spec import READ_BYTES
    from transferlite.storage.locations import read_uri
    from transferlite.storage.prefetch import prefetch_map

    def fetch(name: str) -> tuple[str, bytes | TransferLiteError]:
        try:
            return name, read_uri(name, READ_BYTES)
        except TransferLiteError as error:
            return name, error

    for name, data in prefetch_map(fetch, find_photos(location, on_error)):
        if isinstance(data, TransferLiteError):
            printer.print_error(name, data)
            yield data
        elif error := printer.predict_or_print_error(name, data):
            yield error


def _predict_frames(source: str, every: float, printer: "PredictionPrinter") -> None:
    from transferlite.edge.camera import camera_frames
    from transferlite.edge.stop_signal import catch_stop_signals

    with catch_stop_signals() as stop:
        for name, frame in camera_frames(source, every, stop):
            printer.predict_or_print_error(name, frame)
