"""``transferlite models``: manage published versions and channels, and copy models to edge devices."""

import datetime
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from transferlite.cli.options import (
    channel_option,
    duration,
    json_option,
    public_key_option,
    refuse_channel_beside,
    registry_option,
    signing_key_option,
    variants_option,
)

if TYPE_CHECKING:
    from transferlite.registry.channel_pointer import Pointer
    from transferlite.registry.manifest import Manifest
    from transferlite.registry.open_registry import Registry


@click.group()
def models() -> None:
    """List, show, sign, promote, roll back, pull and share published models."""


@models.command("list")
@registry_option
@json_option
def list_models(registry: str, as_json: bool) -> None:
    """List every version, oldest first, and the channels that point to it."""
    opened = replace(open_registry(registry), keys=None)  # listing needs no signatures: every use checks them
    pointers = opened.channels(damaged=_warn)
    now = datetime.datetime.now(datetime.UTC)
    for name, pointer in pointers.items():
        if pointer.is_expired(now):
            click.echo(f"warning: the pointer of channel {name} expired {pointer.expires_at}; promote again", err=True)
    rows = []
    for manifest in opened.versions(damaged=_warn):
        channels = [name for name, pointer in pointers.items() if pointer.model_id == manifest.model_id]
        rows.append(_list_row(manifest, channels))
    if as_json:
        click.echo(json.dumps(rows, ensure_ascii=False))
        return
    for row in rows:
        labels = ", ".join(row["labels"][:4]) + (f", … {len(row['labels'])} in all" if len(row["labels"]) > 4 else "")
        arrow = f"  <- {', '.join(row['channels'])}" if row["channels"] else ""
        accuracy = "pretrained     " if row["accuracy"] is None else f"accuracy {row['accuracy']:.3f}"
        click.echo(f"{row['model_id']}  {accuracy}  {row['backbone']}  {labels}{arrow}")
    if not rows:
        click.echo(f"{registry} has no models yet")


def _warn(error: Exception) -> None:
    click.echo(f"warning: {error}", err=True)


def _list_row(manifest: "Manifest", channels: list[str]) -> dict[str, Any]:
    return {
        "model_id": manifest.model_id,
        "created_at": manifest.created_at,
        "backbone": manifest.backbone["name"],
        "labels": list(manifest.labels),
        "accuracy": manifest.metrics.get("test", {}).get("accuracy"),
        "channels": channels,
    }


@models.command()
@click.argument("model_id", required=False)
@registry_option
@channel_option
@json_option
def show(model_id: str | None, registry: str, channel: str, as_json: bool) -> None:
    """Show a version's labels, metrics and variants. Without MODEL_ID, the version that --channel points to."""
    refuse_channel_beside(model_id, "MODEL_ID")
    opened = open_registry(registry)
    pointer = None if model_id else opened.channel(channel)
    chosen = pointer.model_id if pointer else str(model_id)
    if as_json:
        click.echo(json.dumps(opened.manifest_document(chosen), ensure_ascii=False))
        return
    manifest = opened.manifest(chosen)
    click.echo(f"{manifest.model_id}, created {manifest.created_at} from {manifest.backbone['name']}")
    click.echo(f"labels: {', '.join(manifest.labels)}")
    click.echo(f"input: uint8 RGB {manifest.input.height}x{manifest.input.width}")
    if test := manifest.metrics.get("test"):
        click.echo(f"test: accuracy {test['accuracy']:.3f}, log loss {test['log_loss']:.3f} on {test['photos']} photos")
    else:
        click.echo("test: none, the backbone's own ImageNet classifier")
    click.echo(_signature_line(opened, manifest.model_id))
    if pointer:
        _show_pointer(pointer)
    if manifest.threshold:
        click.echo(f"predictions below {manifest.threshold:.3f} are unknown")
    for name, variant in manifest.variants.items():
        in_float = f"; {len(variant.in_float)} operations in float32" if variant.in_float else ""
        accuracy = "" if variant.accuracy is None else f"  accuracy {variant.accuracy:.3f}"
        click.echo(
            f"{name:<12} {variant.size / 2**20:6.1f} MiB{accuracy}"
            f"  agreement {variant.agreement:.3f}  largest difference {variant.max_difference:.1e}"
            f"  ({variant.runtime}, {variant.photos} photos{in_float})"
        )
    click.echo(
        f"served by default: {manifest.default_variant}"
        + (f" ({manifest.auto.reason})" if manifest.auto.reason else "")
    )
    for name, reason in manifest.left_out.items():
        click.echo(f"{name:<12} left out: {reason}")


def _signature_line(registry: "Registry", model_id: str) -> str:
    from transferlite.registry.manifest import SIGNATURE
    from transferlite.trust.keys import short_key_id
    from transferlite.trust.model_signature import named_key

    signature = registry.signature(model_id)
    if signature is None:
        return "not signed"
    line = f"signed with key {short_key_id(named_key(signature, SIGNATURE))}"
    return f"{line}, signature verified" if registry.keys else line


def _show_pointer(pointer: "Pointer") -> None:
    expiry = f", expires {pointer.expires_at}" if pointer.expires_at else ""
    click.echo(f"channel {pointer.channel}: changed {pointer.updated_at}{expiry}")
    if pointer.withdrawn:
        click.echo(f"withdrawn: {', '.join(pointer.withdrawn)}")


