"""``transferlite train``."""

import json
from typing import Any

import click

from train_job.cli.options import (
    check_positive,
    combine,
    fail_over_option,
    feature_options,
    features_option,
    gate_options,
    option_with_default,
    parse_percentage,
    parse_size,
    photo_options,
    quiet_tensorflow,
    refuse_unused,
    registry_option,
    split_option,
    test_options,
    to_percentage,
    to_size,
)
from train_job.options import TrainOptions
from transferlite.cli.options import FiniteRange, signing_key_option

NOT_PROMOTED = 3
"""Exit status of a training whose version was published but not promoted, because of the promotion check."""

_head_options = combine(
    option_with_default("--hidden-units", type=click.IntRange(1), help="Units of the head's hidden layer."),
    option_with_default("--epochs", type=click.IntRange(1), help="Maximum epochs of the head's training."),
    click.option("--steps-per-epoch", type=click.IntRange(1), help="Batches per epoch.  [default: all photos once]"),
    option_with_default("--batch-size", type=click.IntRange(1), help="Feature rows per batch."),
    option_with_default("--optimizer", help="Name of a Keras optimizer."),
    click.option(
        "--learning-rate", type=float, callback=check_positive, help="Learning rate.  [default: the optimizer's]"
    ),
    option_with_default("--schedule", type=click.Choice(["constant", "cosine"]), help="Learning rate schedule."),
    option_with_default(
        "--label-smoothing", type=FiniteRange(0, 1, max_open=True), help="Label smoothing of the loss."
    ),
    option_with_default(
        "--class-weights",
        type=click.Choice(["none", "balanced"]),
        help="Weights of the classes in the loss; balanced gives each class the same total.",
    ),
    click.option(
        "--early-stopping",
        type=click.IntRange(1),
        metavar="EPOCHS",
        help="Epochs without a better validation loss before the training stops.",
    ),
    click.option("--keep-best", is_flag=True, help="Keep the weights of the epoch with the best validation loss."),
    click.option("--warm-start", is_flag=True, help="Start from the head of the channel's current version."),
    option_with_default("--fine-tune-epochs", type=click.IntRange(1), help="Maximum epochs of fine-tuning."),
    option_with_default(
        "--fine-tune-learning-rate", type=float, callback=check_positive, help="Learning rate of fine-tuning."
    ),
)

_promotion_options = combine(
    option_with_default("--channel", metavar="NAME", help="Channel to promote the version to."),
    option_with_default(
        "--promote",
        type=click.Choice(["auto", "always", "never"]),
        help="When to promote; auto promotes unless the promotion check finds a reason against it.",
    ),
    option_with_default(
        "--tolerance",
        to_text=to_percentage,
        callback=parse_percentage,
        metavar="SHARE",
        help="Maximum drop in any class's recall before promotion is refused.",
    ),
    signing_key_option,
)


@click.command()
@photo_options
@registry_option
@test_options
@split_option
@feature_options
@features_option
@_head_options
@option_with_default(
    "--memory-limit",
    to_text=to_size,
    callback=parse_size,
    metavar="SIZE",
    help="Maximum memory for feature rows; more rows are streamed from disk.",
)
@fail_over_option
@option_with_default("--folds", type=click.IntRange(0, 20), help="Folds of a cross-validation of the head (0: none).")
@click.option(
    "--precision",
    callback=parse_percentage,
    metavar="SHARE",
    help="Return `unknown` below the confidence that gives this precision, e.g. 95%.  [default: never]",
)
@click.option(
    "--reject-unlike",
    callback=parse_percentage,
    metavar="SHARE",
    help="Return `unknown` for photos unlike the training photos; SHARE of familiar photos may be rejected, e.g. 2%."
    "  [default: never]",
)
@option_with_default(
    "--negative-class", metavar="NAME", help="Class with photos of none of the others, predicted as `unknown`."
)
@_promotion_options
@gate_options
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on the last line.")
def train(as_json: bool, **options: Any) -> None:
    """Train on labelled photos, verify the exported model, publish it and promote it to the channel.

    A LOCATION is an s3:// URI or a local path. The exit status is 3 if the version is published but the promotion check
    finds a reason against promoting it, such as a drop in recall.
    """
    refuse_unused(options)
    quiet_tensorflow()
    from train_job.pipeline.train_job import train as run_job
    from train_job.progress import Reporter

    result = run_job(TrainOptions(**options), Reporter())
    if as_json:
        click.echo(json.dumps(result.to_dict(), ensure_ascii=False))
    if result.refused:
        raise click.exceptions.Exit(NOT_PROMOTED)
