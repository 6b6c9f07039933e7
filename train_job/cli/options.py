"""Options that several training commands share, with the defaults of :class:`train_job.options.TrainOptions`."""

import math
import os
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

from train_job.backbones.catalog import BACKBONES
from train_job.data.split import SplitShares
from train_job.options import TrainOptions
from transferlite import environment
from transferlite.cli.options import FiniteRange, refuse_options
from transferlite.images.input_spec import RESIZE_MODES
from transferlite.inference.variants import FLOAT32, TFLITE_VARIANTS

Command = TypeVar("Command", bound=Callable[..., Any])


def quiet_tensorflow() -> None:
    """Hide TensorFlow's start-up messages, unless the user's environment sets another log level."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")


def option_with_default(
    flag: str, to_text: Callable[[Any], Any] = lambda default: default, **settings: Any
) -> Callable[[Command], Command]:
    """Make an option whose default is that of the field of TrainOptions with the same name.

    ``to_text`` converts the default to what the user would type, for an option with a callback.
    """
    default = to_text(getattr(TrainOptions, flag.removeprefix("--").replace("-", "_")))
    return click.option(flag, default=default, show_default=True, **settings)


def combine(*options: Callable[[Any], Any]) -> Callable[[Command], Command]:
    """Combine several options into one decorator that keeps their order in ``--help``."""

    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def refuse_unused(options: Mapping[str, Any]) -> None:
    """Raise UsageError for an option that has no effect without another one that is missing."""
    if options.get("labels") is None:
        if options.get("split_col"):
            refuse_options("needs --labels", "split_col")
        if options.get("test_labels") is None:
            refuse_options("needs --labels", "x_col", "y_col")
    if options.get("test_images") is None:
        refuse_options("needs --test-images", "test_labels")
    if options.get("augment") == "none" and options["views"] > 1:
        refuse_options("needs --augment", "views")
    if options.get("fine_tune_from") is None:
        refuse_options("needs --fine-tune-from", "fine_tune_epochs", "fine_tune_learning_rate")


# -- conversion of option values -------------------------------------------------------------------------------------


def to_percentage(share: float) -> str:
    """Format a share of 0 to 1 as a percentage, such as 5%."""
    return f"{100 * share:g}%"


def parse_percentage(_context: click.Context, _option: click.Parameter, value: str | None) -> float | None:
    """Convert a percentage such as 5% to a share of 0 to 1."""
    if value is None:
        return None
    try:
        share = float(value.removesuffix("%")) / 100
    except ValueError:
        raise click.BadParameter(f"{value!r} is not a percentage such as 5%") from None
    if not 0 <= share <= 1:
        raise click.BadParameter("must be from 0% to 100%")
    return share


def check_positive(_context: click.Context, _option: click.Parameter, value: float | None) -> float | None:
    """Refuse a number that is not finite and above 0."""
    if value is not None and not 0 < value < math.inf:
        raise click.BadParameter("must be a number above 0")
    return value


_UNITS = {"": 1, "KB": 2**10, "MB": 2**20, "GB": 2**30}


def to_size(size: int) -> str:
    """Format bytes as gigabytes, such as 2GB."""
    return f"{size / _UNITS['GB']:g}GB"


def parse_size(_context: click.Context, _option: click.Parameter, value: str) -> int:
    """Convert a size such as 500MB or 2GB to bytes."""
    number = value.upper().rstrip("KMGB")
    try:
        size = int(float(number) * _UNITS[value.upper()[len(number) :]])
    except (ValueError, LookupError, OverflowError):
        size = 0
    if size <= 0:
        raise click.BadParameter(f"{value!r} is not a size such as 500MB or 2GB")
    return size


def _parse_variants(_context: click.Context, _option: click.Parameter, value: str) -> tuple[str, ...]:
    names = {name.strip() for name in value.split(",") if name.strip()} | {FLOAT32}
    if unknown := sorted(names - set(TFLITE_VARIANTS)):
        raise click.BadParameter(f"{unknown[0]!r} is none of {', '.join(TFLITE_VARIANTS)}")
    return tuple(name for name in TFLITE_VARIANTS if name in names)


def _parse_shares(_context: click.Context, _option: click.Parameter, value: str) -> SplitShares:
    return SplitShares.parse(value)


def _parse_names(_context: click.Context, _option: click.Parameter, value: str | None) -> tuple[str, ...]:
    return tuple(name.strip() for name in value.split(",") if name.strip()) if value else ()


# -- groups of options -----------------------------------------------------------------------------------------------

registry_option = click.option("--registry", required=True, metavar="LOCATION", help="Model registry.")

features_option = click.option(
    "--features", metavar="LOCATION", help="Feature store.  [default: features/ in the registry]"
)

backbone_option = option_with_default(
    "--backbone", type=click.Choice(list(BACKBONES)), help="Pretrained network that computes the features."
)

image_size_option = click.option(
    "--image-size",
    type=click.IntRange(32, 2048),
    help="Width and height of the input in pixels.  [default: the backbone's]",
)

photo_options = combine(
    click.option(
        "--images",
        required=True,
        metavar="LOCATION",
        help="Location of the photos; without --labels, one folder per class.",
    ),
    click.option("--labels", metavar="LOCATION", help="Label file: CSV, Parquet, JSON Lines or Ground Truth manifest."),
    click.option("--x-col", metavar="NAME", help="Column with file names.  [default: File Name, or detected]"),
    click.option("--y-col", metavar="NAME", help="Column with labels.  [default: Label, or detected]"),
    click.option(
        "--split-col",
        metavar="NAME",
        help='Column with train, validation or test; "" for none.  [default: detected]',
    ),
    click.option(
        "--classes", callback=_parse_names, metavar="A,B", help="Comma-separated classes, in order.  [default: all]"
    ),
    click.option(
        "--merge-labels",
        metavar="OLD=NEW,...",
        help="Labels to replace by others, or the location of a CSV whose two columns are old and new.",
    ),
)
"""The labelled photos."""

test_options = combine(
    click.option(
        "--test-images",
        metavar="LOCATION",
        help="Location of your own test photos, used instead of a share of --images.",
    ),
    click.option(
        "--test-labels", metavar="LOCATION", help="Label file of --test-images; without it, one folder per class."
    ),
)
"""The user's own test photos."""

