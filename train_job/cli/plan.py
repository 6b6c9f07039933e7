"""``transferlite plan``."""

from typing import Any

import click

from train_job.backbones.catalog import BACKBONES
from train_job.cli.train import photo_options


@click.command()
@photo_options
@click.option("--registry", required=True, metavar="LOCATION", help="Where the models are.")
@click.option("--features", metavar="LOCATION", help="The feature store.  [default: features/ in the registry]")
@click.option("--backbone", default="efficientnet_lite0", show_default=True, type=click.Choice(list(BACKBONES)))
@click.option("--new-labels", default=0, show_default=True, type=click.IntRange(0), help="Labels worth a training.")
@click.option("--max-shards", default=1, show_default=True, type=click.IntRange(1, 10000), help="Machines at most.")
@click.option("--photos-per-shard", default=20000, show_default=True, type=click.IntRange(1), help="New ones, each.")
@click.option("--out", metavar="LOCATION", help="Write it here as JSON as well.")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON on the last line.")
def plan(
    new_labels: int, max_shards: int, photos_per_shard: int, out: str | None, as_json: bool, **options: Any
) -> None:
    """Say what a training would find new, and how many machines are worth starting, without fetching a photo."""
    from train_job.options import TrainOptions
    from train_job.pipeline.retrain_decision import decide_retrain, write_decision
    from train_job.progress import Reporter

    found = decide_retrain(TrainOptions(**options), new_labels, max_shards, photos_per_shard, Reporter())
    if out:
        write_decision(found, out)
    if as_json:
        click.echo(found.to_json())
