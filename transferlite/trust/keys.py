"""Who made it: signatures of manifests and of channel pointers, and the keys that make and check them.

A signature is of the document's bytes as they are, by Ed25519 (RFC 8032) or ECDSA over P-256 with SHA-256 (FIPS 186-5);
``openssl pkeyutl -verify -rawin`` checks one too. Which of the two is the key's own type, never what a document says.
"""

import base64
import binascii
import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from transferlite.errors import InputError, MissingExtraError, UntrustedError
from transferlite.trust.signature import Signature

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

    PublicKey = Ed25519PublicKey | EllipticCurvePublicKey
    PrivateKey = Ed25519PrivateKey | EllipticCurvePrivateKey

KMS = "awskms:///"
_BLOCK = re.compile(r"-----BEGIN ([A-Z ]+)-----(.*?)-----END \1-----", re.DOTALL)
_NEEDED = "it has to be Ed25519 or ECDSA P-256"


class Signer(Protocol):
    """A private key, wherever it is kept."""

    @property
    def public_keys(self) -> "PublicKeys":
        """Its one public key."""

    def sign(self, data: bytes) -> Signature:
        """The signature of ``data``."""


@dataclass(frozen=True)
class PublicKeys:
    """The keys whose signatures are accepted, by their ids: one, or two while one takes over from the other."""

    keys: "Mapping[str, PublicKey]"

    @classmethod
    def of_pem(cls, text: str, where: str) -> "PublicKeys":
        """The public keys in PEM text. Raises InputError where it holds none, a private one, or another type."""
        blocks = _BLOCK.findall(text)
        if any("PRIVATE" in kind for kind, _ in blocks):
            raise InputError(
                "is a private key", where=where, hint="give devices the public one: transferlite keys show"
            )
        ders = [from_base64("".join(body.split())) or b"" for kind, body in blocks if kind == "PUBLIC KEY"]
        if not ders:
            raise InputError("holds no public key in PEM", where=where)
        return cls.of(*(public_key_of_der(der, where) for der in ders))

    @classmethod
    def of(cls, *keys: "PublicKey") -> "PublicKeys":
        """These keys."""
        return cls({key_id(key): key for key in keys})

    def __or__(self, others: "PublicKeys") -> "PublicKeys":
        return PublicKeys({**self.keys, **others.keys})

    def check(self, data: bytes, signature: Signature | None, where: str) -> None:
        """Raises UntrustedError unless one of these keys signed exactly ``data``."""
        from cryptography.exceptions import InvalidSignature

        if signature is None:
            raise UntrustedError("is not signed, and a public key is configured", where=where)
        key = self.keys.get(signature.key)
        if key is None:
            accepted = ", ".join(self.keys)
            raise UntrustedError(f"is signed with another key ({signature.key}; accepted: {accepted})", where=where)
        try:
            _verify(key, from_base64(signature.value) or b"", data)
        except InvalidSignature:
            raise UntrustedError(
                f"does not fit its signature by {signature.key}: one of them was altered", where=where
            ) from None

    def to_pem(self) -> str:
        """The keys as a PEM file's text."""
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        form = (Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        return "".join(key.public_bytes(*form).decode() for key in self.keys.values())


@dataclass(frozen=True)
class LocalKey:
    """A private key in a PEM file of this machine."""

    key: "PrivateKey"

    @classmethod
    def read(cls, path: Path) -> "LocalKey":
        """Read an unencrypted PEM file. Raises InputError when it holds no key that can sign here."""
        try:
            data = path.read_bytes()
        except OSError as error:
            raise InputError(f"cannot be read ({error.strerror})", where=str(path)) from None
        with require_cryptography():
            from cryptography.exceptions import UnsupportedAlgorithm
            from cryptography.hazmat.primitives.serialization import load_pem_private_key
        try:
            key = load_pem_private_key(data, None)
        except TypeError:
            raise InputError("is encrypted with a passphrase", where=str(path), hint="decrypt it for the job") from None
        except (ValueError, UnsupportedAlgorithm):
            raise InputError("holds no private key in PEM", where=str(path)) from None
        if not _fits(key.public_key()):
            raise InputError(f"holds a key of another type; {_NEEDED}", where=str(path))
        return cls(key)  # type: ignore[arg-type]

    @property
    def public_keys(self) -> PublicKeys:
        """Its one public key."""
        return PublicKeys.of(self.key.public_key())

    def sign(self, data: bytes) -> Signature:
        """The signature of ``data``."""
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec

        if isinstance(self.key, ec.EllipticCurvePrivateKey):
            value = self.key.sign(data, ec.ECDSA(hashes.SHA256()))
        else:
            value = self.key.sign(data)
        return Signature(key_id(self.key.public_key()), base64.b64encode(value).decode())


def create_key(private: Path, public: Path) -> PublicKeys:
    """Write a new Ed25519 key: ``private`` for its owner's eyes alone, ``public`` for devices.

    Raises:
        InputError: one of the files exists; no key is ever overwritten.
    """
    with require_cryptography():
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    if public.exists():
        raise InputError("exists already", where=str(public), hint="choose another name")
    key = Ed25519PrivateKey.generate()
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    try:
        handle = os.open(private, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise InputError("exists already", where=str(private), hint="choose another name") from None
    with os.fdopen(handle, "wb") as file:
        file.write(key.private_bytes(*form))
    keys = PublicKeys.of(key.public_key())
    public.write_text(keys.to_pem())
    return keys


def key_id(key: "PublicKey") -> str:
    """The first 16 hexadecimal digits of the sha256 of the public key's DER."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()[:16]


def public_key_of_der(der: bytes, where: str) -> "PublicKey":
    """The public key that ``der`` encodes. Raises InputError for another type of key."""
    with require_cryptography():
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.serialization import load_der_public_key
    try:
        key = load_der_public_key(der)
    except (ValueError, UnsupportedAlgorithm):
        raise InputError("holds no public key", where=where) from None
    if not _fits(key):
        raise InputError(f"holds a key of another type; {_NEEDED}", where=where)
    return key  # type: ignore[return-value]


def _fits(key: object) -> bool:
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    p256 = isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1)
    return p256 or isinstance(key, Ed25519PublicKey)


def _verify(key: "PublicKey", signature: bytes, data: bytes) -> None:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    if isinstance(key, ec.EllipticCurvePublicKey):
        key.verify(signature, data, ec.ECDSA(hashes.SHA256()))
    else:
        key.verify(signature, data)


def from_base64(text: str) -> bytes | None:
    """What ``text`` encodes; None where it is not the one text that encodes it."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return data if base64.b64encode(data).decode() == text else None


@contextmanager
def require_cryptography() -> Iterator[None]:
    """Say which extra holds cryptography, where it is not installed."""
    try:
        yield
    except ModuleNotFoundError:
        raise MissingExtraError("cryptography", "signed") from None
