"""``transferlite check``."""

from typing import Any

import click

from train_job.cli.train import fail_over_option, photo_options, split_option, test_options


@click.command()
@photo_options
@test_options
@split_option
@fail_over_option
@click.option(
    "--out",
    default=".",
    show_default=True,
    metavar="LOCATION",
    help="Where quarantine.csv, notes.csv and check.json go.",
)
@click.option("--json", "as_json", is_flag=True, help="Print what check.json says as the last line.")
def check(out: str, as_json: bool, **options: Any) -> None:
    """Look at every photo and say what is wrong, before a training spends money on it.

    Exit status 0, or 2 when more than --fail-over of the photos cannot be used.
    """
    import json

    from train_job.options import TrainOptions
    from train_job.pipeline.check_data import check as run_check
    from train_job.progress import Reporter

    checked = run_check(TrainOptions(registry="", **options), out, Reporter())
    if as_json:
        click.echo(json.dumps(checked.summary, ensure_ascii=False))
