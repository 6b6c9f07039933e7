"""``transferlite models``: published versions and channels, and copies of them for devices; TensorFlow-free."""

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from transferlite import environment
from transferlite.errors import InputError

if TYPE_CHECKING:
    from transferlite.registry.open_registry import Registry

registry_option = click.option("--registry", required=True, metavar="LOCATION", help="Where the models are.")
channel_option = click.option("--channel", default="production", show_default=True)
public_key_option = click.option(
    "--public-key",
    envvar=environment.PUBLIC_KEY,
    metavar="FILE",
    help="Take only what one of this PEM file's keys signed, or a key of AWS KMS.  [env: TRANSFERLITE_PUBLIC_KEY]",
)
signing_key_option = click.option(
    "--signing-key",
    envvar=environment.SIGNING_KEY,
    metavar="KEY",
    help="A PEM file, awskms:///alias/NAME or an ARN.  [env: TRANSFERLITE_SIGNING_KEY]",
)
_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group()
def models() -> None:
    """List, show, sign, promote, roll back, pull and share published models."""


@models.command("list")
@registry_option
@_json_option
def list_models(registry: str, as_json: bool) -> None:
    """Every version, oldest first, and the channels that name it."""
    opened = replace(_open(registry), keys=None)  # what is there is named; it is checked where it is used
    pointers = opened.channels()
    rows = []
    for manifest in opened.versions(damaged=lambda error: click.echo(f"warning: {error}", err=True)):
        named = [name for name, pointer in pointers.items() if pointer.model_id == manifest.model_id]
        rows.append({
            "model_id": manifest.model_id,
            "created_at": manifest.created_at,
            "backbone": manifest.backbone["name"],
            "labels": list(manifest.labels),
            "accuracy": manifest.metrics["test"]["accuracy"],
            "channels": named,
        })  # fmt: skip
    if as_json:
        click.echo(json.dumps(rows, ensure_ascii=False))
        return
    for row in rows:
        labels = ", ".join(row["labels"][:4]) + (f", … {len(row['labels'])} in all" if len(row["labels"]) > 4 else "")
        channels = f"  <- {', '.join(row['channels'])}" if row["channels"] else ""
        click.echo(f"{row['model_id']}  accuracy {row['accuracy']:.3f}  {row['backbone']}  {labels}{channels}")
    if not rows:
        click.echo(f"{registry} holds no models yet.")


@models.command()
@click.argument("model_id", required=False)
@registry_option
@channel_option
@_json_option
def show(model_id: str | None, registry: str, channel: str, as_json: bool) -> None:
    """One version (or the one that --channel names): its labels, its variants and how they were proven."""
    from transferlite.trust.signature import Signature

    opened = _open(registry)
    manifest = opened.manifest(opened.resolve(channel, model_id))
    signature = opened.signature(manifest.model_id)
    if as_json:
        click.echo(json.dumps(manifest.to_dict(), ensure_ascii=False))
        return
    test = manifest.metrics["test"]
    click.echo(f"{manifest.model_id}, made {manifest.created_at} from {manifest.backbone['name']}")
    click.echo(f"labels: {', '.join(manifest.labels)}")
    click.echo(f"input: uint8 RGB {manifest.input.height}x{manifest.input.width}")
    click.echo(f"test: accuracy {test['accuracy']:.3f}, log loss {test['log_loss']:.3f} on {test['photos']} photos")
    signed = f"signed with key {Signature.from_json(signature).key}" if signature else "not signed"
    click.echo(signed + (", which is checked" if signature and opened.keys else ""))
    if manifest.threshold:
        click.echo(f"below {manifest.threshold:.3f} the answer is unknown")
    for name, value in manifest.variants.items():
        mixed = f"; {len(value.in_float)} operations in float32" if value.in_float else ""
        click.echo(
            f"{name:<12} {value.size / 2**20:6.1f} MiB  accuracy {value.accuracy:.3f}  agreement {value.agreement:.3f}"
            f"  largest difference {value.max_difference:.1e}  ({value.runtime}, {value.photos} photos{mixed})"
        )
    for name, reason in manifest.left_out.items():
        click.echo(f"{name:<12} left out: {reason}")


