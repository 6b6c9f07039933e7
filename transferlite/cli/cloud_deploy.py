"""``transferlite cloud deploy``: create or update the AWS stack."""

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import click

from transferlite.cli.options import refuse_options, stack_option


def _parameters(_context: click.Context, _option: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    pairs = [value.partition("=") for value in values]
    wrong = [value for value, (name, equals, _) in zip(values, pairs, strict=True) if not (name and equals)]
    if wrong:
        raise click.BadParameter(f"{wrong[0]!r} is not NAME=VALUE")
    return {name: value for name, _, value in pairs}


@click.command()
@stack_option
@click.option("--train-image", metavar="URI", help="Training image in ECR; required for a new stack.")
@click.option(
    "--inference-image",
    metavar="URI",
    help="Function image in ECR; this or --function-zip is required for a new stack.",
)
@click.option("--function-zip", metavar="LOCATION", help="Function zip: a local file, which is uploaded, or s3://…")
@click.option("--code-bucket", metavar="BUCKET", help="Bucket to upload the zip to.  [default: the last one used]")
@click.option(
    "--data-bucket",
    metavar="BUCKET",
    help="Bucket of photos and labels, existing or new.  [default: a new one, or the deployed stack's]",
)
@click.option("--data-prefix", metavar="PREFIX/", help="Folder in that bucket.  [default: the whole bucket]")
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
    data_bucket: str | None,
    data_prefix: str | None,
    parameters: dict[str, str],
    template: Path | None,
) -> None:
    """Create or update the stack with `sam deploy`. Parameters that are not given keep their values.

    A tag of an image is replaced by its digest. An existing data bucket keeps its content and its notifications; its
    events are sent to EventBridge as well.
    """
    from transferlite.cloud.buckets import bucket_parameters
    from transferlite.cloud.deploy import deploy_stack, deployed_parameters, find_sam
    from transferlite.cloud.function_code import as_image, as_zip
    from transferlite.cloud.image_digests import pinned
    from transferlite.cloud.image_labels import check_gpu_image
    from transferlite.cloud.schedule import kept_schedule

    if inference_image and function_zip:
        raise click.UsageError("Give only one of --inference-image and --function-zip.")
    if not function_zip or function_zip.startswith("s3://"):
        refuse_options("needs a local --function-zip", "code_bucket")
    find_sam()
    given = {
        "TrainImage": train_image and pinned(train_image),
        "DataBucketName": data_bucket,
        "DataPrefix": data_prefix,
    }
    parameters |= {name: value for name, value in given.items() if value is not None}
    if inference_image:
        parameters |= as_image(pinned(inference_image))
    if function_zip:
        parameters |= as_zip(stack, function_zip, code_bucket)
    if parameters.get("PlanImage"):
        parameters["PlanImage"] = pinned(parameters["PlanImage"])
    check_gpu_image({**deployed_parameters(stack), **parameters})
    parameters = bucket_parameters(stack, parameters)
    with _template(template) as chosen, kept_schedule(stack, parameters):
        deploy_stack(stack, chosen, parameters)
    _after(stack)


def _template(given: Path | None) -> AbstractContextManager[Path]:
    """Return the template to deploy; note a template in the current folder that is not used."""
    from transferlite.cloud.template_files import TEMPLATE, packaged_template, shipped

    if given:
        return nullcontext(given)
    here = Path(TEMPLATE)
    if here.is_file() and here.read_bytes() != shipped().read_bytes():
        click.echo(f"note: {TEMPLATE} in this folder is not used; --template {TEMPLATE} deploys it", err=True)
    return packaged_template()


def _after(stack: str) -> None:
    """Let an existing bucket send its events, and print the outputs."""
    from transferlite.cloud.buckets import send_events
    from transferlite.cloud.stack import find_stack

    deployed = find_stack(stack)
    bucket = deployed.outputs.get("DataBucketName", "")
    if deployed.parameters.get("DataBucketState") == "existing" and send_events(bucket):
        click.echo(f"bucket {bucket} sends its events to EventBridge now; its other notifications stay")
    for name, value in deployed.outputs.items():
        click.echo(f"{name:<20} {value}")
    if deployed.parameters.get("FunctionUrl") == "public":
        click.echo("warning: anyone who finds the function's URL can predict, at your cost", err=True)
