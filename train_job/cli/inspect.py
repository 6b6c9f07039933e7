"""``transferlite inspect``."""

import json

import click

from train_job.cli.options import backbone_option, image_size_option, quiet_tensorflow


@click.command()
@backbone_option
@image_size_option
@click.option("--config", "layer", metavar="LAYER", help="Print the configuration of a layer (name or index) as JSON.")
@click.option("--json", "as_json", is_flag=True, help="Print the layers as JSON.")
def inspect(backbone: str, image_size: int | None, layer: str | None, as_json: bool) -> None:
    """Show the layers of a backbone: index, name, type, output shape, trainable."""
    quiet_tensorflow()
    from train_job.backbones.list_layers import layer_config, list_layers

    if layer is not None:
        click.echo(json.dumps(layer_config(backbone, image_size, layer), indent=2))
        return
    layers = list_layers(backbone, image_size)
    if as_json:
        click.echo(json.dumps(layers))
        return
    for row in layers:
        shape = "x".join("?" if side is None else str(side) for side in row["shape"])
        click.echo(f"{row['index']:>4}  {row['name']:<36} {row['type']:<24} {shape:<20} trainable={row['trainable']}")
    click.echo(f"{len(layers)} layers")
