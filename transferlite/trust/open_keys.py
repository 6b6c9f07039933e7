"""Open the key that a setting names: a PEM file, PEM text, base64 of a DER key, or a key of AWS KMS."""

import os
from functools import cache
from pathlib import Path

from transferlite import environment
from transferlite.errors import InputError
from transferlite.trust.keys import KMS, LocalKey, PublicKeys, Signer, from_base64, public_key_of_der

_KMS_PREFIXES = (KMS, "arn:")


def configured_public_keys(source: str | None = None) -> PublicKeys | None:
    """The keys of ``source``, or of ``$TRANSFERLITE_PUBLIC_KEY``; None where neither is set."""
    source = source or os.environ.get(environment.PUBLIC_KEY)
    return read_public_keys(source) if source else None


def read_public_keys(source: str) -> PublicKeys:
    """The keys in a PEM file, which may hold several.

    ``source`` may also be PEM text, the base64 of one key's DER, or a key of AWS KMS as :func:`open_signer` takes it;
    its public half is then fetched from KMS once per process.

    Raises:
        InputError: it holds no public key, a private one, or one of another type.
        MissingExtraError: cryptography is not installed.
    """
    if source.startswith(_KMS_PREFIXES):
        return _kms_public_keys(source)
    if "-----BEGIN" in source:
        return PublicKeys.of_pem(source, environment.PUBLIC_KEY)
    try:
        text = Path(source).read_text()
    except (OSError, ValueError):
        der = from_base64(source)
        if der is None:
            raise InputError("there is no such public key", where=source, hint="name a PEM file") from None
        return PublicKeys.of(public_key_of_der(der, environment.PUBLIC_KEY))
    return PublicKeys.of_pem(text, source)


def open_signer(source: str | None) -> Signer | None:
    """The key that a PEM file holds or AWS KMS keeps (``awskms:///alias/NAME``, or an ARN); None for none.

    Raises:
        InputError: there is no such key, or it is of another type.
        MissingExtraError: cryptography, or boto3, is not installed.
    """
    if not source:
        return None
    if source.startswith(_KMS_PREFIXES):
        from transferlite.trust.kms import KmsKey

        return KmsKey.open(source)
    return LocalKey.read(Path(source))


def public_keys_of(source: str) -> PublicKeys:
    """The public half of a key, given as :func:`open_signer` or :func:`read_public_keys` takes it."""
    if source.startswith(_KMS_PREFIXES) or _holds_public_keys(Path(source)):
        return read_public_keys(source)
    return LocalKey.read(Path(source)).public_keys


def _holds_public_keys(path: Path) -> bool:
    return path.is_file() and "PRIVATE KEY" not in path.read_text(errors="replace")


@cache
def _kms_public_keys(source: str) -> PublicKeys:
    from transferlite.trust.kms import KmsKey

    return KmsKey.open(source).public_keys
