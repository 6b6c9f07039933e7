"""``transferlite demo``: the one command that uses every room."""

from pathlib import Path

import click


@click.command()
@click.option("--photos", metavar="DIR", help="Your own folder per class.  [default: 200 pictures of scikit-image]")
@click.option(
    "--out",
    default="demo-output",
    show_default=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Where copies of everything stay.",
)
@click.option("--epochs", default=100, show_default=True, type=click.IntRange(1))
def demo(photos: str | None, out: Path, epochs: int) -> None:
    """Run the whole loop on a local S3: upload, train, publish, then S3 events through the Lambda handler."""
    from transferlite.packaging.demo import run_demo

    run_demo(photos, out, epochs)


@click.command()
@click.option("--dest", required=True, type=click.Path(path_type=Path), help="The folder to make.")
@click.option("--extra", "extras", multiple=True, default=["edge"], show_default=True, help="May be given again.")
@click.option("--platform", metavar="TAG", help="Of wheels.  [default: manylinux_2_28 of this machine]")
@click.option("--python", metavar="X.Y", help="The Python that will run it.  [default: this one's version]")
def slim(dest: Path, extras: tuple[str, ...], platform: str | None, python: str | None) -> None:
    """Make a folder with only what predicting imports, for a device's or a function's image; needs a checkout and pip.

    Run it there with PYTHONPATH=DIR python3 -m transferlite predict ...
    """
    from transferlite.packaging.slim import THIS_PLATFORM, THIS_PYTHON, build

    sizes = build(dest, extras, platform or THIS_PLATFORM, python or THIS_PYTHON)
    for name, size in sizes.items():
        click.echo(f"{size / 2**20:7.2f} MiB  {name}")
    click.echo(f"{sum(sizes.values()) / 2**20:7.2f} MiB  in all, in {dest}")
