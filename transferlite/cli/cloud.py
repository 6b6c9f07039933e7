"""``transferlite cloud``: the stack of ``template.yaml``, over the SAM CLI and boto3."""

import json
import re
import sys
import time
import webbrowser
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from transferlite import environment
from transferlite.errors import InputError, TransferLiteError

if TYPE_CHECKING:
    from transferlite.cloud.run import Progress

REFUSED = 3
"""The exit status of a run whose version was published and not promoted, as of ``transferlite train``."""

_stack_option = click.option(
    "--stack", default="transferlite", show_default=True, envvar=environment.STACK, show_envvar=True, metavar="NAME"
)


@click.group()
def cloud() -> None:
    """Deploy the loop to AWS, and run, watch and schedule it there.

    Region, credentials and endpoint come from the standard AWS_* environment and configuration.
    """


def _parameters(_context: click.Context, _option: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    pairs = [value.partition("=") for value in values]
    wrong = [value for value, (name, equals, _) in zip(values, pairs, strict=True) if not (name and equals)]
    if wrong:
        raise click.BadParameter(f"{wrong[0]!r} is not NAME=VALUE")
    return {name: value for name, _, value in pairs}


@cloud.command()
@_stack_option
@click.option("--train-image", metavar="URI", help="The training image in ECR; needed the first time.")
@click.option(
    "--inference-image", metavar="URI", help="The function's image in ECR; this or a zip is needed the first time."
)
@click.option("--function-zip", metavar="LOCATION", help="The function's zip: a file, which is uploaded, or s3://…")
@click.option("--code-bucket", metavar="BUCKET", help="Where the file is uploaded to.  [default: as the last time]")
@click.option("--set", "parameters", multiple=True, callback=_parameters, metavar="NAME=VALUE", help="A parameter.")
@click.option(
    "--template",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Template to deploy.  [default: the template of this package, not one in this folder]",
)
def deploy(
    stack: str,
    train_image: str | None,
    inference_image: str | None,
    function_zip: str | None,
    code_bucket: str | None,
    parameters: dict[str, str],
    template: Path | None,
) -> None:
    """Create the stack or change it, by `sam deploy`; what is not named stays as it is."""
    from transferlite.cloud.deploy import as_image, as_zip, deploy_stack
    from transferlite.cloud.stack import find_stack
    from transferlite.cloud.template_files import TEMPLATE, packaged_template

    if inference_image and function_zip:
        raise click.UsageError("the function is an image or a zip: name one of --inference-image and --function-zip")
    if train_image:
        parameters["TrainImage"] = train_image
    if inference_image:
        parameters |= as_image(inference_image)
    if function_zip:
        parameters |= as_zip(stack, function_zip, code_bucket)
    with nullcontext(template) if template else packaged_template() as chosen:
        if Path(TEMPLATE).is_file() and Path(TEMPLATE).read_bytes() != chosen.read_bytes() and not template:
            click.echo(f"note: {TEMPLATE} in this folder is not used; --template {TEMPLATE} deploys it", err=True)
        deploy_stack(stack, chosen, parameters)
    for name, value in find_stack(stack).outputs.items():
        click.echo(f"{name:<20} {value}")


@cloud.command()
@_stack_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def status(stack: str, as_json: bool) -> None:
    """Show the outputs, the model in service, what waits, the last trainings and the alarms."""
    from transferlite.cloud.stack import find_stack
    from transferlite.cloud.status import status_lines, status_of

    told = status_of(find_stack(stack))
    click.echo(json.dumps(told) if as_json else "\n".join(status_lines(told)))


@cloud.command()
@_stack_option
@click.option("--compute", type=click.Choice(["cpu", "gpu"]), help="[default: the stack's]")
@click.option("--new-labels", default=0, type=click.IntRange(0), help="Train only if so many labels are new.")
@click.option("--detach", is_flag=True, help="Start it and return.")
@click.option("--open", "in_browser", is_flag=True, help="Open the report in the browser at the end.")
def run(stack: str, compute: str | None, new_labels: int, detach: bool, in_browser: bool) -> None:
    """Start a training and follow it to its end. Ctrl-C stops following; the training goes on.

    Costs are estimates: list prices on demand of what the jobs ask for, by the second. Exit status 0, 1 when it failed,
    3 when the version is published and not promoted.
    """
    from transferlite.cloud.run import follow, start
    from transferlite.cloud.stack import find_stack

    found = find_stack(stack)
    execution = start(found, {"new_labels": new_labels} | ({"compute": compute} if compute else {}))
    click.echo(f"started {execution}")
    if detach:
        return
    ended = follow(execution, _teller())
    if ended.status != "SUCCEEDED":
        raise TransferLiteError(
            f"the training ended as {ended.status}", where=execution, hint=f"transferlite cloud logs --stack {stack}"
        )
    if ended.state == "Nothing to do":
        click.echo("nothing to do: too few labels are new")
        return
    _show_report(found.registry, in_browser)
    if ended.refused:
        click.echo("published, and not promoted: it is worse than the version in service")
        raise click.exceptions.Exit(REFUSED)


def _teller() -> Any:
    """What tells of the progress: one line that changes in a terminal, a line for each change in a log."""
    said = ""

    def tell(now: "Progress") -> None:
        nonlocal said
        if sys.stdout.isatty():
            click.echo(f"\r\x1b[K{now}", nl=now.ended)
        elif _without_figures(str(now)) != said:
            click.echo(str(now))
        said = _without_figures(str(now))

    return tell


def _without_figures(text: str) -> str:
    return re.sub(r"\d+m\d+s|\d+s|\$[\d.]+", "", text)


def _show_report(registry: str, in_browser: bool) -> None:
    """The report of the newest version, which may be one that was refused."""
    from transferlite.cli.report import fetch_report
    from transferlite.registry.open_registry import Registry

    ids = sorted(one.model_id for one in Registry.open(registry).versions())
    if not ids:
        return
    path = fetch_report(registry, "production", ids[-1], None)
    click.echo(f"report of {ids[-1]}: {path}")
    if in_browser and not webbrowser.open(path.resolve().as_uri()):
        click.echo("warning: no browser could be opened", err=True)


_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def _seconds(_context: click.Context, _option: click.Parameter, value: str) -> float:
    if not re.fullmatch(r"\d+[smhd]", value):
        raise click.BadParameter(f"{value!r} is not a time such as 30m, 2h or 1d")
    return float(value[:-1]) * _UNITS[value[-1]]


@cloud.command()
@_stack_option
@click.argument("what", default="train", type=click.Choice(["train", "function"]))
@click.option("--since", default="1h", show_default=True, callback=_seconds, metavar="TIME", help="How far back.")
@click.option("--follow", is_flag=True, help="Go on with what is written from now on.")
def logs(stack: str, what: str, since: float, follow: bool) -> None:
    """Print the log of the jobs (train) or of the function. Times are in UTC."""
    from transferlite.cloud.logs import follow_logs, read_logs, shown
    from transferlite.cloud.stack import find_stack

    outputs = find_stack(stack).outputs
    group = outputs.get("TrainLogGroup" if what == "train" else "InferenceLogGroup")
    if group is None:
        raise InputError("names no log groups", where=f"stack {stack}", hint="deploy the newest template")
    for line in (follow_logs if follow else read_logs)(group, time.time() - since):
        click.echo(shown(line))


@cloud.command()
@_stack_option
@click.argument("what", type=click.Choice(["on", "off", "show"]))
@click.option("--when", metavar="EXPRESSION", help="cron(0 3 ? * SUN *) or rate(1 day).  [default: as it is]")
@click.option("--timezone", metavar="ZONE", help="Such as Europe/Berlin.  [default: as it is]")
def schedule(stack: str, what: str, when: str | None, timezone: str | None) -> None:
    """Turn the training schedule on or off, or show it."""
    from transferlite.cloud.deploy import change_parameters
    from transferlite.cloud.stack import find_stack
    from transferlite.cloud.status import schedule_of

    wanted = {"Schedule": when, "ScheduleTimezone": timezone}
    if what != "show":
        wanted["ScheduleState"] = "ENABLED" if what == "on" else "DISABLED"
        told = find_stack(stack).parameters
        changes = {name: value for name, value in wanted.items() if value and told.get(name) != value}
        if changes:
            change_parameters(stack, changes)
    elif when or timezone:
        raise click.UsageError("show changes nothing: say on or off")
    now = schedule_of(find_stack(stack))
    click.echo(f"{'on' if now['state'] == 'ENABLED' else 'off'}, {now['when']} {now['timezone']}")


@cloud.command()
@_stack_option
@click.option("--yes", is_flag=True, help="Do not ask.")
def destroy(stack: str, yes: bool) -> None:
    """Delete the stack. Its buckets stay, with photos, models and predictions, and so does a signing key."""
    from transferlite.cloud.deploy import delete_stack, retained
    from transferlite.cloud.stack import find_stack

    find_stack(stack)
    kept = retained(stack)
    click.echo("\n".join(["these stay, and are yours to delete:", *(f"  {name}" for name in kept)]))
    if not yes:
        click.confirm(f"delete the stack {stack}?", abort=True)
    delete_stack(stack)
    click.echo(f"deleted {stack}")
