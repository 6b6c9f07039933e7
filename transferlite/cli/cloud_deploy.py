"""``transferlite cloud deploy``: create or update the AWS stack."""

import json
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import click

from transferlite.cli.options import architecture_option, duration, refuse_options, stack_option


def _parameters(_context: click.Context, _option: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    pairs = [value.partition("=") for value in values]
    wrong = [value for value, (name, equals, _) in zip(values, pairs, strict=True) if not (name and equals)]
    if wrong:
        raise click.BadParameter(f"{wrong[0]!r} is not NAME=VALUE")
    return {name: value for name, _, value in pairs}


@click.command()
@stack_option
@click.option(
    "--train-image", metavar="URI", help="Training image in ECR.  [default for a new stack: the one of cloud build]"
)
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
    from transferlite.cloud.image_digests import default_image, pinned
    from transferlite.cloud.image_labels import check_gpu_image
    from transferlite.cloud.schedule import kept_schedule

    if inference_image and function_zip:
        raise click.UsageError("Give only one of --inference-image and --function-zip.")
    if not function_zip or function_zip.startswith("s3://"):
        refuse_options("needs a local --function-zip", "code_bucket")
    find_sam()
    if not (train_image or deployed_parameters(stack)):
        train_image = default_image("train")
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


@click.command()
@click.argument("images", nargs=-1, type=click.Choice(["train", "inference"]), metavar="[train] [inference]")
@click.option("--repository", default="transferlite", show_default=True, metavar="NAME", help="Repository in ECR.")
@click.option("--push", is_flag=True, help="Create the repository if it is missing, and push to it.")
@click.option(
    "--extra",
    default="train",
    show_default=True,
    type=click.Choice(["train", "train-gpu"]),
    help="Extra of the training image; train-gpu has CUDA.",
)
@architecture_option
@click.option("--signed", is_flag=True, help="Add what the function needs to check signatures.")
def build(images: tuple[str, ...], repository: str, push: bool, extra: str, architecture: str, signed: bool) -> None:
    """Build the images of training and function with Docker or Podman; both without arguments.

    They are built from the installed TransferLite, for AWS's platform whatever this machine is, and without provenance,
    which Lambda refuses. Prints the names to pass to `transferlite cloud deploy`.
    """
    from transferlite.packaging.image_build import (
        build_image,
        function_image,
        push_image,
        repository_uri,
        training_image,
    )

    where = repository_uri(repository) if push else repository
    options = {"train": "--train-image", "inference": "--inference-image"}
    known = {
        "train": training_image(extra),
        "inference": function_image(architecture, ["signed"] if signed else []),
    }
    for kind in images or tuple(known):
        name = build_image(known[kind], where)
        click.echo(f"{options[kind]} {push_image(name) if push else name}")


@click.command()
@stack_option
@click.argument("photo", required=False, type=click.Path(path_type=Path))
@click.option(
    "--timeout", default="3m", show_default=True, callback=duration(1), metavar="TIME", help="Longest time to wait."
)
def test(stack: str, photo: Path | None, timeout: int) -> None:
    """Upload a test photo (PHOTO, or a generated picture), print its record, and delete both.

    The stack needs a model in service.
    """
    from transferlite.cloud.sample_photo import label_photo
    from transferlite.cloud.stack import find_stack

    click.echo(json.dumps(label_photo(find_stack(stack), photo, timeout)))


@click.command()
@click.option("--data-bucket", metavar="BUCKET", help="Existing bucket to check: region, owner, key, Object Lock.")
def doctor(data_bucket: str | None) -> None:
    """Check tools, credentials, rights, quotas and images before a deployment. Creates nothing.

    The exit status is 1 if a deployment would fail.
    """
    from transferlite.cloud.doctor import FAILURE, examine

    failed = False
    for check in examine(data_bucket):
        click.echo(str(check))
        failed = failed or check.state == FAILURE
    if failed:
        raise click.exceptions.Exit(1)
