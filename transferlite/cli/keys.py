"""``transferlite keys``: create and show the keys that sign models."""

from pathlib import Path

import click


@click.group()
def keys() -> None:
    """Create and show the keys that sign models. Edge devices need the public key only."""


@keys.command()
@click.argument("name", type=click.Path(path_type=Path, dir_okay=False))
def create(name: Path) -> None:
    """Create a P-256 key pair: NAME.pem signs and must stay secret, NAME.pub.pem goes to the edge devices.

    Create a key in AWS KMS with: aws kms create-key --key-usage SIGN_VERIFY --key-spec ECC_NIST_P256.
    """
    from transferlite.trust.keys import create_key

    private, public = name.with_name(f"{name.name}.pem"), name.with_name(f"{name.name}.pub.pem")
    created = create_key(private, public)
    click.echo(f"key {created}: {private} signs, {public} goes to the edge devices")


@keys.command()
@click.argument("key")
def show(key: str) -> None:
    """Print the public key as PEM. KEY is a private or public PEM file, awskms:///alias/NAME or an ARN.

    A PEM file may contain several keys: edge devices accept a signature by any of them.
    """
    from transferlite.trust.open_keys import public_keys_of

    public_keys = public_keys_of(key)
    click.echo(public_keys.to_pem(), nl=False)
    click.echo(f"key {public_keys}", err=True)
