"""``transferlite publish``."""

import json
from typing import Any

import click

from train_job.backbones.catalog import BACKBONES
from train_job.cli.options import option_with_default, quiet_tensorflow, registry_option, variants_option
from transferlite.cli.options import signing_key_option


@click.command()
@click.option(
    "--pretrained", required=True, type=click.Choice(list(BACKBONES)), help="Network to publish as it was pretrained."
)
@registry_option
@click.option(
    "--weights",
    default="imagenet",
    show_default=True,
    metavar="LOCATION",
    help="imagenet, or the location of a Keras weights file with the network's ImageNet classifier.",
)
@click.option(
    "--images",
    metavar="LOCATION",
    help="Photos like those to predict, without labels: for int8's ranges and the gate.  [default: generated pictures]",
)
@variants_option
@option_with_default("--channel", metavar="NAME", help="Channel to promote the version to.")
@click.option(
    "--promote",
    type=click.Choice(["auto", "always", "never"]),
    default="auto",
    show_default=True,
    help="When to promote; auto promotes if the channel has no version yet.",
)
@signing_key_option
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on the last line.")
def publish(as_json: bool, **options: Any) -> None:
    """Publish a network with its own ImageNet classifier: predictions of 1,000 labels without any training.

    The version has the same variants, gate and self-test as a trained one, and is served in the same way. Replace it
    later by `transferlite train` on your own labels.
    """
    quiet_tensorflow()
    from export.native_logs import quiet_native_logs

    with quiet_native_logs():
        from train_job.pretrained.publish import PublishOptions, publish_pretrained
    from train_job.progress import Reporter

    result = publish_pretrained(PublishOptions(**options), Reporter())
    if as_json:
        click.echo(json.dumps(result.to_dict()))
