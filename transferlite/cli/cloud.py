"""``transferlite cloud``: deploy and operate the AWS stack of ``template.yaml``, with the SAM CLI and boto3."""

import json
import re
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click

from transferlite import environment
from transferlite.cli.options import duration, json_option, refuse_options
from transferlite.errors import InputError, TransferLiteError

if TYPE_CHECKING:
    from transferlite.cloud.run import Progress

NOT_PROMOTED = 3
"""Exit status if the version was published but not promoted, as for ``transferlite train``."""

_stack_option = click.option(
    "--stack",
    default="transferlite",
    show_default=True,
    envvar=environment.STACK,
    show_envvar=True,
    metavar="NAME",
    help="CloudFormation stack.",
)


@click.group()
def cloud() -> None:
    """Deploy the stack to AWS; run, watch and schedule trainings there.

    Region, credentials and endpoint come from the standard AWS_* environment variables and configuration.
    """


def _parameters(_context: click.Context, _option: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    pairs = [value.partition("=") for value in values]
    wrong = [value for value, (name, equals, _) in zip(values, pairs, strict=True) if not (name and equals)]
    if wrong:
        raise click.BadParameter(f"{wrong[0]!r} is not NAME=VALUE")
    return {name: value for name, _, value in pairs}


@cloud.command()
@_stack_option
@click.option("--train-image", metavar="URI", help="Training image in ECR; required for a new stack.")
@click.option(
    "--inference-image",
    metavar="URI",
    help="Function image in ECR; this or --function-zip is required for a new stack.",
)
@click.option("--function-zip", metavar="LOCATION", help="Function zip: a local file, which is uploaded, or s3://…")
@click.option("--code-bucket", metavar="BUCKET", help="Bucket to upload the zip to.  [default: the last one used]")
@click.option(
    "--set",
    "parameters",
    multiple=True,
    callback=_parameters,
    metavar="NAME=VALUE",
    help="Template parameter; repeatable.",
)
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
    """Create or update the stack with `sam deploy`. Parameters that are not given keep their values."""
    from transferlite.cloud.deploy import as_image, as_zip, deploy_stack
    from transferlite.cloud.stack import find_stack
    from transferlite.cloud.template_files import TEMPLATE, packaged_template

    if inference_image and function_zip:
        raise click.UsageError("Give only one of --inference-image and --function-zip.")
    if not function_zip or function_zip.startswith("s3://"):
        refuse_options("needs a local --function-zip", "code_bucket")
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
@json_option
def status(stack: str, as_json: bool) -> None:
    """Show outputs, the model in service, queue lengths, the last trainings and alarms."""
    from transferlite.cloud.stack import find_stack
    from transferlite.cloud.status import read_status, status_lines

    values = read_status(find_stack(stack))
    click.echo(json.dumps(values) if as_json else "\n".join(status_lines(values)))


@cloud.command()
@_stack_option
@click.option("--compute", type=click.Choice(["cpu", "gpu"]), help="Machine type.  [default: the stack's]")
@click.option("--new-labels", default=0, type=click.IntRange(0), help="Minimum number of new labels to train.")
@click.option("--detach", is_flag=True, help="Start the training and exit.")
@click.option("--open", "in_browser", is_flag=True, help="Open the report in the browser at the end.")
def run(stack: str, compute: str | None, new_labels: int, detach: bool, in_browser: bool) -> None:
    """Start a training and follow it to its end. Ctrl-C stops following; the training continues.

    Costs are estimates: on-demand list prices of the requested resources, per second. The exit status is 0, 1 if the
    training failed, or 3 if the version was published but not promoted.
    """
    from transferlite.cloud.run import follow, start
    from transferlite.cloud.stack import find_stack

    if detach:
        refuse_options("does not apply to --detach", "in_browser")
    deployed = find_stack(stack)
    execution = start(deployed, {"new_labels": new_labels} | ({"compute": compute} if compute else {}))
    click.echo(f"started {execution}")
    if detach:
        return
    result = follow(execution, _progress_printer())
    if result.status != "SUCCEEDED":
        raise TransferLiteError(
            f"the training ended as {result.status}", where=execution, hint=f"transferlite cloud logs --stack {stack}"
        )
    if result.state == "NothingToDo":
        click.echo(f"not training: fewer new labels than --new-labels {new_labels}")
        return
    _print_report(deployed.registry, in_browser)
    if result.refused:
        click.echo("published but not promoted: worse than the version in service")
        raise click.exceptions.Exit(NOT_PROMOTED)


def _progress_printer() -> Callable[["Progress"], None]:
    """Print progress: in a terminal one line that is updated, otherwise a line per change of state."""
    previous = ""

    def print_progress(progress: "Progress") -> None:
        nonlocal previous
        text = str(progress)
        if sys.stdout.isatty():
            click.echo(f"\r\x1b[K{text}", nl=progress.ended)
        elif _without_figures(text) != previous:
            click.echo(text)
        previous = _without_figures(text)

    return print_progress


def _without_figures(text: str) -> str:
    """Remove durations and prices, which change with every poll."""
    return re.sub(r"\d+m\d+s|\d+s|\$[\d.]+", "", text)


def _print_report(registry: str, in_browser: bool) -> None:
    """Fetch the report of the newest version, promoted or not, and print its path."""
    from transferlite.cli.report import fetch_report, open_in_browser
    from transferlite.registry.open_registry import Registry

    ids = sorted(manifest.model_id for manifest in Registry.open(registry).versions())
    if not ids:
        return
    path = fetch_report(registry, "production", ids[-1], None)
    click.echo(f"report of {ids[-1]}: {path}")
    if in_browser:
        open_in_browser(path)


@cloud.command()
@_stack_option
@click.argument("what", default="train", type=click.Choice(["train", "function"]))
@click.option(
    "--since", default="1h", show_default=True, callback=duration(), metavar="TIME", help="Age of the oldest line."
)
@click.option("--follow", is_flag=True, help="Keep printing new lines.")
def logs(stack: str, what: str, since: int, follow: bool) -> None:
    """Print the log of the training jobs (train) or of the Lambda function (function). Times are in UTC."""
    from transferlite.cloud.logs import follow_logs, read_logs
    from transferlite.cloud.stack import find_stack

    outputs = find_stack(stack).outputs
    group = outputs.get("TrainLogGroup" if what == "train" else "InferenceLogGroup")
    if group is None:
        raise InputError("has no output with its log group", where=f"stack {stack}", hint="deploy the newest template")
    for line in (follow_logs if follow else read_logs)(group, time.time() - since):
        click.echo(str(line))


@cloud.command()
@_stack_option
@click.argument("what", type=click.Choice(["on", "off", "show"]))
@click.option(
    "--when", metavar="EXPRESSION", help="Expression: cron(0 3 ? * SUN *), rate(1 day).  [default: unchanged]"
)
@click.option("--timezone", metavar="ZONE", help="Time zone, such as Europe/Berlin.  [default: unchanged]")
def schedule(stack: str, what: str, when: str | None, timezone: str | None) -> None:
    """Turn the training schedule on or off, or show it."""
    from transferlite.cloud.deploy import change_parameters
    from transferlite.cloud.stack import find_stack
    from transferlite.cloud.status import schedule_line, schedule_of

    parameters = {"Schedule": when, "ScheduleTimezone": timezone}
    if what != "show":
        parameters["ScheduleState"] = "ENABLED" if what == "on" else "DISABLED"
        current = find_stack(stack).parameters
        changes = {name: value for name, value in parameters.items() if value and current.get(name) != value}
        if changes:
            change_parameters(stack, changes)
    elif when or timezone:
        raise click.UsageError("--when and --timezone need `schedule on` or `schedule off`.")
    click.echo(schedule_line(schedule_of(find_stack(stack))))


@cloud.command()
@_stack_option
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
def destroy(stack: str, yes: bool) -> None:
    """Delete the stack. Its buckets (photos, models, predictions) and its signing key are kept."""
    from transferlite.cloud.deploy import delete_stack, retained
    from transferlite.cloud.stack import find_stack

    find_stack(stack)
    kept = retained(stack)
    click.echo("\n".join(["kept, to delete by hand:", *(f"  {name}" for name in kept)]))
    if not yes:
        click.confirm(f"delete the stack {stack}?", abort=True)
    delete_stack(stack)
    click.echo(f"deleted {stack}")
