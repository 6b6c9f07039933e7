"""``transferlite plan``."""

from typing import Any

import click

from train_job.cli.options import (
    backbone_option,
    features_option,
    photo_options,
    refuse_unused,
    registry_option,
    test_options,
)


@click.command()
@photo_options
@test_options
@registry_option
@features_option
@backbone_option
@click.option(
    "--new-labels", default=0, show_default=True, type=click.IntRange(0), help="Minimum new labels to start a training."
)
@click.option("--max-shards", default=1, show_default=True, type=click.IntRange(1, 128), help="Maximum machines.")
@click.option(
    "--photos-per-shard", default=20000, show_default=True, type=click.IntRange(1), help="New photos per machine."
)
@click.option("--out", metavar="LOCATION", help="Location to write the plan to as JSON.")
@click.option("--json", "as_json", is_flag=True, help="Print the plan as JSON on the last line.")
def plan(
    new_labels: int, max_shards: int, photos_per_shard: int, out: str | None, as_json: bool, **options: Any
) -> None:
    """Count new photos and labels, and the machines to extract features on, without fetching a photo."""
    refuse_unused(options)
    from train_job.options import TrainOptions
    from train_job.pipeline.retrain_decision import decide_retrain, write_decision
    from train_job.progress import Reporter

    decision = decide_retrain(TrainOptions(**options), new_labels, max_shards, photos_per_shard, Reporter())
    if out:
        write_decision(decision, out)
    if as_json:
        click.echo(decision.to_json())
