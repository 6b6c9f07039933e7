"""``transferlite features``: show, fill and shrink a feature store."""

import json
import re
from typing import TYPE_CHECKING, Any

import click

from train_job.cli.options import feature_options, photo_options, quiet_tensorflow, refuse_unused
from transferlite.errors import InputError

if TYPE_CHECKING:
    from train_job.extraction.shards import Shard
    from train_job.store.compaction import SpaceUsage
    from train_job.store.feature_store import FeatureStore
    from train_job.store.prune_deleted import PruneResult

_features_option = click.option(
    "--features", "location", required=True, metavar="LOCATION", help="Feature store, e.g. REGISTRY/features."
)


@click.group()
def features() -> None:
    """Show, fill, compact and prune a feature store."""


@features.command()
@_features_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def stats(location: str, as_json: bool) -> None:
    """Show the size of each space and the number of known photos."""
    from train_job.store.compaction import space_usage

    store = _open(location)
    spaces = [space_usage(store, space) for space in store.spaces()]
    photos = store.photos()
    if as_json:
        content = {
            "spaces": [_to_dict(space) for space in spaces],
            "photos": len(photos),
            "rejects": photos.rejected_count,
        }
        click.echo(json.dumps(content, ensure_ascii=False))
        return
    for space in spaces:
        click.echo(_format_usage(space))
    click.echo(f"{len(photos):,} known photos, {photos.rejected_count:,} of them rejected")


def _parse_shard(_context: click.Context, _option: click.Parameter, value: str | None) -> "Shard":
    from train_job.extraction.shards import Shard

    return Shard.parse(value) if value else Shard.of_this_job()


@features.command()
@photo_options
@_features_option
@feature_options
@click.option(
    "--shard",
    callback=_parse_shard,
    metavar="I/N",
    help="Shard of the photos, from 0.  [default: AWS Batch's array index, or all photos]",
)
@click.option(
    "--workers", default=1, show_default=True, type=click.IntRange(1), help="Processes to run on this machine."
)
@click.option("--json", "as_json", is_flag=True, help="Print the counts and times as JSON on the last line.")
def extract(location: str, shard: "Shard", workers: int, as_json: bool, **options: Any) -> None:
    """Extract the features of photos that have none yet, without training.

    Pass the options of a later `train`, which then finds all features in the store. On AWS Batch, each job of an array
    job extracts its shard of the photos.
    """
    refuse_unused(options)
    quiet_tensorflow()
    from dataclasses import asdict

    from train_job.extraction.shards import extract_in_processes, extract_shard
    from train_job.options import TrainOptions
    from train_job.progress import Reporter

    train_options = TrainOptions(registry="", features=location, **options)
    if workers > 1:
        counts = extract_in_processes(train_options, shard, workers)
    else:
        counts = extract_shard(train_options, shard, Reporter())
    if as_json:
        click.echo(json.dumps(asdict(counts)))


def _to_dict(usage: "SpaceUsage") -> dict[str, Any]:
    return {
        "id": usage.space.id,
        **json.loads(usage.space.to_json()),
        "rows": usage.rows,
        "parts": usage.parts,
        "bytes": usage.bytes,
    }


def _format_usage(usage: "SpaceUsage") -> str:
    space = usage.space
    size = f"{space.input.height}x{space.input.width}"
    name = f"{space.backbone} {size} {space.layer} {space.view} {space.precision}, decoder {space.decoder}"
    rows = f"{usage.rows:,} rows of {space.width:,} features ({usage.bytes / 2**20:,.1f} MiB in {usage.parts:,} parts)"
    return f"{space.id}  {name}: {rows}"


@features.command()
@_features_option
def compact(location: str) -> None:
    """Merge small parts into larger ones; other jobs may run at the same time."""
    from train_job.progress import Reporter
    from train_job.store.compaction import compact, count_small_parts

    store = _open(location)
    stores = [*map(store.row_parts, store.spaces()), store.photo_parts, store.facts_parts]
    with Reporter().progress("compact", sum(map(count_small_parts, stores))) as advance:
        fewer = sum(compact(parts, advance) for parts in stores)
    click.echo(f"{fewer:,} fewer parts" if fewer else "nothing to merge")


@features.command()
@_features_option
@click.option(
    "--images", multiple=True, metavar="LOCATION", help="Location of photos to keep; repeat it for every location."
)
@click.option("--space", "space_id", metavar="ID", help="Space to delete completely instead; `stats` lists the IDs.")
@click.option(
    "--leftovers", is_flag=True, help="Delete the incomplete parts of killed jobs instead; no job may be running."
)
@click.option("--dry-run", is_flag=True, help="Print what would be deleted, without deleting it.")
def prune(location: str, images: tuple[str, ...], space_id: str | None, leftovers: bool, dry_run: bool) -> None:
    """Delete the features and records of photos that no longer exist below any of --images."""
    from train_job.progress import Reporter
    from train_job.store import prune_deleted

    if [bool(images), space_id is not None, leftovers].count(True) != 1:
        raise click.UsageError("Pass exactly one of --images, --space and --leftovers.")
    store = _open(location)
    action = "would delete" if dry_run else "deleted"
    if images:
        with Reporter().progress("prune", 1 + len(list(store.spaces()))) as advance:
            pruned = prune_deleted.prune(store, images, dry_run, advance)
        _print_pruned(pruned, action)
    elif space_id is not None:
        if not re.fullmatch("[0-9a-f]{32}", space_id):
            raise InputError(
                "is not a space ID", where=f"--space {space_id}", hint="`transferlite features stats` lists them"
            )
        click.echo(f"{action} {prune_deleted.delete_space(store, space_id, dry_run) / 2**20:,.1f} MiB")
    else:
        click.echo(f"{action} {prune_deleted.delete_leftovers(store, dry_run):,} parts")


def _print_pruned(pruned: "PruneResult", action: str) -> None:
    for space, rows in pruned.rows.items():
        click.echo(f"{action} {rows:,} rows of {space.backbone} {space.layer} {space.view} ({space.id})")
    click.echo(f"{action} {pruned.lines:,} of {pruned.photos:,} known photos")


def _open(location: str) -> "FeatureStore":
    from train_job.store.feature_store import FeatureStore
    from transferlite.storage.folder import FolderStore

    store = FeatureStore.open(location)
    if isinstance(store.store, FolderStore) and not store.store.root.is_dir():
        raise InputError(
            "there is no such feature store", where=location, hint="check the path, or train a first model"
        )
    return store
