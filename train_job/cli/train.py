"""``transferlite train`` and ``transferlite inspect``."""

import json
import math
import os
from collections.abc import Callable
from typing import Any, TypeVar

import click

from train_job.backbones.catalog import BACKBONES
from train_job.data.split import SplitShares
from train_job.options import DEFAULT_SPLIT, TrainOptions
from transferlite import environment
from transferlite.cli.options import signing_key_option
from transferlite.inference.variants import FLOAT32, TFLITE_VARIANTS

NOT_PROMOTED = 3
"""The exit status of a training whose version was published and not promoted, for it is worse."""

Command = TypeVar("Command", bound=Callable[..., Any])

_backbone_option = click.option(
    "--backbone", default="efficientnet_lite0", show_default=True, type=click.Choice(list(BACKBONES))
)


def quiet_tensorflow() -> None:
    """Keep TensorFlow's start-up notes out of the user's terminal; they set it otherwise if they want them."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")


def _percentage(_context: click.Context, _option: click.Parameter, value: str | None) -> float | None:
    if value is None:
        return None
    try:
        share = float(value.removesuffix("%")) / 100
    except ValueError:
        raise click.BadParameter(f"{value!r} is not a percentage such as 5%") from None
    if not 0 <= share <= 1:
        raise click.BadParameter("must be from 0% to 100%")
    return share


def _rate(_context: click.Context, _option: click.Parameter, value: float | None) -> float | None:
    if value is not None and not 0 < value < math.inf:
        raise click.BadParameter("must be a number above 0")
    return value


def _variants(_context: click.Context, _option: click.Parameter, value: str) -> tuple[str, ...]:
    names = {name.strip() for name in value.split(",") if name.strip()} | {FLOAT32}
    if unknown := sorted(names - set(TFLITE_VARIANTS)):
        raise click.BadParameter(f"{unknown[0]!r} is none of {', '.join(TFLITE_VARIANTS)}")
    return tuple(name for name in TFLITE_VARIANTS if name in names)


_UNITS = {"": 1, "KB": 2**10, "MB": 2**20, "GB": 2**30}


def _bytes(_context: click.Context, _option: click.Parameter, value: str) -> int:
    number = value.upper().rstrip("KMGB")
    try:
        return int(float(number) * _UNITS[value.upper()[len(number) :]])
    except (ValueError, LookupError, OverflowError):
        raise click.BadParameter(f"{value!r} is not a size such as 500MB or 2GB") from None


def _shares(_context: click.Context, _option: click.Parameter, value: str) -> SplitShares:
    return SplitShares.parse(value)


def _names(_context: click.Context, _option: click.Parameter, value: str | None) -> tuple[str, ...]:
    return tuple(name.strip() for name in value.split(",") if name.strip()) if value else ()


def _together(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Several options as one decorator, listed in this order."""

    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


photo_options = _together(
    click.option("--images", required=True, metavar="LOCATION", help="The photos; without --labels, a folder a class."),
    click.option("--labels", metavar="LOCATION", help="Each photo's label: CSV, Parquet, JSON Lines, Ground Truth."),
    click.option("--x-col", metavar="NAME", help="Its column of photo names.  [default: File Name, or found]"),
    click.option("--y-col", metavar="NAME", help="Its column of labels.  [default: Label, or found]"),
    click.option("--split-col", metavar="NAME", help='What a photo is for; "" for none.  [default: found, if any]'),
    click.option("--classes", callback=_names, metavar="A,B", help="The classes, in order.  [default: all]"),
)
"""Which photos."""

test_options = _together(
    click.option(
        "--test-images", metavar="LOCATION", help="Your own photos to test on, instead of a share of --images."
    ),
    click.option("--test-labels", metavar="LOCATION", help="Their CSV; without it, a folder a class."),
)
"""Which photos to test on, where the user has them apart."""

split_option = click.option(
    "--split",
    default=str(DEFAULT_SPLIT),
    show_default=True,
    callback=_shares,
    help="Shares of training/validation/test.",
)

fail_over_option = click.option(
    "--fail-over", default="50%", show_default=True, callback=_percentage, help="Stop if more photos are bad."
)

feature_options = _together(
    _backbone_option,
    click.option(
        "--weights",
        default="default",
        show_default=True,
        help="default, imagenet, none, or a Keras weights file's location.",
    ),
    click.option("--image-size", type=click.IntRange(32, 2048), help="Side in pixels.  [default: the backbone's own]"),
    click.option("--augment", default="none", show_default=True, type=click.Choice(["none", "flip", "standard"])),
    click.option("--views", default=1, show_default=True, type=click.IntRange(1), help="Augmented views a photo."),
    click.option("--fine-tune-from", metavar="LAYER", help="Then train the base from this layer (name or index) on."),
    click.option(
        "--seed",
        default=0,
        show_default=True,
        type=click.IntRange(0, 2**32 - 1),
        help="The same seed and photos give the same model.",
    ),
)
"""What the features of a photo depend on."""

