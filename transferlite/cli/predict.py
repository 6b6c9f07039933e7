"""``transferlite predict``: photos in, labels out, TensorFlow-free."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from transferlite.errors import TransferLiteError
from transferlite.inference.variants import VARIANT_HELP

if TYPE_CHECKING:
    from transferlite.cli.print_predictions import PredictionPrinter
    from transferlite.edge.watch_photos import PhotoWatcher
    from transferlite.predict.predictor import Predictor

_channel_option = click.option("--channel", default="production", show_default=True)


def model_options(command: Callable[..., None]) -> Callable[..., None]:
    """The options that say which model answers, as :func:`open_predictor` takes them."""
    options = (
        click.option("--registry", metavar="LOCATION", help="Use the model that --channel names in this registry."),
        click.option("--bundle", type=click.Path(path_type=Path), help="Use the model in this folder instead."),
        _channel_option,
        click.option(
            "--model",
            metavar="ID|FILE.tflite",
            help="Use this version, whatever the channel names; or any classifier's file, by itself.",
        ),
        click.option("--variant", default="float32", show_default=True, help=VARIANT_HELP),
        click.option("--threads", type=click.IntRange(1), help="For the interpreter.  [default: all cores]"),
        click.option(
            "--labels", type=click.Path(path_type=Path), help="Of a FILE.tflite: a text file, a label a line."
        ),
        click.option(
            "--mean", callback=_numbers, metavar="NUMBERS", help="Of a FILE.tflite: what it wants pixels less."
        ),
        click.option("--std", callback=_numbers, metavar="NUMBERS", help="Of a FILE.tflite: and then divided by."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def _numbers(_context: click.Context, _option: click.Parameter, text: str | None) -> tuple[float, ...] | None:
    """``127.5`` or ``123.7,116.3,103.5``."""
    try:
        return None if text is None else tuple(float(one) for one in text.split(","))
    except ValueError:
        raise click.BadParameter("give one number, or three with commas between") from None


def open_predictor(
    registry: str | None,
    bundle: Path | None,
    channel: str,
    model: str | None,
    variant: str,
    threads: int | None,
    **plain: Any,
) -> "Predictor":
    """The model that :func:`model_options` name; ``plain`` are those of a file by itself."""
    from transferlite.predict.predictor import Predictor

    file = model if model and model.lower().endswith(".tflite") else None
    if sum(place is not None for place in (registry, bundle, file)) != 1:
        raise click.UsageError("Give one of --registry, --bundle or --model FILE.tflite.")
    if file is not None:
        return Predictor.from_file(file, threads=threads, **plain)
    if any(value is not None for value in plain.values()):
        raise click.UsageError("--labels, --mean and --std go with --model FILE.tflite.")
    if bundle is not None:
        return Predictor.load(bundle, variant, threads)
    return Predictor.from_registry(str(registry), channel, model, variant, threads)


@click.command()
@click.argument("images", nargs=-1, metavar="[IMAGE]...")
@model_options
@click.option("--watch", is_flag=True, help="Stay, and label each photo that comes to the folders IMAGE.")
@click.option("--camera", metavar="0|FILE|URL", help="Label the pictures of a camera, a video or a stream instead.")
@click.option(
    "--every",
    type=click.FloatRange(0),
    metavar="SECONDS",
    help="Look into the folders so often (1), or take a picture at most so often (0: each that can be had).",
)
@click.option("--top", default=3, show_default=True, type=click.IntRange(1), help="How many labels to show.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Also append JSON lines to this file; --watch leaves out what it holds.",
)
def predict(
    images: tuple[str, ...],
    watch: bool,
    camera: str | None,
    every: float | None,
    top: int,
    as_json: bool,
    out: Path | None,
    **model: Any,
) -> None:
    """Label photos: local files, folders, patterns such as 'photos/**/*.jpg', s3:// objects and prefixes.

    A photo that cannot be used is reported and the others are labelled; the exit status is then 2. With --watch or
    --camera, Ctrl-C or SIGTERM ends it well, with the photo in hand.
    """
    from transferlite.cli.print_predictions import PredictionPrinter, open_output

    if bool(images) == (camera is not None):
        raise click.UsageError("Give either IMAGE... or --camera.")
    predictor = open_predictor(**model)
    with open_output(out) as log:
        answers = PredictionPrinter(predictor, top, as_json, log)
        if camera is not None:
            _camera(camera, 0.0 if every is None else every, answers)
        elif watch:
            _watch(images, 1.0 if every is None else every, answers, out)
        elif failures := [error for image in images for error in _predict_all(image, answers)]:
            raise click.exceptions.Exit(min(error.exit_code for error in failures))


def _predict_all(location: str, answers: "PredictionPrinter") -> Iterator[TransferLiteError]:
    """As ``_predict_location``; a location that holds nothing is itself a failure."""
    try:
        yield from _predict_location(location, answers)
    except TransferLiteError as error:
        answers.fail(location, error)
        yield error


def _predict_location(location: str, answers: "PredictionPrinter") -> Iterator[TransferLiteError]:
    """Write an answer for each photo at ``location``; yields what failed."""
    from transferlite.images.find_photos import find_photos
    from transferlite.images.input_spec import READ_BYTES
    from transferlite.storage.locations import read_uri
    from transferlite.storage.prefetch import prefetch_map

    def fetch(image: str) -> tuple[str, bytes | TransferLiteError]:
        try:
            return image, read_uri(image, READ_BYTES)
        except TransferLiteError as error:
            return image, error

    for image, data in prefetch_map(fetch, find_photos(location)):
        if isinstance(data, TransferLiteError):
            answers.fail(image, data)
            failure: TransferLiteError | None = data
        else:
            failure = answers.ask(image, data)
        if failure is not None:
            yield failure


def _watch(folders: tuple[str, ...], every: float, answers: "PredictionPrinter", out: Path | None) -> None:
    """Answer each photo in the folders once, those that are there and those that come, until the end is asked for."""
    from transferlite.cli.print_predictions import already_predicted
    from transferlite.edge.stop_signal import catch_stop_signals
    from transferlite.edge.watch_photos import PhotoWatcher

    watch = PhotoWatcher([Path(folder).expanduser() for folder in folders], already_predicted(out))
    with catch_stop_signals() as end:
        while not end.asked:
            for image in watch.look(time.monotonic()):
                _answer_new(image, watch, answers)
                if end.asked:
                    break
            end.wait(every)


def _answer_new(image: str, watch: "PhotoWatcher", answers: "PredictionPrinter") -> None:
    try:
        answers.tell(image, Path(image))
    except TransferLiteError as error:
        if watch.may_be_unfinished(image, time.monotonic()):
            return
        answers.fail(image, error)
    watch.done(image)


def _camera(source: str, every: float, answers: "PredictionPrinter") -> None:
    from transferlite.edge.camera import camera_frames
    from transferlite.edge.stop_signal import catch_stop_signals

    with catch_stop_signals() as end:
        for name, picture in camera_frames(source, every, end):
            answers.ask(name, picture)
