"""``transferlite package``: the files that a device or a Lambda function needs, from a checkout or an install."""

from pathlib import Path

import click

from transferlite.cli.options import architecture_option


@click.group()
def package() -> None:
    """Build a folder for a device, or the Lambda function as a zip. Both need pip and a package index."""


@package.command()
@click.option("--dest", required=True, type=click.Path(path_type=Path), metavar="DIR", help="Folder to create.")
@click.option(
    "--extra", "extras", multiple=True, default=["edge"], show_default=True, metavar="NAME", help="Extra to install."
)
@click.option(
    "--platform", metavar="TAG", help="Platform tag of the wheels.  [default: manylinux_2_28 of this machine]"
)
@click.option("--python", metavar="X.Y", help="Python version of the device.  [default: the version of this Python]")
def device(dest: Path, extras: tuple[str, ...], platform: str | None, python: str | None) -> None:
    """Create a folder with only the files that predicting imports, compiled.

    Copy it to the device and run: PYTHONPATH=DIR python3 -m transferlite predict ... Give --extra once per extra. A
    Python of the device's version on PATH here compiles the bytecode.
    """
    from transferlite.packaging.device_folder import THIS_PLATFORM, THIS_PYTHON, build, bytecode_note

    sizes = build(dest, extras, platform or THIS_PLATFORM, python or THIS_PYTHON)
    for name, size in sizes.items():
        click.echo(f"{size / 2**20:7.2f} MiB  {name}")
    click.echo(f"{sum(sizes.values()) / 2**20:7.2f} MiB  in total, in {dest}")
    if note := bytecode_note(python or THIS_PYTHON):
        click.echo(f"note: {note}", err=True)


@package.command()
@click.option(
    "--dest",
    default="lambda.zip",
    show_default=True,
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Zip file to write.",
)
@architecture_option
@click.option("--python", default="3.12", show_default=True, metavar="X.Y", help="Python version of the function.")
@click.option("--extra", "extras", multiple=True, metavar="NAME", help="Extra to add, for example signed.")
def function(dest: Path, architecture: str, python: str, extras: tuple[str, ...]) -> None:
    """Write the Lambda function as a zip, for `transferlite cloud deploy --function-zip`.

    Give --extra once per extra. A Python of the function's version on PATH here compiles the bytecode.
    """
    from transferlite.packaging.device_folder import bytecode_note
    from transferlite.packaging.lambda_zip import write_zip

    unpacked, packed = write_zip(dest, architecture, python, extras)
    click.echo(f"{dest}: Python {python}, {architecture}, {packed / 2**20:.1f} MiB, {unpacked / 2**20:.1f} unpacked")
    if note := bytecode_note(python):
        click.echo(f"note: {note}", err=True)
