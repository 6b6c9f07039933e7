"""``transferlite export``: what is done with an exported model, without training and without TensorFlow."""

import json
from pathlib import Path

import click

from transferlite.errors import InputError


@click.group()
def export() -> None:
    """Check what runs a .tflite file; make a web page of a model."""


@export.command()
@click.argument("model", metavar="MODEL.tflite", type=click.Path(path_type=Path))
@click.option("--profile", "asked", multiple=True, metavar="NAME", help="A runtime that has to take it; repeatable.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def check(model: Path, asked: tuple[str, ...], as_json: bool) -> None:
    """Say which operations a file needs, in which versions, and which runtimes take them.

    The exit status is 2 where a runtime that --profile names does not. A runtime that takes a file may still compute it
    wrongly: the gate of a training and the test pictures of a bundle see to that.
    """
    from export.tflite.op_versions import needs, oldest_runtime, profiles, refused

    unknown = [name for name in asked if name not in profiles()]
    if unknown:
        raise InputError(f"there is no profile {unknown[0]}", where="--profile", hint=f"known: {', '.join(profiles())}")
    needed = needs(model)
    verdicts = {name: refused(needed, name) for name in asked or profiles()}
    oldest = oldest_runtime(needed)
    if as_json:
        versions = [{"name": one.name, "version": one.version} for one in needed]
        click.echo(json.dumps({"operations": versions, "oldest": oldest, "refused": verdicts}))
    else:
        for one in needed:
            click.echo(f"{one.name:<28} version {one.version}")
        click.echo(f"oldest TensorFlow Lite: {oldest or 'none that is known'}")
        for name, reasons in verdicts.items():
            click.echo(f"{name:<20} {'does not take it: ' + '; '.join(reasons) if reasons else 'takes it'}")
    failed = [f"{name} ({'; '.join(verdicts[name])})" for name in asked if verdicts[name]]
    if failed:
        raise InputError(
            f"is not taken by {', '.join(failed)}", where=str(model), hint="publish another variant for it"
        )


@export.command()
@click.option("--bundle", required=True, type=click.Path(path_type=Path), help="The model's folder.")
@click.option("--dest", required=True, type=click.Path(path_type=Path, file_okay=False), help="The folder to fill.")
@click.option("--variant", default="float32", show_default=True, help="Which TFLite file.")
@click.option(
    "--litert",
    "modules",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="A node_modules that has @litertjs/core.  [default: npm downloads it]",
)
def web(bundle: Path, dest: Path, variant: str, modules: Path | None) -> None:
    """Make a static page that runs a model in the browser.

    Serve the folder from anywhere, an S3 bucket or CloudFront for example: photos do not leave the browser.
    """
    from export.browser.site import write_site

    files = write_site(bundle, dest, variant, modules)
    size = sum((dest / name).stat().st_size for name in files)
    click.echo(f"{dest}: {len(files)} files, {size / 2**20:.1f} MiB; python -m http.server -d {dest} shows it here")