gate_options = _together(
    click.option(
        "--variants",
        default=",".join(TFLITE_VARIANTS),
        show_default=True,
        callback=_variants,
        metavar="A,B",
        help="The TFLite files to make; float32 always is.",
    ),
    click.option(
        "--batch",
        default=1,
        show_default=True,
        type=click.IntRange(1, 1024),
        help="Make a second file of each, which takes so many photos at once.",
    ),
    click.option(
        "--max-accuracy-drop",
        default="1%",
        show_default=True,
        callback=_percentage,
        metavar="SHARE",
        help="Leave a variant out that loses more; float32 may lose nothing.",
    ),
    click.option(
        "--max-recall-drop",
        default="10%",
        show_default=True,
        callback=_percentage,
        metavar="SHARE",
        help="The same of any class.",
    ),
    click.option(
        "--min-agreement",
        default="95%",
        show_default=True,
        callback=_percentage,
        metavar="SHARE",
        help="Leave a variant out whose label is less often the Keras model's.",
    ),
    click.option(
        "--max-difference",
        default=1.0,
        show_default=True,
        type=click.FloatRange(0, 1),
        help="Leave a variant out of which a probability differs more from the Keras model's.",
    ),
    click.option(
        "--legacy-python",
        envvar=environment.LEGACY_PYTHON,
        metavar="FILE",
        help="A Python with tflite-runtime, to prove the files there too.  [env: TRANSFERLITE_LEGACY_PYTHON]",
    ),
)
"""Which files, and what they have to hold."""


@click.command()
@photo_options
@click.option("--registry", required=True, metavar="LOCATION", help="Where the model is published.")
@test_options
@split_option
@feature_options
@click.option("--features", metavar="LOCATION", help="The feature store.  [default: features/ in the registry]")
@click.option("--hidden-units", default=1024, show_default=True, type=click.IntRange(1))
@click.option("--epochs", default=100, show_default=True, type=click.IntRange(1))
@click.option("--steps-per-epoch", type=click.IntRange(1), help="[default: one pass over the photos]")
@click.option("--batch-size", default=50, show_default=True, type=click.IntRange(1))
@click.option("--optimizer", default="rmsprop", show_default=True, help="Any Keras optimizer's name.")
@click.option("--learning-rate", type=float, callback=_rate, help="[default: the optimizer's own]")
@click.option("--schedule", default="constant", show_default=True, type=click.Choice(["constant", "cosine"]))
@click.option("--label-smoothing", default=0.0, show_default=True, type=click.FloatRange(0, 1, max_open=True))
@click.option("--class-weights", default="none", show_default=True, type=click.Choice(["none", "balanced"]))
@click.option("--early-stopping", type=click.IntRange(1), metavar="EPOCHS", help="Stop after so many without gain.")
@click.option("--keep-best", is_flag=True, help="End with the weights of the best epoch by validation loss.")
@click.option("--warm-start", is_flag=True, help="Start from the head of the channel's version.")
@click.option("--fine-tune-epochs", default=10, show_default=True, type=click.IntRange(1))
@click.option("--fine-tune-learning-rate", default=1e-4, show_default=True, type=float, callback=_rate)
@click.option(
    "--memory-limit",
    default="1GB",
    show_default=True,
    callback=_bytes,
    metavar="SIZE",
    help="Rows beyond it are streamed from disk.",
)
@fail_over_option
@click.option("--folds", default=0, type=click.IntRange(0, 20), help="Cross-validate as well, with so many heads.")
@click.option(
    "--precision",
    callback=_percentage,
    metavar="SHARE",
    help="Answer `unknown` rather than have fewer answers right (95%).  [default: answer every photo]",
)
@click.option("--channel", default="production", show_default=True, help="The channel to promote the model to.")
@click.option(
    "--promote",
    default="auto",
    show_default=True,
    type=click.Choice(["auto", "always", "never"]),
    help="auto: unless it is worse than the channel's version.",
)
@click.option(
    "--tolerance",
    default="2%",
    show_default=True,
    callback=_percentage,
    metavar="SHARE",
    help="Maximum drop in any class's recall before promotion is refused.",
)
@signing_key_option
@gate_options
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object as the last line.")
def train(as_json: bool, **options: Any) -> None:
    """Train on labelled photos, prove the result, publish it and let the channel name it.

    A LOCATION is an s3:// URI or a local path.
    """
    quiet_tensorflow()
    from train_job.pipeline.train_job import train as run_job
    from train_job.progress import Reporter

    result = run_job(TrainOptions(**options), Reporter())
    if as_json:
        click.echo(json.dumps(result.to_dict(), ensure_ascii=False))
    if result.refused:
        raise click.exceptions.Exit(NOT_PROMOTED)


@click.command()
@_backbone_option
@click.option("--image-size", type=click.IntRange(32, 2048), help="Side in pixels.  [default: the backbone's own]")
@click.option("--config", "layer", metavar="LAYER", help="Print this layer's configuration as JSON (a name or index).")
@click.option("--json", "as_json", is_flag=True, help="Print the layers as JSON.")
def inspect(backbone: str, image_size: int | None, layer: str | None, as_json: bool) -> None:
    """Show the layers of a backbone as training uses it: index, name, type, output shape, trainable."""
    quiet_tensorflow()
    from train_job.backbones.list_layers import layer_config, list_layers

    if layer is not None:
        click.echo(json.dumps(layer_config(backbone, image_size, layer), indent=2))
        return
    rows = list_layers(backbone, image_size)
    if as_json:
        click.echo(json.dumps(rows))
        return
    for row in rows:
        shape = "x".join("?" if side is None else str(side) for side in row["shape"])
        click.echo(f"{row['index']:>4}  {row['name']:<36} {row['type']:<24} {shape:<20} trainable={row['trainable']}")
    click.echo(f"{len(rows)} layers")
