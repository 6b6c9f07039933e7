"""Open keys from settings: a PEM file, PEM text, base64 of a DER public key, or an AWS KMS key."""

import os
from functools import cache
from pathlib import Path

from transferlite import environment
from transferlite.errors import InputError
from transferlite.trust.keys import KMS_PREFIX, LocalKey, PublicKeys, Signer, public_key_from_der
from transferlite.trust.strict_base64 import decode_base64

_KMS_PREFIXES = (KMS_PREFIX, "arn:")


def configured_public_keys(source: str | None = None) -> PublicKeys | None:
    """Read the public keys of ``source``, or of ``$TRANSFERLITE_PUBLIC_KEY``; None if neither is set.

    Raises:
        InputError: the source or the variable is empty, which could be a mistake that would switch checking off; or as
            in :func:`read_public_keys`.
    """
    where = environment.PUBLIC_KEY if source is None else "--public-key"
    source = os.environ.get(environment.PUBLIC_KEY) if source is None else source
    if source is None:
        return None
    if not source.strip():
        raise InputError("is empty", where=where, hint="give a PEM file, or unset it to accept unsigned models")
    return read_public_keys(source)


def read_public_keys(source: str) -> PublicKeys:
    """Read public keys from a setting.

    Args:
        source: a PEM file with one or more keys, PEM text, base64 of a key's DER, or an AWS KMS key as in
            :func:`open_signer`. The public half of a KMS key is fetched once per process.

    Raises:
        InputError: the source holds no public key, a private key, or a key of an unsupported type.
        MissingExtraError: cryptography is not installed.
    """
    if source.startswith(_KMS_PREFIXES):
        return _kms_public_keys(source)
    if "-----BEGIN" in source:
        return PublicKeys.from_pem(source, environment.PUBLIC_KEY)
    try:
        text = Path(source).read_text()
    except (OSError, ValueError):
        der = decode_base64(source)
        if der is None:
            raise InputError("there is no such public key", where=source, hint="give a PEM file") from None
        return PublicKeys.from_keys(public_key_from_der(der, environment.PUBLIC_KEY))
    return PublicKeys.from_pem(text, source)


def open_signer(source: str | None) -> Signer | None:
    """Open a private key: a PEM file, or an AWS KMS key (``awskms:///alias/NAME`` or an ARN); None without a source.

    Raises:
        InputError: the key does not exist or has an unsupported type.
        MissingExtraError: cryptography or boto3 is not installed.
    """
    if source is None:
        return None
    if source.startswith(_KMS_PREFIXES):
        from transferlite.trust.kms import KmsKey

        return KmsKey.open(source)
    if not source.strip():
        raise InputError("is empty", where="--signing-key", hint="give a PEM file or an AWS KMS key")
    return LocalKey.read(Path(source))


def public_keys_of(source: str) -> PublicKeys:
    """Return the public keys of a private key (as in :func:`open_signer`) or of :func:`read_public_keys`'s sources."""
    if source.startswith(_KMS_PREFIXES) or _holds_public_keys(Path(source)):
        return read_public_keys(source)
    return LocalKey.read(Path(source)).public_keys


def _holds_public_keys(path: Path) -> bool:
    return path.is_file() and "PRIVATE KEY" not in path.read_text(errors="replace")


@cache
def _kms_public_keys(source: str) -> PublicKeys:
    from transferlite.trust.kms import KmsKey

    return KmsKey.open(source).public_keys
