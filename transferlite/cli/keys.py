"""``transferlite keys``: the keys that sign models."""

from pathlib import Path

import click


@click.group()
def keys() -> None:
    """Create and show the keys that sign models. Devices need the public one alone."""


@keys.command()
@click.argument("name", type=click.Path(path_type=Path, dir_okay=False))
def create(name: Path) -> None:
    """Write a new Ed25519 key: NAME.pem signs and is to be kept secret, NAME.pub.pem goes to the devices.

    A key in AWS KMS is made there: aws kms create-key --key-usage SIGN_VERIFY --key-spec ECC_NIST_P256.
    """
    from transferlite.trust.keys import create_key

    private, public = name.with_name(f"{name.name}.pem"), name.with_name(f"{name.name}.pub.pem")
    made = create_key(private, public)
    click.echo(f"key {', '.join(made.keys)}: {private} signs, {public} is for devices")


@keys.command()
@click.argument("key")
def show(key: str) -> None:
    """Print the public half of KEY as PEM: of a private or public PEM file, awskms:///alias/NAME or an ARN.

    One file may hold several, one below the other: devices then take what any of them signed.
    """
    from transferlite.trust.open_keys import public_keys_of

    found = public_keys_of(key)
    click.echo(found.to_pem(), nl=False)
    click.echo(f"key {', '.join(found.keys)}", err=True)
