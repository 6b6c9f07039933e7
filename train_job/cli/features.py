"""``transferlite features``: what the feature store holds, and keeping it small."""

import json
import re
from typing import TYPE_CHECKING, Any

import click

from train_job.cli.train import base_options, photo_options, quiet_tensorflow
from transferlite.errors import InputError

if TYPE_CHECKING:
    from train_job.extraction.shards import Shard
    from train_job.store.compaction import Pruned, Usage
    from train_job.store.feature_store import FeatureStore

_features_option = click.option(
    "--features", "location", required=True, metavar="LOCATION", help="The feature store, such as REGISTRY/features."
)


@click.group()
def features() -> None:
    """Show, compact and prune the rows that the frozen base has made of photos."""


@features.command()
@_features_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def stats(location: str, as_json: bool) -> None:
    """What each space holds, and how many photos are known."""
    from train_job.store.compaction import usage

    store = _open(location)
    spaces = [usage(store, space) for space in store.spaces()]
    photos = store.photos()
    if as_json:
        shown = {"spaces": [_as_dict(one) for one in spaces], "photos": len(photos), "rejects": photos.rejects}
        click.echo(json.dumps(shown, ensure_ascii=False))
        return
    for one in spaces:
        click.echo(_described(one))
    click.echo(f"{len(photos):,} photos known, {photos.rejects:,} of them rejects")


def _shard(_context: click.Context, _option: click.Parameter, value: str | None) -> "Shard":
    from train_job.extraction.shards import Shard

    return Shard.parse(value) if value else Shard.of_this_job()


@features.command()
@photo_options
@_features_option
@base_options
@click.option(
    "--shard", callback=_shard, metavar="I/N", help="Only this part.  [default: AWS Batch's array index, or all]"
)
@click.option("--workers", default=1, show_default=True, type=click.IntRange(1), help="Processes on this machine.")
@click.option("--json", "as_json", is_flag=True, help="Print what it cost as a JSON object on the last line.")
def extract(location: str, shard: "Shard", workers: int, as_json: bool, **options: Any) -> None:
    """Run the frozen base over photos that have no rows yet, without training.

    Give it the options that train will have: then train finds every row there. On AWS Batch, an array job of any size
    shares the photos out by itself.
    """
    quiet_tensorflow()
    from dataclasses import asdict

    from train_job.extraction.shards import extract_in_processes, extract_shard
    from train_job.options import TrainOptions
    from train_job.progress import Reporter

    asked = TrainOptions(registry="", features=location, **options)
    if workers > 1:
        counts = extract_in_processes(asked, shard, workers)
    else:
        counts = extract_shard(asked, shard, Reporter())
    if as_json:
        click.echo(json.dumps(asdict(counts)))


def _as_dict(usage: "Usage") -> dict[str, Any]:
    return {
        "id": usage.space.id,
        **json.loads(usage.space.to_json()),
        "rows": usage.rows,
        "parts": usage.parts,
        "bytes": usage.bytes,
    }


def _described(usage: "Usage") -> str:
    space = usage.space
    size = f"{space.input.height}x{space.input.width}"
    named = f"{space.backbone} {size} {space.layer} {space.view} {space.precision}, decoder {space.decoder}"
    held = f"{usage.rows:,} rows of {space.width:,} ({usage.bytes / 2**20:,.1f} MiB in {usage.parts:,} parts)"
    return f"{space.id}  {named}: {held}"


@features.command()
@_features_option
def compact(location: str) -> None:
    """Merge small parts into larger ones; jobs may run meanwhile."""
    from train_job.progress import Reporter
    from train_job.store.compaction import compact, small_parts

    store = _open(location)
    shelves = [*map(store.shelf, store.spaces()), store.photo_shelf, store.facts_shelf]
    with Reporter().counting("compact", sum(map(small_parts, shelves))) as advance:
        fewer = sum(compact(shelf, advance) for shelf in shelves)
    click.echo(f"{fewer:,} fewer parts" if fewer else "nothing to merge")


@features.command()
@_features_option
@click.option("--images", multiple=True, metavar="LOCATION", help="Where photos are; give it for every such place.")
@click.option("--space", "space_id", metavar="ID", help="Drop this whole space instead; stats lists them.")
@click.option("--leftovers", is_flag=True, help="Drop what killed jobs left half written; no job may be running.")
@click.option("--dry-run", is_flag=True, help="Only say what would be dropped.")
def prune(location: str, images: tuple[str, ...], space_id: str | None, leftovers: bool, dry_run: bool) -> None:
    """Drop what is known of photos that are not below any of --images any more, and their rows."""
    from train_job.progress import Reporter
    from train_job.store import compaction as upkeep

    if [bool(images), space_id is not None, leftovers].count(True) != 1:
        raise click.UsageError("Give one of --images, --space and --leftovers.")
    store = _open(location)
    would = "would drop" if dry_run else "dropped"
    if images:
        with Reporter().counting("prune", 1 + len(list(store.spaces()))) as advance:
            pruned = upkeep.prune(store, images, dry_run, advance)
        _print_pruned(pruned, would)
    elif space_id is not None:
        if not re.fullmatch("[0-9a-f]{32}", space_id):
            raise InputError("is no space's id", where=f"--space {space_id}", hint="features stats lists them")
        click.echo(f"{would} {upkeep.delete_space(store, space_id, dry_run) / 2**20:,.1f} MiB")
    else:
        click.echo(f"{would} {upkeep.delete_leftovers(store, dry_run):,} parts")


def _print_pruned(pruned: "Pruned", would: str) -> None:
    for space, rows in pruned.rows.items():
        click.echo(f"{would} {rows:,} rows of {space.backbone} {space.layer} {space.view} ({space.id})")
    click.echo(f"{would} {pruned.lines:,} of {pruned.photos:,} photos known")


def _open(location: str) -> "FeatureStore":
    from train_job.store.feature_store import FeatureStore
    from transferlite.storage.folder import FolderStore

    store = FeatureStore.open(location)
    if isinstance(store.store, FolderStore) and not store.store.root.is_dir():
        raise InputError("there is no such feature store", where=location, hint="mend the path or train a first model")
    return store