split_option = option_with_default(
    "--split", to_text=str, callback=_parse_shares, help="Shares of training/validation/test."
)

fail_over_option = option_with_default(
    "--fail-over",
    to_text=to_percentage,
    callback=parse_percentage,
    metavar="SHARE",
    help="Maximum share of unusable photos.",
)

feature_options = combine(
    backbone_option,
    option_with_default(
        "--weights", help="Backbone weights: default, imagenet, none, or the location of a Keras weights file."
    ),
    image_size_option,
    option_with_default(
        "--resize",
        type=click.Choice(RESIZE_MODES),
        help="How photos become square: squash them, letterbox (pad) them with grey, or keep the center only.",
    ),
    option_with_default(
        "--augment",
        type=click.Choice(["none", "flip", "standard"]),
        help="Augmentation of training photos; standard crops, mirrors and changes the light.",
    ),
    option_with_default("--views", type=click.IntRange(1), help="Augmented views per training photo."),
    click.option(
        "--fine-tune-from", metavar="LAYER", help="Layer (name or index) from which to fine-tune the backbone as well."
    ),
    option_with_default(
        "--seed",
        type=click.IntRange(0, 2**32 - 1),
        help="Random seed; the same seed and photos give the same model.",
    ),
)
"""The options that a photo's features depend on."""

variants_option = option_with_default(
    "--variants",
    to_text=",".join,
    callback=_parse_variants,
    metavar="A,B",
    help="Comma-separated TFLite variants to export; float32 always is.",
)

gate_options = combine(
    variants_option,
    option_with_default(
        "--batch",
        type=click.IntRange(1, 1024),
        help="Batch size of a second file of each variant (1: no second file).",
    ),
    option_with_default(
        "--max-accuracy-drop",
        to_text=to_percentage,
        callback=parse_percentage,
        metavar="SHARE",
        help="Maximum drop in a variant's accuracy before it is left out; 0% for float32.",
    ),
    option_with_default(
        "--max-recall-drop",
        to_text=to_percentage,
        callback=parse_percentage,
        metavar="SHARE",
        help="Maximum drop in any class's recall before a variant is left out.",
    ),
    option_with_default(
        "--min-agreement",
        to_text=to_percentage,
        callback=parse_percentage,
        metavar="SHARE",
        help="Minimum share of photos on which a variant predicts the Keras model's label.",
    ),
    option_with_default(
        "--max-difference",
        type=FiniteRange(0, 1),
        help="Maximum difference between a variant's and the Keras model's probability.",
    ),
    click.option(
        "--legacy-python",
        envvar=environment.LEGACY_PYTHON,
        metavar="FILE",
        help="Python with tflite-runtime to verify the files in as well.  [env: TRANSFERLITE_LEGACY_PYTHON]",
    ),
)
"""The exported variants and the limits of the gate."""
