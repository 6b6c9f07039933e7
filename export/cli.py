"""The commands of ``transferlite export``. They work on an exported model and need no TensorFlow."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from transferlite.cli.options import variant_option
from transferlite.errors import BundleError, InputError, MissingExtraError, NotClassifierError

if TYPE_CHECKING:
    from export.tflite.op_versions import Operation


@click.group()
def export() -> None:
    """Check which runtimes load a .tflite file; make a web page of a model."""


@export.command()
@click.argument("model", metavar="MODEL.tflite", type=click.Path(path_type=Path))
@click.option("--profile", "names", multiple=True, metavar="NAME", help="Runtime that must load the file; repeatable.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def check(model: Path, names: tuple[str, ...], as_json: bool) -> None:
    """List the operations of a file with their versions, and the runtimes that load it.

    The exit status is 2 if a runtime given by --profile does not load it. A runtime that loads a file may still compute
    it wrongly; the gate and the bundle's test pictures detect that.
    """
    from export.tflite.op_versions import incompatibilities, oldest_runtime, required_operations, runtime_profiles

    unknown = [name for name in names if name not in runtime_profiles()]
    if unknown:
        known = ", ".join(runtime_profiles())
        raise InputError(f"there is no profile {unknown[0]}", where="--profile", hint=f"known: {known}")
    operations = required_operations(model)
    _check_classifier(model)
    problems = {name: incompatibilities(operations, name) for name in names or runtime_profiles()}
    oldest = oldest_runtime(operations)
    if as_json:
        versions = [{"name": operation.name, "version": operation.version} for operation in operations]
        click.echo(json.dumps({"operations": versions, "oldest": oldest, "refused": problems}))
    else:
        _print_compatibility(operations, oldest, problems)
    failed = [f"{name} ({'; '.join(problems[name])})" for name in names if problems[name]]
    if failed:
        raise InputError(f"cannot be loaded by {', '.join(failed)}", where=str(model), hint="publish another variant")


def _check_classifier(model: Path) -> None:
    """Raise NotClassifierError if the file is damaged or is not an image classifier.

    The shapes of a file that the runtime here does not load are unknown, so that such a file passes.
    """
    from export.native_logs import quiet_native_logs
    from transferlite.inference.classifier_file import check_classifier
    from transferlite.inference.interpreter import load_interpreter

    with quiet_native_logs():
        try:
            interpreter = load_interpreter(model, threads=1)
        except NotClassifierError:
            raise
        except (BundleError, MissingExtraError):
            return
    check_classifier(interpreter, str(model))


def _print_compatibility(
    operations: Sequence["Operation"], oldest: str | None, problems: Mapping[str, Sequence[str]]
) -> None:
    for operation in operations:
        click.echo(f"{operation.name:<28} version {operation.version}")
    click.echo(f"oldest TensorFlow Lite: {oldest or 'unknown'}")
    for name, reasons in problems.items():
        click.echo(f"{name:<20} {'does not load it: ' + '; '.join(reasons) if reasons else 'loads it'}")


@export.command()
@click.option("--bundle", required=True, type=click.Path(path_type=Path), help="Folder of the model.")
@click.option("--dest", required=True, type=click.Path(path_type=Path, file_okay=False), help="Folder to write.")
@variant_option
@click.option(
    "--litert",
    "modules",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder node_modules with @litertjs/core.  [default: download it with npm]",
)
def web(bundle: Path, dest: Path, variant: str | None, modules: Path | None) -> None:
    """Make a static page that runs a model in the browser.

    Serve the folder from any web server, such as S3 or CloudFront: photos do not leave the browser.
    """
    from export.browser.site import write_site

    files = write_site(bundle, dest, variant, modules)
    size = sum((dest / name).stat().st_size for name in files)
    click.echo(f"{dest}: {len(files)} files, {size / 2**20:.1f} MiB; to view it: python -m http.server -d {dest}")
