"""``transferlite cloud``: deploy and operate the AWS stack of ``template.yaml``, with the SAM CLI and boto3."""

import json
import re
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from transferlite.cli.cloud_deploy import build, deploy, doctor, test
from transferlite.cli.options import duration, json_option, refuse_options, stack_option
from transferlite.errors import InputError, TransferLiteError

if TYPE_CHECKING:
    from transferlite.cloud.run import Progress

NOT_PROMOTED = 3
"""Exit status if the version was published but not promoted, as for ``transferlite train``."""


@click.group()
def cloud() -> None:
    """Deploy the stack to AWS; run, watch and schedule trainings there.

    Region, credentials and endpoint come from the standard AWS_* environment variables and configuration.
    """


for command in (doctor, build, deploy, test):
    cloud.add_command(command)


@cloud.command()
@stack_option
@click.option("--output", metavar="NAME", help="Print only this output of the stack, such as DataBucketName.")
@json_option
def status(stack: str, output: str | None, as_json: bool) -> None:
    """Show outputs, the model in service, queue lengths, the last trainings, alarms, and what needs attention."""
    from transferlite.cloud.stack import find_stack
    from transferlite.cloud.status import read_status, status_lines

    deployed = find_stack(stack)
    if output:
        click.echo(deployed.output(output))
        return
    values = read_status(deployed)
    click.echo(json.dumps(values) if as_json else "\n".join(status_lines(values)))


@cloud.command()
@stack_option
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
@stack_option
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
@stack_option
@click.argument("what", type=click.Choice(["on", "off", "show"]))
@click.option(
    "--when", metavar="EXPRESSION", help="Expression: cron(0 3 ? * SUN *), rate(1 day).  [default: unchanged]"
)
@click.option("--timezone", metavar="ZONE", help="Time zone, such as Europe/Berlin.  [default: unchanged]")
def schedule(stack: str, what: str, when: str | None, timezone: str | None) -> None:
    """Turn the training schedule on or off, or show it."""
    from transferlite.cloud.schedule import change_schedule, read_schedule
    from transferlite.cloud.stack import find_stack

    deployed = find_stack(stack)
    if what != "show":
        click.echo(str(change_schedule(deployed, "ENABLED" if what == "on" else "DISABLED", when, timezone)))
    elif when or timezone:
        raise click.UsageError("--when and --timezone need `schedule on` or `schedule off`.")
    else:
        click.echo(str(read_schedule(deployed)))


@cloud.command()
@stack_option
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@click.option("--delete-buckets", is_flag=True, help="Delete the buckets that the stack created, with their content.")
def destroy(stack: str, yes: bool, delete_buckets: bool) -> None:
    """Delete the stack. Its buckets (photos, models, predictions) and its signing key are kept.

    A bucket that existed before the stack is never deleted; it goes on sending its events to EventBridge.
    """
    from transferlite.cloud.buckets import delete_code_bucket
    from transferlite.cloud.destroy import created_buckets, delete_bucket, delete_stack, retained
    from transferlite.cloud.stack import find_stack

    prefix, kept = find_stack(stack).parameters.get("Prefix"), retained(stack)
    buckets = created_buckets(stack) if delete_buckets else []
    if buckets:
        click.echo("\n".join(["deleted with all their content:", *(f"  bucket {name}" for name in buckets)]))
        kept = [name for name in kept if name.removeprefix("bucket ") not in buckets]
    click.echo("\n".join(["kept, to delete by hand:", *(f"  {name}" for name in kept or ["nothing"])]))
    if not yes:
        click.confirm(f"delete the stack {stack}?", abort=True)
    delete_stack(stack)
    if prefix:
        delete_code_bucket(prefix)
    for name in buckets:
        delete_bucket(name)
    click.echo(f"deleted {stack}")
