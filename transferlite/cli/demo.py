"""``transferlite demo``: the one command that uses every room."""

from importlib.util import find_spec
from pathlib import Path

import click

from transferlite.errors import MissingExtraError

_NEEDS = ("boto3", "moto", "obstore", "tensorflow")
"""Packages that only the extra ``demo`` installs all of."""


@click.command()
@click.option(
    "--photos",
    metavar="DIR",
    help="Folder with one folder of photos per class.  [default: 200 pictures of scikit-image]",
)
@click.option(
    "--out",
    default="demo-output",
    show_default=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for the registry and the predictions.",
)
@click.option("--epochs", default=100, show_default=True, type=click.IntRange(1), help="Number of training epochs.")
def demo(photos: str | None, out: Path, epochs: int) -> None:
    """Run the whole loop on a local S3: upload, train, publish, then S3 events through the Lambda handler."""
    for name in _NEEDS:
        if find_spec(name) is None:
            raise MissingExtraError(name, "demo")
    from transferlite.packaging.demo import run_demo

    run_demo(photos, out, epochs)