@models.command()
@click.argument("model_id")
@registry_option
@channel_option
@signing_key_option
@public_key_option
def promote(model_id: str, registry: str, channel: str, signing_key: str | None, public_key: str | None) -> None:
    """Let a channel name this version from now on."""
    opened = _open(registry, public_key, signing_key)
    if opened.loses_history(channel):
        click.echo(f"warning: what {channel} named was not signed with this key; its history ends here", err=True)
    pointer = opened.promote(model_id, channel)
    was = f" (was {pointer.previous[0]})" if pointer.previous else ""
    click.echo(f"{channel} -> {pointer.model_id}{was}, {opened.signed}")


@models.command()
@registry_option
@channel_option
@signing_key_option
@public_key_option
def rollback(registry: str, channel: str, signing_key: str | None, public_key: str | None) -> None:
    """Let a channel name the version before."""
    opened = _open(registry, public_key, signing_key)
    click.echo(f"{channel} -> {opened.rollback(channel).model_id}, {opened.signed}")


@models.command()
@click.argument("model_id", required=False)
@registry_option
@channel_option
@signing_key_option
def sign(model_id: str | None, registry: str, channel: str, signing_key: str | None) -> None:
    """Sign a version that was published unsigned, or with a key that is given up.

    Without MODEL_ID, the version that --channel names, and the channel. You vouch for what the registry holds now:
    look at it first. The version's files stay as they are.
    """
    opened = replace(_open(registry, signing_key=signing_key), keys=None)
    if opened.signer is None:
        raise click.UsageError("Give the key: --signing-key.")
    chosen = opened.resolve(channel, model_id)
    opened.sign(chosen)
    click.echo(f"{chosen} is {opened.signed}")
    if model_id is None:
        opened.promote(chosen, channel)
        click.echo(f"{channel} -> {chosen}, {opened.signed}")


@models.command()
@registry_option
@channel_option
@click.option("--model", "model_id", metavar="ID", help="Pull this version, whatever the channel names.")
@click.option("--variants", help="Comma-separated TFLite files to take.  [default: all of them]")
@click.option("--dest", required=True, type=click.Path(path_type=Path, file_okay=False), help="The folder to fill.")
@public_key_option
def pull(
    registry: str, channel: str, model_id: str | None, variants: str | None, dest: Path, public_key: str | None
) -> None:
    """Copy a verified model to a folder, for `predict --bundle` and for devices; only what is missing is fetched.

    LOCATION may also be a share's https:// address (`models share`), a folder that this command filled, or a bundle.
    DEST stands for the channel's version from the moment that it is whole, and keeps the one before.
    """
    from transferlite.edge.install import install_current

    names = [name.strip() for name in variants.split(",")] if variants else None
    opened = _open(registry, public_key)
    say_if_unchecked(opened)
    bundle = opened.pull(model_id, dest, names) if model_id else install_current(opened, channel, dest, names).bundle
    click.echo(str(bundle))


@models.command()
@registry_option
@channel_option
@click.option("--variants", help="Comma-separated TFLite files to share.  [default: all of them]")
@click.option("--expires", default="7d", show_default=True, help="How long the addresses are good: 12h, 7d at most.")
@click.option("--out", required=True, metavar="LOCATION", help="Where the share's JSON is written.")
@public_key_option
def share(registry: str, channel: str, variants: str | None, expires: str, out: str, public_key: str | None) -> None:
    """Write a JSON of presigned addresses with which devices without credentials pull the channel's version.

    Devices take the JSON's own https:// address as --registry. Where --out is in S3 that address is printed.
    """
    from transferlite.registry.share import seconds_of, write_share

    names = [name.strip() for name in variants.split(",")] if variants else None
    address = write_share(_open(registry, public_key), channel, names, seconds_of(expires), out)
    click.echo(address or out)


def say_if_unchecked(registry: "Registry") -> None:
    """One line where signatures are not looked at."""
    if registry.keys is None:
        click.echo("no public key is configured: signatures are not checked", err=True)


def _open(location: str, public_key: str | None = None, signing_key: str | None = None) -> "Registry":
    from transferlite.registry.open_registry import Registry
    from transferlite.storage.folder import FolderStore

    registry = Registry.open(location, public_key, signing_key)
    if isinstance(registry.store, FolderStore) and not registry.store.root.is_dir():
        raise InputError("there is no such registry", where=location, hint="mend the path or train a first model")
    return registry
