"""``transferlite check``."""

from typing import Any

import click

from train_job.cli.options import (
    fail_over_option,
    option_with_default,
    photo_options,
    refuse_unused,
    split_option,
    test_options,
)
from transferlite.cli.options import refuse_options


@click.command()
@photo_options
@test_options
@split_option
@fail_over_option
@click.option(
    "--registry", metavar="LOCATION", help="Registry whose current version to compare the labels with.  [default: none]"
)
@option_with_default("--channel", metavar="NAME", help="Channel of that version.")
@click.option(
    "--out",
    default=".",
    show_default=True,
    metavar="LOCATION",
    help="Location for quarantine.csv, notes.csv and check.json.",
)
@click.option("--json", "as_json", is_flag=True, help="Print check.json on the last line.")
def check(registry: str | None, out: str, as_json: bool, **options: Any) -> None:
    """Check every photo and label before training: unusable photos, duplicates, leakage, small classes.

    With --registry, it also reports photos with another label than in the current version, and does not fetch photos
    that a training has examined.

    The exit status is 0, or 2 if more than --fail-over of the photos cannot be used.
    """
    import json

    refuse_unused(options)
    if registry is None:
        refuse_options("needs --registry", "channel")
    from train_job.options import TrainOptions
    from train_job.pipeline.check_data import check_data
    from train_job.progress import Reporter

    checked = check_data(TrainOptions(registry=registry or "", **options), out, Reporter())
    if as_json:
        click.echo(json.dumps(checked.summary, ensure_ascii=False))