def _validity(context: click.Context, option: click.Parameter, text: str | None) -> datetime.timedelta | None:
    """Convert the text of ``--valid-for``; ``never`` becomes zero."""
    if text is None:
        return None
    return datetime.timedelta(seconds=0 if text == "never" else duration(1)(context, option, text))


@models.command()
@click.argument("model_id")
@registry_option
@channel_option
@click.option(
    "--valid-for",
    callback=_validity,
    metavar="TIME",
    help="Time until edge devices warn that they get no new pointers, such as 30d, or never.  [default: as before]",
)
@click.option("--force", is_flag=True, help="Replace a damaged channel pointer; the channel's history is lost.")
@signing_key_option
@public_key_option
def promote(
    model_id: str,
    registry: str,
    channel: str,
    valid_for: datetime.timedelta | None,
    force: bool,
    signing_key: str | None,
    public_key: str | None,
) -> None:
    """Point a channel to a version. Promote the current version again to renew an expiring pointer."""
    opened = open_registry(registry, public_key, signing_key)
    if not force and opened.loses_history(channel):
        click.echo(f"warning: channel {channel} was not signed with this key; its history is dropped", err=True)
    pointer = opened.promote(model_id, channel, valid_for, force)
    was = f" (was {pointer.previous[0]})" if pointer.previous else ""
    click.echo(f"{channel} -> {pointer.model_id}{was}, {opened.signed}")


@models.command()
@registry_option
@channel_option
@signing_key_option
@public_key_option
def rollback(registry: str, channel: str, signing_key: str | None, public_key: str | None) -> None:
    """Point a channel to its previous version. Edge devices do not install the version that it leaves again."""
    opened = open_registry(registry, public_key, signing_key)
    pointer = opened.rollback(channel)
    click.echo(f"{channel} -> {pointer.model_id} (withdrew {pointer.withdrawn[0]}), {opened.signed}")


@models.command()
@click.argument("model_id", required=False)
@registry_option
@channel_option
@signing_key_option
@public_key_option
def sign(model_id: str | None, registry: str, channel: str, signing_key: str | None, public_key: str | None) -> None:
    """Sign a version that was published unsigned, or with a key that is no longer used.

    Without MODEL_ID, sign the version that --channel points to, and the channel. Review the registry's content first:
    you vouch for it. The version's files stay unchanged. The channel keeps its history if --public-key accepts the
    key that signed it.
    """
    refuse_channel_beside(model_id, "MODEL_ID")
    opened = open_registry(registry, public_key, signing_key)
    if opened.signer is None:
        raise click.UsageError("Give the key: --signing-key.")
    chosen = replace(opened, keys=None).resolve(channel, model_id)
    opened.sign(chosen)
    click.echo(f"{chosen} is {opened.signed}")
    if model_id is None:
        opened.promote(chosen, channel)
        click.echo(f"{channel} -> {chosen}, {opened.signed}")


@models.command()
@registry_option
@channel_option
@click.option("--model", "model_id", metavar="ID", help="Version to pull instead of the channel's.")
@variants_option
@click.option("--dest", required=True, type=click.Path(path_type=Path, file_okay=False), help="Folder to fill.")
@public_key_option
def pull(
    registry: str, channel: str, model_id: str | None, variants: list[str] | None, dest: Path, public_key: str | None
) -> None:
    """Copy a verified model to a folder, for `predict --bundle` and edge devices; only missing files are downloaded.

    LOCATION may also be the https:// address of a share (`models share`), a folder that this command filled, or a
    bundle. DEST switches to the new version once it is complete, and keeps the previous one.
    """
    from transferlite.edge.device_status import channel_problems
    from transferlite.edge.install import install_current

    refuse_channel_beside(model_id, "--model")
    opened = open_registry(registry, public_key)
    if opened.keys is None:
        click.echo("no public key is configured: signatures are not checked", err=True)
    if model_id:
        bundle = opened.pull(model_id, dest, variants)
    else:
        installed = install_current(opened, channel, dest, variants)
        bundle = installed.bundle
        if installed.repaired:
            click.echo(f"repaired {', '.join(installed.repaired)}", err=True)
        for problem in channel_problems(dest, datetime.datetime.now(datetime.UTC)):
            click.echo(f"warning: {problem}", err=True)
    click.echo(str(bundle))


@models.command()
@registry_option
@channel_option
@variants_option
@click.option("--expires", default="7d", show_default=True, metavar="TIME", help="Validity, at most 7d: 90m, 12h, 7d.")
@click.option("--out", required=True, metavar="LOCATION", help="JSON file to write.")
@public_key_option
def share(
    registry: str, channel: str, variants: list[str] | None, expires: str, out: str, public_key: str | None
) -> None:
    """Write a JSON file of presigned URLs, from which devices without AWS credentials pull the channel's version.

    Devices use the JSON's own https:// address as --registry. If --out is in S3, that address is printed.
    """
    from transferlite.registry.share import parse_duration, write_share

    address = write_share(open_registry(registry, public_key), channel, variants, parse_duration(expires), out)
    click.echo(address or out)


def open_registry(location: str, public_key: str | None = None, signing_key: str | None = None) -> "Registry":
    """Open a registry. Raises NotFoundError if it is a local folder that does not exist."""
    from transferlite.registry.open_registry import Registry

    registry = Registry.open(location, public_key, signing_key)
    registry.check_exists()
    return registry
