"""``transferlite similar``."""

import json
import tempfile
from pathlib import Path
from typing import Any

import click

from train_job.cli.options import backbone_option, image_size_option, option_with_default, quiet_tensorflow


@click.command()
@click.argument("photos", nargs=-1, required=True, metavar="PHOTO...")
@click.option("--images", required=True, metavar="LOCATION", help="Location of the photos to search.")
@click.option(
    "--features",
    metavar="LOCATION",
    help="Feature store, e.g. REGISTRY/features; photos in it are not fetched.  [default: none]",
)
@backbone_option
@option_with_default("--weights", help="Backbone weights, as in training.")
@image_size_option
@click.option("--count", default=10, show_default=True, type=click.IntRange(1), help="Similar photos to list.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per PHOTO.")
def similar(
    photos: tuple[str, ...], images: str, features: str | None, count: int, as_json: bool, **options: Any
) -> None:
    """List the photos of --images that look most like each PHOTO.

    Similarity is the cosine of the photos' feature rows: 1 for copies, about 0.9 or more for another crop of a photo.
    Photos without a row in --features are fetched and run through the backbone, once.
    """
    quiet_tensorflow()
    from train_job.extraction.find_similar import find_similar
    from train_job.options import TrainOptions
    from train_job.progress import Reporter

    with tempfile.TemporaryDirectory(prefix="transferlite-") as folder:
        location = features or str(Path(folder, "features"))
        settings = TrainOptions(images=images, registry="", features=location, **options)
        found = find_similar(settings, photos, count, Reporter())
    for photo, neighbours in found.items():
        if as_json:
            listed = [neighbour.to_dict() for neighbour in neighbours]
            click.echo(json.dumps({"image": photo, "similar": listed}, ensure_ascii=False))
            continue
        click.echo(photo)
        for neighbour in neighbours:
            click.echo(f"  {neighbour.similarity:.3f}  {neighbour.image}")
